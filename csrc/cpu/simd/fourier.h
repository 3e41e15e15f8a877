// The complex Fourier transform of a tile: kLanes independent signals side by side. An element is kTile values, the
// real parts of all signals and then the imaginary ones, so that butterflies need no shuffles and serve every length
// alike.
#pragma once
#include "simd.h"

namespace spectral::SPECTRAL_LEVEL {

template <class T> struct Complex {
  Vec<T> re, im;

  SPECTRAL_INLINE static Complex of(const T* element) { return {load(element), load(element + kLanes<T>)}; }
  SPECTRAL_INLINE void to(T* element) const {
    store(element, re);
    store(element + kLanes<T>, im);
  }
  SPECTRAL_INLINE Complex operator+(Complex b) const { return {re + b.re, im + b.im}; }
  SPECTRAL_INLINE Complex operator-(Complex b) const { return {re - b.re, im - b.im}; }
  SPECTRAL_INLINE Complex over_i() const { return {im, -re}; }  // -i z
  // by one root for all lanes
  SPECTRAL_INLINE Complex operator*(const T* root) const {
    return {re * root[0] - im * root[1], im * root[0] + re * root[1]};
  }
};

// a_k = sum_j a_j exp(-2 pi i j k / R), in place.
template <class T, int R> SPECTRAL_INLINE void butterfly(Complex<T>* a) {
  if constexpr (R == 2) {
    const Complex<T> sum = a[0] + a[1];
    a[1] = a[0] - a[1];
    a[0] = sum;
  } else if constexpr (R == 3) {
    constexpr T half_root = T(0.86602540378443864676);  // sqrt(3) / 2
    const Complex<T> sum = a[1] + a[2], turn = (a[1] - a[2]).over_i();
    const Complex<T> middle = {a[0].re - T(0.5) * sum.re, a[0].im - T(0.5) * sum.im};
    const Complex<T> side = {turn.re * half_root, turn.im * half_root};
    a[0] = a[0] + sum;
    a[1] = middle + side;
    a[2] = middle - side;
  } else if constexpr (R == 4) {
    const Complex<T> s = a[0] + a[2], d = a[0] - a[2], t = a[1] + a[3], e = (a[1] - a[3]).over_i();
    a[0] = s + t;
    a[1] = d + e;
    a[2] = s - t;
    a[3] = d - e;
  } else if constexpr (R == 5) {
    constexpr T c1 = T(0.30901699437494742410), c2 = T(-0.80901699437494742410);  // cos(2 pi / 5), cos(4 pi / 5)
    constexpr T s1 = T(0.95105651629515357212), s2 = T(0.58778525229247312917);   // and their sines
    const Complex<T> p = a[1] + a[4], q = a[2] + a[3], m = (a[1] - a[4]).over_i(), n = (a[2] - a[3]).over_i();
    const Complex<T> even1 = {a[0].re + p.re * c1 + q.re * c2, a[0].im + p.im * c1 + q.im * c2};
    const Complex<T> even2 = {a[0].re + p.re * c2 + q.re * c1, a[0].im + p.im * c2 + q.im * c1};
    const Complex<T> odd1 = {m.re * s1 + n.re * s2, m.im * s1 + n.im * s2};
    const Complex<T> odd2 = {m.re * s2 - n.re * s1, m.im * s2 - n.im * s1};
    a[0] = a[0] + p + q;
    a[1] = even1 + odd1;
    a[2] = even2 + odd2;
    a[3] = even2 - odd2;
    a[4] = even1 - odd1;
  } else {
    static_assert(R == 8);
    constexpr T h = T(0.70710678118654752440);  // sqrt(1/2): the eighth root is h (1 - i)
    Complex<T> even[4] = {a[0], a[2], a[4], a[6]}, odd[4] = {a[1], a[3], a[5], a[7]};
    butterfly<T, 4>(even);
    butterfly<T, 4>(odd);
    odd[1] = {(odd[1].re + odd[1].im) * h, (odd[1].im - odd[1].re) * h};
    odd[2] = odd[2].over_i();
    odd[3] = {(odd[3].im - odd[3].re) * h, -(odd[3].re + odd[3].im) * h};
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
      a[k] = even[k] + odd[k];
      a[k + 4] = even[k] - odd[k];
    }
  }
}

// One stage of Stockham's algorithm: `stride` signals of `length` each, interleaved, become stride * R signals of
// length / R. roots: exp(-2 pi i j / n) for the whole n = length * stride, as (re, im).
template <class T, int R> void stage(const T* x, T* y, int64_t length, int64_t stride, const T* roots) {
  const int64_t part = length / R, row = kTile<T>;
  for (int64_t p = 0; p < part; ++p) {
    const T* from = x + stride * p * row;
    T* to = y + stride * R * p * row;
    for (int64_t q = 0; q < stride; ++q, from += row, to += row) {
      Complex<T> a[R];
#pragma GCC unroll 8
      for (int j = 0; j < R; ++j) a[j] = Complex<T>::of(from + stride * part * j * row);
      butterfly<T, R>(a);
      a[0].to(to);
#pragma GCC unroll 8
      for (int k = 1; k < R; ++k) (a[k] * (roots + 2 * stride * p * k)).to(to + stride * k * row);
    }
  }
}

inline constexpr int64_t kLargestRadix = 79;  // beyond it a prime factor goes through Bluestein's convolution

// The same for any odd radix, by the definition: a_j + a_(R-j) meets cosines and a_j - a_(R-j) sines.
template <class T> void stage(int64_t radix, const T* x, T* y, int64_t length, int64_t stride, const T* roots) {
  const int64_t part = length / radix, row = kTile<T>, n = length * stride, half = radix / 2;
  Complex<T> sums[kLargestRadix / 2], differences[kLargestRadix / 2];
  for (int64_t p = 0; p < part; ++p)
    for (int64_t q = 0; q < stride; ++q) {
      const T* from = x + (q + stride * p) * row;
      T* to = y + (q + stride * radix * p) * row;
      const Complex<T> first = Complex<T>::of(from);
      Complex<T> total = first;
      for (int64_t j = 1; j <= half; ++j) {
        const Complex<T> a = Complex<T>::of(from + stride * part * j * row),
                         b = Complex<T>::of(from + stride * part * (radix - j) * row);
        sums[j - 1] = a + b;
        differences[j - 1] = a - b;
        total = total + sums[j - 1];
      }
      total.to(to);
      for (int64_t k = 1; k <= half; ++k) {
        Complex<T> even = first, odd = {Vec<T>{}, Vec<T>{}};  // odd: times i
        for (int64_t j = 1, turn = k; j <= half; ++j, turn = (turn + k) % radix) {
          const T* root = roots + 2 * turn * (n / radix);
          even.re += root[0] * sums[j - 1].re;
          even.im += root[0] * sums[j - 1].im;
          odd.re -= root[1] * differences[j - 1].im;
          odd.im += root[1] * differences[j - 1].re;
        }
        ((even + odd) * (roots + 2 * stride * p * k)).to(to + stride * k * row);
        ((even - odd) * (roots + 2 * stride * p * (radix - k))).to(to + stride * (radix - k) * row);
      }
    }
}

// The radix that the next stage of a signal of this length takes: 8 unless 4 divides better, then 3, 5, other primes.
SPECTRAL_INLINE int64_t next_radix(int64_t length) {
  if (length % 8 == 0 && length != 16) return 8;
  if (length % 4 == 0) return 4;
  if (length % 2 == 0) return 2;
  for (int64_t radix = 3; radix <= kLargestRadix; radix += 2)
    if (length % radix == 0) return radix;
  return 0;
}

// The transform of n elements in x; `other` is as large. Returns where the result is, in order: x or other.
template <class T> T* fourier(T* x, T* other, int64_t n, const T* roots) {
  for (int64_t length = n, stride = 1; length > 1;) {
    const int64_t radix = next_radix(length);
    switch (radix) {
      case 2: stage<T, 2>(x, other, length, stride, roots); break;
      case 3: stage<T, 3>(x, other, length, stride, roots); break;
      case 4: stage<T, 4>(x, other, length, stride, roots); break;
      case 5: stage<T, 5>(x, other, length, stride, roots); break;
      case 8: stage<T, 8>(x, other, length, stride, roots); break;
      default: stage<T>(radix, x, other, length, stride, roots);
    }
    length /= radix;
    stride *= radix;
    T* swap = x;
    x = other;
    other = swap;
  }
  return x;
}

}  // namespace spectral::SPECTRAL_LEVEL
