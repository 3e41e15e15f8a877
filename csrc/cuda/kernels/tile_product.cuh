// A product of two large matrices whose values come from anywhere: a block computes a square tile of the result, a warp
// some of its columns, lanes its rows.
#pragma once
#include "product.cuh"

namespace spectral::cuda {

template <class T> constexpr int kTileRows = kVectors<T> * kWarp;
template <class T> constexpr int kTileColumns = kOutputs<T> * kMostThreads / kWarp;
constexpr int kDepth = 32;  // of the sums, at a time

// The grid of a Problem, which has
//     rows, columns, depth         of result[m][n] = sum_k a(m, k) b(n, k)
//     kRowsSideBySide              whether a(m, k) and a(m + 1, k) are neighbours in memory, else a(m, k + 1) is
//     kColumnsSideBySide           the same of b(n, k)
//     put(m, n, sum, split)        for each split of the depth, or the one
struct TileGrid {
  int64_t row_tiles, column_tiles, splits, split_depth;
  int64_t blocks() const { return row_tiles * column_tiles * splits; }
};

template <class T, class Problem> __global__ void __launch_bounds__(kMostThreads, 2)
    tile_products(const Problem p, const TileGrid grid) {
  constexpr int kRows = kTileRows<T>, kColumns = kTileColumns<T>, kPlaces = kPitch<T, kVectors<T>>;
  SharedMemory memory;
  const Shared<T> a = memory.take<T>(kDepth * kPlaces), b = memory.take<T>(kDepth * kColumns);
  const int64_t tile = block() / grid.splits, split = block() % grid.splits;
  const int64_t row = tile / grid.column_tiles * kRows, column = tile % grid.column_tiles * kColumns;
  const int64_t begin = split * grid.split_depth, limit = begin + grid.split_depth;
  const int64_t end = limit < p.depth ? limit : p.depth;
  T sums[kOutputs<T>][kVectors<T>] = {};
  for (int64_t k0 = begin; k0 < end; k0 += kDepth) {
    for (int i = thread(); i < kDepth * kRows; i += threads()) {
      const int k = Problem::kRowsSideBySide ? i / kRows : i % kDepth;
      const int m = Problem::kRowsSideBySide ? i % kRows : i / kDepth;
      a[k * kPlaces + m] = k0 + k < end && row + m < p.rows ? p.a(row + m, k0 + k) : T(0);
    }
    for (int i = thread(); i < kDepth * kColumns; i += threads()) {
      const int k = Problem::kColumnsSideBySide ? i / kColumns : i % kDepth;
      const int n = Problem::kColumnsSideBySide ? i % kColumns : i / kDepth;
      b[k * kColumns + n] = k0 + k < end && column + n < p.columns ? p.b(column + n, k0 + k) : T(0);
    }
    barrier();
    accumulate<T, kVectors<T>>(sums, a, kDepth, b + warp() * kOutputs<T>, kColumns);
    barrier();
  }
#pragma unroll
  for (int v = 0; v < kVectors<T>; ++v)
#pragma unroll
    for (int r = 0; r < kOutputs<T>; ++r) {
      const int64_t m = row + v * kWarp + lane(), n = column + warp() * kOutputs<T> + r;
      if (m < p.rows && n < p.columns) p.put(m, n, sums[r][v], split);
    }
}

// `wanted`: how many blocks should share the work; the sizes alone decide, so that sums have the same bits everywhere.
template <class T, class Problem> TileGrid tile_grid(const Problem& p, int64_t wanted) {
  TileGrid grid{ceil_div(p.rows, kTileRows<T>), ceil_div(p.columns, kTileColumns<T>), 1, 0};
  const int64_t tiles = grid.row_tiles * grid.column_tiles, deep = ceil_div(p.depth, kDepth);
  const int64_t splits = tiles ? ceil_div(wanted, tiles) : 1;
  const int64_t steps = ceil_div(deep, splits < deep ? splits : deep < 1 ? 1 : deep);
  grid.split_depth = (steps < 1 ? 1 : steps) * kDepth;
  grid.splits = deep < 1 ? 1 : ceil_div(p.depth, grid.split_depth);
  return grid;
}

template <class T, class Problem> void run_tiles(const Problem& p, const TileGrid& grid, void* stream) {
  const int64_t bytes =
      shared_bytes_for<T>(kDepth * kPitch<T, kVectors<T>>) + shared_bytes_for<T>(kDepth * kTileColumns<T>);
  launch(stream, Grid{grid.blocks(), kMostThreads, bytes}, &tile_products<T, Problem>, p, grid);
}

}  // namespace spectral::cuda
