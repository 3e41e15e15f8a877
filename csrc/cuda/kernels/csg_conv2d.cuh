// What the kernels of convolutions with generated filters share: products whose rows are gathered, a few at a time.
#pragma once
#include "csg.cuh"
#include "tile_product.cuh"

namespace spectral::cuda {

constexpr int kChunk = 8;      // of a sum's depth, at a time
constexpr int kMostTiles = 8;  // of rows: a warp each, where there is one group of columns

template <class T> constexpr int64_t kScratch = kMostTiles * kChunk * kPitch<T, kVectors<T>>;

// A warp's place among the tiles of rows and the groups of columns that a block works on.
template <class T> struct Share {
  int groups, tiles, group, tile;
  SPECTRAL_DEVICE explicit Share(int columns) {
    groups = int(ceil_div(columns, kOutputs<T>));
    tiles = warps() / groups < kMostTiles ? warps() / groups : kMostTiles;
    group = warp() % groups;
    tile = warp() / groups;
  }
  SPECTRAL_DEVICE int rows() const { return tiles * kTileRows<T>; }
};

// sums += the depth's products of rows, which load(m, k0, put) gives with put(k, value), with the columns of a chunk,
// which lie from weights(k0) on. Ends with a barrier.
template <class T, class Load, class Weights>
SPECTRAL_DEVICE void add_products(T (&sums)[kOutputs<T>][kVectors<T>], const Share<T>& share, int depth, int pitch,
                                  Shared<T> scratch, Load load, Weights weights) {
  constexpr int kRows = kTileRows<T>, kPlaces = kPitch<T, kVectors<T>>;
  for (int k0 = 0; k0 < depth; k0 += kChunk) {
    for (int m = thread(); m < share.rows(); m += threads())
      load(m, k0, [&](int k, T value) { scratch[(m / kRows * kChunk + k) * kPlaces + m % kRows] = value; });
    const Shared<T> columns = weights(k0);
    barrier();
    if (share.tile < share.tiles)
      accumulate<T, kVectors<T>>(sums, scratch + share.tile * kChunk * kPlaces,
                                 depth - k0 < kChunk ? depth - k0 : kChunk, columns + share.group * kOutputs<T>, pitch);
    barrier();
  }
}

// f(row of the block, column, sum) for what this warp has summed up.
template <class T, class F>
SPECTRAL_DEVICE void each_sum(const T (&sums)[kOutputs<T>][kVectors<T>], const Share<T>& share, F f) {
  if (share.tile >= share.tiles) return;
#pragma unroll
  for (int v = 0; v < kVectors<T>; ++v)
#pragma unroll
    for (int r = 0; r < kOutputs<T>; ++r)
      f(share.tile * kTileRows<T> + v * kWarp + lane(), share.group * kOutputs<T> + r, sums[r][v]);
}

// A row (n, h, w) of the result (backward: of the image), and where it finds its pixel for a place of the window.
template <class T, bool kBack> struct Pixel {
  int n, h, w;
  SPECTRAL_DEVICE Pixel(const CsgConvolution<T>& c, int row) {
    const int (&size)[2] = kBack ? c.image : c.result;
    w = row % size[1];
    h = row / size[1] % size[0];
    n = row / size[1] / size[0];
  }
  SPECTRAL_DEVICE bool find(const CsgConvolution<T>& c, int y, int x, int& from_h, int& from_w) const {
    return along(c, 0, h, y, from_h) && along(c, 1, w, x, from_w);
  }

 private:
  static SPECTRAL_DEVICE bool along(const CsgConvolution<T>& c, int d, int at, int k, int& from) {
    if constexpr (kBack) {
      const int shifted = at + c.padding[d] - k * c.dilation[d];
      from = shifted / c.stride[d];
      return shifted >= 0 && shifted % c.stride[d] == 0 && from < c.result[d];
    }
    from = at * c.stride[d] - c.padding[d] + k * c.dilation[d];
    return from >= 0 && from < c.image[d];
  }
};

}  // namespace spectral::cuda
