// Cosine and sine transforms of long tubes, O(n log n): a tile of tubes passes through one complex Fourier transform in
// its lanes. Types I to III take two tubes as the real and the imaginary part of one signal, whose symmetry tells their
// spectra apart, so that odd lengths cost no more than even ones; type IV of even n folds a
// tube into a signal of n / 2 values.
// Sine transforms are cosine transforms with signs that alternate and an order that is reversed.
#include "fetch.h"
#include "fourier.h"
#include "network.h"
#include "traffic.h"

namespace spectral::SPECTRAL_LEVEL {

template <class T> struct LongPass {
  const LongTubes<T>& t;
  T* in;  // where the tubes are, and their transforms will be: n rows, `step` apart
  int64_t step;
  T *work, *other;  // tiles of t.rows rows
  Traffic& traffic;

  static constexpr int64_t kRow = kTile<T>;

  T* row(int64_t j) const { return in + j * step; }
  // Row j of the cosine transform's input, where t may be a sine transform.
  Complex<T> input(int64_t j) const {
    if (t.sine && t.type != 2) return Complex<T>::of(row(t.n - 1 - j));
    const Complex<T> x = Complex<T>::of(row(j));
    return t.sine && j % 2 ? Complex<T>{-x.re, -x.im} : x;
  }
  // Where row k of the cosine transform goes.
  T* output(int64_t k) const { return row(t.sine && t.type == 2 ? t.n - 1 - k : k); }
  T sign(int64_t k) const { return t.sine && t.type != 2 && k % 2 ? -t.scale : t.scale; }

  // z_j = x_2j, z_(n-1-j) = x_(2j+1)
  void even_odd(T* z) const {
    for (int64_t j = 0; j < t.n; ++j) input(j).to(z + (j % 2 ? t.n - 1 - j / 2 : j / 2) * kRow);
  }

  // Type II after the transform: y_k = 2 Re(exp(-i pi k / 2n) Z_k) for both tubes in Z, k and n - k together.
  void second(const T* z) const {
    const Complex<T> zero = Complex<T>::of(z);
    put(0, {zero.re + zero.re, zero.im + zero.im});
    for (int64_t k = 1; 2 * k <= t.n; ++k) {
      const Complex<T> a = Complex<T>::of(z + k * kRow), b = Complex<T>::of(z + (t.n - k) * kRow);
      const Complex<T> sum = a + b, difference = a - b;
      const T cosine = t.turns[2 * k], sine = t.turns[2 * k + 1];
      put(k, {cosine * sum.re + sine * difference.im, cosine * sum.im - sine * difference.re});
      if (2 * k < t.n) put(t.n - k, {sine * sum.re - cosine * difference.im, sine * sum.im + cosine * difference.re});
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
  void interleaved(const T* u) const {
    for (int64_t j = 0; j < t.n; ++j) {
      const Complex<T> z = Complex<T>::of(u + (j % 2 ? t.n - 1 - j / 2 : j / 2) * kRow);
      put(j, {z.im, z.re});
    }
  }

  // Type IV of the tubes in the real lanes and of those in the imaginary ones: t_j = (x_2j + i x_(n-1-2j)) exp(-i pi
  // (4j+1) / 4n), and of its transform y_2k = 2 Re(T_k exp(-i pi k / n)), y_(n-1-2k) = -2 Im.
  void fourth() const {
    const int64_t half = t.n / 2, spare = t.rows / 2 * kRow;
    for (int64_t j = 0; j < half; ++j) {
      const Complex<T> a = input(2 * j), b = input(t.n - 1 - 2 * j);
      (Complex<T>{a.re, b.re} * (t.turns + 2 * j)).to(work + j * kRow);
      (Complex<T>{a.im, b.im} * (t.turns + 2 * j)).to(other + j * kRow);
    }
    const T *first = transform(work, work + spare), *second = transform(other, other + spare);
    for (int64_t k = 0; k < half; ++k) {
      const T* const turn = t.turns + 2 * (half + k);
      const Complex<T> a = Complex<T>::of(first + k * kRow) * turn, b = Complex<T>::of(second + k * kRow) * turn;
      const T even = 2 * sign(2 * k), odd = -2 * sign(t.n - 1 - 2 * k);
      Complex<T>{even * a.re, even * b.re}.to(row(2 * k));
      Complex<T>{odd * a.im, odd * b.im}.to(row(t.n - 1 - 2 * k));
    }
  }

  // Type IV of odd n (Chan, Ho 1990): with a = 2k + 1, b = 2j + 1, v = 8^-1 mod n and u = n^-1 = n mod 8 the Chinese
  // remainder theorem gives cos(2 pi a b / 8n) = cos(pi a b u / 4 + 2 pi v a b / n). The first term is an odd number of
  // eighths of a turn: 2 cos is sqrt 2 (chi cos - psi sin) of the second, where chi = (2 / abu) and psi = (-2 / abu)
  // are signs, and multiplicative: both sums are those of one real transform of length n, of x_j or x_(n-1-j) with a
  // sign at b mod n; two tubes are its real and imaginary parts.
  static T chi(int64_t odd) { return (odd & 7) == 1 || (odd & 7) == 7 ? T(1) : T(-1); }
  static T psi(int64_t odd) { return (odd & 7) < 4 ? T(1) : T(-1); }
  void fourth_of_odd(T* z, T* spare) const {
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
      Complex<T>{even * (a.re + b.re) + odd * (a.im - b.im), even * (a.im + b.im) + odd * (b.re - a.re)}.to(row(k));
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
      const Complex<T> x = Complex<T>::of(row(j));
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
      Complex<T>{scale * y.re, scale * y.im}.to(row(k - shift));
    }
  }

  void put(int64_t k, Complex<T> value) const {
    const T scale = sign(k);
    Complex<T>{scale * value.re, scale * value.im}.to(output(k));
  }

  // The Fourier transform of t.length elements; where a prime factor is large, as a convolution with a chirp
  // (Bluestein).
  T* transform(T* z, T* spare) const {
    if (t.circle == 0) return fourier(z, spare, t.length, t.roots, traffic);
    for (int64_t j = 0; j < t.length; ++j) (Complex<T>::of(z + j * kRow) * (t.chirp + 2 * j)).to(z + j * kRow);
    std::memset(z + t.length * kRow, 0, (t.circle - t.length) * kRow * sizeof(T));
    T* a = fourier(z, spare, t.circle, t.roots, traffic);
    for (int64_t k = 0; k < t.circle; ++k) {
      const Complex<T> product = Complex<T>::of(a + k * kRow) * (t.spectrum + 2 * k);
      Complex<T>{product.im, product.re}.to(a + k * kRow);  // exchanged: the next transform is the inverse
    }
    T* b = fourier(a, a == z ? spare : z, t.circle, t.roots, traffic);
    for (int64_t k = 0; k < t.length; ++k) {
      const Complex<T> value = Complex<T>::of(b + k * kRow);
      (Complex<T>{value.im, value.re} * (t.chirp + 2 * k)).to(b + k * kRow);
    }
    return b;
  }

  void scale_rows(T first, T last) const {
    for (int64_t lane = 0; lane < kRow; lane += kLanes<T>) {
      T *head = row(0) + lane, *tail = row(t.n - 1) + lane;
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
      second(transform(work, other));
    } else if (t.type == 3) {
      third(work);
      interleaved(transform(work, other));
    } else if (t.n % 2) {
      fourth_of_odd(work, other);
    } else {
      fourth();
    }
    scale_rows(t.first_out, t.last_out);
  }
};

// Tiles one after the other; past the caches two by turns, of which one passes while the other moves.
template <class T> struct LongWork {
  static constexpr int64_t kFetched = 16384;  // bytes of a tile whose results have room in the nearest cache meanwhile
  // bytes of all tiles where two take turns: half of that where they are also transposed
  static constexpr int64_t kShared = 1 << 19;

  const LongTubes<T>& t;
  const ColumnGrid<T> grid{t.outer, t.n, t.inner};
  const int64_t width = grid.blocks ? t.n * t.inner : t.n, tile = width * kTile<T>, space = t.rows * kTile<T>;
  const int64_t turns = 2 * (tile + space) * int64_t(sizeof(T)) <= kShared / (grid.blocks ? 2 : 1) ? 2 : 1;
  T* const memory =
      static_cast<T*>(scratch(Slot::item, (turns * tile + 2 * space + t.n * Lines<T, 2>::kSpace) * sizeof(T)));
  T *const work = memory + turns * tile, *const other = work + space, *const waiting = other + space;

  // How many elements the butterflies of a tile read.
  int64_t elements() const {
    const int64_t size = t.circle ? t.circle : t.length;
    return size * stages(size) * (t.circle ? 2 : 1) * (t.type == 4 && t.n % 2 == 0 ? 2 : 1);
  }

  void columns(int64_t begin, int64_t end) const {
    ColumnTraffic<T> traffic(t.x, t.y, grid, elements(), waiting);
    const bool overlaps = grid.way(t.y) != Way::plain && turns == 2;
    T* const tiles[] = {memory, memory + (overlaps ? tile : 0)};
    Columns<T> ring[4];
    for (int64_t i = begin - 1; i <= end; ++i) {
      ring[(i + 1) & 3] = {grid, begin, end, i + 1};
      const LongPass<T> pass{t, tiles[i & 1], kTile<T>, work, other, traffic};
      const bool passes = i >= begin && i < end;
      if (passes && !overlaps) pass.run();
      traffic.exchange(tiles[~i & 1], ring[(overlaps ? i - 1 : i) & 3], ring[(i + 1) & 3]);
      if (passes && overlaps) pass.run();
      traffic.finish();
    }
  }

  // Blocks (n, inner) that lie one after the other: they are in lanes, so that few columns fill these, too.
  void blocks(int64_t begin, int64_t end) const {
    const bool overlaps = grid.past && turns == 2 && reinterpret_cast<uintptr_t>(t.y) % 64 == 0;
    T *const in = memory, *const out = memory + tile;
    RowTraffic<T> traffic(width, t.inner * elements());
    const int64_t last = min(end * kTile<T>, t.outer);
    for (int64_t first = begin * kTile<T>; first < last; first += kTile<T>) {
      const int64_t count = min(kTile<T>, last - first), next = min(kTile<T>, last - first - count);
      const T* const x = t.x + first * width;
      T* const y = t.y + first * width;
      if (!overlaps && tile * int64_t(sizeof(T)) <= kFetched) fetch<T, 1>(y, count * width);
      load_tile(x, width, count, width, in);
      if (overlaps) traffic.enters(x + count * width, next * width);
      for (int64_t i = 0; i < t.inner; ++i)
        LongPass<T>{t, in + i * kTile<T>, t.inner * kTile<T>, work, other, traffic}.run();
      traffic.finish();
      store_tile(in, width, count, overlaps ? out : y, width);
      if (overlaps) traffic.leaves(out, y, count * width);
    }
    traffic.finish();
  }
};

template <class T> int64_t long_items(const LongTubes<T>& t) { return ColumnGrid<T>{t.outer, t.n, t.inner}.tiles(); }

template <class T> void long_tubes(const LongTubes<T>& t, int64_t begin, int64_t end) {
  const LongWork<T> work{t};
  work.grid.blocks ? work.blocks(begin, end) : work.columns(begin, end);
  if (work.grid.past) finish_streams();
}

template int64_t long_items<float>(const LongTubes<float>&);
template int64_t long_items<double>(const LongTubes<double>&);
template void long_tubes<float>(const LongTubes<float>&, int64_t, int64_t);
template void long_tubes<double>(const LongTubes<double>&, int64_t, int64_t);

}  // namespace spectral::SPECTRAL_LEVEL
