// The Walsh-Hadamard transform of x (outer, n, inner) along the middle dimension: log2(n) stages of sums and
// differences, three at a time on eight vectors in registers. With an inner dimension, vectors hold neighbouring tubes
// and a tile of them is copied to cache for its stages. Contiguous tubes are vectors themselves: the stages at
// distances below a vector shuffle its lanes, the others are those of a tube of n / lanes vectors.
#include "fetch.h"
#include "lines.h"
#include "network.h"

namespace spectral::SPECTRAL_LEVEL {

template <class T> using Integers = typename VectorOf<T>::integer;

// The stage at distance h inside a vector: x_l + x_(l+h) in the lower half of each 2h lanes, x_(l-h) - x_l above it.
template <class T, int h> SPECTRAL_INLINE Vec<T> lane_stage(Vec<T> v) {
  Integers<T> partner;
  Vec<T> sign;
  for (int l = 0; l < kLanes<T>; ++l) {
    partner[l] = l ^ h;
    sign[l] = l & h ? -1 : 1;
  }
  return __builtin_shuffle(v, partner) + v * sign;  // exact products: one rounding
}

// The stages at distances 1, 2, ... kWidth / 2.
template <class T, int kWidth> SPECTRAL_INLINE Vec<T> lane_stages(Vec<T> v) {
  if constexpr (kWidth > 1) v = lane_stage<T, 1>(v);
  if constexpr (kWidth > 2) v = lane_stage<T, 2>(v);
  if constexpr (kWidth > 4) v = lane_stage<T, 4>(v);
  if constexpr (kWidth > 8) v = lane_stage<T, 8>(v);
  return v;
}

// R values `distance` apart, transformed.
template <class T, int R> SPECTRAL_INLINE void butterflies(Vec<T>* v) {
#pragma GCC unroll 4
  for (int h = 1; h < R; h *= 2)
#pragma GCC unroll 8
    for (int i = 0; i < R; ++i)
      if (!(i & h)) {
        const Vec<T> a = v[i], b = v[i + h];
        v[i] = a + b;
        v[i + h] = a - b;
      }
}

// Where rows are read or written: row i at p + i * step.
template <class T> struct Rows {
  T* p;
  int64_t step;
};

// The stages at distances h, 2h, ... R h / 2 of n rows of `width` values, and before them, where a row lies in the tube
// itself, those inside a vector.
template <class T, int R, bool inside>
void stages(Rows<const T> from, Rows<T> to, int64_t n, int64_t h, int64_t width, T scale) {
  constexpr int lanes = kLanes<T>;
  const Vec<T> factor = broadcast(scale);
  for (int64_t block = 0; block < n; block += R * h)
    for (int64_t i = block; i < block + h; ++i)
      for (int64_t c = 0; c < width; c += lanes) {
        const int64_t count = inside ? lanes : width - c;
        Vec<T> v[R];
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
          v[r] = load_part(from.p + (i + r * h) * from.step + c, count);
          if constexpr (inside) v[r] = lane_stages<T, lanes>(v[r]);
        }
        butterflies<T, R>(v);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) store_part(to.p + (i + r * h) * to.step + c, v[r] * factor, count);
      }
}

template <class T, bool inside>
SPECTRAL_INLINE void up_to_three_stages(Rows<const T> from, Rows<T> to, int64_t n, int64_t h, int64_t width, T scale) {
  switch (min(n / h, 8)) {
    case 8: return stages<T, 8, inside>(from, to, n, h, width, scale);
    case 4: return stages<T, 4, inside>(from, to, n, h, width, scale);
    case 2: return stages<T, 2, inside>(from, to, n, h, width, scale);
    default: return stages<T, 1, inside>(from, to, n, h, width, scale);
  }
}

// All stages of n rows. `between` holds them from the first three stages to the last; it may be `to`.
template <class T, bool inside>
void tube(Rows<const T> from, Rows<T> between, Rows<T> to, int64_t n, int64_t width, T scale) {
  const Rows<T> first = n <= 8 ? to : between;
  up_to_three_stages<T, inside>(from, first, n, 1, width, n <= 8 ? scale : T(1));
  for (int64_t h = 8; h < n; h *= 8) {
    const bool last = n / h <= 8;
    up_to_three_stages<T, false>({between.p, between.step}, last ? to : between, n, h, width, last ? scale : T(1));
  }
}

inline constexpr int64_t kValuesAnItem = 1 << 14;
template <class T> inline constexpr int64_t kColumns = 4 * kLanes<T>;  // neighbouring tubes whose stages run together

// Contiguous tubes an item: whole vectors of short ones.
template <class T> SPECTRAL_INLINE int64_t tubes_an_item(int64_t n) { return max(kValuesAnItem / n, 1); }

template <class T> bool streams(const Butterflies<T>& b) { return streams<T>(b.outer * b.n * b.inner); }

template <class T> int64_t hadamard_items(const Butterflies<T>& b) {
  if (b.inner == 1) return ceil_div(b.outer, tubes_an_item<T>(b.n));
  return b.outer * ceil_div(b.inner, streams(b) ? int64_t(kTile<T>) : kColumns<T>);
}

// Tubes of n values, n up to a vector.
template <class T, int n> SPECTRAL_INLINE void short_tubes(const T* x, T* y, int64_t values, T scale) {
  constexpr int lanes = kLanes<T>;
  const Vec<T> factor = broadcast(scale);
  if constexpr (n <= lanes) {
    for (int64_t i = 0; i < values; i += lanes)
      store_part(y + i, lane_stages<T, n>(load_part(x + i, values - i)) * factor, values - i);
  } else {
    for (int64_t i = 0; i < values; i += n)
      tube<T, true>({x + i, lanes}, {y + i, lanes}, {y + i, lanes}, n / lanes, lanes, scale);
  }
}

template <class T> SPECTRAL_INLINE void contiguous(const Butterflies<T>& b, int64_t first, int64_t last) {
  constexpr int lanes = kLanes<T>;
  const T* x = b.x + first * b.n;
  T* y = b.y + first * b.n;
  const int64_t values = (last - first) * b.n;
  switch (b.n) {
    case 1: return short_tubes<T, 1>(x, y, values, b.scale);
    case 2: return short_tubes<T, 2>(x, y, values, b.scale);
    case 4: return short_tubes<T, 4>(x, y, values, b.scale);
    case 8: return short_tubes<T, 8>(x, y, values, b.scale);
    case 16: return short_tubes<T, 16>(x, y, values, b.scale);
  }
  for (int64_t i = 0; i < values; i += b.n)
    tube<T, true>({x + i, lanes}, {y + i, lanes}, {y + i, lanes}, b.n / lanes, lanes, b.scale);
}

// Neighbouring tubes, a tile of them at a time.
template <class T> void columns(const Butterflies<T>& b, int64_t begin, int64_t end) {
  constexpr int64_t width = kColumns<T>;
  T* space = static_cast<T*>(scratch(Slot::item, b.n * width * sizeof(T)));
  const int64_t tiles = ceil_div(b.inner, width);
  for (int64_t item = begin; item < end; ++item) {
    const int64_t first = item % tiles * width, offset = item / tiles * b.n * b.inner + first;
    tube<T, false>({b.x + offset, b.inner}, {space, width}, {b.y + offset, b.inner}, b.n, min(b.inner - first, width),
                   b.scale);
  }
}

// The same past the caches: the result of a tile stays in them until its lines are whole.
template <class T> void streamed_columns(const Butterflies<T>& b, int64_t begin, int64_t end) {
  using Line = Lines<T, 2>;
  constexpr int64_t width = kTile<T>;
  T* space = static_cast<T*>(scratch(Slot::item, b.n * (width + Line::kSpace) * sizeof(T)));
  T* waiting = space + b.n * width;
  const auto place = [&](int64_t i) { return column_tile(b.x, b.y, b.n, b.inner, begin, end, i); };
  for (int64_t item = begin; item < end; ++item) {
    const ColumnTile<T> here = place(item);
    tube<T, false>({here.x, b.inner}, {space, width}, {space, width}, b.n, here.piece.count, b.scale);
    const T* const next = place(min(item + 1, end - 1)).x;
    for (int64_t q = 0; q < b.n; ++q) {
      fetch<T, 0>(next + q * b.inner, width);
      const Vec<T> row[] = {load(space + q * width), load(space + q * width + kLanes<T>)};
      Line::write(row, here.y + q * b.inner, waiting + q * Line::kSpace, here.piece);
    }
  }
  finish_streams();
}

template <class T> void hadamard(const Butterflies<T>& b, int64_t begin, int64_t end) {
  if (b.inner > 1) return streams(b) ? streamed_columns(b, begin, end) : columns(b, begin, end);
  const int64_t together = tubes_an_item<T>(b.n);
  contiguous(b, begin * together, min(end * together, b.outer));
}

template int64_t hadamard_items<float>(const Butterflies<float>&);
template int64_t hadamard_items<double>(const Butterflies<double>&);
template void hadamard<float>(const Butterflies<float>&, int64_t, int64_t);
template void hadamard<double>(const Butterflies<double>&, int64_t, int64_t);

}  // namespace spectral::SPECTRAL_LEVEL
