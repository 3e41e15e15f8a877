// Complex numbers as they lie in memory: vectors of (re, im) pairs.
#pragma once
#include "complex.h"

namespace spectral::SPECTRAL_LEVEL {

// Both lanes of every pair hold its real part, or its imaginary part; and the parts change places.
template <class T, int kEven, int kOdd> SPECTRAL_INLINE Vec<T> rearrange(Vec<T> v) {
  constexpr int n = kLanes<T>, e = kEven, o = kOdd;
  if constexpr (n == 2) return __builtin_shufflevector(v, v, e, o);
  if constexpr (n == 4) return __builtin_shufflevector(v, v, e, o, 2 + e, 2 + o);
  if constexpr (n == 8) return __builtin_shufflevector(v, v, e, o, 2 + e, 2 + o, 4 + e, 4 + o, 6 + e, 6 + o);
  if constexpr (n == 16)
    return __builtin_shufflevector(v, v, e, o, 2 + e, 2 + o, 4 + e, 4 + o, 6 + e, 6 + o, 8 + e, 8 + o, 10 + e, 10 + o,
                                   12 + e, 12 + o, 14 + e, 14 + o);
}
template <class T> SPECTRAL_INLINE Pair<T> parts(Vec<T> v) { return {rearrange<T, 0, 0>(v), rearrange<T, 1, 1>(v)}; }
template <class T> SPECTRAL_INLINE Vec<T> swap_parts(Vec<T> v) { return rearrange<T, 1, 0>(v); }

// What both lanes of a pair hold of z, as a pair again.
template <class T> SPECTRAL_INLINE Vec<T> pairs(Pair<T> z) {
  typename VectorOf<T>::integer even;
  for (int i = 0; i < kLanes<T>; ++i) even[i] = i % 2 ? 0 : -1;
  return select<T>(even, z.re, z.im);
}

// h = act(z), in place, on `values` values.
template <class T> void activate_pairs(Activation kind, T offset, T* z, int64_t values) {
  visit_complex(kind, [&]<Activation kKind>() {
    if constexpr (kKind == Activation::none) return;
    for (int64_t i = 0; i < values; i += kLanes<T>) {
      const int64_t part = min(kLanes<T>, values - i);
      const Vec<T> v = load_part(z + i, part);
      if constexpr (kKind == Activation::crelu)
        store_part(z + i, activation<T, Activation::relu>(v), part);
      else
        store_part(z + i, pairs<T>(activation<T, kKind>(parts<T>(v), offset)), part);
    }
  });
}

}  // namespace spectral::SPECTRAL_LEVEL
