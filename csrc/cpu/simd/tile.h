// A tile is [feature][sample]: one row of kTile samples a feature, samples in SIMD lanes. A layer is then a product
// whose right factor is vectors of samples and whose left factor is broadcast weights, with no waste for any number of
// features.
#pragma once
#include "simd.h"

namespace spectral::SPECTRAL_LEVEL {

enum class Start { zero, bias, lanes, accumulate };  // what the sum starts from; lanes: a bias that lies in lanes
// What happens to the sum. relu_slope: 0 where h <= 0; add: it is added to y.
enum class Finish { store, add, relu, relu_slope };
// Where the broadcast factor lies: row k of a matrix (w[k * ldw + j]), column k of one (w[j * ldw + k]), or column k of
// a tile.
enum class Factor { rows, columns, tile };

// y[j][lanes] = finish(start[j] + sum_k w(k, j) x[k][lanes]), j < J, on V vectors of lanes.
// Strides are in values; `extra` is the bias (J values, or V vectors) or the tile h.
template <class T, int J, int V, Factor factor, Start start, Finish finish>
void block(const T* x, int64_t ldx, int64_t depth, const T* w, int64_t ldw, const T* extra, T* y, int64_t ldy) {
  constexpr int n = kLanes<T>;
  Vec<T> sum[J][V];
#pragma GCC unroll 16
  for (int j = 0; j < J; ++j)
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) {
      if constexpr (start == Start::zero) sum[j][v] = Vec<T>{};
      if constexpr (start == Start::bias) sum[j][v] = broadcast<T>(extra[j]);
      if constexpr (start == Start::lanes) sum[j][v] = load(extra + v * n);
      if constexpr (start == Start::accumulate) sum[j][v] = load(y + j * ldy + v * n);
    }
  const T* base[(J + 2) / 3];  // one pointer for three rows: x86 addresses w + {0, 1, 2} ldw without further registers
#pragma GCC unroll 8
  for (int g = 0; g < (J + 2) / 3; ++g) base[g] = w + 3 * g * ldw;
#pragma GCC unroll 2
  for (int64_t k = 0; k < depth; ++k) {
    Vec<T> in[V];
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) in[v] = load_loose(x + k * ldx + v * n);
#pragma GCC unroll 16
    for (int j = 0; j < J; ++j) {
      const T scalar = factor == Factor::rows      ? w[k * ldw + j]
                       : factor == Factor::columns ? base[j / 3][j % 3 * ldw + k]
                                                   : w[j * kTile<T> + k];
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) sum[j][v] += scalar * in[v];
    }
  }
#pragma GCC unroll 16
  for (int j = 0; j < J; ++j)
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) {
      Vec<T> value = sum[j][v];
      if constexpr (finish == Finish::add) value = load_loose(y + j * ldy + v * n) + value;
      if constexpr (finish == Finish::relu) value = Vec<T>{} > value ? Vec<T>{} : value;  // NaN stays NaN
      if constexpr (finish == Finish::relu_slope)
        value = load(extra + j * kTile<T> + v * n) <= Vec<T>{} ? Vec<T>{} : value;
      store_loose(y + j * ldy + v * n, value);
    }
}

template <class T> using BlockFn = void (*)(const T*, int64_t, int64_t, const T*, int64_t, const T*, T*, int64_t);

// The block functions for J = 1 .. kRows.
template <class T, int V, Factor factor, Start start, Finish finish> struct Blocks {
  static_assert(kRows<T> <= 16);
  template <int J> static constexpr BlockFn<T> at() {
    if constexpr (J <= kRows<T>) return &block<T, J, V, factor, start, finish>;
    return nullptr;
  }
  static constexpr BlockFn<T> table[17] = {nullptr,  at<1>(),  at<2>(),  at<3>(),  at<4>(),  at<5>(),
                                           at<6>(),  at<7>(),  at<8>(),  at<9>(),  at<10>(), at<11>(),
                                           at<12>(), at<13>(), at<14>(), at<15>(), at<16>()};
};

// y = finish(start + w x) for any number of rows, in equal blocks of at most kRows.
// extra_step: how far `extra` moves per row (1: bias, kTile: tile, 0: none).
template <class T, int V, Factor factor, Start start, Finish finish>
SPECTRAL_INLINE void product(const T* x, int64_t ldx, int64_t depth, const T* w, int64_t ldw, const T* extra, T* y,
                             int64_t ldy, int64_t rows) {
  constexpr int64_t extra_step = finish == Finish::relu_slope ? kTile<T> : start == Start::bias ? 1 : 0;
  const int64_t w_step = factor == Factor::rows ? 1 : factor == Factor::columns ? ldw : kTile<T>;
  const int64_t blocks = ceil_div(rows, kRows<T>);
  for (int64_t b = 0, row = 0; b < blocks; ++b) {
    const int64_t height = (rows - row) / (blocks - b);
    Blocks<T, V, factor, start, finish>::table[height](x, ldx, depth, w + row * w_step, ldw, extra + row * extra_step,
                                                       y + row * ldy, ldy);
    row += height;
  }
}

// rows (count samples, `width` values each, `stride` apart) -> tile [width][kTile]; lanes without a sample become 0.
template <class T>
SPECTRAL_INLINE void load_tile(const T* rows, int64_t stride, int64_t count, int64_t width, T* tile) {
  constexpr int n = kLanes<T>;
  for (int64_t lane = 0; lane < kTile<T>; lane += n)
    for (int64_t column = 0; column < width; column += n) {
      const int64_t part = min(n, width - column);
      Vec<T> v[n];
      if (lane + n <= count && part == n) {
#pragma GCC unroll 16
        for (int r = 0; r < n; ++r) v[r] = load_loose(rows + (lane + r) * stride + column);
      } else {
#pragma GCC unroll 16
        for (int r = 0; r < n; ++r)
          v[r] = lane + r < count ? load_part(rows + (lane + r) * stride + column, part) : Vec<T>{};
      }
      transpose<T>(v);
      if (part == n) {
#pragma GCC unroll 16
        for (int r = 0; r < n; ++r) store(tile + (column + r) * kTile<T> + lane, v[r]);
      } else {
#pragma GCC unroll 16
        for (int r = 0; r < n; ++r)
          if (r < part) store(tile + (column + r) * kTile<T> + lane, v[r]);
      }
    }
}

// tile [width][kTile] -> rows of count samples.
template <class T>
SPECTRAL_INLINE void store_tile(const T* tile, int64_t width, int64_t count, T* rows, int64_t stride) {
  constexpr int n = kLanes<T>;
  for (int64_t lane = 0; lane < count; lane += n)
    for (int64_t column = 0; column < width; column += n) {
      const int64_t part = min(n, width - column);
      Vec<T> v[n];
#pragma GCC unroll 16
      for (int r = 0; r < n; ++r) v[r] = r < part ? load(tile + (column + r) * kTile<T> + lane) : Vec<T>{};
      transpose<T>(v);
      if (lane + n <= count && part == n) {
#pragma GCC unroll 16
        for (int r = 0; r < n; ++r) store_loose(rows + (lane + r) * stride + column, v[r]);
      } else {
#pragma GCC unroll 16
        for (int r = 0; r < n; ++r)
          if (lane + r < count) store_part(rows + (lane + r) * stride + column, v[r], part);
      }
    }
}

// tile [width][kTile] -> [sample][padded], padded a multiple of kLanes; columns behind `width` become 0.
template <class T>
SPECTRAL_INLINE void transpose_tile(const T* tile, int64_t width, int64_t count, T* rows, int64_t padded) {
  constexpr int n = kLanes<T>;
  for (int64_t lane = 0; lane < count; lane += n)
    for (int64_t column = 0; column < width; column += n) {
      Vec<T> v[n];
      if (column + n <= width) {
#pragma GCC unroll 16
        for (int r = 0; r < n; ++r) v[r] = load(tile + (column + r) * kTile<T> + lane);
      } else {
#pragma GCC unroll 16
        for (int r = 0; r < n; ++r) v[r] = column + r < width ? load(tile + (column + r) * kTile<T> + lane) : Vec<T>{};
      }
      transpose<T>(v);
#pragma GCC unroll 16
      for (int r = 0; r < n; ++r) store(rows + (lane + r) * padded + column, v[r]);
    }
}

}  // namespace spectral::SPECTRAL_LEVEL
