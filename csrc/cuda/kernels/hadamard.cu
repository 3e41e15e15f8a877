// Walsh-Hadamard transforms: log2(n) stages of sums and differences in shared memory, one block for the tubes that fit.
#include "../kernels.h"
#include "../tile.cuh"

namespace spectral::cuda {

namespace {

constexpr int kThreads = 256;

template <class T> __global__ void __launch_bounds__(kThreads, 2)
    butterflies(const Butterflies<T> b, int tubes, int log_n, unsigned parts) {
  SharedMemory memory;
  const int n = 1 << log_n, pitch = b.inner == 1 ? n : tubes;
  const Shared<T> h = memory.take<T>(int64_t(n) * tubes);
  // contiguous tubes: `tubes` of them, one after another; else `tubes` columns of one (n, inner) matrix
  const int64_t item = block(), part = item % parts, first = part * tubes;
  const int64_t all = b.inner == 1 ? b.outer : b.inner,
                start = b.inner == 1 ? first * n : item / parts * n * b.inner + first;
  const int count = int(all - first < tubes ? all - first : tubes);
  const bool rows = b.inner == 1;
  const auto place = [&](int i) { return rows ? start + i : start + int64_t(i / pitch) * b.inner + i % pitch; };
  const auto exists = [&](int i) { return rows ? i < count << log_n : i % pitch < count; };
  for (int i = thread(); i < n * tubes; i += threads()) h[i] = exists(i) ? b.x[place(i)] : T(0);
  for (int half = 1; half < n; half *= 2) {
    barrier();
    for (int i = thread(); i < n * tubes / 2; i += threads()) {
      // butterfly i: number `at` of a tube
      const int at = rows ? i & (n / 2 - 1) : i / pitch, tube = rows ? i >> (log_n - 1) << log_n : i % pitch;
      const int low = (at / half * 2 * half + at % half), step = rows ? 1 : pitch;
      const T p = h[tube + low * step], q = h[tube + (low + half) * step];
      h[tube + low * step] = p + q;
      h[tube + (low + half) * step] = p - q;
    }
  }
  barrier();
  for (int i = thread(); i < n * tubes; i += threads())
    if (exists(i)) b.y[place(i)] = b.scale * T(h[i]);
}

}  // namespace

template <class T> void run(const Butterflies<T>& b, void* stream) {
  constexpr int64_t kValues = 4096;  // of a block: 16 values a thread
  // longer ones in two passes, H_n = (H_a x 1)(1 x H_b); across, 32 columns of a tube keep a warp's accesses together
  const int64_t longest = b.inner == 1 ? kValues : kValues / 32;
  if (b.n > longest) {
    const int64_t head = b.n / longest;
    run(Butterflies<T>{b.outer, head, longest * b.inner, b.x, b.y, T(1)}, stream);
    return run(Butterflies<T>{b.outer * head, longest, b.inner, b.y, b.y, b.scale}, stream);
  }
  int log_n = 0;
  while (int64_t(1) << log_n < b.n) ++log_n;
  const int64_t all = b.inner == 1 ? b.outer : b.inner, fit = kValues / b.n;
  const int64_t tubes = fit < all ? fit : all, parts = all ? ceil_div(all, tubes) : 0;
  launch(stream, Grid{b.inner == 1 ? parts : parts * b.outer, kThreads, shared_bytes_for<T>(b.n * tubes)},
         &butterflies<T>, b, int(tubes), log_n, unsigned(parts));
}
template void run<float>(const Butterflies<float>&, void*);
template void run<double>(const Butterflies<double>&, void*);

}  // namespace spectral::cuda
