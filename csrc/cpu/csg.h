// From filters and kernel shapes to where each slice lies.
#pragma once
#include <array>

#include "drive.h"

namespace spectral {

// The layers of a call. Filters are in the order of memory that channels_last says.
template <class T> struct CsgLayers {
  std::vector<CsgLayer<T>> layers;
  std::vector<CsgSlice<T>> slices;
  Csg<T> csg{};

  CsgLayers(const Tensor& codes, const Tensor& generator, const std::vector<int64_t>& kernel_shapes,
            const std::vector<int64_t>& slice_shape, bool flat, bool channels_last) {
    using Runs = typename CsgLayer<T>::Runs;
    const int64_t h = slice_shape[2], w = slice_shape[3];
    for (size_t j = 0; j < kernel_shapes.size(); j += 4) {
      const int64_t* size = &kernel_shapes[j];
      const int64_t i = size[1], kh = size[2], kw = size[3];
      CsgLayer<T> layer{};
      bool whole = !channels_last;
      for (int d = 0; d < 4; ++d) {
        layer.size[d] = size[d];
        layer.grid[d] = ceil_div(size[d], slice_shape[d]);
        whole = whole && size[d] % slice_shape[d] == 0;
        layer.stride[d] = channels_last ? std::array{kh * kw * i, int64_t(1), kw * i, i}[d]
                                        : std::array{i * kh * kw, kh * kw, kw, int64_t(1)}[d];
      }
      layer.runs = flat                 ? (whole ? Runs::whole : Runs::single)
                   : channels_last      ? Runs::columns
                   : kh == h && kw == w ? Runs::windows
                                        : Runs::rows;
      layers.push_back(layer);
    }
    for (int d = 0; d < 4; ++d) csg.slice_shape[d] = slice_shape[d];
    csg.slices = codes.size(0);
    csg.code_size = codes.size(1);
    csg.positions = generator.size(0);
    csg.reordered = channels_last && !flat;
    csg.codes = in<T>(codes);
    if (generator.scalar_type() == ScalarType::Char)
      csg.signs = in<int8_t>(generator);
    else
      csg.generator = in<T>(generator);
  }

  // filters: one a layer, null for a gradient of zero.
  const Csg<T>& at(const std::vector<T*>& filters) {
    slices.reserve(csg.slices);
    for (size_t j = 0; j < layers.size(); ++j) {
      CsgLayer<T>& layer = layers[j];
      layer.filter = filters[j];
      const int64_t count = layer.grid[0] * layer.grid[1] * layer.grid[2] * layer.grid[3];
      for (int64_t index = 0; index < count; ++index) {
        CsgSlice<T> slice{&layer, layer.filter, index, {}, true};
        int64_t rest = index, offset = 0;
        for (int d = 3; d >= 0; --d) {
          const int64_t start = rest % layer.grid[d] * csg.slice_shape[d];
          rest /= layer.grid[d];
          slice.inside[d] = std::min(csg.slice_shape[d], layer.size[d] - start);
          slice.whole = slice.whole && slice.inside[d] == csg.slice_shape[d];
          offset += start * layer.stride[d];
        }
        if (slice.at) slice.at += offset;
        slices.push_back(slice);
      }
    }
    csg.slice = slices.data();
    return csg;
  }
};

}  // namespace spectral
