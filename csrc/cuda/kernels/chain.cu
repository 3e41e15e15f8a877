// Chains of small products: a block takes one branch and goes through tiles of its rows. Where the weights of all
// layers fit the shared memory they are read once; otherwise those of a layer, as many outputs at a time as fit.
#include "rows.cuh"

namespace spectral::cuda {

namespace {

struct Plan {
  int64_t tiles;
  unsigned parts;  // blocks that share the tiles of a branch
  int64_t staged;  // values of shared memory for weights
  bool resident;   // they hold all layers
};

// h[i][n] = sum_q row[q] x[n][i][q] with the transform's row of this branch.
template <class N, int vectors> SPECTRAL_DEVICE void transform_tile(const Chain<Real<N>>& c, Shared<N> row,
                                                                    int64_t first, int features, int count,
                                                                    Shared<N> h) {
  for (int i = thread(); i < vectors * kWarp * features; i += threads()) {
    const int k = i % features, n = i / features;
    N sum{};
    if (n < count)
      for (int64_t q = 0; q < c.tube; ++q)
        multiply_add(sum, N(row[q]), load_number<N>(c.x, ((first + n) * features + k) * c.tube + q, c.from.complex));
    h[k * kPitch<N, vectors> + n] = sum;
  }
}

template <class N, int vectors> __global__ void __launch_bounds__(kMostThreads, 2)
    chain(const Chain<Real<N>> c, const Plan plan) {
  constexpr int kRows = vectors * kWarp, kStep = kPitch<N, vectors>;
  SharedMemory memory;
  const Shared<N> weights = memory.take<N>(plan.staged);
  Shared<N> h = memory.take<N>(c.widest * kStep), following = memory.take<N>(c.widest * kStep);
  const Shared<int64_t> from = memory.take<int64_t>(kRows), to = memory.take<int64_t>(kRows);
  const Shared<N> row = memory.take<N>(c.transform ? c.tube : 0);
  const int64_t q = block() / plan.parts;

  if (plan.resident)
    for (int j = 0, at = 0; j < c.depth; ++j) {
      const ChainLayer<Real<N>>& layer = c.layers[j];
      stage<N>(layer.weight, layer.bias, layer.in, layer.out, q, 0, layer.out, weights + at);
      at += int(staged_values<N>(layer.in, layer.out));
    }
  for (int64_t i = thread(); c.transform && i < c.tube; i += threads())
    row[i] = load_number<N>(c.transform, q * c.tube + i, c.complex_transform);

  for (int64_t tile = block() % plan.parts; tile < plan.tiles; tile += plan.parts) {
    const int64_t first = tile * kRows;
    const int count = int(c.rows - first < kRows ? c.rows - first : kRows);
    for (int n = thread(); n < count; n += threads()) {
      from[n] = place(c.from, q, first + n);
      to[n] = place(c.to, q, first + n);
    }
    barrier();
    if (c.transform)
      transform_tile<N, vectors>(c, row, first, c.layers[0].in, count, h);
    else
      load_tile<N, vectors>(c.x, c.from, from, c.layers[0].in, count, h);
    barrier();
    for (int j = 0, at = 0; j < c.depth; ++j) {
      const ChainLayer<Real<N>>& layer = c.layers[j];
      int step = layer.out;
      if (!plan.resident) {
        const int fit = int(plan.staged / (layer.in + 1) / kOutputs<N> * kOutputs<N>);
        step = fit < step ? fit : step;
      }
      for (int o = 0; o < layer.out; o += step) {
        const int outputs = layer.out - o < step ? layer.out - o : step;
        if (!plan.resident) {
          stage<N>(layer.weight, layer.bias, layer.in, layer.out, q, o, outputs, weights);
          barrier();
        }
        product<N, vectors>(h, layer.in, weights + at, outputs, [&](int i, int n, N sum) {
          following[(o + i) * kStep + n] = finished(layer.activation, sum);
        });
        barrier();
      }
      activate_tile<N, vectors>(layer.activation, layer.offset, layer.out, j + 1 == c.depth && !c.to.complex,
                                following);
      if (plan.resident) at += int(staged_values<N>(layer.in, layer.out));
      const Shared<N> done = h;
      h = following;
      following = done;
    }
    store_tile<N, vectors>(c.y, c.to, to, c.layers[c.depth - 1].out, count, h);
    barrier();
  }
}

template <class N> void run_numbers(const Chain<Real<N>>& c, void* stream) {
  constexpr int vectors = kVectors<N>;
  const Limits limit = limits();
  int64_t total = 0, largest = 0;
  for (int j = 0; j < c.depth; ++j) {
    const int64_t values = staged_values<N>(c.layers[j].in, c.layers[j].out);
    total += values;
    largest = values > largest ? values : largest;
  }
  const int64_t tile = shared_bytes_for<N>(c.widest * kPitch<N, vectors>);
  const int64_t others =
      2 * tile + 2 * shared_bytes_for<int64_t>(vectors * kWarp) + shared_bytes_for<N>(c.transform ? c.tube : 0);
  const int64_t room = (limit.shared_bytes - others) / int64_t(sizeof(N));
  Plan plan{};
  plan.resident = total <= room;
  plan.staged = plan.resident ? total : largest < room ? largest : room / kOutputs<N> * kOutputs<N>;
  plan.tiles = ceil_div(c.rows, vectors * kWarp);
  if (plan.tiles == 0 || c.branches == 0) return;
  const int64_t wanted = ceil_div(4 * limit.multiprocessors, c.branches);
  plan.parts = unsigned(plan.tiles < wanted ? plan.tiles : wanted);
  const Grid grid{c.branches * plan.parts, warps_for<N>(c.widest) * kWarp, others + shared_bytes_for<N>(plan.staged)};
  launch(stream, grid, &chain<N, vectors>, c, plan);
}

}  // namespace

template <class T> void run(const Chain<T>& c, void* stream) {
  return c.complex ? run_numbers<Complex<T>>(c, stream) : run_numbers<T>(c, stream);
}
template void run<float>(const Chain<float>&, void*);
template void run<double>(const Chain<double>&, void*);

}  // namespace spectral::cuda
