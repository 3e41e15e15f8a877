// The DCT of short tubes along any dimension of a dense tensor: x (outer, n, inner). Along the last dimension samples
// are transposed in registers on the way in and out; along any other the inner dimension already lies in lanes.
#include "network.h"
#include "tube.h"
#include "tube_rows.h"

namespace spectral::SPECTRAL_LEVEL {

// Values in a row of `last_dimension`: one tube, or as many short ones as fill a vector exactly.
template <class T> SPECTRAL_INLINE int64_t tube_row(int64_t tubes, int64_t n) {
  const bool fills = n < kLanes<T> && kLanes<T> % n == 0 && tubes * n % kLanes<T> == 0;
  return fills ? kLanes<T> : n;
}

// Asks for `values` values of memory that will be needed soon: a tile is too much work for the processor to look past.
template <int kWrite, class T> SPECTRAL_INLINE void fetch(const T* p, int64_t values) {
  for (int64_t i = 0; i < values; i += int64_t(64 / sizeof(T))) __builtin_prefetch(p + i, kWrite);
}

template <class T, int V> SPECTRAL_INLINE void last_dimension(const Tubes<T>& t, int64_t width, int64_t rows,
                                                              int64_t first, int64_t count, T* in, T* out, T* space) {
  const int64_t n = t.matrix->columns, next = first + kTile<T>;
  fetch<0>(t.x + next * width, (min(next + kTile<T>, rows) - next) * width);
  load_tile(t.x + first * width, width, count, width, in);
  for (int64_t q = 0; q < width; q += n)
    apply<T, V>(*t.matrix, in + q * kTile<T>, kTile<T>, out + q * kTile<T>, kTile<T>, space, 0, n);
  store_tile(out, width, count, t.y + first * width, width);
}

// Tiles side by side that pass together: memory is then read in longer pieces of each row, which lie pages apart.
inline constexpr int64_t kStrip = 2;

// Whole tiles are written where they belong, and read from there by a matrix that reads each row once; what is left of
// a row is copied.
template <class T> SPECTRAL_INLINE void inner_dimension(const Tubes<T>& t, int64_t outer, int64_t first, int64_t count,
                                                        T* in, T* out, T* space) {
  const int64_t n = t.matrix->columns, offset = outer * n * t.inner + first, tile = n * kTile<T>;
  const bool copies = t.matrix->kind != TubeMatrix<T>::Kind::analysis;
  constexpr int lanes = kLanes<T>;
  const auto load_strip = [&](int64_t width) {
    for (int64_t q = 0; q < n; ++q)
      for (int64_t v = 0; v < width; v += lanes)
        store(in + v / kTile<T> * tile + q * kTile<T> + v % kTile<T>,
              load_part(t.x + offset + q * t.inner + v, width - v));
  };
  if (count % kTile<T> == 0) {
    if (copies) load_strip(count);
    for (int64_t v = 0; v < count; v += kTile<T>)
      apply<T, 2>(*t.matrix, copies ? in + v * n : t.x + offset + v, copies ? kTile<T> : t.inner, t.y + offset + v,
                  t.inner, space, 0, n);
    return;
  }
  load_strip(count);
  for (int64_t v = 0; v < count; v += kTile<T>)
    count - v > lanes ? apply<T, 2>(*t.matrix, in + v * n, kTile<T>, out + v * n, kTile<T>, space, 0, n)
                      : apply<T, 1>(*t.matrix, in + v * n, kTile<T>, out + v * n, kTile<T>, space, 0, n);
  for (int64_t q = 0; q < n; ++q)
    for (int64_t v = 0; v < count; v += lanes)
      store_part(t.y + offset + q * t.inner + v, load(out + v / kTile<T> * tile + q * kTile<T> + v % kTile<T>),
                 count - v);
}

inline constexpr int64_t kRowsAnItem = 240;  // whole blocks of tubes for each number of vectors

template <class T> int64_t tube_items(const Tubes<T>& t) {
  const int64_t n = t.matrix->columns;
  if (t.inner == 1 && takes_rows(*t.matrix)) return ceil_div(t.outer, kRowsAnItem);
  if (t.inner != 1) return t.outer * ceil_div(t.inner, kStrip * kTile<T>);
  return ceil_div(t.outer * n / tube_row<T>(t.outer, n), kTile<T>);
}

SPECTRAL_INLINE void rows(const Tubes<float>& t, int64_t begin, int64_t end) {
  const int64_t n = t.matrix->columns, first = begin * kRowsAnItem, last = min(t.outer, end * kRowsAnItem);
  float* space = static_cast<float*>(scratch(Slot::item, row_space(n) * sizeof(float)));
  pair_coefficients(*t.matrix, round_up(n, kLanes<float>), space);
  if (t.matrix->kind == TubeMatrix<float>::Kind::analysis)
    transform_rows<true>(n, t.x + first * n, t.y + first * n, last - first, space);
  else
    transform_rows<false>(n, t.x + first * n, t.y + first * n, last - first, space);
}

template <class T> void tubes(const Tubes<T>& t, int64_t begin, int64_t end) {
  if constexpr (sizeof(T) == sizeof(float))
    if (t.inner == 1 && takes_rows(*t.matrix)) return rows(t, begin, end);
  const int64_t n = t.matrix->columns, width = t.inner == 1 ? tube_row<T>(t.outer, n) : n;
  const int64_t strip = t.inner == 1 ? kTile<T> : kStrip * kTile<T>;
  T* in = static_cast<T*>(scratch(Slot::item, (2 * width * strip + tube_space(*t.matrix)) * sizeof(T)));
  T *out = in + width * strip, *space = out + width * strip;
  const int64_t lanes = t.inner == 1 ? t.outer * n / width : t.inner, strips = ceil_div(lanes, strip);
  for (int64_t item = begin; item < end; ++item) {
    const int64_t first = item % strips * strip, count = min(strip, lanes - first);
    if (t.inner != 1)
      inner_dimension(t, item / strips, first, count, in, out, space);
    else
      count > kLanes<T> ? last_dimension<T, 2>(t, width, lanes, first, count, in, out, space)
                        : last_dimension<T, 1>(t, width, lanes, first, count, in, out, space);
  }
}

template int64_t tube_items<float>(const Tubes<float>&);
template int64_t tube_items<double>(const Tubes<double>&);
template void tubes<float>(const Tubes<float>&, int64_t, int64_t);
template void tubes<double>(const Tubes<double>&, int64_t, int64_t);

}  // namespace spectral::SPECTRAL_LEVEL
