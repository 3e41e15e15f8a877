// The arguments that both directions of a convolution with a generated filter share.
#pragma once
#include "csg.h"

namespace spectral::cuda {

// One that lacks where it reads from and writes to; x and y tell sizes and memory formats.
template <class T>
CsgConvolution<T> csg_convolution(const Tensor& x, const Tensor& y, const Tensor& codes, const Tensor& generator,
                                  const std::vector<int64_t>& kernel_shape, const std::vector<int64_t>& slice_shape,
                                  const std::vector<int64_t>& stride, const std::vector<int64_t>& padding,
                                  const std::vector<int64_t>& dilation, bool flat, int64_t groups) {
  CsgConvolution<T> c{};
  c.shape = csg_shape(slice_shape, flat, false);
  c.source = csg_source<T>(codes, generator);
  c.groups = int(groups);
  slices_of(kernel_shape.data(), c.shape);  // which checks the size
  for (int d = 0; d < 4; ++d) {
    c.size[d] = int(kernel_shape[d]);
    c.x_step[d] = x.stride(d);
    c.y_step[d] = y.stride(d);
  }
  for (int d = 0; d < 2; ++d) {
    c.image[d] = int(x.size(2 + d));
    c.result[d] = int(y.size(2 + d));
    c.stride[d] = int(stride[d]);
    c.padding[d] = int(padding[d]);
    c.dilation[d] = int(dilation[d]);
  }
  return c;
}

// to = what all parts of the filter give, added in order; to is the result or the image's gradient.
template <class T> void convolve(Call& call, CsgConvolution<T> c, bool back, const Tensor& to) {
  const int64_t rows = to.numel() / some(to.size(1));
  SPECTRAL_CHECK(rows < (int64_t(1) << 31), "csg_conv2d: 2^31 pixels or more");
  plan(c, back);
  c.rows = int(rows);
  c.values = to.numel();
  T* const total = out<T>(to);
  c.sums = c.reduced_parts == 1 ? total : call.memory<T>(c.reduced_parts * c.values);
  run(c, back, call.stream());
  if (c.reduced_parts > 1) add_parts(call, c.sums, total, c.values, c.reduced_parts);
}

}  // namespace spectral::cuda
