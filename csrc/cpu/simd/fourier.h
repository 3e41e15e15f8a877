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

// z times a constant. In float64, where no other type has digits to spare, also times what rounding took from the
// constant: every butterfly has the same one, so its error would be the same everywhere.
template <class T> SPECTRAL_INLINE Vec<T> times(Vec<T> z, long double constant) {
  const T rounded = T(constant), rest = T(constant - rounded);
  if constexpr (sizeof(T) == sizeof(float)) return z * rounded;
  return z * rest + z * rounded;
}

// a_k = sum_j a_j exp(-2 pi i j k / R), in place.
template <class T, int R> SPECTRAL_INLINE void butterfly(Complex<T>* a) {
  if constexpr (R == 2) {
    const Complex<T> sum = a[0] + a[1];
    a[1] = a[0] - a[1];
    a[0] = sum;
  } else if constexpr (R == 3) {
    constexpr long double half_root = 0.86602540378443864676L;  // sqrt(3) / 2
    const Complex<T> sum = a[1] + a[2], turn = (a[1] - a[2]).over_i();
    const Complex<T> middle = {a[0].re - T(0.5) * sum.re, a[0].im - T(0.5) * sum.im};
    const Complex<T> side = {times<T>(turn.re, half_root), times<T>(turn.im, half_root)};
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
    constexpr long double c1 = 0.30901699437494742410L, c2 = -0.80901699437494742410L;  // cos(2 pi / 5), cos(4 pi / 5)
    constexpr long double s1 = 0.95105651629515357212L, s2 = 0.58778525229247312917L;   // and their sines
    const Complex<T> p = a[1] + a[4], q = a[2] + a[3], m = (a[1] - a[4]).over_i(), n = (a[2] - a[3]).over_i();
    const auto sum = [](const Complex<T>& x, long double f, const Complex<T>& y, long double g) {
      return Complex<T>{times<T>(x.re, f) + times<T>(y.re, g), times<T>(x.im, f) + times<T>(y.im, g)};
    };
    const Complex<T> even1 = a[0] + sum(p, c1, q, c2), even2 = a[0] + sum(p, c2, q, c1);
    const Complex<T> odd1 = sum(m, s1, n, s2), odd2 = sum(m, s2, n, -s1);
    a[0] = a[0] + p + q;
    a[1] = even1 + odd1;
    a[2] = even2 + odd2;
    a[3] = even2 - odd2;
    a[4] = even1 - odd1;
  } else {
    static_assert(R == 8);
    constexpr long double h = 0.70710678118654752440L;  // sqrt(1/2): the eighth root is h (1 - i)
    Complex<T> even[4] = {a[0], a[2], a[4], a[6]}, odd[4] = {a[1], a[3], a[5], a[7]};
    butterfly<T, 4>(even);
    butterfly<T, 4>(odd);
    odd[1] = {times<T>(odd[1].re + odd[1].im, h), times<T>(odd[1].im - odd[1].re, h)};
    odd[2] = odd[2].over_i();
    odd[3] = {times<T>(odd[3].im - odd[3].re, h), times<T>(odd[3].re + odd[3].im, -h)};
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
      a[k] = even[k] + odd[k];
      a[k + 4] = even[k] - odd[k];
    }
  }
}

// One stage of Stockham's algorithm: `stride` signals of `length` each, interleaved, become stride * R signals of
// length / R. roots: exp(-2 pi i j / n) for the whole n = length * stride, as (re, im).
template <class T, int R, class Meanwhile>
void stage(const T* x, T* y, int64_t length, int64_t stride, const T* roots, Meanwhile& meanwhile) {
  const int64_t part = length / R, row = kTile<T>;
  for (int64_t p = 0; p < part; ++p) {
    const T* from = x + stride * p * row;
    T* to = y + stride * R * p * row;
    for (int64_t q = 0; q < stride; ++q, from += row, to += row) {
      meanwhile(R);
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

inline constexpr int64_t kLargestRadix = 311;  // beyond it a prime factor goes through Bluestein's convolution
inline constexpr int64_t kShortSum = 8;        // products that are added one after the other: longer sums round more
inline constexpr int kTogether = 3;            // outputs of an odd radix, and their mirror images: 12 sums in registers

// sum_j cos(k_i j) s_j and sum_j sin(k_i j) d_j for kTogether rows k_i = first + i of the matrix of an odd radix.
template <class T> SPECTRAL_INLINE void mirrored_sums(int64_t radix, int64_t first, const T* turns, const Complex<T>* s,
                                                      const Complex<T>* d, Complex<T>* even, Complex<T>* odd) {
  int64_t turn[kTogether] = {};
  for (int i = 0; i < kTogether; ++i) even[i] = odd[i] = {Vec<T>{}, Vec<T>{}};
  for (int64_t begin = 0, half = radix / 2; begin < half; begin += kShortSum) {
    Complex<T> a[kTogether] = {}, b[kTogether] = {};
    for (int64_t j = begin; j < min(begin + kShortSum, half); ++j)
#pragma GCC unroll 3
      for (int i = 0; i < kTogether; ++i) {
        turn[i] += first + i;
        turn[i] -= turn[i] < radix ? 0 : radix;
        const T* root = turns + 2 * turn[i];
        a[i].re += root[0] * s[j].re;
        a[i].im += root[0] * s[j].im;
        b[i].re += root[1] * d[j].re;
        b[i].im += root[1] * d[j].im;
      }
#pragma GCC unroll 3
    for (int i = 0; i < kTogether; ++i) {
      even[i] = even[i] + a[i];
      odd[i] = odd[i] + b[i];
    }
  }
}

// The same stage for any odd radix from 7 on, by the definition: a_j + a_(R-j) meets cosines and a_j - a_(R-j) sines.
template <class T, class Meanwhile>
void stage(int64_t radix, const T* x, T* y, int64_t length, int64_t stride, const T* roots, Meanwhile& meanwhile) {
  const int64_t part = length / radix, row = kTile<T>, n = length * stride, half = radix / 2;
  Complex<T> sums[kLargestRadix / 2], differences[kLargestRadix / 2];
  T turns[2 * kLargestRadix];
  for (int64_t j = 0; j < radix; ++j) std::memcpy(turns + 2 * j, roots + 2 * j * (n / radix), 2 * sizeof(T));
  for (int64_t p = 0; p < part; ++p)
    for (int64_t q = 0; q < stride; ++q) {
      const T* from = x + (q + stride * p) * row;
      T* to = y + (q + stride * radix * p) * row;
      const Complex<T> first = Complex<T>::of(from);
      Complex<T> total = first;
      for (int64_t begin = 1; begin <= half; begin += kShortSum) {
        Complex<T> share = {Vec<T>{}, Vec<T>{}};
        for (int64_t j = begin; j < min(begin + kShortSum, half + 1); ++j) {
          const Complex<T> a = Complex<T>::of(from + stride * part * j * row),
                           b = Complex<T>::of(from + stride * part * (radix - j) * row);
          sums[j - 1] = a + b;
          differences[j - 1] = a - b;
          share = share + sums[j - 1];
        }
        total = total + share;
      }
      total.to(to);
      for (int64_t next = 1; next <= half; next += kTogether) {
        const int64_t k = min(next, half - kTogether + 1);  // the last ones may be done twice
        meanwhile(2 * kTogether);
        Complex<T> even[kTogether], odd[kTogether];
        mirrored_sums(radix, k, turns, sums, differences, even, odd);
        for (int i = 0; i < kTogether; ++i) {
          const int64_t r = k + i;
          const Complex<T> a = first + even[i], b = {-odd[i].im, odd[i].re};
          ((a + b) * (roots + 2 * stride * p * r)).to(to + stride * r * row);
          ((a - b) * (roots + 2 * stride * p * (radix - r))).to(to + stride * (radix - r) * row);
        }
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

// How many stages a transform has.
SPECTRAL_INLINE int64_t stages(int64_t length) {
  int64_t count = 0;
  for (; length > 1; length /= next_radix(length)) ++count;
  return count;
}

// The transform of n elements in x; `other` is as large. Returns where the result is, in order: x or other.
// meanwhile(how many elements a butterfly is about to read) may do something else.
template <class T, class Meanwhile> T* fourier(T* x, T* other, int64_t n, const T* roots, Meanwhile& meanwhile) {
  for (int64_t length = n, stride = 1; length > 1;) {
    const int64_t radix = next_radix(length);
    switch (radix) {
      case 2: stage<T, 2>(x, other, length, stride, roots, meanwhile); break;
      case 3: stage<T, 3>(x, other, length, stride, roots, meanwhile); break;
      case 4: stage<T, 4>(x, other, length, stride, roots, meanwhile); break;
      case 5: stage<T, 5>(x, other, length, stride, roots, meanwhile); break;
      case 8: stage<T, 8>(x, other, length, stride, roots, meanwhile); break;
      default: stage<T>(radix, x, other, length, stride, roots, meanwhile);
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
