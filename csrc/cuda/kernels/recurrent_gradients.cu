// Backward through time: a block takes a branch and some samples, tile by tile, from the last step to the first.
#include "recurrent.cuh"

namespace spectral::cuda {

namespace {

enum { kOfInput, kOfState, kOfOutput, kBackToInput, kBackToState, kBackFromOutput };

template <class T> SPECTRAL_DEVICE void clear(T* values, int64_t count) {
  for (int64_t i = thread(); values && i < count; i += threads()) values[i] = T(0);
}

template <class T> __global__ void __launch_bounds__(kMostThreads, 1)
    recurrent_gradients(const RecurrentGradients<T> g, const StagedList<T, 6> list) {
  const Recurrent<T>& r = g.layer;
  SharedMemory memory;
  const int in = int(r.in), hidden = int(r.hidden), out = int(r.out), other = in > out ? in : out;
  const Shared<T> weights = memory.take<T>(list.values);
  // d: before the activation; e: before that of the output, then x; state: the gradient of h
  const Shared<T> state = memory.take<T>(hidden * kStep<T>), d = memory.take<T>(hidden * kStep<T>);
  Shared<T> h = memory.take<T>(hidden * kStep<T>), before = memory.take<T>(hidden * kStep<T>);
  const Shared<T> e = memory.take<T>(other * kStep<T>),
                  z = memory.take<T>((other > hidden ? other : hidden) * kStep<T>);
  const Shared<int64_t> lengths = memory.take<int64_t>(kRows);
  const int64_t q = block() % unsigned(r.branches), item = block();
  const int64_t begin = item / unsigned(r.branches) * g.block;
  const int64_t end = begin + g.block < r.samples ? begin + g.block : r.samples;
  T* const sums_x = g.sums_x + item * hidden * in;
  T* const sums_h = g.sums_h + item * hidden * hidden;
  T* const sums_y = g.sums_y + item * out * hidden;
  T* const sums_bias = g.sums_bias ? g.sums_bias + item * hidden : nullptr;
  const bool needs_argument = r.activation_h == Activation::gelu || r.activation_h == Activation::silu;

  list.stage_all(q, weights);
  clear(sums_x, hidden * in);
  clear(sums_h, hidden * hidden);
  clear(sums_y, out * hidden);
  clear(sums_bias, hidden);
  barrier();
  for (int64_t first = begin; first < end; first += kRows) {
    const SampleTile tile{q, first, int(end - first < kRows ? end - first : kRows)};
    const auto load = [&](const T* from, int64_t t, int features, Shared<T> to) {
      tile.each(t, r.branches, r.samples, features,
                [&](int k, int n, int64_t at) { to[k * kStep<T> + n] = from && at >= 0 ? from[at] : T(0); });
    };
    for (int n = thread(); n < kRows; n += threads())
      lengths[n] = n >= tile.count ? 0 : r.lengths ? r.lengths[first + n] : r.steps;
    load(g.grad_last, 0, hidden, state);
    if (r.steps) load(g.states, r.steps - 1, hidden, h);
    barrier();
    for (int64_t t = r.steps - 1; t >= 0; --t) {
      const bool on = t < lengths[lane()];
      if (g.grad_states) {
        tile.each(t, r.branches, r.samples, hidden, [&](int k, int n, int64_t at) {
          if (at >= 0) state[k * kStep<T> + n] += g.grad_states[at];
        });
        barrier();
      }
      if (g.grad_y) {
        load(g.grad_y, t, out, e);
        if (r.activation_y != Activation::none)
          list.multiply(kOfOutput, q, weights, h, [&](int o, int n, T value) { z[o * kStep<T> + n] = value; });
        else
          barrier();
        for (int o = warp(); o < out; o += warps()) {
          const int at = o * kStep<T> + lane();
          const T argument = r.activation_y == Activation::none ? T(0) : T(z[at]);
          const T grad = through(r.activation_y, T(e[at]), argument, activate(r.activation_y, argument, T(0)), T(0));
          e[at] = on ? grad : T(0);
        }
        barrier();
        add_weight_gradient<T>(e, h, out, hidden, false, sums_y);
        list.multiply(kBackFromOutput, q, weights, e, [&](int k, int n, T value) { state[k * kStep<T> + n] += value; });
      }
      load(t ? g.states : r.h0, t ? t - 1 : 0, hidden, before);
      tile.each(t, r.branches, r.samples, in,
                [&](int k, int n, int64_t at) { e[k * kStep<T> + n] = at < 0 || t >= lengths[n] ? T(0) : r.x[at]; });
      barrier();
      if (needs_argument) {
        list.multiply(kOfInput, q, weights, e, [&](int o, int n, T value) { z[o * kStep<T> + n] = value; });
        list.multiply(kOfState, q, weights, before, [&](int o, int n, T value) { z[o * kStep<T> + n] += value; });
      }
      for (int o = warp(); o < hidden; o += warps()) {
        const int at = o * kStep<T> + lane();
        const T grad = through(r.activation_h, T(state[at]), needs_argument ? T(z[at]) : T(0), T(h[at]), T(0));
        d[at] = on ? grad : T(0);
      }
      barrier();
      add_weight_gradient<T>(d, e, hidden, in, false, sums_x);
      add_weight_gradient<T>(d, before, hidden, hidden, false, sums_h);
      if (sums_bias) add_bias_gradient<T>(d, hidden, false, sums_bias);
      if (g.grad_x) {
        list.multiply(kBackToInput, q, weights, d, [&](int k, int n, T value) { z[k * kStep<T> + n] = value; });
        tile.each(t, r.branches, r.samples, in, [&](int k, int n, int64_t at) {
          if (at >= 0) g.grad_x[at] = t < lengths[n] ? T(z[k * kStep<T> + n]) : T(0);
        });
        barrier();
      }
      list.multiply(kBackToState, q, weights, d, [&](int k, int n, T value) {
        if (t < lengths[n]) state[k * kStep<T> + n] = value;  // else it passes unchanged
      });
      const Shared<T> done = h;
      h = before;
      before = done;
    }
    barrier();
    tile.each(0, r.branches, r.samples, hidden, [&](int k, int n, int64_t at) {
      if (at >= 0) g.grad_h0[at] = state[k * kStep<T> + n];
    });
    barrier();
  }
}

}  // namespace

template <class T> void run_backward(const RecurrentGradients<T>& g, int64_t blocks, void* stream) {
  const Recurrent<T>& r = g.layer;
  const T* none = nullptr;
  StagedList<T, 6> list;
  list.add(recurrent_matrix(r.weight_x, r.hidden, r.in), r.bias, r.in, r.hidden);
  list.add(recurrent_matrix(r.weight_h, r.hidden, r.hidden), none, r.hidden, r.hidden);
  list.add(recurrent_matrix(r.weight_y, r.out, r.hidden), none, r.hidden, r.out);
  list.add(recurrent_matrix(r.weight_x, r.hidden, r.in, true), none, r.hidden, r.in);
  list.add(recurrent_matrix(r.weight_h, r.hidden, r.hidden, true), none, r.hidden, r.hidden);
  list.add(recurrent_matrix(r.weight_y, r.out, r.hidden, true), none, r.out, r.hidden);
  const int64_t other = r.in > r.out ? r.in : r.out, widest = other > r.hidden ? other : r.hidden;
  const int64_t bytes = list.fit(4 * shared_bytes_for<T>(r.hidden * kStep<T>) + shared_bytes_for<T>(other * kStep<T>) +
                                 shared_bytes_for<T>(widest * kStep<T>) + shared_bytes_for<int64_t>(kRows));
  launch(stream, Grid{r.branches * blocks, warps_for<T>(widest) * kWarp, bytes}, &recurrent_gradients<T>, g, list);
}
template void run_backward<float>(const RecurrentGradients<float>&, int64_t, void*);
template void run_backward<double>(const RecurrentGradients<double>&, int64_t, void*);

}  // namespace spectral::cuda
