// Partial sums of blocks, added in order; and what is done to single values.
#include "activation.cuh"

namespace spectral::cuda {

namespace {

constexpr int kThreads = 256;

SPECTRAL_DEVICE int64_t global_thread() { return int64_t(block()) * kThreads + thread(); }

template <class T> __global__ void __launch_bounds__(kThreads) add_blocks(const BlockSums<T> all) {
  int64_t i = global_thread();
  for (int p = 0; p < all.count; ++p) {
    const typename BlockSums<T>::Part& part = all.parts[p];
    if (i < part.values) {
      T total = part.sums[i];
      for (int64_t b = 1; b < all.blocks; ++b) total += part.sums[b * part.values + i];
      part.total[i] = total;
      return;
    }
    i -= part.values;
  }
}

template <class T> __global__ void __launch_bounds__(kThreads)
    add_doubles(const double* sums, int64_t blocks, int64_t branches, double scale, T* total) {
  const int64_t q = global_thread();
  if (q >= branches) return;
  double sum = 0;
  for (int64_t b = 0; b < blocks; ++b) sum += sums[b * branches + q];
  total[q] = T(sum * scale);
}

template <class T> __global__ void __launch_bounds__(kThreads)
    slopes(const Activation kind, const T* grad, const T* h, int64_t count, T* y) {
  const int64_t i = global_thread();
  if (i < count) y[i] = through(kind, grad[i], T(0), h[i], T(0));
}

Grid one_thread_each(int64_t count) { return {ceil_div(count, kThreads), kThreads, 0}; }

}  // namespace

template <class T> void run(const BlockSums<T>& all, void* stream) {
  int64_t values = 0;
  for (int p = 0; p < all.count; ++p) values += all.parts[p].values;
  launch(stream, one_thread_each(values), &add_blocks<T>, all);
}

template <class T>
void add_branch_sums(const double* sums, int64_t blocks, int64_t branches, double scale, T* total, void* stream) {
  launch(stream, one_thread_each(branches), &add_doubles<T>, sums, blocks, branches, scale, total);
}

template <class T>
void multiply_by_slope(Activation kind, const T* grad, const T* h, int64_t count, T* y, void* stream) {
  launch(stream, one_thread_each(count), &slopes<T>, kind, grad, h, count, y);
}

#define SPECTRAL_FOR(T)                                                                 \
  template void run<T>(const BlockSums<T>&, void*);                                     \
  template void add_branch_sums<T>(const double*, int64_t, int64_t, double, T*, void*); \
  template void multiply_by_slope<T>(Activation, const T*, const T*, int64_t, T*, void*)
SPECTRAL_FOR(float);
SPECTRAL_FOR(double);
#undef SPECTRAL_FOR

}  // namespace spectral::cuda
