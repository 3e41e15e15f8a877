// The activations and their derivatives, of one number; spectral_ops/ops/activations.py has the formulas.
#pragma once
#include "../kernels.h"
#include "../tile.cuh"

namespace spectral::cuda {

template <class T> SPECTRAL_DEVICE T logistic(T z) { return T(1) / (T(1) + std::exp(-z)); }

template <class T> SPECTRAL_DEVICE T activate(Activation kind, T z, T /*offset*/) {
  switch (kind) {
    case Activation::relu: return z < T(0) ? T(0) : z;  // NaN passes
    case Activation::gelu: return T(0.5) * z * (T(1) + std::erf(z * T(0.70710678118654752440)));
    case Activation::silu: return z * logistic(z);
    case Activation::tanh: return std::tanh(z);
    case Activation::sigmoid: return logistic(z);
    default: return z;
  }
}

// grad * activation'(z) where h = activation(z).
template <class T> SPECTRAL_DEVICE T through(Activation kind, T grad, T z, T h, T /*offset*/) {
  switch (kind) {
    case Activation::relu: return h <= T(0) ? T(0) : grad;
    case Activation::tanh: return grad * (T(1) - h * h);
    case Activation::sigmoid: return grad * (h * (T(1) - h));
    case Activation::silu: {
      const T s = logistic(z);
      return grad * (s * (T(1) + z * (T(1) - s)));
    }
    case Activation::gelu: {
      const T cdf = T(0.5) * (T(1) + std::erf(z * T(0.70710678118654752440)));
      return grad * (cdf + z * std::exp(T(-0.5) * z * z) * T(0.39894228040143267794));
    }
    default: return grad;
  }
}

// |z|, and z / |z| (0 at 0).
template <class T> struct Polar {
  T size, c, d;
  SPECTRAL_DEVICE explicit Polar(Complex<T> z) {
    size = std::hypot(z.re, z.im);
    const T divisor = size == T(0) ? T(1) : size;
    c = z.re / divisor;
    d = z.im / divisor;
  }
};

template <class T> SPECTRAL_DEVICE Complex<T> activate(Activation kind, Complex<T> z, T offset) {
  switch (kind) {
    case Activation::crelu: return {z.re < T(0) ? T(0) : z.re, z.im < T(0) ? T(0) : z.im};
    case Activation::zrelu: return z.re <= T(0) || z.im <= T(0) ? Complex<T>{0, 0} : z;
    case Activation::cardioid: {
      const T scale = T(0.5) * (T(1) + Polar<T>(z).c);
      return {scale * z.re, scale * z.im};
    }
    case Activation::modrelu: {
      const Polar<T> p(z);
      const T size = p.size + offset <= T(0) || p.size == T(0) ? T(0) : p.size + offset;
      return {size * p.c, size * p.d};
    }
    default: return z;
  }
}

template <class T>
SPECTRAL_DEVICE Complex<T> through(Activation kind, Complex<T> g, Complex<T> z, Complex<T> h, T offset) {
  switch (kind) {
    case Activation::crelu: return {h.re <= T(0) ? T(0) : g.re, h.im <= T(0) ? T(0) : g.im};
    case Activation::zrelu: return z.re <= T(0) || z.im <= T(0) ? Complex<T>{0, 0} : g;
    case Activation::cardioid: {
      const Polar<T> p(z);
      const T along = g.re * p.c + g.im * p.d;
      return {T(0.5) * ((T(1) + p.c) * g.re + along * p.d * p.d), T(0.5) * ((T(1) + p.c) * g.im - along * p.d * p.c)};
    }
    case Activation::modrelu: {
      const Polar<T> p(z);
      if (p.size + offset <= T(0) || p.size == T(0)) return {0, 0};
      const T k = offset / p.size, along = g.re * p.c + g.im * p.d;
      return {(T(1) + k) * g.re - k * along * p.c, (T(1) + k) * g.im - k * along * p.d};
    }
    default: return g;
  }
}

}  // namespace spectral::cuda
