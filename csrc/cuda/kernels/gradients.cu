// Gradients of a chain of layers: of each tile of samples the forward pass again, then back. What activations were
// applied to waits in device memory (L2, because a block writes over it tile after tile). Sums over samples stay with
// the block, and are added in order of the blocks: no atomics, the same bits in every run.
#include "sample_sums.cuh"

namespace spectral::cuda {

namespace {

// The logits' gradient d of sample n = lane, from the logits h; returns the loss, or <grad_y, output of the branch>.
template <class N> SPECTRAL_DEVICE double gradient_of_logits(const Gradients<Real<N>>& g, int64_t q, int64_t sample,
                                                             int classes, bool exists, Shared<N> h, Shared<N> d) {
  using T = Real<N>;
  const int n = lane();
  T top = T(0), sum = T(0);
  if (g.target || g.softmax) {
    for (int c = 0; c < classes; ++c) {
      const T z = real(N(h[c * kStep<N> + n]));
      top = c == 0 || z > top ? z : top;
    }
    for (int c = 0; c < classes; ++c) sum += std::exp(real(N(h[c * kStep<N> + n])) - top);
  }
  const auto put = [&](int c, T value) {
    if constexpr (kComplex<N>)
      d[c * kStep<N> + n] = N{exists ? value : T(0), T(0)};
    else
      d[c * kStep<N> + n] = exists ? value : T(0);
  };
  if (g.target) {
    const int64_t hot = exists ? g.target[sample] : 0;
    const bool known = hot >= 0 && hot < classes;
    for (int c = 0; c < classes; ++c) {
      const T p = std::exp(real(N(h[c * kStep<N> + n])) - top) / sum;
      put(c, known ? (p - T(c == hot)) / T(g.samples) : T(NAN));
    }
    if (!exists) return 0;
    return known ? double(std::log(sum) + (top - real(N(h[int(hot) * kStep<N> + n])))) : double(NAN);
  }
  const T weight = g.branch_weights[q];
  const T* grad_y = g.grad_y + sample * classes;
  T score = T(0);
  for (int c = 0; c < classes && exists; ++c) {
    const T z = real(N(h[c * kStep<N> + n]));
    multiply_add(score, g.softmax ? std::exp(z - top) / sum : z, grad_y[c]);
  }
  for (int c = 0; c < classes; ++c) {
    const T grad = exists ? grad_y[c] : T(0), z = real(N(h[c * kStep<N> + n]));
    put(c, g.softmax ? weight * (std::exp(z - top) / sum) * (grad - score) : weight * grad);
  }
  return double(score);
}

template <class N> __global__ void __launch_bounds__(kMostThreads, 2)
    gradients(const Gradients<Real<N>> g, const int64_t staged) {
  using T = Real<N>;
  constexpr int parts = kComplex<N> ? 2 : 1;
  SharedMemory memory;
  const Shared<N> weights = memory.take<N>(staged);
  Shared<N> h = memory.take<N>(g.widest * kStep<N>), d = memory.take<N>(g.widest * kStep<N>),
            spare = memory.take<N>(g.widest * kStep<N>);
  const Shared<int64_t> places = memory.take<int64_t>(kRows);
  const int64_t q = block() % unsigned(g.branches), b = block() / unsigned(g.branches);
  const int64_t begin = b * g.block, end = begin + g.block < g.samples ? begin + g.block : g.samples;
  T* const arguments = g.arguments + int64_t(block()) * g.arguments_of_a_tile;
  const int in = g.layers[0].in, classes = g.layers[g.depth - 1].out;
  double score = 0;

  // in = a layer's input, or its outputs' gradient: out = w in (+ bias), as many outputs at a time as fit
  const auto multiply = [&](const Matrix<T>& w, const T* bias, int inputs, int outputs, Shared<N> from, Shared<N> to) {
    const int fit = int(staged / (inputs + 1) / kOutputs<N> * kOutputs<N>);
    for (int o = 0; o < outputs; o += fit) {
      const int count = outputs - o < fit ? outputs - o : fit;
      stage<N>(w, bias, inputs, outputs, q, o, count, weights);
      barrier();
      product<N, 1>(from, inputs, weights, count, [&](int i, int n, N sum) { to[(o + i) * kStep<N> + n] = sum; });
      barrier();
    }
  };
  const auto load_rows = [&](const T* rows, int features, int64_t first, int count, Shared<N> to) {
    for (int n = thread(); n < count; n += threads()) places[n] = (q * g.samples + first + n) * features;
    barrier();
    load_tile<N, 1>(rows, Layout{0, 1, 0, 0, 1, kComplex<N>}, places, features, count, to);
    barrier();
  };
  const auto store_rows = [&](T* rows, int features, int64_t first, int count, Shared<N> from) {
    for (int n = thread(); n < count; n += threads()) places[n] = (q * g.samples + first + n) * features;
    barrier();
    store_tile<N, 1>(rows, Layout{0, 1, 0, 0, 1, kComplex<N>}, places, features, count, from);
    barrier();
  };

  // without samples one empty tile writes zeros
  for (int64_t first = begin; first == begin || first < end; first += kRows) {
    const int count = int(end - first < kRows ? end - first : kRows);
    load_rows(g.x, in, first, count, h);
    int at = 0;  // of a layer's arguments
    for (int j = 0; j < g.depth; ++j) {
      const ChainLayer<T>& layer = g.layers[j];
      multiply(layer.weight, layer.bias, layer.in, layer.out, h, spare);
      for (int o = warp(); o < layer.out; o += warps()) {
        const N z = spare[o * kStep<N> + lane()];
        store_number<N>(arguments, at + o * kRows + lane(), z, kComplex<N>);
        h[o * kStep<N> + lane()] = activate(layer.activation, z, layer.offset);
      }
      barrier();
      at += layer.out * kRows;
    }
    if (g.target) store_rows(g.logits, classes, first, count, h);
    if (g.target || g.branch_weights) {
      if (warp() == 0) {
        const int64_t sample = first + lane();
        score += warp_sum(gradient_of_logits<N>(g, q, sample, classes, lane() < count, h, d));
      }
      barrier();
    } else {
      load_rows(g.grad_y, classes, first, count, d);
    }
    for (int j = g.depth - 1; j >= 0; --j) {
      const ChainLayer<T>& layer = g.layers[j];
      at -= layer.out * kRows;
      for (int o = warp(); o < layer.out && layer.activation != Activation::none; o += warps()) {
        const N z = load_number<N>(arguments, at + o * kRows + lane(), kComplex<N>), grad = d[o * kStep<N> + lane()];
        d[o * kStep<N> + lane()] =
            through(layer.activation, grad, z, activate(layer.activation, z, layer.offset), layer.offset);
      }
      if (j == 0) {
        load_rows(g.x, in, first, count, h);
      } else {
        const ChainLayer<T>& below = g.layers[j - 1];
        for (int o = warp(); o < layer.in; o += warps())
          h[o * kStep<N> + lane()] =
              activate(below.activation, load_number<N>(arguments, at - (layer.in - o) * kRows + lane(), kComplex<N>),
                       below.offset);
        barrier();
      }
      const int64_t item = b * g.branches + q;
      add_weight_gradient<N>(d, h, layer.out, layer.in, first == begin,
                             g.weight_sums[j] + item * layer.out * layer.in * parts);
      if (g.bias_sums[j]) add_bias_gradient<N>(d, layer.out, first == begin, g.bias_sums[j] + item * layer.out * parts);
      if (j == 0 && !g.grad_x) break;
      const Matrix<T>& w = layer.weight;
      multiply({w.values, w.branch_step, w.column_step, w.row_step, w.complex, w.complex}, nullptr, layer.out, layer.in,
               d, spare);
      const Shared<N> done = d;
      d = spare;
      spare = done;
    }
    barrier();
    if (g.grad_x) store_rows(g.grad_x, in, first, count, d);
  }
  if (g.branch_sums && thread() == 0) g.branch_sums[b * g.branches + q] = score;
}

template <class N> void run_numbers(const Gradients<Real<N>>& g, void* stream) {
  int64_t largest = 0;
  for (int j = 0; j < g.depth; ++j) {
    const int64_t in = g.layers[j].in, out = g.layers[j].out;
    for (const int64_t values : {staged_values<N>(in, out), staged_values<N>(out, in)})
      largest = values > largest ? values : largest;
  }
  const int64_t others = 3 * shared_bytes_for<N>(g.widest * kStep<N>) + shared_bytes_for<int64_t>(kRows);
  const int64_t room = (limits().shared_bytes - others) / int64_t(sizeof(N)) / kOutputs<N> * kOutputs<N>;
  const int64_t staged = largest < room ? largest : room;
  launch(stream, Grid{g.branches * g.blocks, warps_for<N>(g.widest) * kWarp, others + shared_bytes_for<N>(staged)},
         &gradients<N>, g, staged);
}

}  // namespace

template <class T> void run(const Gradients<T>& g, void* stream) {
  return g.complex ? run_numbers<Complex<T>>(g, stream) : run_numbers<T>(g, stream);
}
template void run<float>(const Gradients<float>&, void*);
template void run<double>(const Gradients<double>&, void*);

}  // namespace spectral::cuda
