// Where the values of generated slices lie in their filters.
#pragma once
#include "../kernels.h"
#include "../tile.cuh"

namespace spectral::cuda {

// Where in a filter value r of slice `index` is; false where the filter is cropped.
SPECTRAL_DEVICE bool coordinates(const CsgShape& shape, const int (&size)[4], int index, int r, int (&at)[4]) {
  if (shape.flat) {
    int whole[4];
    for (int d = 0; d < 4; ++d) whole[d] = int(round_up(size[d], shape.slice[d]));
    int rest = index * shape.positions + r;
    for (int d = 3; d >= 0; --d) {
      at[d] = d ? rest % whole[d] : rest;
      rest /= whole[d];
    }
  } else {
    for (int d = 3; d >= 0; --d) {
      const int grid = int(ceil_div(size[d], shape.slice[d]));
      at[d] = r % shape.slice[d] + (d ? index % grid : index) * shape.slice[d];
      r /= shape.slice[d];
      index /= grid;
    }
  }
  for (int d = 0; d < 4; ++d)
    if (at[d] >= size[d]) return false;
  return true;
}

// The place of value r of slice `index` in memory, or -1 where the filter is cropped.
SPECTRAL_DEVICE int64_t place_in_filter(const CsgShape& shape, const int (&size)[4], int index, int r) {
  int at[4];
  if (!coordinates(shape, size, index, r, at)) return -1;
  return shape.channels_last ? ((int64_t(at[0]) * size[2] + at[2]) * size[3] + at[3]) * size[1] + at[1]
                             : ((int64_t(at[0]) * size[1] + at[1]) * size[2] + at[2]) * size[3] + at[3];
}

// Value c of row r of the generator.
template <class T> SPECTRAL_DEVICE T generator_at(const CsgSource<T>& source, int64_t r, int64_t c) {
  const int64_t at = r * source.code_size + c;
  return source.signs ? T(source.signs[at]) : source.generator[at];
}

}  // namespace spectral::cuda
