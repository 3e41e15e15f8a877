// What moves between memory and a tile while butterflies work on another tile: the results of the one before leave, the
// values of the next one enter or are asked for, so that the products hide the way.
#pragma once
#include "fetch.h"
#include "lines.h"
#include "network.h"

namespace spectral::SPECTRAL_LEVEL {

// `rows` rows that move, a few at a time, in equal shares with the elements that the butterflies of a tile read.
class Traffic {
 public:
  Traffic(int64_t rows, int64_t elements) : rows(rows), share(max(1, kTogether * elements / rows)), row(rows) {}
  virtual ~Traffic() = default;

  // The butterflies are about to read `count` elements.
  SPECTRAL_INLINE void operator()(int64_t count) {
    if ((early -= count) < 0) catch_up();
  }
  // All that has not moved yet.
  void finish() {
    while (row < rows) step();
  }

 protected:
  void start() { row = early = 0; }

 private:
  static constexpr int64_t kTogether = 8, kNever = int64_t(1) << 62;

  virtual void move(int64_t first, int64_t last) = 0;

  void step() {
    const int64_t first = row;
    row = min(row + kTogether, rows);
    if (row == rows) early = kNever;
    move(first, row);
  }
  __attribute__((noinline)) void catch_up() {
    while (early < 0) {
      early += share;
      step();
    }
  }

  const int64_t rows, share;
  int64_t row, early = kNever;  // early: elements until the next rows are due
};

// Tubes, or blocks of them, that lie one after the other.
template <class T> class RowTraffic final : public Traffic {
 public:
  RowTraffic(int64_t width, int64_t elements) : Traffic(width, elements) {}

  // `values` values at p will be read.
  void enters(const T* p, int64_t values) {
    ahead = p;
    asked = values;
    start();
  }
  // `values` values, aligned as a line in both places, go past the caches.
  void leaves(const T* values, T* to, int64_t count) {
    from = values;
    y = to;
    leaving = count;
    start();
  }

 private:
  void move(int64_t row, int64_t last) override {
    const int64_t first = row * kTile<T>, behind = last * kTile<T>;
    fetch<T, 0, 2>(ahead + first, min(asked, behind) - first);
    for (int64_t i = first; i < min(leaving, behind); i += kLanes<T>)
      leaving - i < kLanes<T> ? store_part(y + i, load(from + i), leaving - i) : put<true>(y + i, load(from + i));
  }

  const T *ahead = nullptr, *from = nullptr;
  T* y = nullptr;
  int64_t asked = 0, leaving = 0;
};

// How columns are written: in the ordinary way, or past the caches, where all vectors are aligned or as `Lines` do it.
enum class Way { plain, vectors, lines };

// Columns of a tile that are neighbours in memory: `piece.count` of them in the lanes from `lane` on.
template <class T> struct Neighbours {
  int64_t offset, lane;
  Piece piece;
};

// Which columns of (outer, n, inner) pass together: as many as fill a tile, or those of one index of the outer
// dimension alone, whose rows `Lines` can write.
template <class T> struct ColumnGrid {
  // of a row that begins anywhere: the ends of shorter ones, and the lanes left empty, cost more than whole lines save
  static constexpr int64_t kShortest = 20 * kLanes<T>;
  static constexpr int64_t kLargest = (3 << 18) / sizeof(T);  // of a tile of blocks, which the second cache holds

  int64_t outer, n, inner;
  bool past = streams<T>(outer * n * inner), aligned = inner % kLanes<T> == 0;
  bool one_index = past && !aligned && inner >= kShortest;
  // or columns so few of so many indices that blocks (n, inner) lie in lanes, with a transpose on the way in and out
  bool blocks =
      inner == 1 || (!aligned && inner < kShortest && outer >= 4 * kTile<T> && n * inner * kTile<T> <= kLargest);

  int64_t tiles() const {
    return blocks ? ceil_div(outer, kTile<T>) : one_index ? outer * tiles_of_one() : ceil_div(outer * inner, kTile<T>);
  }
  int64_t tiles_of_one() const { return ceil_div(inner, kTile<T>); }

  // How they are written to y; where that lies has no say in which pass together, whose rounding errors mix.
  Way way(const T* y) const {
    if (one_index) return Way::lines;
    return past && aligned && reinterpret_cast<uintptr_t>(y) % sizeof(Vec<T>) == 0 ? Way::vectors : Way::plain;
  }
};

template <class T> struct Columns {
  int64_t count = 0, parts = 0;
  Neighbours<T> part[kTile<T>];

  Columns() = default;
  // Tile i of [begin, end), which are written one after the other; none if it is not among these.
  Columns(const ColumnGrid<T>& g, int64_t begin, int64_t end, int64_t i) {
    if (i < begin || i >= end) return;
    const int64_t tubes = g.outer * g.inner, tiles = g.tiles_of_one();
    const int64_t first = g.one_index ? i / tiles * g.inner + i % tiles * kTile<T> : i * kTile<T>;
    do {
      const int64_t tube = first + count, column = tube % g.inner;
      const int64_t many = min(g.inner - column, min(kTile<T> - count, tubes - tube));
      const bool starts = column == 0 || i == begin, ends = column + many == g.inner || i + 1 == end;
      part[parts++] = {tube / g.inner * g.n * g.inner + column, count, {many, starts, ends}};
      count += many;
    } while (!g.one_index && count < kTile<T> && first + count < tubes);
  }
};

// Tiles of columns: rows of what leaves make room for those of what enters.
template <class T> class ColumnTraffic final : public Traffic {
 public:
  // waiting: Lines<T, 2>::kSpace values for each row.
  ColumnTraffic(const T* x, T* y, const ColumnGrid<T>& grid, int64_t elements, T* waiting)
      : Traffic(grid.n, elements), x(x), y(y), waiting(waiting), n(grid.n), inner(grid.inner), way(grid.way(y)) {}

  void exchange(T* in, const Columns<T>& leaves, const Columns<T>& enters) {
    tile = in;
    leaving = &leaves;
    entering = &enters;
    for (int64_t p = 0; p < enters.parts; ++p)
      for (int64_t row = 0; row < min(kAhead, n); ++row) ask(enters.part[p], row);
    start();
  }

 private:
  static constexpr int64_t kAhead = 16;  // rows are asked for so many before they are read or written

  void move(int64_t first, int64_t last) override {
    for (int64_t p = 0; p < leaving->parts; ++p)
      for (int64_t row = first; row < last; ++row) write(leaving->part[p], row);
    if (entering->count < kTile<T>) std::memset(tile + first * kTile<T>, 0, (last - first) * kTile<T> * sizeof(T));
    for (int64_t p = 0; p < entering->parts; ++p)
      for (int64_t row = first; row < last; ++row) read(entering->part[p], row);
  }

  // Of a line that two tiles share, the one before has asked for the beginning. Rows shorter than a tile lie one after
  // the other, as the hardware expects them.
  SPECTRAL_INLINE void ask(const Neighbours<T>& part, int64_t row) const {
    if (inner < kTile<T>) return;
    fetch<T, 0>(x + part.offset + row * inner + 64 / sizeof(T) - 1, part.piece.count);
  }
  SPECTRAL_INLINE void read(const Neighbours<T>& part, int64_t row) const {
    const T* const from = x + part.offset + row * inner;
    T* const to = tile + row * kTile<T> + part.lane;
    const int64_t count = part.piece.count;
    if (row + kAhead < n) ask(part, row + kAhead);
    if (count == kTile<T>) {
      store(to, load_loose(from));
      return store(to + kLanes<T>, load_loose(from + kLanes<T>));
    }
    for (int64_t i = 0; i < count; i += kLanes<T>) store_part(to + i, load_part(from + i, count - i), count - i);
  }
  SPECTRAL_INLINE void write(const Neighbours<T>& part, int64_t row) const {
    const T* const from = tile + row * kTile<T> + part.lane;
    T* const to = y + part.offset + row * inner;
    const auto& [count, starts, ends] = part.piece;
    if (way == Way::lines) {  // but at both ends: parts of lines, which are read before
      if (starts) fetch<T, 1>(to + kAhead * inner, 1);
      if (ends) fetch<T, 1>(to + kAhead * inner + count - 1, 1);
      const Vec<T> v[] = {load_loose(from), load_loose(from + kLanes<T>)};
      return Lines<T, 2>::write(v, to, waiting + row * Lines<T, 2>::kSpace, part.piece);
    }
    for (int64_t i = 0; i < count; i += kLanes<T>)
      way == Way::vectors ? put<true>(to + i, load(from + i))
                          : store_part(to + i, load_part(from + i, count - i), count - i);
  }

  const T* const x;
  T *const y, *const waiting, *tile = nullptr;
  const int64_t n, inner;
  const Way way;
  const Columns<T>*leaving = nullptr, *entering = nullptr;
};

}  // namespace spectral::SPECTRAL_LEVEL
