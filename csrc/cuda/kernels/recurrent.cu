// A recurrent layer through all its steps: a block takes a branch and 32 samples, whose state stays in shared memory
// with the weights.
#include "recurrent.cuh"

namespace spectral::cuda {

namespace {

enum { kOfInput, kOfState, kOfOutput };

template <class N> __global__ void __launch_bounds__(kMostThreads, 2)
    recurrent(const Recurrent<Real<N>> r, const StagedList<N, 3> list, unsigned tiles) {
  SharedMemory memory;
  const int in = int(r.in), hidden = int(r.hidden), out = int(r.out);
  const Shared<N> weights = memory.take<N>(list.values);
  const Shared<N> x = memory.take<N>(in * kStep<N>), h = memory.take<N>(hidden * kStep<N>);
  const Shared<N> z = memory.take<N>((hidden > out ? hidden : out) * kStep<N>);
  const Shared<int64_t> lengths = memory.take<int64_t>(kRows);
  const int64_t first = int64_t(block() % tiles) * kRows;
  const SampleTile tile{block() / tiles, first, int(r.samples - first < kRows ? r.samples - first : kRows)};
  const int64_t q = tile.q;

  list.stage_all(q, weights);
  for (int n = thread(); n < kRows; n += threads())
    lengths[n] = n >= tile.count ? 0 : r.lengths ? r.lengths[tile.first + n] : r.steps;
  tile.each(0, r.branches, r.samples, hidden,
            [&](int k, int n, int64_t at) { h[k * kStep<N> + n] = number_at<N>(r.h0, at); });
  barrier();
  for (int64_t t = 0; t < r.steps; ++t) {
    tile.each(t, r.branches, r.samples, in,
              [&](int k, int n, int64_t at) { x[k * kStep<N> + n] = number_at<N>(r.x, t < lengths[n] ? at : -1); });
    barrier();
    list.multiply(kOfInput, q, weights, x, [&](int o, int n, N value) { z[o * kStep<N> + n] = value; });
    list.multiply(kOfState, q, weights, h,
                  [&](int o, int n, N value) { z[o * kStep<N> + n] = N(z[o * kStep<N> + n]) + value; });
    for (int o = warp(); o < hidden; o += warps())
      if (t < lengths[lane()])
        h[o * kStep<N> + lane()] = activate(r.activation_h, N(z[o * kStep<N> + lane()]), r.offset_h);
    barrier();
    if (r.states)
      tile.each(t, r.branches, r.samples, hidden,
                [&](int k, int n, int64_t at) { put_number<N>(r.states, at, h[k * kStep<N> + n]); });
    list.multiply(kOfOutput, q, weights, h, [&](int o, int n, N value) { z[o * kStep<N> + n] = value; });
    tile.each(t, r.branches, r.samples, out, [&](int k, int n, int64_t at) {
      const N value = z[k * kStep<N> + n];
      put_number<N>(r.y, at, t < lengths[n] ? activate(r.activation_y, value, r.offset_y) : N{});
    });
    barrier();
  }
  tile.each(0, r.branches, r.samples, hidden,
            [&](int k, int n, int64_t at) { put_number<N>(r.last, at, h[k * kStep<N> + n]); });
}

template <class N> void run_numbers(const Recurrent<Real<N>>& r, void* stream) {
  const Real<N>* none = nullptr;
  StagedList<N, 3> list;
  list.add(recurrent_matrix<N>(r.weight_x, r.hidden, r.in), r.bias, r.in, r.hidden);
  list.add(recurrent_matrix<N>(r.weight_h, r.hidden, r.hidden), none, r.hidden, r.hidden);
  list.add(recurrent_matrix<N>(r.weight_y, r.out, r.hidden), none, r.hidden, r.out);
  const int64_t widest = r.hidden > r.out ? r.hidden : r.out, tiles = ceil_div(r.samples, kRows);
  const int64_t bytes = list.fit(shared_bytes_for<N>(r.in * kStep<N>) + shared_bytes_for<N>(r.hidden * kStep<N>) +
                                 shared_bytes_for<N>(widest * kStep<N>) + shared_bytes_for<int64_t>(kRows));
  launch(stream, Grid{r.branches * tiles, warps_for<N>(widest) * kWarp, bytes}, &recurrent<N>, r, list,
         unsigned(tiles));
}

}  // namespace

template <class T> void run(const Recurrent<T>& r, void* stream) {
  return r.complex ? run_numbers<Complex<T>>(r, stream) : run_numbers<T>(r, stream);
}
template void run<float>(const Recurrent<float>&, void*);
template void run<double>(const Recurrent<double>&, void*);

}  // namespace spectral::cuda
