// A matrix applied to many short tubes: to those that lie one after the other, samples being transposed in registers on
// the way in and out, or to columns, whose neighbours already lie in lanes.
#pragma once
#include "fetch.h"
#include "lines.h"
#include "network.h"
#include "plane_octets.h"
#include "tube.h"
#include "tube_rows.h"
#include "tube_short.h"
#include "tube_wide.h"

namespace spectral::SPECTRAL_LEVEL {

template <class T> class TubePass {
 public:
  // Tiles of columns that pass together: memory is then read in longer pieces of each row, which lie pages apart.
  static constexpr int64_t kStrip = 2 * kTile<T>;

  // Values of work space. The part that depends on the matrix alone is filled when the pass is made. inner: of
  // `blocks`.
  static int64_t space(const TubeMatrix<T>& m, int64_t inner = 1) {
    return coefficient_space(m) + 2 * room(m.columns, inner) + max(m.columns, kLanes<T>) * Lines<T, 2>::kSpace +
           tube_space(m);
  }
  TubePass(const TubeMatrix<T>& matrix, T* memory, int64_t inner = 1) : m(matrix), n(matrix.columns), rows(memory) {
    if constexpr (sizeof(T) == sizeof(float)) {
      if (takes_octets(m))
        octet_coefficients(m, rows);
      else if (takes_short(m))
        short_coefficients(m, rows);
      else if (takes_rows(m) || takes_wide(m))
        row_coefficients(m, round_up(n, kLanes<T>), rows);
      memory += coefficient_space(m);
    }
    in = memory;
    out = in + room(n, inner);
    waiting = out + room(n, inner);
    work = waiting + max(n, kLanes<T>) * Lines<T, 2>::kSpace;
  }

  // How many tubes one after the other make a work item: whole blocks, and whole tiles.
  static int64_t tubes_an_item(const TubeMatrix<T>& m) {
    return takes_rows(m) || takes_wide(m) ? 240 : kLanes<T> * kTile<T>;
  }

  // `count` tubes that lie one after the other; stream: y may be written past the caches.
  void last(const T* x, T* y, int64_t count, bool stream = false) const {
    if constexpr (sizeof(T) == sizeof(float)) {
      if (takes_octets(m))
        return visit_kind(m.kind, stream,
                          [&]<auto kKind, bool kStream>() { transform_octets<kKind, kStream>(rows, x, y, count); });
      if (takes_short(m)) return transform_short(n, rows, x, y, count, stream);
      if (takes_rows(m)) return transform_rows(m, x, y, count, stream, rows);
      if (takes_wide(m)) return transform_wide(m, x, y, count, stream, rows);
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

  // Whether so few columns lie side by side that `blocks` takes them, or so many that ends of rows do not count.
  static bool takes_blocks(const Tubes<T>& t) {
    const int64_t most = kLanes<T> / (takes_columns(*t.matrix) ? 4 : 2);
    return t.inner > 1 && t.inner <= most && t.outer >= kTile<T>;
  }
  static bool has_long_rows(const Tubes<T>& t) { return t.inner % kLanes<T> == 0 || t.inner >= 16 * kLanes<T>; }

  // `count` blocks (n, inner), one after the other: they lie in lanes, so that few columns fill these, too.
  void blocks(const T* x, T* y, int64_t inner, int64_t count, bool stream) const {
    const int64_t width = n * inner;
    for (int64_t first = 0; first < count; first += kTile<T>) {
      const int64_t part = min(kTile<T>, count - first), next = min(first + kTile<T>, count);
      fetch<T, 0, 2>(x + next * width, (min(next + kTile<T>, count) - next) * width);
      load_tile(x + first * width, width, part, width, in);
      for (int64_t i = 0; i < inner; ++i)
        apply_part(in + i * kTile<T>, inner * kTile<T>, out + i * kTile<T>, inner * kTile<T>, part);
      store_tile(out, width, part, stream ? in : y + first * width, width);
      if (stream) copy_past(in, y + first * width, part * width);
    }
  }

  // What depends on the matrix alone, as tube_octets.h or tube_rows.h has it.
  const T* coefficients() const { return rows; }

  // The tiles [begin, end) of columns of t, those of one after those of the other of t.outer.
  void columns(const Tubes<T>& t, int64_t begin, int64_t end, bool stream) const {
    const int64_t tiles = ceil_div(t.inner, kTile<T>);
    if (stream && !takes_columns(m)) return pipelined(t, begin, end);
    for (int64_t i = begin; i < end;) {
      const int64_t many = min(end - i, tiles - i % tiles), first = i % tiles * kTile<T>;
      const int64_t offset = i / tiles * n * t.inner + first;
      columns(t.x + offset, t.inner, t.y + offset, t.inner, min(many * kTile<T>, t.inner - first), stream);
      i += many;
    }
  }

  // `count` columns, the rows of x and y ldx and ldy apart. Whole tiles are written where they belong, and read from
  // there by a matrix that reads each row once; what is left of a row is copied.
  void columns(const T* x, int64_t ldx, T* y, int64_t ldy, int64_t count, bool stream = false) const {
    if constexpr (sizeof(T) == sizeof(float)) {
      const auto in_registers = [&]<auto kKind, bool kStream, int kRows>() {
        transform_planes<kKind, kStream, kRows>(m, x, ldx, y, ldy, count, kStrip, [](Vec<T> v) { return v; });
      };
      const auto visit = [&]<int kRows>() {
        visit_kind(m.kind, stream,
                   [&]<auto kKind, bool kStream>() { in_registers.template operator()<kKind, kStream, kRows>(); });
      };
      if (takes_columns(m)) return visit_rows(n, visit);
    }
    for (; count > 0; count -= kStrip, x += kStrip, y += kStrip) strip(x, ldx, y, ldy, min(count, kStrip));
  }

 private:
  // Values of a tile that waits before or behind the matrix: two tiles of columns, or one of blocks.
  static int64_t room(int64_t n, int64_t inner) { return max(n, kLanes<T>) * max(kStrip, inner * kTile<T>); }
  static int64_t coefficient_space(const TubeMatrix<float>& m) {
    return round_up(takes_short(m) ? short_space(m.rows) : row_space(m.columns), kTile<T>);
  }
  static int64_t coefficient_space(const TubeMatrix<double>&) { return 0; }

  // Past the caches, from a tile in them: the products of one tile hide the way of the next from memory and that of
  // the one before to it. A matrix that reads each row once takes it from where it is.
  void pipelined(const Tubes<T>& t, int64_t begin, int64_t end) const {
    const int64_t tile = n * kTile<T>, each = ceil_div(n, blocks_of(m)), ld = t.inner;
    const bool copies = !reads_once(m);
    const auto copy = [&](const ColumnTile<T>& from, int64_t i, int64_t q) {
      for (int64_t v = 0; v < kTile<T>; v += kLanes<T>)
        store(in + i % 2 * tile + q * kTile<T> + v, load_part(from.x + q * ld + v, max(from.piece.count - v, 0)));
    };
    const auto place = [&](int64_t i) { return column_tile(t.x, t.y, n, ld, begin, end, i); };
    ColumnTile<T> before{}, here = place(begin);
    for (int64_t q = 0; copies && q < n; ++q) copy(here, begin, q);
    for (int64_t i = begin; i <= end; ++i) {
      const ColumnTile<T> next = place(min(i + 1, end - 1));
      const T* const ahead = i + 1 + copies < end ? place(i + 1 + copies).x + kLanes<T> - 1 : nullptr;
      const T* const finished = i > begin ? out + (i + 1) % 2 * tile : nullptr;
      int64_t moved = 0;
      const auto move = [&] {
        const int64_t first = moved, last = min(n, first + each);
        for (int64_t q = first; copies && i + 1 < end && q < last; ++q) copy(next, i + 1, q);
        move_rows(first, last, ahead, ld, finished, before.y, waiting, before.piece);
        moved = last;
      };
      if (i == end) {
        while (moved < n) move();
        break;
      }
      const bool direct = !copies && here.piece.count == kTile<T>;
      for (int64_t q = 0; !copies && !direct && q < n; ++q) copy(here, i, q);
      apply<T, 2>(m, direct ? here.x : in + i % 2 * tile, direct ? ld : kTile<T>, out + i % 2 * tile, kTile<T>, work, 0,
                  n, move);
      before = here;
      here = next;
    }
  }

  // Rows [first, last): asks for a tile's at `ahead`, writes those of the finished tile to y.
  static void move_rows(int64_t first, int64_t last, const T* ahead, int64_t ld, const T* finished, T* y, T* waiting,
                        Piece piece) {
    for (int64_t q = first; q < last; ++q) {
      if (ahead) fetch<T, 0, 2>(ahead + q * ld, kTile<T>);
      if (!finished) continue;
      const Vec<T> row[] = {load(finished + q * kTile<T>), load(finished + q * kTile<T> + kLanes<T>)};
      Lines<T, 2>::write(row, y + q * ld, waiting + q * Lines<T, 2>::kSpace, piece);
    }
  }

  void strip(const T* x, int64_t ldx, T* y, int64_t ldy, int64_t count) const {
    constexpr int lanes = kLanes<T>;
    const int64_t tile = n * kTile<T>;
    const bool whole = count % kTile<T> == 0, copies = !whole || !reads_once(m);
    for (int64_t q = 0; copies && q < n; ++q)
      for (int64_t v = 0; v < count; v += lanes)
        store(in + v / kTile<T> * tile + q * kTile<T> + v % kTile<T>, load_part(x + q * ldx + v, count - v));
    for (int64_t v = 0; v < count; v += kTile<T>)
      apply_part(copies ? in + v * n : x + v, copies ? kTile<T> : ldx, whole ? y + v : out + v * n,
                 whole ? ldy : kTile<T>, count - v);
    for (int64_t q = 0; !whole && q < n; ++q)
      for (int64_t v = 0; v < count; v += lanes)
        store_part(y + q * ldy + v, load(out + v / kTile<T> * tile + q * kTile<T> + v % kTile<T>), count - v);
  }

  // `count` values that lie one after the other, past the caches.
  static void copy_past(const T* from, T* to, int64_t count) {
    const int64_t ahead = int64_t(reinterpret_cast<uintptr_t>(to) / sizeof(T)) % kLanes<T>;
    int64_t i = ahead ? min(kLanes<T> - ahead, count) : 0;
    store_part(to, load_part(from, i), i);
    for (; i + kLanes<T> <= count; i += kLanes<T>) put<true>(to + i, load_loose(from + i));
    store_part(to + i, load_part(from + i, count - i), count - i);
  }

  // On as many vectors as hold `count` lanes.
  void apply_part(const T* x, int64_t ldx, T* y, int64_t ldy, int64_t count) const {
    count > kLanes<T> ? apply<T, 2>(m, x, ldx, y, ldy, work, 0, n) : apply<T, 1>(m, x, ldx, y, ldy, work, 0, n);
  }

  const TubeMatrix<T>& m;
  int64_t n;
  T *rows, *in, *out, *waiting, *work;
};

}  // namespace spectral::SPECTRAL_LEVEL
