// Complex numbers as they lie in memory: vectors of (re, im) pairs.
#pragma once
#include "accumulate.h"
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

constexpr bool of_pairs(Activation kind) {
  return kind == Activation::zrelu || kind == Activation::cardioid || kind == Activation::modrelu;
}

// act(z), z real numbers or pairs; crelu is relu of either part.
template <class T, Activation kind> SPECTRAL_INLINE Vec<T> activation_of_lanes(Vec<T> z, T offset) {
  if constexpr (of_pairs(kind)) return pairs<T>(activation<T, kind>(parts<T>(z), offset));
  return activation<T, kind == Activation::crelu ? Activation::relu : kind>(z);
}

// The gradient of z from that of h = act(z).
template <class T, Activation kind> SPECTRAL_INLINE Vec<T> through_lanes(Vec<T> grad, Vec<T> z, Vec<T> h, T offset) {
  if constexpr (of_pairs(kind)) return pairs<T>(through<T, kind>(parts<T>(grad), parts<T>(z), parts<T>(h), offset));
  return through<T, kind == Activation::crelu ? Activation::relu : kind>(grad, z, h);
}

// f.template operator()<kind>(), whether of real numbers or of pairs.
template <class F> SPECTRAL_INLINE void visit_any(Activation kind, F f) {
  kind >= Activation::crelu ? visit_complex(kind, f) : visit(kind, f);
}

// h = act(z), in place, on `values` values.
template <class T> void activate_pairs(Activation kind, T offset, T* z, int64_t values) {
  if (kind == Activation::none) return;
  visit_complex(kind, [&]<Activation kKind>() {
    for (int64_t i = 0; i < values; i += kLanes<T>) {
      const int64_t part = min(kLanes<T>, values - i);
      store_part(z + i, activation_of_lanes<T, kKind>(load_part(z + i, part), offset), part);
    }
  });
}

// Signs of the imaginary parts changed.
template <class T> SPECTRAL_INLINE Vec<T> conjugate(Vec<T> v) {
  Vec<T> sign;
  for (int i = 0; i < kLanes<T>; ++i) sign[i] = i % 2 ? T(-1) : T(1);
  return v * sign;
}

// m (rows, columns) of pairs -> the real matrix (2 rows, 2 columns) of the same map, whose blocks are ((re, -im), (im,
// re)), in padded rows.
template <class T> void load_map(const T* m, int64_t rows, int64_t columns, T* out) {
  constexpr int n = kLanes<T>;
  const int64_t ld = padded<T>(2 * columns);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < 2 * columns; c += n) {
      const Vec<T> v = load_part(m + 2 * r * columns + c, min(n, 2 * columns - c));
      store(out + 2 * r * ld + c, conjugate<T>(v));
      store(out + (2 * r + 1) * ld + c, swap_parts<T>(v));
    }
}

// The transpose of that matrix, (2 columns, 2 rows) in padded rows.
template <class T> void transpose_map(const T* m, int64_t rows, int64_t columns, T* out) {
  constexpr int n = kLanes<T>;
  const int64_t ld = padded<T>(2 * rows);
  for (int64_t row = 0; row < rows; row += n)
    for (int64_t column = 0; column < 2 * columns; column += n) {
      const int64_t part = min(n, 2 * columns - column);
      Vec<T> v[n];
#pragma GCC unroll 16
      for (int r = 0; r < n; ++r)
        v[r] = row + r < rows ? load_part(m + 2 * (row + r) * columns + column, part) : Vec<T>{};
      transpose<T>(v);
#pragma GCC unroll 16
      for (int r = 0; r < n; r += 2) {
        if (r >= part) continue;
        T* to = out + (column + r) * ld + 2 * row;
        store(to, interleave<T, 0>(v[r], v[r + 1]));
        store(to + ld, interleave<T, 0>(-v[r + 1], v[r]));
        if (2 * row + n >= ld) continue;
        store(to + n, interleave<T, 1>(v[r], v[r + 1]));
        store(to + ld + n, interleave<T, 1>(-v[r + 1], v[r]));
      }
    }
}

// What is left of the gradient of that matrix, padded rows, for the pairs m (rows, columns) that it was made of.
template <class T> void fold_map(const T* grads, int64_t rows, int64_t columns, T* m) {
  constexpr int n = kLanes<T>;
  const int64_t ld = padded<T>(2 * columns);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < 2 * columns; c += n) {
      const T* row = grads + 2 * r * ld + c;
      store_part(m + 2 * r * columns + c, conjugate<T>(load(row)) + swap_parts<T>(load(row + ld)),
                 min(n, 2 * columns - c));
    }
}

}  // namespace spectral::SPECTRAL_LEVEL
