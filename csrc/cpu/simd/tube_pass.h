// A matrix applied to many short tubes: to those that lie one after the other, samples being transposed in registers on
// the way in and out, or to columns, whose neighbours already lie in lanes.
#pragma once
#include "fetch.h"
#include "network.h"
#include "plane_octets.h"
#include "tube.h"
#include "tube_rows.h"
#include "tube_short.h"

namespace spectral::SPECTRAL_LEVEL {

template <class T> class TubePass {
 public:
  // Tiles of columns that pass together: memory is then read in longer pieces of each row, which lie pages apart.
  static constexpr int64_t kStrip = 2 * kTile<T>;
  static constexpr int64_t kLongStrip = 32 * kTile<T>;  // where tiles of a strip overlap in time

  // Values of work space. The part that depends on the matrix alone is filled when the pass is made.
  static int64_t space(const TubeMatrix<T>& m) {
    return coefficient_space(m) + 2 * max(m.columns, kLanes<T>) * kStrip + tube_space(m);
  }
  TubePass(const TubeMatrix<T>& matrix, T* memory) : m(matrix), n(matrix.columns), rows(memory) {
    if constexpr (sizeof(T) == sizeof(float)) {
      if (takes_octets(m))
        octet_coefficients(m, rows);
      else if (takes_short(m))
        short_coefficients(m, rows);
      else if (takes_rows(m))
        row_coefficients(m, round_up(n, kLanes<T>), rows);
      memory += coefficient_space(m);
    }
    in = memory;
    out = in + max(n, kLanes<T>) * kStrip;
    work = out + max(n, kLanes<T>) * kStrip;
  }

  // How many tubes one after the other make a work item: whole blocks, and whole tiles.
  static int64_t tubes_an_item(const TubeMatrix<T>& m) { return takes_rows(m) ? 240 : kLanes<T> * kTile<T>; }

  // `count` tubes that lie one after the other; stream: y may be written past the caches.
  void last(const T* x, T* y, int64_t count, bool stream = false) const {
    if constexpr (sizeof(T) == sizeof(float)) {
      if (takes_octets(m))
        return visit_kind(m.kind, stream,
                          [&]<auto kKind, bool kStream>() { transform_octets<kKind, kStream>(rows, x, y, count); });
      if (takes_short(m)) return transform_short(n, rows, x, y, count, stream);
      if (takes_rows(m)) return transform_rows(m, x, y, count, stream, rows);
    }
    // a row of the tile: one tube, or as many short ones as fill a vector exactly
    const bool fills = n < kLanes<T> && kLanes<T> % n == 0 && count * n % kLanes<T> == 0;
    const int64_t width = fills ? kLanes<T> : n, lines = count * n / width;
    for (int64_t first = 0; first < lines; first += kTile<T>) {
      const int64_t part = min(kTile<T>, lines - first), next = min(first + kTile<T>, lines);
      fetch<T, 0>(x + next * width, (min(next + kTile<T>, lines) - next) * width);
      load_tile(x + first * width, width, part, width, in);
      for (int64_t q = 0; q < width; q += n)
        apply_part(in + q * kTile<T>, kTile<T>, out + q * kTile<T>, kTile<T>, part);
      store_tile(out, width, part, y + first * width, width);
    }
  }

  // What depends on the matrix alone, as tube_octets.h or tube_rows.h has it.
  const T* coefficients() const { return rows; }

  // `count` columns, the rows of x and y ldx and ldy apart. Whole tiles are written where they belong, and read from
  // there by a matrix that reads each row once; what is left of a row is copied. stream: y is written past the caches,
  // from a tile in them.
  void columns(const T* x, int64_t ldx, T* y, int64_t ldy, int64_t count, bool stream = false) const {
    if constexpr (sizeof(T) == sizeof(float)) {
      const auto in_registers = [&]<auto kKind, bool kStream, int kRows>() {
        transform_planes<kKind, kStream, kRows>(m, x, ldx, y, ldy, count, kStrip, [](Vec<T> v) { return v; });
      };
      const auto visit = [&]<int kRows>() {
        visit_kind(m.kind, stream,
                   [&]<auto kKind, bool kStream>() { in_registers.template operator()<kKind, kStream, kRows>(); });
      };
      if (takes_columns(m, 8)) return visit.template operator()<8>();
      if (takes_columns(m, 16)) return visit.template operator()<16>();
    }
    if (stream && count % kTile<T> == 0) return pipelined(x, ldx, y, ldy, count / kTile<T>);
    for (; count > 0; count -= kStrip, x += kStrip, y += kStrip) strip(x, ldx, y, ldy, min(count, kStrip), stream);
  }

 private:
  static int64_t coefficient_space(const TubeMatrix<float>& m) {
    return round_up(takes_short(m) ? short_space(m.rows) : row_space(m.columns), kTile<T>);
  }
  static int64_t coefficient_space(const TubeMatrix<double>&) { return 0; }

  // Tiles, where the products of one hide the way of the next from memory and that of the one before to it. A matrix
  // that reads each row once takes it from where it is.
  void pipelined(const T* x, int64_t ldx, T* y, int64_t ldy, int64_t tiles) const {
    const int64_t tile = n * kTile<T>, pieces = pieces_of(m), each = ceil_div(n, pieces);
    const bool copies = m.kind != TubeMatrix<T>::Kind::analysis;
    const auto copy = [&](int64_t i, int64_t q) {
      for (int64_t v = 0; v < kTile<T>; v += kLanes<T>)
        store(in + i % 2 * tile + q * kTile<T> + v, load_loose(x + q * ldx + i * kTile<T> + v));
    };
    for (int64_t q = 0; copies && q < n; ++q) copy(0, q);
    for (int64_t i = 0; i <= tiles; ++i) {
      const T* const finished = out + (i + 1) % 2 * tile;
      const auto move = [&](int64_t piece) {
        for (int64_t q = piece * each; q < min(n, piece * each + each); ++q) {
          if (copies && i + 1 < tiles) copy(i + 1, q);
          if (i + 1 + copies < tiles) fetch<T, 0, 2>(x + q * ldx + (i + 1 + copies) * kTile<T>, kTile<T>);
          for (int64_t v = 0; i > 0 && v < kTile<T>; v += kLanes<T>)
            put<true>(y + q * ldy + (i - 1) * kTile<T> + v, load(finished + q * kTile<T> + v));
        }
      };
      if (i < tiles)
        apply<T, 2>(m, copies ? in + i % 2 * tile : x + i * kTile<T>, copies ? kTile<T> : ldx, out + i % 2 * tile,
                    kTile<T>, work, 0, n, kPiece, move);
      else
        for (int64_t piece = 0; piece < pieces; ++piece) move(piece);
    }
  }

  void strip(const T* x, int64_t ldx, T* y, int64_t ldy, int64_t count, bool stream) const {
    constexpr int lanes = kLanes<T>;
    const int64_t tile = n * kTile<T>;
    const bool whole = count % kTile<T> == 0, copies = !whole || m.kind != TubeMatrix<T>::Kind::analysis;
    const bool direct = whole && !stream;
    for (int64_t q = 0; copies && q < n; ++q)
      for (int64_t v = 0; v < count; v += lanes)
        store(in + v / kTile<T> * tile + q * kTile<T> + v % kTile<T>, load_part(x + q * ldx + v, count - v));
    for (int64_t v = 0; v < count; v += kTile<T>)
      apply_part(copies ? in + v * n : x + v, copies ? kTile<T> : ldx, direct ? y + v : out + v * n,
                 direct ? ldy : kTile<T>, count - v);
    for (int64_t q = 0; !direct && q < n; ++q)
      for (int64_t v = 0; v < count; v += lanes) {
        const Vec<T> row = load(out + v / kTile<T> * tile + q * kTile<T> + v % kTile<T>);
        stream ? put<true>(y + q * ldy + v, row) : store_part(y + q * ldy + v, row, count - v);
      }
  }

  // On as many vectors as hold `count` lanes.
  void apply_part(const T* x, int64_t ldx, T* y, int64_t ldy, int64_t count) const {
    count > kLanes<T> ? apply<T, 2>(m, x, ldx, y, ldy, work, 0, n) : apply<T, 1>(m, x, ldx, y, ldy, work, 0, n);
  }

  const TubeMatrix<T>& m;
  int64_t n;
  T *rows, *in, *out, *work;
};

}  // namespace spectral::SPECTRAL_LEVEL
