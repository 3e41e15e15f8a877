// Generated filters: products of codes and generator whose results go straight to where convolutions read them, and
// whose gradients are read from there. Products run on tiles as in tile.h, with positions or code entries in lanes.
#include "csg.h"

#include "csg_slices.h"

namespace spectral::SPECTRAL_LEVEL {

namespace {

constexpr int64_t kChunk = 256;  // length of a sum before its partial results go back to cache

// Row of the generator in which position p stands.
template <class T> SPECTRAL_INLINE int64_t generator_row(const Csg<T>& g, int64_t p) {
  if (!g.reordered) return p;
  const int64_t K = g.slice_shape[1], window = g.slice_shape[2] * g.slice_shape[3];
  return (p / (K * window) * K + p % K) * window + p / K % window;
}

// Entries [column, column + count) of a row, count up to a vector: of the generator, or of its signs.
template <class T> SPECTRAL_INLINE Vec<T> load_entries(const Csg<T>& g, int64_t row, int64_t column, int64_t count) {
  const int64_t at = row * g.code_size + column;
  if (!g.signs) return load_part(g.generator + at, count);
  typedef int8_t Bytes __attribute__((vector_size(kLanes<T>)));
  Bytes bytes{};
  std::memcpy(&bytes, g.signs + at, min(count, kLanes<T>));
  return __builtin_convertvector(bytes, Vec<T>);
}

// Rows of a panel of positions, transposed: [code entry][kTile].
template <class T> void load_panel(const Csg<T>& g, int64_t first, int64_t count, T* panel) {
  constexpr int n = kLanes<T>;
  int64_t rows[kTile<T>];
  for (int64_t r = 0; r < count; ++r) rows[r] = generator_row(g, first + r);
  for (int64_t lane = 0; lane < kTile<T>; lane += n)
    for (int64_t column = 0; column < g.code_size; column += n) {
      Vec<T> v[n];
      const int64_t part = min(n, g.code_size - column);
      for (int r = 0; r < n; ++r) v[r] = lane + r < count ? load_entries(g, rows[lane + r], column, part) : Vec<T>{};
      transpose<T>(v);
      for (int r = 0; r < part; ++r) store(panel + (column + r) * kTile<T> + lane, v[r]);
    }
}

// y += w x for all code entries in lanes, or y = w x for first = 0: x packed in panels of `height` rows, from row
// `first` on. Each chunk of a sum starts from zero, in `partial`: one long chain of additions would round more.
template <Factor factor, class T> SPECTRAL_INLINE void add_entries(const Csg<T>& g, const T* x, int64_t height,
                                                                   int64_t first, int64_t depth, const T* w,
                                                                   int64_t ldw, T* y, T* partial, int64_t rows) {
  const int64_t padded = round_up(g.code_size, kTile<T>);
  T* to = first ? partial : y;
  for (int64_t column = 0; column < g.code_size; column += kTile<T>) {
    const T* panel = x + (column / kTile<T> * height + first) * kTile<T>;
    const auto multiply = column + kLanes<T> < g.code_size ? product<T, 2, factor, Start::zero, Finish::store>
                                                           : product<T, 1, factor, Start::zero, Finish::store>;
    multiply(panel, kTile<T>, depth, w, ldw, nullptr, to + column, padded, rows);
  }
  for (int64_t i = 0; first && i < rows * padded; i += kLanes<T>) store(y + i, load(y + i) + load(partial + i));
}

}  // namespace

template <class T> void csg(const Csg<T>& g, int64_t begin, int64_t end) {
  constexpr int64_t tile = kTile<T>;
  const int64_t panel_size = g.code_size * tile, block_size = kRows<T> * tile, blocks = ceil_div(g.slices, kRows<T>);
  T* panel = static_cast<T*>(scratch(Slot::item, (panel_size + block_size) * sizeof(T) + RunsOf<T>::space(tile)));
  T* block = panel + panel_size;
  RunsOf<T> runs(g, block + block_size, tile);
  for (int64_t item = begin; item < end; ++item) {
    const int64_t first = item * tile, count = min(tile, g.positions - first);
    load_panel(g, first, count, panel);
    runs.find(first, count);
    for (int64_t b = 0; b < blocks; ++b) {
      const int64_t s = g.slices * b / blocks, rows = g.slices * (b + 1) / blocks - s;
      product<T, 2, Factor::columns, Start::zero, Finish::store>(panel, tile, g.code_size, g.codes + s * g.code_size,
                                                                 g.code_size, nullptr, block, tile, rows);
      for (int64_t r = 0; r < rows; ++r) runs.template move<false>(g.slice[s + r], block + r * tile);
    }
  }
}

// Rows [begin, end) of the codes, and behind them of the generator by position, to panels of columns.
template <class T> void csg_pack(const Csg<T>& g, int64_t begin, int64_t end) {
  constexpr int n = kLanes<T>;
  for (int64_t item = begin; item < end; ++item) {
    const bool code = item < g.slices;
    const int64_t row = code ? item : item - g.slices, height = code ? g.slices : g.positions;
    T* packed = code ? g.codes_packed : g.generator_packed;
    if (!packed) continue;
    const int64_t source = code ? row : generator_row(g, row);
    for (int64_t column = 0; column < round_up(g.code_size, kTile<T>); column += n) {
      const int64_t part = g.code_size - column;
      const Vec<T> v = part <= 0 ? Vec<T>{}
                       : code    ? load_part(g.codes + source * g.code_size + column, part)
                                 : load_entries(g, source, column, part);
      store(packed + (column / kTile<T> * height + row) * kTile<T> + column % kTile<T>, v);
    }
  }
}

template <class T> void csg_code_gradients(const Csg<T>& g, int64_t begin, int64_t end) {
  const int64_t padded = round_up(g.code_size, kTile<T>), sums = kCodeBlock * padded, values = kCodeBlock * kChunk;
  const int64_t items = ceil_div(g.slices, kCodeBlock);
  T* y = static_cast<T*>(scratch(Slot::item, (2 * sums + values) * sizeof(T) + RunsOf<T>::space(kChunk)));
  T *partial = y + sums, *grads = partial + sums;
  RunsOf<T> runs(g, grads + values, kChunk);
  for (int64_t item = begin; item < end; ++item) {
    const int64_t s = g.slices * item / items, rows = g.slices * (item + 1) / items - s;
    for (int64_t p = 0; p < g.positions; p += kChunk) {
      const int64_t depth = min(kChunk, g.positions - p);
      runs.find(p, depth);
      for (int64_t r = 0; r < rows; ++r) runs.template move<true>(g.slice[s + r], grads + r * kChunk);
      add_entries<Factor::columns>(g, g.generator_packed, g.positions, p, depth, grads, kChunk, y, partial, rows);
    }
    for (int64_t r = 0; r < rows; ++r) copy_run(y + r * padded, g.grad_codes + (s + r) * g.code_size, g.code_size);
  }
}

template <class T> void csg_generator_gradients(const Csg<T>& g, int64_t begin, int64_t end) {
  const int64_t padded = round_up(g.code_size, kTile<T>), sums = kGeneratorBlock * padded;
  constexpr int64_t values = kGeneratorBlock * kChunk;
  T* y = static_cast<T*>(scratch(Slot::item, (2 * sums + values) * sizeof(T) + RunsOf<T>::space(kGeneratorBlock)));
  T *partial = y + sums, *grads = partial + sums;
  RunsOf<T> runs(g, grads + values, kGeneratorBlock);
  for (int64_t item = begin; item < end; ++item) {
    const int64_t p = item * kGeneratorBlock, count = min(kGeneratorBlock, g.positions - p);
    runs.find(p, count);
    for (int64_t s = 0; s < g.slices; s += kChunk) {
      const int64_t depth = min(kChunk, g.slices - s);
      for (int64_t r = 0; r < depth; ++r) runs.template move<true>(g.slice[s + r], grads + r * kGeneratorBlock);
      add_entries<Factor::rows>(g, g.codes_packed, g.slices, s, depth, grads, kGeneratorBlock, y, partial, count);
    }
    for (int64_t r = 0; r < count; ++r)
      copy_run(y + r * padded, g.grad_generator + generator_row(g, p + r) * g.code_size, g.code_size);
  }
}

#define SPECTRAL_CSG(T)                                                 \
  template void csg<T>(const Csg<T>&, int64_t, int64_t);                \
  template void csg_pack<T>(const Csg<T>&, int64_t, int64_t);           \
  template void csg_code_gradients<T>(const Csg<T>&, int64_t, int64_t); \
  template void csg_generator_gradients<T>(const Csg<T>&, int64_t, int64_t)
SPECTRAL_CSG(float);
SPECTRAL_CSG(double);

}  // namespace spectral::SPECTRAL_LEVEL
