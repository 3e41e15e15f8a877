// Elementary functions of vectors. float: polynomials, within 2 ulp in the ranges used (tanh 6). double: exp by a
// polynomial, tanh and erf lane by lane in libm (float64 is for checking, not for speed).
#pragma once
#include <cmath>

#include "simd.h"

namespace spectral::SPECTRAL_LEVEL {

template <class T> SPECTRAL_INLINE Vec<T> select(typename VectorOf<T>::integer mask, Vec<T> yes, Vec<T> no) {
  return mask ? yes : no;
}

// x = n ln 2 + r, |r| <= ln 2 / 2 (Cody and Waite), and the polynomial of e^r. Float: the minimax one of degree 6 in
// the relative error, 3e-9 before rounding; double: Taylor's of degree 13, 4e-18.
template <class T> struct Reduced {
  static constexpr bool single = sizeof(T) == 4;
  static constexpr int mantissa = single ? 23 : 52, bias = single ? 127 : 1023, degree = single ? 6 : 13;
  // 1.5 * 2^23, 1.5 * 2^52: adding it rounds to an integer, which the low bits of the sum then hold
  static constexpr T shift = single ? T(12582912) : T(6755399441055744);
  static constexpr T ln2_high = single ? T(0.693359375) : T(6.93145751953125e-1);
  static constexpr T ln2_low = single ? T(-2.12194440e-4) : T(1.42860682030941723212e-6);
  static constexpr T coefficients[14] = {1,
                                         1,
                                         single ? T(0.4999999343211055) : T(1.0 / 2),
                                         single ? T(0.1666652039896237) : T(1.0 / 6),
                                         single ? T(0.04166839078737326) : T(1.0 / 24),
                                         single ? T(0.008368745116359894) : T(1.0 / 120),
                                         single ? T(0.0013814539988272767) : T(1.0 / 720),
                                         1.0 / 5040,
                                         1.0 / 40320,
                                         1.0 / 362880,
                                         1.0 / 3628800,
                                         1.0 / 39916800,
                                         1.0 / 479001600,
                                         1.0 / 6227020800};

  Vec<T> polynomial;
  typename VectorOf<T>::integer power;  // n

  SPECTRAL_INLINE explicit Reduced(Vec<T> x) {
    using Int = typename VectorOf<T>::integer;
    const Vec<T> rounded = x * T(1.44269504088896340736) + shift, n = rounded - shift;
    const Vec<T> r = (x - n * ln2_high) - n * ln2_low;
    polynomial = broadcast(coefficients[degree]);
#pragma GCC unroll 16
    for (int i = degree - 1; i >= 0; --i) polynomial = polynomial * r + coefficients[i];
    power = (Int)rounded - (Int)broadcast(shift);
  }
};

// e^x; 2^n comes in two factors, so that no intermediate overflows.
template <class T> SPECTRAL_INLINE Vec<T> exponential(Vec<T> x) {
  using R = Reduced<T>;
  constexpr T low = R::single ? T(-104) : T(-746), high = R::single ? T(89) : T(710);
  Vec<T> clamped = select<T>(x < low, broadcast(low), x);  // comparisons with NaN are false: NaN stays
  clamped = select<T>(clamped > high, broadcast(high), clamped);
  const R e(clamped);
  const auto half = e.power >> 1;
  const Vec<T> first = (Vec<T>)((half + R::bias) << R::mantissa),
               second = (Vec<T>)((e.power - half + R::bias) << R::mantissa);
  return e.polynomial * first * second;
}

// e^x for x <= 0, in two thirds of the time: below the normal numbers it is 0, and nothing overflows.
template <class T> SPECTRAL_INLINE Vec<T> exponential_of_negative(Vec<T> x) {
  using R = Reduced<T>;
  constexpr T low = R::single ? T(-87) : T(-708);
  const R e(x);
  const Vec<T> scale = (Vec<T>)((e.power + R::bias) << R::mantissa);
  return select<T>(x < low, Vec<T>{}, e.polynomial * scale);
}

template <class T> SPECTRAL_INLINE Vec<T> sigmoid(Vec<T> x) { return T(1) / (T(1) + exponential<T>(-x)); }

template <class T, class F> SPECTRAL_INLINE Vec<T> lane_by_lane(Vec<T> x, F f) {
  Vec<T> y;
  for (int i = 0; i < kLanes<T>; ++i) y[i] = f(x[i]);
  return y;
}

// p / q where q and its reciprocal are normal numbers: a division takes as long as sixteen multiplications.
template <class T> SPECTRAL_INLINE Vec<T> quotient(Vec<T> p, Vec<T> q) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) {
    // one step of Newton's for the reciprocal, one for the quotient (maskz: GCC 12 warns about the plain form)
    Vec<T> r = (Vec<T>)_mm512_maskz_rcp14_ps(0xffff, (__m512)q);
    r = r + r * (T(1) - q * r);
    const Vec<T> y = p * r;
    return y + r * (p - q * y);
  }
#endif
  return p / q;
}

// tanh x: the rational function of degree 13 over 6 of Eigen (MathFunctionsImpl.h), within 5 ulp (6 without fused
// multiply-adds); beyond 9 exactly 1, so that the slope there is 0.
template <class T> SPECTRAL_INLINE Vec<T> hyperbolic_tangent(Vec<T> x) {
  if constexpr (sizeof(T) == 8) {
    return lane_by_lane<T>(x, [](T v) { return std::tanh(v); });
  } else {
    constexpr T most = T(7.90531110763549805);
    Vec<T> v = select<T>(x < -most, broadcast(-most), x);  // comparisons with NaN are false: NaN stays
    v = select<T>(v > most, broadcast(most), v);
    const Vec<T> z = v * v;
    Vec<T> p = z * T(-2.76076847742355e-16) + T(2.00018790482477e-13);
    p = p * z + T(-8.60467152213735e-11);
    p = p * z + T(5.12229709037114e-08);
    p = p * z + T(1.48572235717979e-05);
    p = p * z + T(6.37261928875436e-04);
    p = p * z + T(4.89352455891786e-03);
    Vec<T> q = z * T(1.19825839466702e-06) + T(1.18534705686654e-04);
    q = q * z + T(2.26843463243900e-03);
    q = q * z + T(4.89352518554385e-03);
    const Vec<T> y = quotient<T>(p * v, q);
    return select<T>(x > T(9), broadcast(T(1)), select<T>(x < T(-9), broadcast(T(-1)), y));
  }
}

// erf x: near 0 the Maclaurin series to x^13, elsewhere 1 - t e^(-x^2 + p(t)) with t = 2 / (2 + |x|), whose relative
// error is below 1.2e-7 (W. Press et al., Numerical Recipes, erfcc): 1 - that is exact to the last bits of a float.
template <class T> SPECTRAL_INLINE Vec<T> error_function(Vec<T> x) {
  if constexpr (sizeof(T) == 8) {
    return lane_by_lane<T>(x, [](T v) { return std::erf(v); });
  } else {
    const Vec<T> size = select<T>(x < T(0), -x, x), z = x * x, t = T(2) / (T(2) + size);
    constexpr T c[10] = {-1.26551223, 1.00002368,  0.37409196, 0.09678418,  -0.18628806,
                         0.27886807,  -1.13520398, 1.48851587, -0.82215223, 0.17087277};
    Vec<T> p = broadcast(c[9]);
#pragma GCC unroll 16
    for (int i = 8; i >= 0; --i) p = p * t + c[i];
    const Vec<T> tail = T(1) - t * exponential<T>(p - z);
    // 2 / sqrt(pi) (1 - z/3 + z^2/10 - z^3/42 + z^4/216 - z^5/1320 + z^6/9360): below 1e-9 for |x| < 0.5
    Vec<T> series = broadcast(T(1.0 / 9360));
    series = series * z - T(1.0 / 1320);
    series = series * z + T(1.0 / 216);
    series = series * z - T(1.0 / 42);
    series = series * z + T(1.0 / 10);
    series = series * z - T(1.0 / 3);
    series = (series * z + T(1)) * x * T(1.12837916709551257390);
    return select<T>(size < T(0.5), series, select<T>(x < T(0), -tail, tail));
  }
}

// act(z)
template <class T, Activation kind> SPECTRAL_INLINE Vec<T> activation(Vec<T> z) {
  if constexpr (kind == Activation::relu) return Vec<T>{} > z ? Vec<T>{} : z;
  if constexpr (kind == Activation::gelu) return T(0.5) * z * (T(1) + error_function<T>(z * T(0.70710678118654752440)));
  if constexpr (kind == Activation::silu) return z * sigmoid<T>(z);
  if constexpr (kind == Activation::tanh) return hyperbolic_tangent<T>(z);
  if constexpr (kind == Activation::sigmoid) return sigmoid<T>(z);
  return z;
}

// grad * act'(z), where h = act(z)
template <class T, Activation kind> SPECTRAL_INLINE Vec<T> through(Vec<T> grad, Vec<T> z, Vec<T> h) {
  if constexpr (kind == Activation::relu) return h <= Vec<T>{} ? Vec<T>{} : grad;
  if constexpr (kind == Activation::gelu) {
    const Vec<T> cdf = T(0.5) * (T(1) + error_function<T>(z * T(0.70710678118654752440)));
    return grad * (cdf + z * exponential<T>(z * z * T(-0.5)) * T(0.39894228040143267794));
  }
  if constexpr (kind == Activation::silu) {
    const Vec<T> s = sigmoid<T>(z);
    return grad * (s * (T(1) + z * (T(1) - s)));
  }
  if constexpr (kind == Activation::tanh) return grad * (T(1) - h * h);
  if constexpr (kind == Activation::sigmoid) return grad * (h * (T(1) - h));
  return grad;
}

// f.template operator()<kind>() for the activation with this number.
template <class F> SPECTRAL_INLINE void visit(Activation kind, F f) {
  switch (kind) {
    case Activation::none: return f.template operator()<Activation::none>();
    case Activation::relu: return f.template operator()<Activation::relu>();
    case Activation::gelu: return f.template operator()<Activation::gelu>();
    case Activation::silu: return f.template operator()<Activation::silu>();
    case Activation::tanh: return f.template operator()<Activation::tanh>();
    case Activation::sigmoid: return f.template operator()<Activation::sigmoid>();
    default: return;  // those of complex numbers: complex.h
  }
}

// h = act(z) on `rows` rows of a tile; z and h may be the same.
template <class T> void activate(Activation kind, const T* z, T* h, int64_t rows) {
  visit(kind, [&]<Activation kKind>() {
    for (int64_t i = 0; i < rows * kTile<T>; i += kLanes<T>) store(h + i, activation<T, kKind>(load(z + i)));
  });
}

// grad *= act'(z) on `rows` rows of a tile.
template <class T> void descend(Activation kind, T* grad, const T* z, const T* h, int64_t rows) {
  visit(kind, [&]<Activation kKind>() {
    for (int64_t i = 0; i < rows * kTile<T>; i += kLanes<T>)
      store(grad + i, through<T, kKind>(load(grad + i), load(z + i), load(h + i)));
  });
}

// The derivative needs the argument, not only the value.
SPECTRAL_INLINE bool needs_argument(Activation kind) {
  switch (kind) {
    case Activation::gelu:
    case Activation::silu:
    case Activation::cardioid:
    case Activation::modrelu: return true;
    default: return false;
  }
}

}  // namespace spectral::SPECTRAL_LEVEL
