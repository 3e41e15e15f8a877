// Transforms along two short dimensions at once: a block takes some planes through both matrices in shared memory, so
// that device memory is passed through once for both.
#include "rows.cuh"

namespace spectral::cuda {

namespace {

constexpr int kGroup = 2048;  // values that a block works on at a time: two tiles of them leave room for other blocks
constexpr int kMostPlanes = 64;  // of a group

// How a group lies in tiles while one of its two dimensions is transformed: features along it, rows along the other one
// and over the planes, whichever are neighbours in device memory side by side.
template <class T> struct Side {
  static constexpr int kRows = kVectors<T> * kWarp, kStep = kPitch<T, kVectors<T>>;
  int features, others, planes;
  bool along;  // the last dimension's values are neighbours, else the planes are

  constexpr int rows() const { return others * planes; }
  constexpr int tiles() const { return int(ceil_div(rows(), kRows)); }
  constexpr int values() const { return tiles() * features * kStep; }
  constexpr int groups() const { return int(ceil_div(features, kOutputs<T>)); }  // of a product's outputs

  SPECTRAL_DEVICE int place(int feature, int row) const {
    return (row / kRows * features + feature) * kStep + row % kRows;
  }
  SPECTRAL_DEVICE int row(int other, int plane) const {
    return along ? plane * others + other : other * planes + plane;
  }
  SPECTRAL_DEVICE int other(int row) const { return along ? row % others : row / planes; }
  SPECTRAL_DEVICE int plane(int row) const { return along ? row / others : row % planes; }
};

// Multiplies the features of `from` by w, and turns the tiles over: the outputs are rows of `to`.
template <class T>
SPECTRAL_DEVICE void pass(const Side<T>& from, const Side<T>& to, Shared<T> w, Shared<T> in, Shared<T> out) {
  constexpr int kRows = Side<T>::kRows;
  for (int item = warp(); item < from.tiles() * from.groups(); item += warps()) {
    const int tile = item / from.groups(), group = item % from.groups();
    product<T, kVectors<T>>(
        in + tile * from.features * Side<T>::kStep, from.features, w, from.features,
        [&](int o, int n, T value) {
          const int r = tile * kRows + n;
          if (r < from.rows()) out[to.place(from.other(r), to.row(o, from.plane(r)))] = value;
        },
        group, from.groups());
  }
}

template <class T> __global__ void __launch_bounds__(kMostThreads, 2)
    planes(const Planes<T> p, const Side<T> first, const Side<T> second, int64_t groups) {
  SharedMemory memory;
  const int n1 = p.n1, n2 = p.n2;
  const Shared<T> w1 = memory.take<T>(staged_values<T>(n1, n1)), w2 = memory.take<T>(staged_values<T>(n2, n2));
  const Shared<T> a = memory.take<T>(first.values()), b = memory.take<T>(second.values());
  const Shared<int64_t> places = memory.take<int64_t>(first.planes);
  const int64_t step = p.middle * n2 * p.inner, total = p.outer * p.middle * p.inner;
  const T* none = nullptr;

  stage<T>(Matrix<T>{p.first, 0, n1, 1, false, false}, none, n1, n1, 0, 0, n1, w1);
  stage<T>(Matrix<T>{p.second, 0, n2, 1, false, false}, none, n2, n2, 0, 0, n2, w2);
  // rows that only fill a tile up
  for (int i = second.rows() + thread(); i < second.tiles() * Side<T>::kRows; i += threads())
    for (int k = 0; k < n2; ++k) b[second.place(k, i)] = T(0);
  // f(value of the tile, of device memory or -1) for all values of a group
  const auto each = [&](auto f) {
    for (int r = lane(); r < first.tiles() * Side<T>::kRows; r += kWarp) {
      const int64_t plane = r < first.rows() ? int64_t(places[first.plane(r)]) : -1;
      const int64_t at = plane < 0 ? -1 : plane + first.other(r) * p.inner;
      for (int k = warp(); k < n1; k += warps()) f(first.place(k, r), at < 0 ? -1 : at + k * step);
    }
  };
  for (int64_t group = block(); group < groups; group += blocks()) {
    for (int i = thread(); i < first.planes; i += threads()) {
      const int64_t plane = group * first.planes + i, line = quotient(plane, p.inner, p.inverse_inner);
      const int64_t outer = quotient(line, p.middle, p.inverse_middle);
      places[i] = plane < total ? outer * n1 * step + (line - outer * p.middle) * n2 * p.inner + plane - line * p.inner
                                : int64_t(-1);
    }
    barrier();
    each([&](int place, int64_t at) { a[place] = at < 0 ? T(0) : p.x[at]; });
    barrier();
    pass(first, second, w1, a, b);
    barrier();
    pass(second, first, w2, b, a);
    barrier();
    each([&](int place, int64_t at) {
      if (at >= 0) p.y[at] = a[place];
    });
    barrier();
  }
}

}  // namespace

template <class T> void run(const Planes<T>& p, void* stream) {
  const int plane = p.n1 * p.n2, fit = kGroup / plane, count = fit < 1 ? 1 : fit > kMostPlanes ? kMostPlanes : fit;
  const bool along = p.inner == 1;
  const Side<T> first{p.n1, p.n2, count, along}, second{p.n2, p.n1, count, along};
  const int64_t groups = ceil_div(p.outer * p.middle * p.inner, count);
  const int items = first.tiles() * first.groups(), others = second.tiles() * second.groups();
  const int widest = items > others ? items : others, most = kMostThreads / kWarp;
  const int64_t bytes = shared_bytes_for<T>(staged_values<T>(p.n1, p.n1)) +
                        shared_bytes_for<T>(staged_values<T>(p.n2, p.n2)) + shared_bytes_for<T>(first.values()) +
                        shared_bytes_for<T>(second.values()) + shared_bytes_for<int64_t>(count);
  const int64_t resident = 16 * limits().multiprocessors;  // blocks, which read the matrices once
  launch(stream, Grid{groups < resident ? groups : resident, (widest < most ? widest : most) * kWarp, bytes},
         &planes<T>, p, first, second, groups);
}
template void run<float>(const Planes<float>&, void*);
template void run<double>(const Planes<double>&, void*);

}  // namespace spectral::cuda
