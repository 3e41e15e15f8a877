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

// The reads of the next tile begin while this one is computed: a tile is too much work for the processor to look past.
template <class T> SPECTRAL_INLINE void prefetch(const T* from, const T* end) {
  for (auto p = reinterpret_cast<const char*>(from); p < reinterpret_cast<const char*>(end); p += 64)
    __builtin_prefetch(p);
}

template <class T, int V> SPECTRAL_INLINE void last_dimension(const Tubes<T>& t, int64_t width, int64_t rows,
                                                              int64_t first, int64_t count, T* in, T* out, T* space) {
  const int64_t n = t.matrix->columns, next = first + kTile<T>;
  prefetch(t.x + next * width, t.x + min(next + kTile<T>, rows) * width);
  load_tile(t.x + first * width, width, count, width, in);
  for (int64_t q = 0; q < width; q += n)
    apply<T, V>(*t.matrix, in + q * kTile<T>, kTile<T>, out + q * kTile<T>, kTile<T>, space, 0, n);
  store_tile(out, width, count, t.y + first * width, width);
}

template <class T, int V> SPECTRAL_INLINE void inner_dimension(const Tubes<T>& t, int64_t outer, int64_t first,
                                                               int64_t count, T* in, T* out, T* space) {
  const int64_t n = t.matrix->columns, offset = outer * n * t.inner + first;
  constexpr int lanes = kLanes<T>;
  for (int64_t q = 0; q < n; ++q)
    for (int v = 0; v < V * lanes; v += lanes)
      store(in + q * kTile<T> + v, v < count ? load_part(t.x + offset + q * t.inner + v, count - v) : Vec<T>{});
  apply<T, V>(*t.matrix, in, kTile<T>, out, kTile<T>, space, 0, n);
  for (int64_t q = 0; q < n; ++q)
    for (int v = 0; v < V * lanes && v < count; v += lanes)
      store_part(t.y + offset + q * t.inner + v, load(out + q * kTile<T> + v), count - v);
}

inline constexpr int64_t kRowsAnItem = 240;  // whole blocks of tubes for each number of vectors

template <class T> int64_t tube_items(const Tubes<T>& t) {
  const int64_t n = t.matrix->columns;
  if (t.inner == 1 && takes_rows(*t.matrix)) return ceil_div(t.outer, kRowsAnItem);
  if (t.inner != 1) return t.outer * ceil_div(t.inner, kTile<T>);
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
  T* in = static_cast<T*>(scratch(Slot::item, (2 * width * kTile<T> + tube_space(*t.matrix)) * sizeof(T)));
  T *out = in + width * kTile<T>, *space = out + width * kTile<T>;
  const int64_t lanes = t.inner == 1 ? t.outer * n / width : t.inner, tiles = ceil_div(lanes, kTile<T>);
  for (int64_t item = begin; item < end; ++item) {
    const int64_t first = item % tiles * kTile<T>, count = min(kTile<T>, lanes - first);
    if (t.inner == 1)
      count > kLanes<T> ? last_dimension<T, 2>(t, width, lanes, first, count, in, out, space)
                        : last_dimension<T, 1>(t, width, lanes, first, count, in, out, space);
    else
      count > kLanes<T> ? inner_dimension<T, 2>(t, item / tiles, first, count, in, out, space)
                        : inner_dimension<T, 1>(t, item / tiles, first, count, in, out, space);
  }
}

template int64_t tube_items<float>(const Tubes<float>&);
template int64_t tube_items<double>(const Tubes<double>&);
template void tubes<float>(const Tubes<float>&, int64_t, int64_t);
template void tubes<double>(const Tubes<double>&, int64_t, int64_t);

}  // namespace spectral::SPECTRAL_LEVEL
