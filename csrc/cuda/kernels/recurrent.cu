// A recurrent layer through all its steps: a block takes a branch and 32 samples, whose state stays in shared memory
// with the weights.
#include "recurrent.cuh"

namespace spectral::cuda {

namespace {

enum { kOfInput, kOfState, kOfOutput };

template <class T> __global__ void __launch_bounds__(kMostThreads, 2)
    recurrent(const Recurrent<T> r, const StagedList<T, 3> list, unsigned tiles) {
  SharedMemory memory;
  const int in = int(r.in), hidden = int(r.hidden), out = int(r.out);
  const Shared<T> weights = memory.take<T>(list.values);
  const Shared<T> x = memory.take<T>(in * kStep<T>), h = memory.take<T>(hidden * kStep<T>);
  const Shared<T> z = memory.take<T>((hidden > out ? hidden : out) * kStep<T>);
  const Shared<int64_t> lengths = memory.take<int64_t>(kRows);
  const int64_t first = int64_t(block() % tiles) * kRows;
  const SampleTile tile{block() / tiles, first, int(r.samples - first < kRows ? r.samples - first : kRows)};
  const int64_t q = tile.q;

  list.stage_all(q, weights);
  for (int n = thread(); n < kRows; n += threads())
    lengths[n] = n >= tile.count ? 0 : r.lengths ? r.lengths[tile.first + n] : r.steps;
  tile.each(0, r.branches, r.samples, hidden,
            [&](int k, int n, int64_t at) { h[k * kStep<T> + n] = at < 0 ? T(0) : r.h0[at]; });
  barrier();
  for (int64_t t = 0; t < r.steps; ++t) {
    tile.each(t, r.branches, r.samples, in,
              [&](int k, int n, int64_t at) { x[k * kStep<T> + n] = at < 0 || t >= lengths[n] ? T(0) : r.x[at]; });
    barrier();
    list.multiply(kOfInput, q, weights, x, [&](int o, int n, T value) { z[o * kStep<T> + n] = value; });
    list.multiply(kOfState, q, weights, h, [&](int o, int n, T value) { z[o * kStep<T> + n] += value; });
    for (int o = warp(); o < hidden; o += warps())
      if (t < lengths[lane()]) h[o * kStep<T> + lane()] = activate(r.activation_h, T(z[o * kStep<T> + lane()]), T(0));
    barrier();
    if (r.states)
      tile.each(t, r.branches, r.samples, hidden, [&](int k, int n, int64_t at) {
        if (at >= 0) r.states[at] = h[k * kStep<T> + n];
      });
    list.multiply(kOfOutput, q, weights, h, [&](int o, int n, T value) { z[o * kStep<T> + n] = value; });
    tile.each(t, r.branches, r.samples, out, [&](int k, int n, int64_t at) {
      if (at >= 0) r.y[at] = t < lengths[n] ? activate(r.activation_y, T(z[k * kStep<T> + n]), T(0)) : T(0);
    });
    barrier();
  }
  tile.each(0, r.branches, r.samples, hidden, [&](int k, int n, int64_t at) {
    if (at >= 0) r.last[at] = h[k * kStep<T> + n];
  });
}

}  // namespace

template <class T> void run(const Recurrent<T>& r, void* stream) {
  StagedList<T, 3> list;
  list.add(recurrent_matrix(r.weight_x, r.hidden, r.in), r.bias, r.in, r.hidden);
  list.add(recurrent_matrix(r.weight_h, r.hidden, r.hidden), static_cast<const T*>(nullptr), r.hidden, r.hidden);
  list.add(recurrent_matrix(r.weight_y, r.out, r.hidden), static_cast<const T*>(nullptr), r.hidden, r.out);
  const int64_t widest = r.hidden > r.out ? r.hidden : r.out, tiles = ceil_div(r.samples, kRows);
  const int64_t bytes = list.fit(shared_bytes_for<T>(r.in * kStep<T>) + shared_bytes_for<T>(r.hidden * kStep<T>) +
                                 shared_bytes_for<T>(widest * kStep<T>) + shared_bytes_for<int64_t>(kRows));
  launch(stream, Grid{r.branches * tiles, warps_for<T>(widest) * kWarp, bytes}, &recurrent<T>, r, list,
         unsigned(tiles));
}
template void run<float>(const Recurrent<float>&, void*);
template void run<double>(const Recurrent<double>&, void*);

}  // namespace spectral::cuda
