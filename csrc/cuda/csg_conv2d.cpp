#include "csg_conv2d.h"

namespace spectral::cuda {

// x (N, C, H, W) and y (N, O, H', W') in any dense memory format; y = the convolution of x with the filter that codes
// and generator give, which never is in device memory.
void csg_conv2d(const Tensor& x, const Tensor& codes, const Tensor& generator, std::vector<int64_t> kernel_shape,
                std::vector<int64_t> slice_shape, std::optional<Tensor> bias, std::vector<int64_t> stride,
                std::vector<int64_t> padding, std::vector<int64_t> dilation, bool flat, int64_t groups,
                const Tensor& y) {
  visit_real(x.scalar_type(), "csg_conv2d", [&](auto zero) {
    using T = decltype(zero);
    Call call(x);
    CsgConvolution<T> c =
        csg_convolution<T>(x, y, codes, generator, kernel_shape, slice_shape, stride, padding, dilation, flat, groups);
    c.from = in<T>(x);
    c.bias = in<T>(bias);
    convolve(call, c, false, y);
  });
}

SPECTRAL_CUDA_LIBRARY(m) { SPECTRAL_OP(m, csg_conv2d, &csg_conv2d); }

}  // namespace spectral::cuda
