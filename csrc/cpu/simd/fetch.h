// Memory that will be needed soon: steps that lie pages apart, where the hardware does not look, or more lines at once
// than it follows; and memory that will not.
#pragma once
#include "simd.h"

namespace spectral::SPECTRAL_LEVEL {

// Asks for `values` values, to be written where kWrite is 1; into the second-level cache where kLocality is 2, since
// rows a power of two apart meet in a few sets of the first.
template <class T, int kWrite, int kLocality = 3> SPECTRAL_INLINE void fetch(const T* p, int64_t values) {
  for (int64_t i = 0; i < values; i += int64_t(64 / sizeof(T))) __builtin_prefetch(p + i, kWrite, kLocality);
}

// Whether the kernels write a result of `values` values past the caches. A line that is written whole need not be read
// before, which is a third of the bytes that move; where the caches still held it, and are asked for it soon, that
// costs more than it saves.
inline constexpr int64_t kStreamedBytes = 8 << 20;
template <class T> SPECTRAL_INLINE bool streams(int64_t values) {
  return kLevel != Level::portable && values * int64_t(sizeof(T)) >= kStreamedBytes;
}
// The same where they write vector by vector, at y and at multiples of `step` behind it.
template <class T> SPECTRAL_INLINE bool streams(const T* y, int64_t values, int64_t step) {
  return streams<T>(values) && reinterpret_cast<uintptr_t>(y) % sizeof(Vec<T>) == 0 && step % kLanes<T> == 0;
}

}  // namespace spectral::SPECTRAL_LEVEL
