// Memory that will be needed soon: steps that lie pages apart, where the hardware does not look, or more lines at once
// than it follows.
#pragma once
#include "simd.h"

namespace spectral::SPECTRAL_LEVEL {

// Asks for `values` values, to be written where kWrite is 1.
template <class T, int kWrite> SPECTRAL_INLINE void fetch(const T* p, int64_t values) {
  for (int64_t i = 0; i < values; i += int64_t(64 / sizeof(T))) __builtin_prefetch(p + i, kWrite);
}

}  // namespace spectral::SPECTRAL_LEVEL
