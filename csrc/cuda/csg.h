// The arguments that the ops of generated filters share.
#pragma once
#include "drive.h"

namespace spectral::cuda {

template <class T> CsgSource<T> csg_source(const Tensor& codes, const Tensor& generator) {
  const bool signs = generator.scalar_type() == ScalarType::Char;
  return {in<T>(codes), signs ? nullptr : in<T>(generator), signs ? in<int8_t>(generator) : nullptr, codes.size(1)};
}

inline CsgShape csg_shape(const std::vector<int64_t>& slice_shape, bool flat, bool channels_last) {
  CsgShape shape{{}, 1, flat, channels_last};
  for (int d = 0; d < 4; ++d) {
    shape.slice[d] = int(slice_shape[d]);
    shape.positions *= shape.slice[d];
  }
  return shape;
}

inline int64_t slices_of(const int64_t* kernel_shape, const CsgShape& shape) {
  int64_t slices = 1, values = 1;
  for (int d = 0; d < 4; ++d) {
    const int64_t count = (kernel_shape[d] + shape.slice[d] - 1) / shape.slice[d];
    slices *= count;
    values *= count * shape.slice[d];
  }
  SPECTRAL_CHECK(values < (int64_t(1) << 31), "a generated filter of 2^31 values or more");
  return slices;
}

// f(what one launch takes of all layers: codes and filters that follow one another). values: a filter's or its
// gradient's place, null for a gradient of zero.
template <class T, class F> void each_launch(const Tensor& codes, const Tensor& generator,
                                             const std::vector<int64_t>& kernel_shapes, const CsgShape& shape,
                                             const std::vector<T*>& values, F f) {
  const CsgSource<T> source = csg_source<T>(codes, generator);
  int64_t begin = 0;  // the launch's first slice
  for (size_t j = 0; j < values.size();) {
    Csg<T> csg{shape, source, 0, 0, {}};
    csg.source.codes += begin * source.code_size;
    for (; j < values.size() && csg.count < kMostFilters; ++j) {
      const int64_t* size = &kernel_shapes[4 * j];
      CsgFilter<T>& filter = csg.filters[csg.count++];
      filter.values = values[j];
      filter.first = int(csg.slices);
      for (int d = 0; d < 4; ++d) filter.size[d] = int(size[d]);
      csg.slices += slices_of(size, shape);
    }
    f(csg, begin);
    begin += csg.slices;
  }
}

// total = the parts' sum, in order.
template <class T> void add_parts(Call& call, const T* sums, T* total, int64_t values, int64_t parts) {
  BlockSums<T> all{};
  all.blocks = parts;
  all.count = 1;
  all.parts[0] = {sums, total, values};
  run(all, call.stream());
}

// The gradients of codes and generator, each where it has a place, from those of the filters: a product each, whose
// depth is split, and the parts added in order.
template <class T> void csg_gradients(Call& call, const Tensor& codes, const Tensor& generator,
                                      const std::vector<int64_t>& kernel_shapes, const CsgShape& shape,
                                      const std::vector<T*>& values, T* grad_codes, T* grad_generator) {
  const auto each = [&](auto f) { each_launch<T>(codes, generator, kernel_shapes, shape, values, f); };
  if (grad_codes)
    each([&](const Csg<T>& csg, int64_t begin) {
      const int64_t size = csg.slices * csg.source.code_size, splits = code_splits(csg);
      T* const total = grad_codes + begin * csg.source.code_size;
      T* const sums = splits == 1 ? total : call.memory<T>(splits * size);
      run_code_gradients(csg, sums, call.stream());
      if (splits > 1) add_parts(call, sums, total, size, splits);
    });
  if (!grad_generator) return;
  int64_t splits = 0, done = 0;
  each([&](const Csg<T>& csg, int64_t) { splits += generator_splits(csg); });
  const int64_t size = generator.numel();
  T* const sums = splits == 1 ? grad_generator : call.memory<T>(splits * size);
  each([&](const Csg<T>& csg, int64_t) {
    run_generator_gradients(csg, sums + done * size, call.stream());
    done += generator_splits(csg);
  });
  if (splits > 1) add_parts(call, sums, grad_generator, size, splits);
}

}  // namespace spectral::cuda
