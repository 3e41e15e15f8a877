// Cosine and sine transforms of types II and III of short tubes, factorised, in registers: a thread takes a tube. A
// DCT-II of n is one of n / 2 of the sums x_j + x_(n-1-j) and a DCT-IV of n / 2 of the differences: about n^2 / 3
// multiply-adds instead of n^2, and no weights to load, because they are part of the instructions. Type III is the
// transpose. csrc/cpu/kernels.h, LongTubes, says what the arguments mean.
#include <utility>

#include "rows.cuh"

namespace spectral::cuda {

namespace {

constexpr int kTubes = 128;  // of a block, one a thread

// cos(pi t / (4 n)) for odd t, folded into the first octant, where twelve terms of the series are exact in double.
constexpr double octant(double angle, bool sine) {
  double term = sine ? angle : 1, sum = term;
  for (int k = 1; k < 12; ++k) {
    const int i = 2 * k + (sine ? 1 : 0);
    term *= -angle * angle / double(i * (i - 1));
    sum += term;
  }
  return sum;
}
constexpr double cosine(int t, int n) {
  const int period = 8 * n, r = t % period, half = r > period / 2 ? period - r : r;
  const int folded = half > period / 4 ? period / 2 - half : half;
  const double pi = 3.14159265358979323846;
  const double c =
      8 * folded <= period ? octant(pi * folded / (4 * n), false) : octant(pi * (period / 4 - folded) / (4 * n), true);
  return half > period / 4 ? -c : c;
}
template <class T, int t, int n> constexpr T kCosine = T(cosine(t, n));

// sum_j x_j cos(pi (2k + 1) (2j + 1) / (4 n))
template <int k, class T, int n, int... j>
SPECTRAL_DEVICE T fourth_at(const T (&x)[n], std::integer_sequence<int, j...>) {
  T sum = T(0);
  (multiply_add(sum, x[j], kCosine<T, (2 * k + 1) * (2 * j + 1) % (8 * n), n>), ...);
  return sum;
}
template <class T, int n, int... k>
SPECTRAL_DEVICE void fourth(const T (&x)[n], T (&y)[n], std::integer_sequence<int, k...>) {
  ((y[k] = fourth_at<k>(x, std::make_integer_sequence<int, n>())), ...);
}

// y_k = sum_j x_j cos(pi k (2j + 1) / (2 n)), in x.
template <class T, int n> SPECTRAL_DEVICE void second(T (&x)[n]) {
  if constexpr (n > 1) {
    T sums[n / 2], differences[n / 2], odd[n / 2];
#pragma unroll
    for (int j = 0; j < n / 2; ++j) {
      sums[j] = x[j] + x[n - 1 - j];
      differences[j] = x[j] - x[n - 1 - j];
    }
    fourth(differences, odd, std::make_integer_sequence<int, n / 2>());
    second(sums);
#pragma unroll
    for (int k = 0; k < n / 2; ++k) {
      x[2 * k] = sums[k];
      x[2 * k + 1] = odd[k];
    }
  }
}

// y_j = sum_k x_k cos(pi k (2j + 1) / (2 n)), in x.
template <class T, int n> SPECTRAL_DEVICE void third(T (&x)[n]) {
  if constexpr (n > 1) {
    T even[n / 2], given[n / 2], odd[n / 2];
#pragma unroll
    for (int k = 0; k < n / 2; ++k) {
      even[k] = x[2 * k];
      given[k] = x[2 * k + 1];
    }
    fourth(given, odd, std::make_integer_sequence<int, n / 2>());
    third(even);
#pragma unroll
    for (int j = 0; j < n / 2; ++j) {
      x[j] = even[j] + odd[j];
      x[n - 1 - j] = even[j] - odd[j];
    }
  }
}

// Tubes of the last dimension lie one after another, and pass through shared memory, so that a warp reads whole lines;
// of another dimension neighbouring tubes are neighbours in memory.
template <class T, int n> __global__ void __launch_bounds__(kTubes, 2)
    codelets(const LongTubes<T> t, const double inverse_inner) {
  SharedMemory memory;
  const bool last = t.inner == 1;
  const Shared<T> tile = memory.take<T>(last ? kTubes * (n + 1) : 0);
  const int64_t first = int64_t(block()) * kTubes, tubes = t.outer * t.inner, tube = first + thread();
  const int count = int(tubes - first < kTubes ? tubes - first : kTubes);
  const bool exists = thread() < count;
  const int64_t line = quotient(exists ? tube : 0, t.inner, inverse_inner);
  const int64_t at = line * n * t.inner + (exists ? tube : 0) - line * t.inner;
  // the sine transforms: of type II of x with every other sign changed, from the other end; of type III the transpose
  const bool alternate = t.sine && t.type == 2, mirror = t.sine && t.type == 3;
  T x[n];

  if (last) {
    for (int i = thread(); i < count * n; i += threads()) tile[i / n * (n + 1) + i % n] = t.x[first * n + i];
    barrier();
  }
  if (exists) {
#pragma unroll
    for (int j = 0; j < n; ++j) {
      const int from = mirror ? n - 1 - j : j;
      T value = last ? T(tile[thread() * (n + 1) + from]) : t.x[at + from * t.inner];
      if (from == 0) value *= t.first_in;
      if (from == n - 1) value *= t.last_in;
      value *= t.type == 3 && j == 0 ? T(1) : T(2);
      x[j] = alternate && j % 2 ? -value : value;
    }
    if (t.type == 2)
      second(x);
    else
      third(x);
#pragma unroll
    for (int k = 0; k < n; ++k) {
      const int to = alternate ? n - 1 - k : k;
      T value = (mirror && k % 2 ? -x[k] : x[k]) * t.scale;
      if (to == 0) value *= t.first_out;
      if (to == n - 1) value *= t.last_out;
      if (last)
        tile[thread() * (n + 1) + to] = value;
      else
        t.y[at + to * t.inner] = value;
    }
  }
  if (!last) return;
  barrier();
  for (int i = thread(); i < count * n; i += threads()) t.y[first * n + i] = tile[i / n * (n + 1) + i % n];
}

template <int n, class T> void run_length(const LongTubes<T>& t, void* stream) {
  const int64_t bytes = t.inner == 1 ? shared_bytes_for<T>(kTubes * (n + 1)) : 0;
  launch(stream, Grid{ceil_div(t.outer * t.inner, kTubes), kTubes, bytes}, &codelets<T, n>, t, 1.0 / double(t.inner));
}

}  // namespace

template <class T> void run_codelet(const LongTubes<T>& t, void* stream) {
  switch (t.n) {
    case 4: return run_length<4>(t, stream);
    case 8: return run_length<8>(t, stream);
    case 16: return run_length<16>(t, stream);
    case 32: return run_length<32>(t, stream);
    case 64:
      if constexpr (sizeof(T) == 4) return run_length<64>(t, stream);
  }
  throw std::runtime_error("dct: no codelet of this length");
}
template void run_codelet<float>(const LongTubes<float>&, void*);
template void run_codelet<double>(const LongTubes<double>&, void*);

}  // namespace spectral::cuda
