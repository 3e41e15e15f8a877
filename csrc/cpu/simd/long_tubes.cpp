// Cosine and sine transforms of long tubes, O(n log n): a tile of tubes passes through one complex Fourier transform in
// its lanes. Types I to III take two tubes as the real and the imaginary part of one signal, whose symmetry tells their
// spectra apart, so that odd lengths cost no more than even ones; type IV of even n folds a
// tube into a signal of n / 2 values.
// Sine transforms are cosine transforms with signs that alternate and an order that is reversed.
#include "fetch.h"
#include "fourier.h"
#include "network.h"

namespace spectral::SPECTRAL_LEVEL {

template <class T> struct LongPass {
  const LongTubes<T>& t;
  T *in, *work, *other;  // three tiles of t.rows rows; the result ends up in `in`

  static constexpr int64_t kRow = kTile<T>;

  // Row j of the cosine transform's input, where t may be a sine transform.
  Complex<T> input(int64_t j) const {
    if (t.sine && t.type != 2) return Complex<T>::of(in + (t.n - 1 - j) * kRow);
    const Complex<T> x = Complex<T>::of(in + j * kRow);
    return t.sine && j % 2 ? Complex<T>{-x.re, -x.im} : x;
  }
  // Where row k of the cosine transform goes.
  T* output(T* y, int64_t k) const { return y + (t.sine && t.type == 2 ? t.n - 1 - k : k) * kRow; }
  T sign(int64_t k) const { return t.sine && t.type != 2 && k % 2 ? -t.scale : t.scale; }

  // z_j = x_2j, z_(n-1-j) = x_(2j+1)
  void even_odd(T* z) const {
    for (int64_t j = 0; j < t.n; ++j) input(j).to(z + (j % 2 ? t.n - 1 - j / 2 : j / 2) * kRow);
  }

  // Type II after the transform: y_k = 2 Re(exp(-i pi k / 2n) Z_k) for both tubes in Z, k and n - k together.
  void second(const T* z, T* y) const {
    const Complex<T> zero = Complex<T>::of(z);
    put(y, 0, {zero.re + zero.re, zero.im + zero.im});
    for (int64_t k = 1; 2 * k <= t.n; ++k) {
      const Complex<T> a = Complex<T>::of(z + k * kRow), b = Complex<T>::of(z + (t.n - k) * kRow);
      const Complex<T> sum = a + b, difference = a - b;
      const T cosine = t.turns[2 * k], sine = t.turns[2 * k + 1];
      put(y, k, {cosine * sum.re + sine * difference.im, cosine * sum.im - sine * difference.re});
      if (2 * k < t.n)
        put(y, t.n - k, {sine * sum.re - cosine * difference.im, sine * sum.im + cosine * difference.re});
    }
  }

  // Type III before the transform: U_k = (x_k - i x_(n-k)) exp(i pi k / 2n) of both tubes, real and imaginary part
  // exchanged, which makes the transform that follows an inverse one.
  void third(T* z) const {
    const Complex<T> zero = input(0);
    Complex<T>{zero.im, zero.re}.to(z);
    for (int64_t k = 1; 2 * k <= t.n; ++k) {
      const Complex<T> x = input(k), m = input(t.n - k);
      const T c = t.turns[2 * k], s = t.turns[2 * k + 1];
      const Vec<T> a = c * x.re + s * m.re, b = s * x.re - c * m.re, d = s * x.im - c * m.im, e = c * x.im + s * m.im;
      Complex<T>{b + e, a - d}.to(z + k * kRow);
      Complex<T>{e - b, a + d}.to(z + (t.n - k) * kRow);
    }
  }
  void interleaved(const T* u, T* y) const {
    for (int64_t j = 0; j < t.n; ++j) {
      const Complex<T> z = Complex<T>::of(u + (j % 2 ? t.n - 1 - j / 2 : j / 2) * kRow);
      put(y, j, {z.im, z.re});
    }
  }

  // Type IV of the tubes in the real (0) or the imaginary (1) lanes: t_j = (x_2j + i x_(n-1-2j)) exp(-i pi (4j+1) /
  // 4n), and of its transform y_2k = 2 Re(T_k exp(-i pi k / n)), y_(n-1-2k) = -2 Im.
  template <int kPart> void fourth(T* z, T* spare, T* y) const {
    const int64_t half = t.n / 2;
    for (int64_t j = 0; j < half; ++j) {
      const Complex<T> a = input(2 * j), b = input(t.n - 1 - 2 * j);
      const Complex<T> x = kPart == 0 ? Complex<T>{a.re, b.re} : Complex<T>{a.im, b.im};
      (x * (t.turns + 2 * j)).to(z + j * kRow);
    }
    const T* result = transform(z, spare);
    for (int64_t k = 0; k < half; ++k) {
      const Complex<T> w = Complex<T>::of(result + k * kRow) * (t.turns + 2 * (half + k));
      const T even = 2 * sign(2 * k), odd = -2 * sign(t.n - 1 - 2 * k);
      store(y + 2 * k * kRow + kPart * kLanes<T>, even * w.re);
      store(y + (t.n - 1 - 2 * k) * kRow + kPart * kLanes<T>, odd * w.im);
    }
  }

  // Type IV of odd n (Chan, Ho 1990): with a = 2k + 1, b = 2j + 1, v = 8^-1 mod n and u = n^-1 = n mod 8 the Chinese
  // remainder theorem gives cos(2 pi a b / 8n) = cos(pi a b u / 4 + 2 pi v a b / n). The first term is an odd number of
  // eighths of a turn: 2 cos is sqrt 2 (chi cos - psi sin) of the second, where chi = (2 / abu) and psi = (-2 / abu)
  // are signs, and multiplicative: both sums are those of one real transform of length n, of x_j or x_(n-1-j) with a
  // sign at b mod n; two tubes are its real and imaginary parts.
  static T chi(int64_t odd) { return (odd & 7) == 1 || (odd & 7) == 7 ? T(1) : T(-1); }
  static T psi(int64_t odd) { return (odd & 7) < 4 ? T(1) : T(-1); }
  void fourth_of_odd(T* z, T* spare, T* y) const {
    for (int64_t j = 0; j < t.n; ++j) {
      const int64_t b = 2 * j + 1;
      const T s = (b & 3) == 1 ? chi(b) : -psi(2 * t.n - b);
      const Complex<T> x = input((b & 3) == 1 ? j : t.n - 1 - j);
      Complex<T>{s * x.re, s * x.im}.to(z + (b < t.n ? b : b - t.n) * kRow);
    }
    const T* result = transform(z, spare);
    const int64_t half = (t.n + 1) / 2, v = half * half % t.n * half % t.n;
    for (int64_t k = 0, f = v; k < t.n; ++k, f = (f + 2 * v) % t.n) {
      const Complex<T> a = Complex<T>::of(result + f * kRow), b = Complex<T>::of(result + (f ? t.n - f : 0) * kRow);
      const int64_t turn = (2 * k + 1) * (t.n & 7);
      const T scale = T(0.70710678118654752440) * sign(k), even = scale * chi(turn), odd = scale * psi(turn);
      Complex<T>{even * (a.re + b.re) + odd * (a.im - b.im), even * (a.im + b.im) + odd * (b.re - a.re)}.to(y +
                                                                                                            k * kRow);
    }
  }

  // Type I: the spectrum of the tube continued as an even (cosine) or odd (sine) signal of t.length values.
  void first() const {
    const int64_t shift = t.sine ? 1 : 0;
    if (t.sine) {
      std::memset(work, 0, kRow * sizeof(T));
      std::memset(work + (t.n + 1) * kRow, 0, kRow * sizeof(T));
    }
    for (int64_t j = 0; j < t.n; ++j) {
      const Complex<T> x = Complex<T>::of(in + j * kRow);
      x.to(work + (j + shift) * kRow);
      const int64_t mirror = t.length - shift - j;
      if (mirror == t.length || mirror == j) continue;
      (t.sine ? Complex<T>{-x.re, -x.im} : x).to(work + mirror * kRow);
    }
    // both halves of the spectrum say the same up to rounding errors, which their mean halves in the square
    const T* z = transform(work, other);
    const T scale = T(0.5) * t.scale;
    for (int64_t k = shift; k < t.n + shift; ++k) {
      const Complex<T> a = Complex<T>::of(z + k * kRow), b = Complex<T>::of(z + (k ? t.length - k : 0) * kRow);
      const Complex<T> y = t.sine ? (b - a).over_i() : a + b;
      Complex<T>{scale * y.re, scale * y.im}.to(in + (k - shift) * kRow);
    }
  }

  void put(T* y, int64_t k, Complex<T> value) const {
    const T scale = sign(k);
    Complex<T>{scale * value.re, scale * value.im}.to(output(y, k));
  }

  // The Fourier transform of t.length elements; where a prime factor is large, as a convolution with a chirp
  // (Bluestein).
  T* transform(T* z, T* spare) const {
    if (t.circle == 0) return fourier(z, spare, t.length, t.roots);
    for (int64_t j = 0; j < t.length; ++j) (Complex<T>::of(z + j * kRow) * (t.chirp + 2 * j)).to(z + j * kRow);
    std::memset(z + t.length * kRow, 0, (t.circle - t.length) * kRow * sizeof(T));
    T* a = fourier(z, spare, t.circle, t.roots);
    for (int64_t k = 0; k < t.circle; ++k) {
      const Complex<T> product = Complex<T>::of(a + k * kRow) * (t.spectrum + 2 * k);
      Complex<T>{product.im, product.re}.to(a + k * kRow);  // exchanged: the next transform is the inverse
    }
    T* b = fourier(a, a == z ? spare : z, t.circle, t.roots);
    for (int64_t k = 0; k < t.length; ++k) {
      const Complex<T> value = Complex<T>::of(b + k * kRow);
      (Complex<T>{value.im, value.re} * (t.chirp + 2 * k)).to(b + k * kRow);
    }
    return b;
  }

  void scale_rows(T first, T last) const {
    for (int64_t lane = 0; lane < kRow; lane += kLanes<T>) {
      T *head = in + lane, *tail = in + (t.n - 1) * kRow + lane;
      if (first != 1) store(head, load(head) * first);
      if (last != 1) store(tail, load(tail) * last);
    }
  }

  void run() const {
    scale_rows(t.first_in, t.last_in);
    if (t.type == 1) {
      first();
    } else if (t.type == 2) {
      even_odd(work);
      second(transform(work, other), in);
    } else if (t.type == 3) {
      third(work);
      interleaved(transform(work, other), in);
    } else if (t.n % 2) {
      fourth_of_odd(work, other, in);
    } else {
      // the input serves both parts: the result waits in `other`
      const int64_t half = t.rows / 2 * kRow;
      fourth<0>(work, work + half, other);
      fourth<1>(work, work + half, other);
      std::memcpy(in, other, t.n * kRow * sizeof(T));
    }
    scale_rows(t.first_out, t.last_out);
  }
};

inline constexpr int64_t kFetched = 16384;  // bytes of a tile whose results have room in the nearest cache meanwhile

// The tubes of a tile that are neighbours in memory: `count` of them in the lanes from `lane` on.
struct Neighbours {
  int64_t offset, lane, count;
};

// Tubes of an inner dimension, as many as fill a tile, of one index of the outer dimension or of several.
template <class T> struct Columns {
  const LongTubes<T>& t;
  int64_t size = 0;
  Neighbours parts[kTile<T>];

  Columns(const LongTubes<T>& tubes, int64_t first, int64_t count) : t(tubes) {
    for (int64_t lane = 0; lane < count; lane += parts[size++].count) {
      const int64_t tube = first + lane, i = tube % t.inner;
      parts[size] = {tube / t.inner * t.n * t.inner + i, lane, min(t.inner - i, count - lane)};
    }
  }
  // copy(values in memory, values in row q of the tile, how many) of all neighbours in all rows
  template <class Copy> void each(T* tile, Copy copy) const {
    for (int64_t q = 0; q < t.n; ++q)
      for (int64_t p = 0; p < size; ++p)
        for (int64_t v = 0; v < parts[p].count; v += kLanes<T>)
          copy(parts[p].offset + q * t.inner + v, tile + q * kTile<T> + parts[p].lane + v, parts[p].count - v);
  }
};

template <class T> void long_tubes(const LongTubes<T>& t, int64_t begin, int64_t end) {
  const int64_t tile = t.rows * kTile<T>, tubes = t.outer * t.inner;
  T* memory = static_cast<T*>(scratch(Slot::item, 3 * tile * sizeof(T)));
  const LongPass<T> pass{t, memory, memory + tile, memory + 2 * tile};
  for (int64_t item = begin; item < end; ++item) {
    const int64_t first = item * kTile<T>, count = min(kTile<T>, tubes - first);
    if (t.inner == 1) {
      if (tile * int64_t(sizeof(T)) <= kFetched) fetch<T, 1>(t.y + first * t.n, count * t.n);
      load_tile(t.x + first * t.n, t.n, count, t.n, pass.in);
      pass.run();
      store_tile(pass.in, t.n, count, t.y + first * t.n, t.n);
      continue;
    }
    const Columns<T> columns(t, first, count);
    if (count < kTile<T>) std::memset(pass.in, 0, t.n * kTile<T> * sizeof(T));
    columns.each(pass.in, [&](int64_t at, T* row, int64_t many) { store_part(row, load_part(t.x + at, many), many); });
    pass.run();
    columns.each(pass.in, [&](int64_t at, T* row, int64_t many) { store_part(t.y + at, load_part(row, many), many); });
  }
}

template void long_tubes<float>(const LongTubes<float>&, int64_t, int64_t);
template void long_tubes<double>(const LongTubes<double>&, int64_t, int64_t);

}  // namespace spectral::SPECTRAL_LEVEL
