// Rows of a result that come in pieces and are written past the caches, wherever in a line of memory they begin: whole
// lines only, since a part of one would be read, written and read again. What of a piece fills no line waits for the
// next piece of its row.
#pragma once
#include <type_traits>

#include "simd.h"

namespace spectral::SPECTRAL_LEVEL {

// Where a piece lies in what is written without a break: before the first one and behind the last one the line is
// somebody else's.
struct Piece {
  int64_t count;  // of its values: fewer than it has room for in the last one only
  bool first, last;
};

// Where a tile of columns of x and y (outer, n, inner) begins, and how it lies among those that pass together.
template <class T> struct ColumnTile {
  const T* x;
  T* y;
  Piece piece;
};
// The one with number i, of [begin, end).
template <class T> SPECTRAL_INLINE ColumnTile<T> column_tile(const T* x, T* y, int64_t n, int64_t inner, int64_t begin,
                                                             int64_t end, int64_t i) {
  const int64_t tiles = ceil_div(inner, kTile<T>), tile = i % tiles, first = tile * kTile<T>;
  const int64_t offset = i / tiles * n * inner + first;
  return {x + offset,
          y + offset,
          {min(kTile<T>, inner - first), i == begin || tile == 0, i + 1 == end || tile + 1 == tiles}};
}

// Pieces of V vectors.
template <class T, int V> class Lines {
 public:
  static constexpr int64_t kLine = min(V * kLanes<T>, int64_t(64 / sizeof(T)));  // a line, or as much as a piece has
  static constexpr int kWaiting = int(kLine / kLanes<T>);

  // Values that a row keeps, in memory as aligned as a vector.
  static constexpr int64_t kSpace = kLine;

  // v belongs at y. waiting: the kLine values before y, of which those in the line of y are yet to be written.
  SPECTRAL_INLINE static void write(const Vec<T> (&v)[V], T* y, T* waiting, Piece piece) {
    if (!piece.first && !piece.last) return write_inner(v, y, waiting);
    if (values_ahead(y) > 0 || piece.count < V * kLanes<T>) return write_end(v, y, waiting, piece);
    for (int k = 0; k < V; ++k) put<true>(y + k * kLanes<T>, v[k]);
  }

 private:
  SPECTRAL_INLINE static void write_inner(const Vec<T> (&v)[V], T* y, T* waiting) {
    const int64_t ahead = values_ahead(y);
    Vec<T> row[V + 2 * kWaiting];
    join(waiting, v, row);
#pragma GCC unroll 2
    for (int k = 0; k < V; ++k) put<true>(y - ahead + k * kLanes<T>, vector(row, ahead, k));
    keep(v, waiting);
  }
  __attribute__((noinline)) static void write_end(const Vec<T> (&v)[V], T* y, T* waiting, Piece piece) {
    const int64_t ahead = values_ahead(y), end = ahead + piece.count;  // counted from the beginning of the line of y
    Vec<T> row[V + 2 * kWaiting];
    join(waiting, v, row);
    int64_t done = 0;
    if (piece.first && ahead > 0) {
      done = min(end, kLine);
      for (int64_t i = 0; ahead + i < done; i += kLanes<T>) store_part(y + i, v[i / kLanes<T>], done - ahead - i);
    }
    for (; done + kLine <= end; done += kLine)
      for (int64_t i = done; i < done + kLine; i += kLanes<T>)
        put<true>(y - ahead + i, vector(row, ahead, i / kLanes<T>));
    for (; piece.last && done < end; done += kLanes<T>)
      store_part(y - ahead + done, vector(row, ahead, done / kLanes<T>), end - done);
    keep(v, waiting);
  }
  // How many values of its line come before y.
  SPECTRAL_INLINE static int64_t values_ahead(const T* y) {
    return int64_t(reinterpret_cast<uintptr_t>(y) / sizeof(T) % kLine);
  }
  SPECTRAL_INLINE static void join(const T* waiting, const Vec<T> (&v)[V], Vec<T>* row) {
    for (int i = 0; i < kWaiting; ++i) row[i] = load(waiting + i * kLanes<T>);
    for (int i = 0; i < V; ++i) row[kWaiting + i] = v[i];
    for (int i = 0; i < kWaiting; ++i) row[kWaiting + V + i] = Vec<T>{};
  }
  SPECTRAL_INLINE static void keep(const Vec<T> (&v)[V], T* waiting) {
    for (int i = 0; i < kWaiting; ++i) store(waiting + i * kLanes<T>, v[V - kWaiting + i]);
  }
  // Vector k of a row that begins where the line of y does.
  SPECTRAL_INLINE static Vec<T> vector(const Vec<T>* row, int64_t ahead, int64_t k) {
    const int64_t shift = kLine - 1 - ahead;
    if constexpr (kWaiting == 1) return shifted(row[k], row[k + 1], shift);
    return shifted(row[k + shift / kLanes<T>], row[k + shift / kLanes<T> + 1], shift % kLanes<T>);
  }
  // Lanes count + 1, count + 2, ... of a and b.
  SPECTRAL_INLINE static Vec<T> shifted(Vec<T> a, Vec<T> b, int64_t count) {
    typename VectorOf<T>::integer lane;
    for (int l = 0; l < kLanes<T>; ++l) lane[l] = l + 1;
    using Index = std::remove_reference_t<decltype(lane[0])>;
    return __builtin_shuffle(a, b, lane + Index(count));
  }
};

}  // namespace spectral::SPECTRAL_LEVEL
