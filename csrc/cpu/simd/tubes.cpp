// The DCT of short tubes along any dimension of a dense tensor: x (outer, n, inner). Along the last dimension samples
// are transposed in registers on the way in and out; along any other the inner dimension already lies in lanes.
#include "network.h"
#include "tube.h"

namespace spectral::SPECTRAL_LEVEL {

template <class T, int V>
SPECTRAL_INLINE void last_dimension(const Tubes<T>& t, int64_t first, int64_t count, T* in, T* out, T* space) {
  const int64_t n = t.matrix->columns;
  load_tile(t.x + first * n, n, count, n, in);
  apply<T, V>(*t.matrix, in, kTile<T>, out, kTile<T>, space, 0, n);
  store_tile(out, n, count, t.y + first * n, n);
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

template <class T> void tubes(const Tubes<T>& t, int64_t begin, int64_t end) {
  const int64_t n = t.matrix->columns;
  T* in = static_cast<T*>(scratch(Slot::item, (2 * n * kTile<T> + tube_space(*t.matrix)) * sizeof(T)));
  T *out = in + n * kTile<T>, *space = out + n * kTile<T>;
  const int64_t tiles = ceil_div(t.inner == 1 ? t.outer : t.inner, kTile<T>);
  for (int64_t item = begin; item < end; ++item) {
    if (t.inner == 1) {
      const int64_t first = item * kTile<T>, count = min(kTile<T>, t.outer - first);
      count > kLanes<T> ? last_dimension<T, 2>(t, first, count, in, out, space)
                        : last_dimension<T, 1>(t, first, count, in, out, space);
    } else {
      const int64_t first = item % tiles * kTile<T>, count = min(kTile<T>, t.inner - first);
      count > kLanes<T> ? inner_dimension<T, 2>(t, item / tiles, first, count, in, out, space)
                        : inner_dimension<T, 1>(t, item / tiles, first, count, in, out, space);
    }
  }
}

template void tubes<float>(const Tubes<float>&, int64_t, int64_t);
template void tubes<double>(const Tubes<double>&, int64_t, int64_t);

}  // namespace spectral::SPECTRAL_LEVEL
