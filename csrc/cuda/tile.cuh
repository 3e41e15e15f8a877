// The vocabulary of the CUDA kernels: launches, threads, shared memory, numbers. Torch-free. With SPECTRAL_EMULATE the
// same source is C++ that runs on the host, see emulate.h.
#pragma once
#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <string>

#ifdef SPECTRAL_EMULATE
#include "emulate.h"
#else
#include <cuda_runtime.h>
#endif

namespace spectral::cuda {

#define SPECTRAL_DEVICE __device__ __forceinline__

// ---- launches ----
constexpr int kWarp = 32;
constexpr int kMostThreads = 256;  // of a block; at two blocks to a multiprocessor each thread has 128 registers

struct Limits {
  int64_t shared_bytes;  // that a block may have, after opting in
  int64_t multiprocessors;
};

struct Grid {
  int64_t blocks;
  int threads;
  int64_t shared_bytes;
};

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

// What an array takes of a launch's shared memory.
template <class T> constexpr int64_t shared_bytes_for(int64_t count) { return round_up(count * sizeof(T), 16); }

#ifdef SPECTRAL_EMULATE
template <class T> using Shared = ::emulate::Shared<T>;

inline Limits emulated_limits{99 << 10, 2};
inline Limits limits() { return emulated_limits; }
// For the tests, from Python.
extern "C" __attribute__((visibility("default"), used)) inline void spectral_emulated_limits(int64_t shared_bytes,
                                                                                             int64_t multiprocessors) {
  emulated_limits = {shared_bytes, multiprocessors};
}

// All launches of the package go through here.
template <class... A, class... B> void launch(void* /*stream*/, Grid grid, void (*kernel)(A...), B... arguments) {
  if (grid.shared_bytes > emulated_limits.shared_bytes)
    throw ::emulate::Fault("the launch asks for " + std::to_string(grid.shared_bytes) +
                           " bytes of shared memory, more than the device has");
  if (grid.blocks)
    ::emulate::launch(kernel, {unsigned(grid.blocks)}, {unsigned(grid.threads)}, grid.shared_bytes, A(arguments)...);
}
#else
template <class T> using Shared = T*;

inline void check(cudaError_t error) {
  if (error != cudaSuccess) throw std::runtime_error(std::string("CUDA: ") + cudaGetErrorString(error));
}

// Of the current device.
inline Limits limits() {
  int device = 0, shared_bytes = 0, multiprocessors = 0;
  check(cudaGetDevice(&device));
  check(cudaDeviceGetAttribute(&shared_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
  check(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device));
  return {shared_bytes, multiprocessors};
}

// All launches of the package go through here.
template <class... A, class... B> void launch(void* stream, Grid grid, void (*kernel)(A...), B... arguments) {
  constexpr int64_t kWithoutOptIn = 48 << 10, kMostBlocks = (int64_t(1) << 31) - 1;
  if (grid.blocks == 0) return;
  if (grid.blocks > kMostBlocks) throw std::runtime_error("CUDA: more blocks than a grid takes");
  if (grid.shared_bytes > kWithoutOptIn)
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(grid.shared_bytes)));
  kernel<<<unsigned(grid.blocks), grid.threads, grid.shared_bytes, static_cast<cudaStream_t>(stream)>>>(
      A(arguments)...);
  check(cudaGetLastError());
}
#endif

// ---- where a thread is ----
SPECTRAL_DEVICE int thread() { return int(threadIdx.x); }
SPECTRAL_DEVICE int threads() { return int(blockDim.x); }
SPECTRAL_DEVICE int lane() { return thread() % kWarp; }
SPECTRAL_DEVICE int warp() { return thread() / kWarp; }
SPECTRAL_DEVICE int warps() { return threads() / kWarp; }
SPECTRAL_DEVICE unsigned block() { return blockIdx.x; }
SPECTRAL_DEVICE unsigned blocks() { return gridDim.x; }
SPECTRAL_DEVICE void barrier() { __syncthreads(); }

// ---- shared memory ----

// Hands out the launch's dynamic shared memory, piece by piece; every thread asks for the same pieces.
class SharedMemory {
 public:
  template <class T> SPECTRAL_DEVICE Shared<T> take(int64_t count) {
#ifdef SPECTRAL_EMULATE
    return ::emulate::dynamic_array<T>(count, shared_bytes_for<T>(count));
#else
    extern __shared__ __align__(16) char bytes[];
    T* taken = reinterpret_cast<T*>(bytes + used_);
    used_ += int(shared_bytes_for<T>(count));
    return taken;
#endif
  }

 private:
  [[maybe_unused]] int used_ = 0;
};

// ---- numbers ----
template <class T> struct alignas(2 * sizeof(T)) Complex {
  using Real = T;
  T re, im;
};
template <class N> struct NumberTraits {
  using Real = N;
  static constexpr bool complex = false;
};
template <class T> struct NumberTraits<Complex<T>> {
  using Real = T;
  static constexpr bool complex = true;
};
template <class N> using Real = typename NumberTraits<N>::Real;
template <class N> constexpr bool kComplex = NumberTraits<N>::complex;

template <class T> SPECTRAL_DEVICE Complex<T> operator+(Complex<T> a, Complex<T> b) {
  return {a.re + b.re, a.im + b.im};
}
template <class T> SPECTRAL_DEVICE Complex<T> operator-(Complex<T> a, Complex<T> b) {
  return {a.re - b.re, a.im - b.im};
}
template <class T> SPECTRAL_DEVICE Complex<T> operator*(Complex<T> a, Complex<T> b) {
  return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}
template <class T> SPECTRAL_DEVICE Complex<T> conj(Complex<T> a) { return {a.re, -a.im}; }
SPECTRAL_DEVICE float conj(float a) { return a; }
SPECTRAL_DEVICE double conj(double a) { return a; }
SPECTRAL_DEVICE float real(float a) { return a; }
SPECTRAL_DEVICE double real(double a) { return a; }
template <class T> SPECTRAL_DEVICE T real(Complex<T> a) { return a.re; }

// sum += a * b
SPECTRAL_DEVICE void multiply_add(float& sum, float a, float b) { sum = fmaf(a, b, sum); }
SPECTRAL_DEVICE void multiply_add(double& sum, double a, double b) { sum = fma(a, b, sum); }
template <class T> SPECTRAL_DEVICE void multiply_add(Complex<T>& sum, Complex<T> a, Complex<T> b) {
  multiply_add(sum.re, a.re, b.re);
  multiply_add(sum.re, -a.im, b.im);
  multiply_add(sum.im, a.re, b.im);
  multiply_add(sum.im, a.im, b.re);
}

// Number `at` of a tensor of real numbers, or of (re, im) pairs where `pairs`.
template <class N> SPECTRAL_DEVICE N load_number(const Real<N>* p, int64_t at, bool pairs) {
  if constexpr (kComplex<N>) {
    if (pairs) return reinterpret_cast<const N*>(p)[at];
    return {p[at], 0};
  } else {
    return p[at];
  }
}

template <class N> SPECTRAL_DEVICE void store_number(Real<N>* p, int64_t at, N value, bool pairs) {
  if constexpr (kComplex<N>) {
    if (pairs)
      reinterpret_cast<N*>(p)[at] = value;
    else
      p[at] = value.re;
  } else {
    p[at] = value;
  }
}

// `count` values that lie side by side in shared memory, 16 bytes at a time; p is aligned for that.
template <int count, class N> SPECTRAL_DEVICE void load_row(N (&values)[count], Shared<N> p) {
#ifdef SPECTRAL_EMULATE
  for (int i = 0; i < count; ++i) values[i] = p[i];
#else
  static_assert(count * sizeof(N) % 16 == 0);
  struct alignas(16) Piece {
    N values[16 / sizeof(N)];
  };
#pragma unroll
  for (int i = 0; i < count; i += 16 / sizeof(N)) {
    const Piece piece = *reinterpret_cast<const Piece*>(p + i);
#pragma unroll
    for (int j = 0; j < int(16 / sizeof(N)); ++j) values[i + j] = piece.values[j];
  }
#endif
}

// ---- a warp together ----

// The same order of sums in every lane, and in every run.
template <class T> SPECTRAL_DEVICE T warp_sum(T value) {
  for (int lanes = kWarp / 2; lanes; lanes /= 2) value += __shfl_xor_sync(0xffffffffu, value, lanes);
  return value;
}

// The largest; NaN where one is.
template <class T> SPECTRAL_DEVICE T warp_max(T value) {
  for (int lanes = kWarp / 2; lanes; lanes /= 2) {
    const T other = __shfl_xor_sync(0xffffffffu, value, lanes);
    value = value > other || value != value ? value : other;
  }
  return value;
}

}  // namespace spectral::cuda
