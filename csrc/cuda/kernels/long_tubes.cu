// Cosine and sine transforms of long tubes by one complex Fourier transform in shared memory. Types II and III, and IV
// of odd lengths, take two tubes as the real and the imaginary part of one signal, whose symmetry tells their spectra
// apart; type I and IV of even lengths fold a tube into half as many complex values as its signal has.
// csrc/cpu/simd/long_tubes.cpp says more about the formulas.
#include "../kernels.h"
#include "../tile.cuh"

namespace spectral::cuda {

namespace {

template <class T> constexpr int kHeld = 64 / sizeof(T);  // values that a thread's registers hold in a pass, 32 of 128
constexpr int kMostHeld = 16;                             // and its local memory
constexpr int kLeastThreads = 64, kMostLongThreads = 512;

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

// compute(i, y) for all items i of a block, then put(i, k, y[k]), which writes to what `compute` reads: what a thread
// has computed waits in its registers until all have read.
template <int kOut, class T, class Compute, class Put>
SPECTRAL_DEVICE void exchange(int items, Compute compute, Put put) {
  Complex<T> y[kHeld<T> / kOut][kOut];
  barrier();
#pragma unroll
  for (int h = 0; h < kHeld<T> / kOut; ++h)
    if (const int i = thread() + h * threads(); i < items) compute(i, y[h]);
  barrier();
#pragma unroll
  for (int h = 0; h < kHeld<T> / kOut; ++h)
    if (const int i = thread() + h * threads(); i < items) {
#pragma unroll
      for (int k = 0; k < kOut; ++k) put(i, k, y[h][k]);
    }
}

// z_k = sum_j z_j exp(-2 pi i j k / size) by Stockham's algorithm, radix 4 while it divides, then 2, then the other
// primes by the definition. roots: exp(-2 pi i j / size). Begins and ends with a barrier.
template <class T> SPECTRAL_DEVICE void fourier(Shared<Complex<T>> z, int size, const T* roots) {
  const bool in_registers = size <= kHeld<T> * threads();
  for (int length = size, stride = 1; length > 1;) {
    int radix = length % 4 == 0 ? 4 : 2;
    while (length % radix) ++radix;
    const int items = size / radix, turn = size / length;
    const auto in = [&](int i, int j) { return Complex<T>(z[i + items * j]); };
    // value k of butterfly i; the turns come last, so that they take no registers meanwhile
    const auto put = [&](int i, int k, Complex<T> y) {
      const int p = i / stride;
      z[i % stride + stride * (p * radix + k)] = k == 0 ? y : y * pair_at(roots, turn * p * k);
    };
    if (radix == 4 && in_registers) {
      exchange<4, T>(
          items,
          [&](int i, Complex<T>(&y)[4]) {
            const Complex<T> s = in(i, 0) + in(i, 2), d = in(i, 0) - in(i, 2);
            const Complex<T> u = in(i, 1) + in(i, 3), v = in(i, 1) - in(i, 3), e = {v.im, -v.re};  // -i v
            y[0] = s + u;
            y[1] = d + e;
            y[2] = s - u;
            y[3] = d - e;
          },
          put);
    } else if (radix == 2 && in_registers) {
      exchange<2, T>(
          items,
          [&](int i, Complex<T>(&y)[2]) {
            const Complex<T> first = in(i, 0), second = in(i, 1);
            y[0] = first + second;
            y[1] = first - second;
          },
          put);
    } else {  // values one after another, by the definition; they wait in local memory
      Complex<T> y[kMostHeld];
      barrier();
#pragma unroll 1
      for (int h = 0, at = thread(); at < size; ++h, at += threads()) {
        const int p = at / (stride * radix), k = at / stride % radix, i = at % stride + stride * p;
        Complex<T> sum = in(i, 0);
#pragma unroll 1
        for (int j = 1, angle = k; j < radix; ++j) {
          multiply_add(sum, in(i, j), pair_at(roots, items * angle));
          angle = angle + k < radix ? angle + k : angle + k - radix;
        }
        y[h] = sum * pair_at(roots, turn * p * k);
      }
      barrier();
#pragma unroll 1
      for (int h = 0, at = thread(); at < size; ++h, at += threads()) z[at] = y[h];
    }
    length /= radix;
    stride *= radix;
  }
  barrier();
}

// The Fourier transform of t.length values in z; where a prime factor is large, as a convolution with a chirp
// (Bluestein), for which z has t.circle places.
template <class T> SPECTRAL_DEVICE void transform(const LongTubes<T>& t, Shared<Complex<T>> z) {
  const int length = int(t.length), circle = int(t.circle);
  if (circle) {
    barrier();
    for (int j = thread(); j < circle; j += threads())
      z[j] = j < length ? Complex<T>(z[j]) * pair_at(t.chirp, j) : Complex<T>{0, 0};
  }
  for (int round = 0; round < (circle ? 2 : 1); ++round) {  // one place for the code of `fourier`
    fourier(z, circle ? circle : length, t.roots);
    if (circle && round == 0)  // exchanged: the next transform is the inverse
      for (int k = thread(); k < circle; k += threads()) z[k] = exchanged(Complex<T>(z[k]) * pair_at(t.spectrum, k));
  }
  if (circle == 0) return;
  for (int k = thread(); k < length; k += threads()) z[k] = exchanged(Complex<T>(z[k])) * pair_at(t.chirp, k);
  barrier();
}

// The quadratic characters of type IV's odd lengths.
template <class T> SPECTRAL_DEVICE T chi(int64_t odd) { return (odd & 7) == 1 || (odd & 7) == 7 ? T(1) : T(-1); }
template <class T> SPECTRAL_DEVICE T psi(int64_t odd) { return (odd & 7) < 4 ? T(1) : T(-1); }

// Whether a block takes one tube, else two.
constexpr bool folded(int64_t type, int64_t n) { return type == 1 || (type == 4 && n % 2 == 0); }

template <class T> __global__ void __launch_bounds__(kMostLongThreads, 1) long_tubes(const LongTubes<T> t) {
  SharedMemory memory;
  const int64_t n = t.n, length = t.length;
  const Shared<Complex<T>> z = memory.take<Complex<T>>(t.circle ? t.circle : length);
  const bool alone = folded(t.type, n);
  const int64_t a = alone ? block() : 2 * int64_t(block()), b = alone ? t.outer * t.inner : a + 1;
  const auto place = [&](int64_t tube) { return tube / t.inner * n * t.inner + tube % t.inner; };
  const Tube<T> tube{t, place(a), b < t.outer * t.inner ? place(b) : -1};

  if (t.type == 1) {  // z_j = e_2j + i e_(2j+1) of the tube continued as an even (cosine) or odd (sine) signal e
    const auto continued = [&](int64_t j) {
      if (!t.sine) return tube.value(j <= length ? j : 2 * length - j).re;
      if (j % length == 0) return T(0);
      return j < length ? tube.value(j - 1).re : -tube.value(2 * length - j - 1).re;
    };
    for (int64_t j = thread(); j < length; j += threads()) z[j] = Complex<T>{continued(2 * j), continued(2 * j + 1)};
  } else if (t.type == 2) {  // z_j = x_2j, z_(n-1-j) = x_(2j+1); y_k = 2 Re(exp(-i pi k / 2n) Z_k) of both tubes in Z
    for (int64_t j = thread(); j < n; j += threads()) z[j % 2 ? n - 1 - j / 2 : j / 2] = tube.input(j);
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
  } else if (n % 2) {  // a real transform of length n between two signed permutations (Chan, Ho 1990)
    for (int64_t j = thread(); j < n; j += threads()) {
      const int64_t odd = 2 * j + 1;
      const bool ahead = (odd & 3) == 1;
      const T sign = ahead ? chi<T>(odd) : -psi<T>(2 * n - odd);
      const Complex<T> x = tube.input(ahead ? j : n - 1 - j);
      z[odd < n ? odd : odd - n] = Complex<T>{sign * x.re, sign * x.im};
    }
  } else {  // t_j = (x_2j + i x_(n-1-2j)) exp(-i pi (4j+1) / 4n); y_2k = 2 Re(T_k exp(-i pi k / n)), y_(n-1-2k) = -2 Im
    for (int64_t j = thread(); j < length; j += threads())
      z[j] = Complex<T>{tube.input(2 * j).re, tube.input(n - 1 - 2 * j).re} * pair_at(t.turns, j);
  }

  transform(t, z);

  if (t.type == 1) {
    const int64_t shift = t.sine ? 1 : 0;
    for (int64_t k = thread(); k < n; k += threads()) {
      const int64_t f = k + shift;
      const Complex<T> p = z[f < length ? f : 0], m = z[f ? length - f : 0], w = pair_at(t.turns, f);
      const T re = p.re - m.re, im = p.im + m.im;
      tube.store(
          k, {t.sine ? T(0.5) * (m.im - p.im + w.im * im + w.re * re) : T(0.5) * (p.re + m.re + w.re * im - w.im * re),
              0});
    }
  } else if (t.type == 2) {
    for (int64_t k = thread(); 2 * k <= n; k += threads()) {
      const Complex<T> first = z[k], last = z[k ? n - k : 0], turn = pair_at(t.turns, k);
      const Complex<T> sum = first + last, difference = first - last;
      tube.put(k, {turn.re * sum.re + turn.im * difference.im, turn.re * sum.im - turn.im * difference.re});
      if (k && 2 * k < n)
        tube.put(n - k, {turn.im * sum.re - turn.re * difference.im, turn.im * sum.im + turn.re * difference.re});
    }
  } else if (t.type == 3) {
    for (int64_t j = thread(); j < n; j += threads())
      tube.put(j, exchanged(Complex<T>(z[j % 2 ? n - 1 - j / 2 : j / 2])));
  } else if (n % 2) {
    const int64_t half = (n + 1) / 2, eighth = half * half % n * half % n;
    for (int64_t k = thread(); k < n; k += threads()) {
      const int64_t f = eighth * (2 * k + 1) % n, turn = (2 * k + 1) * (n & 7);
      const Complex<T> p = z[f], m = z[f ? n - f : 0];
      const T root = T(0.70710678118654752440), even = root * chi<T>(turn), odd = root * psi<T>(turn);
      tube.put(k, {even * (p.re + m.re) + odd * (p.im - m.im), even * (p.im + m.im) + odd * (m.re - p.re)});
    }
  } else {
    for (int64_t k = thread(); k < length; k += threads()) {
      const Complex<T> w = Complex<T>(z[k]) * pair_at(t.turns, length + k);
      tube.put(2 * k, {2 * w.re, 0});
      tube.put(n - 1 - 2 * k, {-2 * w.im, 0});
    }
  }
}

}  // namespace

template <class T> void run(const LongTubes<T>& t, void* stream) {
  const int64_t tubes = t.outer * t.inner, size = t.circle ? t.circle : t.length;
  if (size > kMostHeld * kMostLongThreads) throw std::runtime_error("dct: a Fourier transform too long for a block");
  const int64_t wanted = round_up(ceil_div(size, 8), kWarp);
  const int threads = int(wanted < kLeastThreads      ? kLeastThreads
                          : wanted < kMostLongThreads ? wanted
                                                      : kMostLongThreads);
  launch(stream, Grid{folded(t.type, t.n) ? tubes : ceil_div(tubes, 2), threads, shared_bytes_for<Complex<T>>(size)},
         &long_tubes<T>, t);
}
template void run<float>(const LongTubes<float>&, void*);
template void run<double>(const LongTubes<double>&, void*);

}  // namespace spectral::cuda
