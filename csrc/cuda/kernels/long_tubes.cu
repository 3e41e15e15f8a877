// Cosine and sine transforms of long tubes by one complex Fourier transform in shared memory. Types I to III take two
// tubes as the real and the imaginary part of one signal, whose symmetry tells their spectra apart; type IV folds a
// tube into n / 2 complex values. csrc/cpu/simd/long_tubes.cpp has the same formulas, and the tables are the same.
#include "../kernels.h"
#include "../tile.cuh"

namespace spectral::cuda {

namespace {

constexpr int kThreads = 256;

template <class T> SPECTRAL_DEVICE Complex<T> pair_at(const T* pairs, int64_t i) {
  return {pairs[2 * i], pairs[2 * i + 1]};
}
template <class T> SPECTRAL_DEVICE Complex<T> exchanged(Complex<T> z) { return {z.im, z.re}; }

// a tube, or two, in device memory
template <class T> struct Tube {
  const LongTubes<T>& t;
  int64_t first, second;  // places of value 0; second < 0: there is none

  SPECTRAL_DEVICE Complex<T> value(int64_t j) const {
    const T head = (j == 0 ? t.first_in : T(1)) * (j == t.n - 1 ? t.last_in : T(1));
    return {head * t.x[first + j * t.inner], second < 0 ? T(0) : head * t.x[second + j * t.inner]};
  }
  // Value j of the cosine transform's input, where t may be a sine transform.
  SPECTRAL_DEVICE Complex<T> input(int64_t j) const {
    if (t.sine && t.type != 2) return value(t.n - 1 - j);
    const Complex<T> x = value(j);
    return t.sine && j % 2 ? Complex<T>{-x.re, -x.im} : x;
  }
  SPECTRAL_DEVICE void store(int64_t k, Complex<T> y) const {
    const T head = t.scale * (k == 0 ? t.first_out : T(1)) * (k == t.n - 1 ? t.last_out : T(1));
    t.y[first + k * t.inner] = head * y.re;
    if (second >= 0) t.y[second + k * t.inner] = head * y.im;
  }
  // Value k of the cosine transform.
  SPECTRAL_DEVICE void put(int64_t k, Complex<T> y) const {
    const bool negative = t.sine && t.type != 2 && k % 2;
    store(t.sine && t.type == 2 ? t.n - 1 - k : k, negative ? Complex<T>{-y.re, -y.im} : y);
  }
};

// a_k = sum_j a_j exp(-2 pi i j k / size) by Stockham's algorithm, radix 4 while it divides, with b to work in; the two
// may have changed places. roots: exp(-2 pi i j / size). Begins and ends with a barrier.
template <class T>
SPECTRAL_DEVICE void fourier(Shared<Complex<T>>& a, Shared<Complex<T>>& b, int size, const T* roots) {
  for (int length = size, stride = 1; length > 1;) {
    int radix = length % 4 == 0 ? 4 : 2;
    while (length % radix) ++radix;
    const int rest = length / radix, turn = size / length;
    barrier();
    for (int i = thread(); i < size / radix; i += threads()) {
      const int q = i % stride, p = i / stride;
      const auto in = [&](int j) { return Complex<T>(a[q + stride * (p + rest * j)]); };
      const auto out = [&](int k, Complex<T> y) {
        b[q + stride * (radix * p + k)] = k == 0 ? y : y * pair_at(roots, int64_t(turn) * p * k);
      };
      if (radix == 4) {
        const Complex<T> s = in(0) + in(2), d = in(0) - in(2), u = in(1) + in(3), v = in(1) - in(3);
        const Complex<T> e = {v.im, -v.re};  // -i v
        out(0, s + u);
        out(1, d + e);
        out(2, s - u);
        out(3, d - e);
      } else if (radix == 2) {
        const Complex<T> first = in(0), second = in(1);
        out(0, first + second);
        out(1, first - second);
      } else {
        for (int k = 0; k < radix; ++k) {
          Complex<T> sum = in(0);
          for (int j = 1; j < radix; ++j)
            multiply_add(sum, in(j), pair_at(roots, int64_t(size / radix) * (j * k % radix)));
          out(k, sum);
        }
      }
    }
    length = rest;
    stride *= radix;
    const Shared<Complex<T>> done = a;
    a = b;
    b = done;
  }
  barrier();
}

// The Fourier transform of t.length values in z; where a prime factor is large, as a convolution with a chirp
// (Bluestein). `other` is as long.
template <class T>
SPECTRAL_DEVICE Shared<Complex<T>> transform(const LongTubes<T>& t, Shared<Complex<T>> z, Shared<Complex<T>> other) {
  const int length = int(t.length), circle = int(t.circle);
  if (circle == 0) {
    fourier(z, other, length, t.roots);
    return z;
  }
  barrier();
  for (int j = thread(); j < circle; j += threads())
    z[j] = j < length ? Complex<T>(z[j]) * pair_at(t.chirp, j) : Complex<T>{0, 0};
  fourier(z, other, circle, t.roots);
  for (int k = thread(); k < circle; k += threads())
    z[k] = exchanged(Complex<T>(z[k]) * pair_at(t.spectrum, k));  // the next transform is the inverse
  fourier(z, other, circle, t.roots);
  for (int k = thread(); k < length; k += threads()) z[k] = exchanged(Complex<T>(z[k])) * pair_at(t.chirp, k);
  barrier();
  return z;
}

template <class T> __global__ void __launch_bounds__(kThreads, 2) long_tubes(const LongTubes<T> t) {
  SharedMemory memory;
  const int64_t size = t.circle ? t.circle : t.length, n = t.n;
  const Shared<Complex<T>> z = memory.take<Complex<T>>(size), other = memory.take<Complex<T>>(size);
  const int64_t a = t.type == 4 ? block() : 2 * int64_t(block()), b = t.type == 4 ? t.outer * t.inner : a + 1;
  const auto place = [&](int64_t tube) { return tube / t.inner * n * t.inner + tube % t.inner; };
  const Tube<T> tube{t, place(a), b < t.outer * t.inner ? place(b) : -1};

  if (t.type == 1) {  // the tube continued as an even (cosine) or odd (sine) signal
    const int64_t shift = t.sine ? 1 : 0;
    for (int64_t j = thread(); j < t.length; j += threads()) {
      const int64_t mirror = t.length - j, inside = j - shift;
      if (inside >= 0 && inside < n) {
        z[j] = tube.value(inside);
      } else if (t.sine && (j == 0 || j == n + 1)) {
        z[j] = Complex<T>{0, 0};
      } else {
        const Complex<T> x = tube.value(mirror - shift);
        z[j] = t.sine ? Complex<T>{-x.re, -x.im} : x;
      }
    }
    const Shared<Complex<T>> y = transform(t, z, other);
    for (int64_t k = thread(); k < n; k += threads()) {
      const Complex<T> value = y[k + shift];
      tube.store(k, t.sine ? Complex<T>{-value.im, value.re} : value);
    }
  } else if (t.type == 2) {  // z_j = x_2j, z_(n-1-j) = x_(2j+1); y_k = 2 Re(exp(-i pi k / 2n) Z_k) of both tubes in Z
    for (int64_t j = thread(); j < n; j += threads()) z[j % 2 ? n - 1 - j / 2 : j / 2] = tube.input(j);
    const Shared<Complex<T>> y = transform(t, z, other);
    for (int64_t k = thread(); 2 * k <= n; k += threads()) {
      const Complex<T> first = y[k], last = y[k ? n - k : 0], turn = pair_at(t.turns, k);
      const Complex<T> sum = first + last, difference = first - last;
      tube.put(k, {turn.re * sum.re + turn.im * difference.im, turn.re * sum.im - turn.im * difference.re});
      if (k && 2 * k < n)
        tube.put(n - k, {turn.im * sum.re - turn.re * difference.im, turn.im * sum.im + turn.re * difference.re});
    }
  } else if (t.type == 3) {  // U_k = (x_k - i x_(n-k)) exp(i pi k / 2n), parts exchanged: the transform is an inverse
    for (int64_t k = thread(); 2 * k <= n; k += threads()) {
      const Complex<T> x = tube.input(k), w = pair_at(t.turns, k);
      if (k == 0) {
        z[0] = exchanged(x);
        continue;
      }
      const Complex<T> m = tube.input(n - k);
      const T p = w.re * x.re + w.im * m.re, q = w.im * x.re - w.re * m.re;
      const T r = w.im * x.im - w.re * m.im, s = w.re * x.im + w.im * m.im;
      z[k] = Complex<T>{q + s, p - r};
      if (2 * k < n) z[n - k] = Complex<T>{s - q, p + r};
    }
    const Shared<Complex<T>> u = transform(t, z, other);
    for (int64_t j = thread(); j < n; j += threads())
      tube.put(j, exchanged(Complex<T>(u[j % 2 ? n - 1 - j / 2 : j / 2])));
  } else {  // t_j = (x_2j + i x_(n-1-2j)) exp(-i pi (4j+1) / 4n); y_2k = 2 Re(T_k exp(-i pi k / n)), y_(n-1-2k) = -2 Im
    const int64_t half = n / 2;
    for (int64_t j = thread(); j < half; j += threads())
      z[j] = Complex<T>{tube.input(2 * j).re, tube.input(n - 1 - 2 * j).re} * pair_at(t.turns, j);
    const Shared<Complex<T>> y = transform(t, z, other);
    for (int64_t k = thread(); k < half; k += threads()) {
      const Complex<T> w = Complex<T>(y[k]) * pair_at(t.turns, half + k);
      tube.put(2 * k, {2 * w.re, 0});
      tube.put(n - 1 - 2 * k, {-2 * w.im, 0});
    }
  }
}

}  // namespace

template <class T> void run(const LongTubes<T>& t, void* stream) {
  const int64_t tubes = t.outer * t.inner, size = t.circle ? t.circle : t.length;
  launch(stream, Grid{t.type == 4 ? tubes : ceil_div(tubes, 2), kThreads, 2 * shared_bytes_for<Complex<T>>(size)},
         &long_tubes<T>, t);
}
template void run<float>(const LongTubes<float>&, void*);
template void run<double>(const LongTubes<double>&, void*);

}  // namespace spectral::cuda
