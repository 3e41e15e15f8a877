// Weight and bias gradients of one layer, accumulated tile by tile: weight sums as [O][padded I], bias sums as
// [O][kLanes].
#pragma once
#include "network.h"

namespace spectral::SPECTRAL_LEVEL {

template <class T> SPECTRAL_INLINE int64_t padded(int64_t width) { return round_up(width, kLanes<T>); }

// How many values the sums of a layer take.
template <class T> SPECTRAL_INLINE int64_t sums_size(const Layer<T>& layer) {
  return layer.out * (padded<T>(layer.in) + kLanes<T>);
}

// A float32 sum over more samples than this goes through totals, or its rounding errors would add up.
inline constexpr int64_t kFlush = 1024;

// The sums of one block of samples: the first tile sets them, later ones add, and after kFlush samples they move to the
// totals and the next tile sets them again.
template <class T> struct BlockSums {
  T *sums, *totals;
  int64_t values, tiles = 0;
  bool moved = false;

  static int64_t space(int64_t values) { return 2 * values; }

  void start() {
    tiles = 0;
    moved = false;
  }
  // Before each tile: whether it sets the sums.
  bool sets() {
    if (tiles == kFlush / kTile<T>) move();
    return tiles++ == 0;
  }
  // After the last tile: how far behind the sums the result lies.
  int64_t finish() {
    if (moved) {
      move();
      return totals - sums;
    }
    if (tiles == 0) std::memset(sums, 0, values * sizeof(T));
    return 0;
  }

 private:
  void move() {
    if (!moved) std::memcpy(totals, sums, values * sizeof(T));
    for (int64_t i = 0; moved && i < values; ++i) totals[i] += sums[i];
    moved = true;
    tiles = 0;
  }
};

// Lanes without a sample must add nothing, whatever the weights hold.
template <class T> SPECTRAL_INLINE void clear_lanes(T* tile, int64_t width, int64_t count) {
  for (int64_t i = 0; i < width; ++i)
    for (int64_t lane = count; lane < kTile<T>; ++lane) tile[i * kTile<T> + lane] = 0;
}

// weights = start + grad h^T over `count` samples, biases likewise. rows: space for h transposed, [sample][padded I].
template <Start start, class T> SPECTRAL_INLINE void accumulate(const Layer<T>& layer, const T* h, const T* grad,
                                                                int64_t count, T* rows, T* weights, T* biases) {
  constexpr int n = kLanes<T>;
  const int64_t width = padded<T>(layer.in);
  transpose_tile(h, layer.in, count, rows, width);
  int64_t column = 0;
  for (; column + 2 * n <= width; column += 2 * n)
    product<T, 2, Factor::tile, start, Finish::store>(rows + column, width, count, grad, 0, nullptr, weights + column,
                                                      width, layer.out);
  if (column < width)
    product<T, 1, Factor::tile, start, Finish::store>(rows + column, width, count, grad, 0, nullptr, weights + column,
                                                      width, layer.out);
  if (!layer.bias) return;
  for (int64_t o = 0; o < layer.out; ++o) {
    T* sum = biases + o * n;
    const Vec<T> both = load(grad + o * kTile<T>) + load(grad + o * kTile<T> + n);
    store(sum, start == Start::zero ? both : load(sum) + both);
  }
}

template <class T> SPECTRAL_INLINE void accumulate(bool sets, const Layer<T>& layer, const T* h, const T* grad,
                                                   int64_t count, T* rows, T* weights, T* biases) {
  sets ? accumulate<Start::zero>(layer, h, grad, count, rows, weights, biases)
       : accumulate<Start::accumulate>(layer, h, grad, count, rows, weights, biases);
}

// The sums out of their padded rows: weight (O, I), bias (O) where there is one.
template <class T>
SPECTRAL_INLINE void write_sums(const Layer<T>& layer, const T* weights, const T* biases, T* weight, T* bias) {
  for (int64_t o = 0; o < layer.out; ++o)
    std::memcpy(weight + o * layer.in, weights + o * padded<T>(layer.in), layer.in * sizeof(T));
  if (!layer.bias) return;
  for (int64_t o = 0; o < layer.out; ++o) {
    double total = 0;
    for (int lane = 0; lane < kLanes<T>; ++lane) total += double(biases[o * kLanes<T> + lane]);
    bias[o] = T(total);
  }
}

}  // namespace spectral::SPECTRAL_LEVEL
