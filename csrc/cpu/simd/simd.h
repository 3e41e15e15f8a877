// The vocabulary of the CPU kernels: a vector of the level's width, loads and stores of parts, the transpose of a
// square. The compiler's vector types carry the arithmetic; intrinsics appear only where those have no words: masked
// memory, and stores past the caches.
#pragma once
#include <cstdint>
#include <cstring>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "../../tiles.h"
#include "../kernels.h"

#define SPECTRAL_INLINE inline __attribute__((always_inline))

namespace spectral::SPECTRAL_LEVEL {

#if defined(__AVX512F__)
inline constexpr Level kLevel = Level::avx512;
#elif defined(__AVX2__)
inline constexpr Level kLevel = Level::avx2;
#else
inline constexpr Level kLevel = Level::portable;
#endif

template <class T> inline constexpr CpuTile kTileRow = cpu_tile(kLevel, sizeof(T));
template <class T> inline constexpr int kLanes = kTileRow<T>.lanes;
template <class T> inline constexpr int kTile = kTileRow<T>.samples();  // samples in a tile: two vectors
template <class T> inline constexpr int kRows = kTileRow<T>.rows;

template <class T> struct VectorOf;
template <> struct VectorOf<float> {
  typedef float type __attribute__((vector_size(kLanes<float> * 4)));
  typedef float loose __attribute__((vector_size(kLanes<float> * 4), aligned(4)));
  typedef int32_t integer __attribute__((vector_size(kLanes<float> * 4)));
};
template <> struct VectorOf<double> {
  typedef double type __attribute__((vector_size(kLanes<double> * 8)));
  typedef double loose __attribute__((vector_size(kLanes<double> * 8), aligned(8)));
  typedef int64_t integer __attribute__((vector_size(kLanes<double> * 8)));
};
template <class T> using Vec = typename VectorOf<T>::type;

template <class T> SPECTRAL_INLINE Vec<T> load(const T* p) { return *reinterpret_cast<const Vec<T>*>(p); }
template <class T> SPECTRAL_INLINE void store(T* p, Vec<T> v) { *reinterpret_cast<Vec<T>*>(p) = v; }
template <class T> SPECTRAL_INLINE Vec<T> load_loose(const T* p) {
  return *reinterpret_cast<const typename VectorOf<T>::loose*>(p);
}
template <class T> SPECTRAL_INLINE void store_loose(T* p, Vec<T> v) {
  *reinterpret_cast<typename VectorOf<T>::loose*>(p) = v;
}
// With kStream past the caches, to an address that is a multiple of a vector; `finish_streams` comes after the last
// one.
template <bool kStream, class T> SPECTRAL_INLINE void put(T* p, Vec<T> v) {
#if defined(__AVX512F__)
  if constexpr (kStream) return _mm512_stream_si512(reinterpret_cast<__m512i*>(p), (__m512i)v);
#elif defined(__AVX2__)
  if constexpr (kStream) return _mm256_stream_si256(reinterpret_cast<__m256i*>(p), (__m256i)v);
#endif
  store_loose(p, v);
}
SPECTRAL_INLINE void finish_streams() {
#if defined(__AVX2__)
  _mm_sfence();
#endif
}
template <class T> SPECTRAL_INLINE Vec<T> broadcast(T value) { return value - Vec<T>{}; }

// The first `count` lanes, never touching memory behind them; the other lanes are 0.
template <class T> SPECTRAL_INLINE Vec<T> load_part(const T* p, int64_t count) {
  if (count >= kLanes<T>) return load_loose(p);
#if defined(__AVX512F__)
  const auto mask = (1u << count) - 1;
  if constexpr (sizeof(T) == 4) return (Vec<T>)_mm512_maskz_loadu_ps((__mmask16)mask, p);
  if constexpr (sizeof(T) == 8) return (Vec<T>)_mm512_maskz_loadu_pd((__mmask8)mask, p);
#else
  Vec<T> v{};
  for (int64_t i = 0; i < count; ++i) v[i] = p[i];
  return v;
#endif
}
template <class T> SPECTRAL_INLINE void store_part(T* p, Vec<T> v, int64_t count) {
  if (count >= kLanes<T>) return store_loose(p, v);
#if defined(__AVX512F__)
  const auto mask = (1u << count) - 1;
  if constexpr (sizeof(T) == 4) _mm512_mask_storeu_ps(p, (__mmask16)mask, (__m512)v);
  if constexpr (sizeof(T) == 8) _mm512_mask_storeu_pd(p, (__mmask8)mask, (__m512d)v);
#else
  for (int64_t i = 0; i < count; ++i) p[i] = v[i];
#endif
}

// a0 b0 a1 b1 ...: the lower (0) or upper (1) halves of a and b, interleaved.
template <class T, int kHalf> SPECTRAL_INLINE Vec<T> interleave(Vec<T> a, Vec<T> b) {
  constexpr int n = kLanes<T>, s = kHalf * n / 2;
  if constexpr (n == 2) return __builtin_shufflevector(a, b, s, n + s);
  if constexpr (n == 4) return __builtin_shufflevector(a, b, s, n + s, s + 1, n + s + 1);
  if constexpr (n == 8)
    return __builtin_shufflevector(a, b, s, n + s, s + 1, n + s + 1, s + 2, n + s + 2, s + 3, n + s + 3);
  if constexpr (n == 16)
    return __builtin_shufflevector(a, b, s, n + s, s + 1, n + s + 1, s + 2, n + s + 2, s + 3, n + s + 3, s + 4,
                                   n + s + 4, s + 5, n + s + 5, s + 6, n + s + 6, s + 7, n + s + 7);
}

// Transposes the square of kLanes vectors: log2(kLanes) perfect shuffles of the rows.
template <class T> SPECTRAL_INLINE void transpose(Vec<T>* row) {
  constexpr int n = kLanes<T>;
  Vec<T> next[n];
#pragma GCC unroll 4
  for (int step = 1; step < n; step *= 2) {
#pragma GCC unroll 8
    for (int i = 0; i < n / 2; ++i) {
      next[2 * i] = interleave<T, 0>(row[i], row[i + n / 2]);
      next[2 * i + 1] = interleave<T, 1>(row[i], row[i + n / 2]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < n; ++i) row[i] = next[i];
  }
}

SPECTRAL_INLINE constexpr int64_t min(int64_t a, int64_t b) { return a < b ? a : b; }
SPECTRAL_INLINE constexpr int64_t max(int64_t a, int64_t b) { return a > b ? a : b; }
SPECTRAL_INLINE int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
SPECTRAL_INLINE int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

}  // namespace spectral::SPECTRAL_LEVEL
