// Backward through time: a block takes a branch and some samples, tile by tile, from the last step to the first.
#include "recurrent.cuh"

namespace spectral::cuda {

namespace {

enum { kOfInput, kOfState, kOfOutput, kBackToInput, kBackToState, kBackFromOutput };

template <class T> SPECTRAL_DEVICE void clear(T* values, int64_t count) {
  for (int64_t i = thread(); values && i < count; i += threads()) values[i] = T(0);
}

// Whether an activation's derivative follows from its result.
SPECTRAL_DEVICE bool told_by_result(Activation kind) {
  return kind != Activation::gelu && kind != Activation::silu && kind != Activation::cardioid &&
         kind != Activation::modrelu;
}

template <class N> __global__ void __launch_bounds__(kMostThreads, 1)
    recurrent_gradients(const RecurrentGradients<Real<N>> g, const StagedList<N, 6> list) {
  using T = Real<N>;
  constexpr int parts = kComplex<N> ? 2 : 1;
  const Recurrent<T>& r = g.layer;
  SharedMemory memory;
  const int in = int(r.in), hidden = int(r.hidden), out = int(r.out), other = in > out ? in : out;
  const Shared<N> weights = memory.take<N>(list.values);
  // d: before the activation; e: before that of the output, then x; state: the gradient of h
  const Shared<N> state = memory.take<N>(hidden * kStep<N>), d = memory.take<N>(hidden * kStep<N>);
  Shared<N> h = memory.take<N>(hidden * kStep<N>), before = memory.take<N>(hidden * kStep<N>);
  const Shared<N> e = memory.take<N>(other * kStep<N>),
                  z = memory.take<N>((other > hidden ? other : hidden) * kStep<N>);
  const Shared<int64_t> lengths = memory.take<int64_t>(kRows);
  const int64_t q = block() % unsigned(r.branches), item = block();
  const int64_t begin = item / unsigned(r.branches) * g.block;
  const int64_t end = begin + g.block < r.samples ? begin + g.block : r.samples;
  T* const sums_x = g.sums_x + parts * item * hidden * in;
  T* const sums_h = g.sums_h + parts * item * hidden * hidden;
  T* const sums_y = g.sums_y + parts * item * out * hidden;
  T* const sums_bias = g.sums_bias ? g.sums_bias + parts * item * hidden : nullptr;
  const bool needs_argument = !told_by_result(r.activation_h);

  const auto add_to = [&](Shared<N> to, int k, int n, N value) {
    to[k * kStep<N> + n] = N(to[k * kStep<N> + n]) + value;
  };

  list.stage_all(q, weights);
  clear(sums_x, parts * hidden * in);
  clear(sums_h, parts * hidden * hidden);
  clear(sums_y, parts * out * hidden);
  clear(sums_bias, parts * hidden);
  barrier();
  for (int64_t first = begin; first < end; first += kRows) {
    const SampleTile tile{q, first, int(end - first < kRows ? end - first : kRows)};
    const auto load = [&](const T* from, int64_t t, int features, Shared<N> to) {
      tile.each(t, r.branches, r.samples, features,
                [&](int k, int n, int64_t at) { to[k * kStep<N> + n] = number_at<N>(from, at); });
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
          if (at >= 0) add_to(state, k, n, number_at<N>(g.grad_states, at));
        });
        barrier();
      }
      if (g.grad_y) {
        load(g.grad_y, t, out, e);
        if (r.activation_y != Activation::none)
          list.multiply(kOfOutput, q, weights, h, [&](int o, int n, N value) { z[o * kStep<N> + n] = value; });
        else
          barrier();
        for (int o = warp(); o < out; o += warps()) {
          const int at = o * kStep<N> + lane();
          const N argument = r.activation_y == Activation::none ? N{} : N(z[at]);
          const N y = activate(r.activation_y, argument, r.offset_y);
          const N grad = through(r.activation_y, N(e[at]), argument, y, r.offset_y);
          e[at] = on ? grad : N{};
        }
        barrier();
        add_weight_gradient<N>(e, h, out, hidden, false, sums_y);
        list.multiply(kBackFromOutput, q, weights, e, [&](int k, int n, N value) { add_to(state, k, n, value); });
      }
      load(t ? g.states : r.h0, t ? t - 1 : 0, hidden, before);
      tile.each(t, r.branches, r.samples, in,
                [&](int k, int n, int64_t at) { e[k * kStep<N> + n] = number_at<N>(r.x, t < lengths[n] ? at : -1); });
      barrier();
      if (needs_argument) {
        list.multiply(kOfInput, q, weights, e, [&](int o, int n, N value) { z[o * kStep<N> + n] = value; });
        list.multiply(kOfState, q, weights, before, [&](int o, int n, N value) { add_to(z, o, n, value); });
      }
      for (int o = warp(); o < hidden; o += warps()) {
        const int at = o * kStep<N> + lane();
        const N y = h[at], argument = needs_argument ? N(z[at]) : y;
        const N grad = through(r.activation_h, N(state[at]), argument, y, r.offset_h);
        d[at] = on ? grad : N{};
      }
      barrier();
      add_weight_gradient<N>(d, e, hidden, in, false, sums_x);
      add_weight_gradient<N>(d, before, hidden, hidden, false, sums_h);
      if (sums_bias) add_bias_gradient<N>(d, hidden, false, sums_bias);
      if (g.grad_x) {
        list.multiply(kBackToInput, q, weights, d, [&](int k, int n, N value) { z[k * kStep<N> + n] = value; });
        tile.each(t, r.branches, r.samples, in, [&](int k, int n, int64_t at) {
          const N value = z[k * kStep<N> + n];
          put_number<N>(g.grad_x, at, t < lengths[n] ? value : N{});
        });
        barrier();
      }
      list.multiply(kBackToState, q, weights, d, [&](int k, int n, N value) {
        if (t < lengths[n]) state[k * kStep<N> + n] = value;  // else it passes unchanged
      });
      const Shared<N> done = h;
      h = before;
      before = done;
    }
    barrier();
    tile.each(0, r.branches, r.samples, hidden,
              [&](int k, int n, int64_t at) { put_number<N>(g.grad_h0, at, state[k * kStep<N> + n]); });
    barrier();
  }
}

template <class N> void run_numbers(const RecurrentGradients<Real<N>>& g, int64_t blocks, void* stream) {
  const Recurrent<Real<N>>& r = g.layer;
  const Real<N>* none = nullptr;
  StagedList<N, 6> list;
  list.add(recurrent_matrix<N>(r.weight_x, r.hidden, r.in), r.bias, r.in, r.hidden);
  list.add(recurrent_matrix<N>(r.weight_h, r.hidden, r.hidden), none, r.hidden, r.hidden);
  list.add(recurrent_matrix<N>(r.weight_y, r.out, r.hidden), none, r.hidden, r.out);
  list.add(recurrent_matrix<N>(r.weight_x, r.hidden, r.in, true), none, r.hidden, r.in);
  list.add(recurrent_matrix<N>(r.weight_h, r.hidden, r.hidden, true), none, r.hidden, r.hidden);
  list.add(recurrent_matrix<N>(r.weight_y, r.out, r.hidden, true), none, r.out, r.hidden);
  const int64_t other = r.in > r.out ? r.in : r.out, widest = other > r.hidden ? other : r.hidden;
  const int64_t bytes = list.fit(4 * shared_bytes_for<N>(r.hidden * kStep<N>) + shared_bytes_for<N>(other * kStep<N>) +
                                 shared_bytes_for<N>(widest * kStep<N>) + shared_bytes_for<int64_t>(kRows));
  launch(stream, Grid{r.branches * blocks, warps_for<N>(widest) * kWarp, bytes}, &recurrent_gradients<N>, g, list);
}

}  // namespace

template <class T> void run_backward(const RecurrentGradients<T>& g, int64_t blocks, void* stream) {
  return g.layer.complex ? run_numbers<Complex<T>>(g, blocks, stream) : run_numbers<T>(g, blocks, stream);
}
template void run_backward<float>(const RecurrentGradients<float>&, int64_t, void*);
template void run_backward<double>(const RecurrentGradients<double>&, int64_t, void*);

}  // namespace spectral::cuda
