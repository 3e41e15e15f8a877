// y = matrix . act(x), or (matrix . x) act'(z), along the middle dimension of x seen as (outer, columns, inner): the
// slices of images in either memory order. An item is a block of memory that stays in L1: whole images or pixels (their
// values lie side by side), or, of large images, a strip of every slice. Vectors hold neighbours of one slice; where a
// slice has less than half a vector of neighbours, as many rows of the result as fit.
#include "network.h"
#include "pairs.h"

namespace spectral::SPECTRAL_LEVEL {

template <class T> inline constexpr int64_t kBlockValues = 16384 / sizeof(T);

// Whole vectors and one that may be partial, J rows of the matrix at a time: y[j] = sum_k m[j][k] x[k].
template <class T, int J, int V>
void strip(const T* x, int64_t ldx, int64_t depth, const T* m, T* y, int64_t ldy, int64_t count) {
  constexpr int n = kLanes<T>;
  const int64_t last = count - (V - 1) * n;  // lanes of the last vector
  Vec<T> sum[J][V] = {};
  for (int64_t k = 0; k < depth; ++k) {
    Vec<T> in[V];
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) in[v] = load_part(x + k * ldx + v * n, v + 1 < V ? n : last);
#pragma GCC unroll 16
    for (int j = 0; j < J; ++j)
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) sum[j][v] += m[j * depth + k] * in[v];
  }
#pragma GCC unroll 16
  for (int j = 0; j < J; ++j)
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) store_part(y + j * ldy + v * n, sum[j][v], v + 1 < V ? n : last);
}

template <class T> using StripFn = void (*)(const T*, int64_t, int64_t, const T*, T*, int64_t, int64_t);

template <class T, int V> struct Strips {
  template <int J> static constexpr StripFn<T> at() {
    if constexpr (J <= kRows<T>) return &strip<T, J, V>;
    return nullptr;
  }
  static constexpr StripFn<T> table[17] = {nullptr,  at<1>(),  at<2>(),  at<3>(),  at<4>(),  at<5>(),
                                           at<6>(),  at<7>(),  at<8>(),  at<9>(),  at<10>(), at<11>(),
                                           at<12>(), at<13>(), at<14>(), at<15>(), at<16>()};
};

// `width` neighbours of every slice: x with rows ldx apart -> y with rows ldy apart.
template <class T>
SPECTRAL_INLINE void wide_product(const Slices<T>& s, const T* x, int64_t ldx, T* y, int64_t ldy, int64_t width) {
  constexpr int n = kLanes<T>;
  const int64_t blocks = ceil_div(s.rows, kRows<T>);
  for (int64_t c = 0; c < width;) {
    const bool two = width - c > n;
    const int64_t count = min(width - c, (two ? 2 : 1) * n);
    for (int64_t b = 0, row = 0; b < blocks; ++b) {
      const int64_t height = (s.rows - row) / (blocks - b);
      const StripFn<T> f = two ? Strips<T, 2>::table[height] : Strips<T, 1>::table[height];
      f(x + c, ldx, s.columns, s.matrix + row * s.columns, y + row * ldy + c, ldy, count);
      row += height;
    }
    c += count;
  }
}

// The matrix for vectors that hold `together` rows of the result: lane r inner + i of [block][column] is its entry of
// row block * together + r.
template <class T> struct Spread {
  int64_t together, blocks;
  T* factors;
  typename VectorOf<T>::integer neighbour{};  // lane -> i

  static int64_t rows_together(int64_t inner) { return kLanes<T> / inner; }
  static int64_t values(const Slices<T>& s) { return ceil_div(s.rows, rows_together(s.inner)) * s.columns * kLanes<T>; }
  Spread(const Slices<T>& s, T* memory) : together(0), blocks(0), factors(memory) {
    if (!memory) return;
    together = rows_together(s.inner);
    blocks = ceil_div(s.rows, together);
    for (int lane = 0; lane < kLanes<T>; ++lane) {
      neighbour[lane] = lane % s.inner;
      for (int64_t b = 0; b < blocks; ++b) {
        const int64_t row = b * together + lane / s.inner;
        const bool used = lane < together * s.inner && row < s.rows;
        for (int64_t k = 0; k < s.columns; ++k)
          factors[(b * s.columns + k) * kLanes<T> + lane] = used ? s.matrix[row * s.columns + k] : T(0);
      }
    }
  }
};

// One pixel, blocks [first, first + B) of the result; behind x a vector's worth of memory can be read.
template <class T, int B>
SPECTRAL_INLINE void narrow_blocks(const Slices<T>& s, const Spread<T>& m, int64_t first, const T* x, T* y) {
  constexpr int n = kLanes<T>;
  const T* factors = m.factors + first * s.columns * n;
  Vec<T> sum[B] = {};
  for (int64_t k = 0; k < s.columns; ++k) {
    const Vec<T> in = __builtin_shuffle(load_loose(x + k * s.inner), m.neighbour);
#pragma GCC unroll 4
    for (int b = 0; b < B; ++b) sum[b] += load(factors + (b * s.columns + k) * n) * in;
  }
#pragma GCC unroll 4
  for (int b = 0; b < B; ++b) {
    const int64_t row = (first + b) * m.together;
    store_part(y + row * s.inner, sum[b], min(m.together, s.rows - row) * s.inner);
  }
}

template <class T> SPECTRAL_INLINE void narrow_product(const Slices<T>& s, const Spread<T>& m, const T* x, T* y) {
  int64_t b = 0;
  for (; b + 4 <= m.blocks; b += 4) narrow_blocks<T, 4>(s, m, b, x, y);
  if (b + 2 <= m.blocks) {
    narrow_blocks<T, 2>(s, m, b, x, y);
    b += 2;
  }
  if (b < m.blocks) narrow_blocks<T, 1>(s, m, b, x, y);
}

// f of every vector of a run of values.
template <class T, class F> SPECTRAL_INLINE void each(int64_t values, F f) {
  for (int64_t i = 0; i < values; i += kLanes<T>) f(i, min(kLanes<T>, values - i));
}

// h = act(z) of `rows` rows of `width` values; activations of pairs join rows 2k and 2k + 1.
template <class T> void activate_slices(Activation kind, T offset, const T* z, int64_t ldz, int64_t rows, int64_t width,
                                        T* h, int64_t ldh) {
  if (of_pairs(kind))
    return visit_complex(kind, [&]<Activation kKind>() {
      for (int64_t r = 0; r < rows; r += 2)
        each<T>(width, [&](int64_t i, int64_t count) {
          const T* at = z + r * ldz + i;
          const Pair<T> value = activation<T, kKind>({load_part(at, count), load_part(at + ldz, count)}, offset);
          store_part(h + r * ldh + i, value.re, count);
          store_part(h + (r + 1) * ldh + i, value.im, count);
        });
    });
  visit(kind, [&]<Activation kKind>() {
    for (int64_t r = 0; r < rows; ++r)
      each<T>(width, [&](int64_t i, int64_t count) {
        store_part(h + r * ldh + i, activation<T, kKind>(load_part(z + r * ldz + i, count)), count);
      });
  });
}

// grad *= act'(z), rows of both `ld` apart.
template <class T>
void descend_slices(const Slices<T>& s, T* grad, const T* z, int64_t ld, int64_t rows, int64_t width) {
  if (of_pairs(s.activation))
    return visit_complex(s.activation, [&]<Activation kKind>() {
      for (int64_t r = 0; r < rows; r += 2)
        each<T>(width, [&](int64_t i, int64_t count) {
          const T* at = z + r * ld + i;
          T* g = grad + r * ld + i;
          const Pair<T> argument{load_part(at, count), load_part(at + ld, count)};
          const Pair<T> value = through<T, kKind>({load_part(g, count), load_part(g + ld, count)}, argument,
                                                  activation<T, kKind>(argument, s.offset), s.offset);
          store_part(g, value.re, count);
          store_part(g + ld, value.im, count);
        });
    });
  visit(s.activation, [&]<Activation kKind>() {
    for (int64_t r = 0; r < rows; ++r)
      each<T>(width, [&](int64_t i, int64_t count) {
        T* g = grad + r * ld + i;
        const Vec<T> argument = load_part(z + r * ld + i, count);
        store_part(g, through<T, kKind>(load_part(g, count), argument, activation<T, kKind>(argument)), count);
      });
  });
}

// How the items divide x: blocks of `images`, strips of `width` neighbours.
template <class T> struct SliceItems {
  int64_t images, width, strips;
  explicit SliceItems(const Slices<T>& s) {
    const int64_t most = max(s.rows, s.columns);
    width = min(s.inner, max(round_up(kBlockValues<T> / most, kLanes<T>), 2 * kLanes<T>));
    images = width < s.inner ? 1 : max(kBlockValues<T> / (most * s.inner), 1);
    strips = ceil_div(s.inner, width);
  }
};

template <class T> int64_t slice_items(const Slices<T>& s) {
  const SliceItems<T> items(s);
  return ceil_div(s.outer, items.images) * items.strips;
}

template <class T> void slices(const Slices<T>& s, int64_t begin, int64_t end) {
  const SliceItems<T> items(s);
  const bool narrow = 2 * s.inner <= kLanes<T>;
  const Activation before = s.z ? Activation::none : s.activation;
  const int64_t block = round_up(items.images * s.columns * items.width, kLanes<T>) + kLanes<T>;
  T* space = static_cast<T*>(scratch(Slot::item, (block + (narrow ? Spread<T>::values(s) : 0)) * sizeof(T)));
  const Spread<T> spread(s, narrow ? space + block : nullptr);
  for (int64_t item = begin; item < end; ++item) {
    const int64_t image = item / items.strips * items.images, images = min(items.images, s.outer - image);
    const int64_t first = item % items.strips * items.width, width = min(items.width, s.inner - first);
    const bool whole = width == s.inner;  // all values of the images lie side by side
    const T* x = s.x + image * s.columns * s.inner + first;
    T* y = s.y + image * s.rows * s.inner + first;
    int64_t ldx = s.inner;
    if (narrow || before != Activation::none) {
      const bool flat = whole && !of_pairs(before);
      const int64_t rows = flat ? 1 : images * s.columns, run = flat ? images * s.columns * width : width;
      activate_slices(before, s.offset, x, s.inner, rows, run, space, width);  // none: a copy
      x = space;
      ldx = width;
    }
    for (int64_t i = 0; i < images; ++i)
      narrow ? narrow_product(s, spread, x + i * s.columns * ldx, y + i * s.rows * s.inner)
             : wide_product(s, x + i * s.columns * ldx, ldx, y + i * s.rows * s.inner, s.inner, width);
    if (s.z && s.activation != Activation::none) {
      const bool flat = whole && !of_pairs(s.activation);
      const int64_t rows = flat ? 1 : images * s.rows, run = flat ? images * s.rows * width : width;
      descend_slices(s, y, s.z + image * s.rows * s.inner + first, s.inner, rows, run);
    }
  }
}

template int64_t slice_items<float>(const Slices<float>&);
template int64_t slice_items<double>(const Slices<double>&);
template void slices<float>(const Slices<float>&, int64_t, int64_t);
template void slices<double>(const Slices<double>&, int64_t, int64_t);

}  // namespace spectral::SPECTRAL_LEVEL
