#include "csg_conv2d.h"

namespace spectral::cuda {

// The gradients of x, in any dense memory format, of codes and generator, each where wanted. The filter is generated
// again, on the chip; its gradient is a sum over pixels in work memory, from which the other two are products.
void csg_conv2d_backward(const Tensor& grad_y, const Tensor& x, const Tensor& codes, const Tensor& generator,
                         std::vector<int64_t> kernel_shape, std::vector<int64_t> slice_shape,
                         std::vector<int64_t> stride, std::vector<int64_t> padding, std::vector<int64_t> dilation,
                         bool flat, int64_t groups, std::optional<Tensor> grad_x, std::optional<Tensor> grad_codes,
                         std::optional<Tensor> grad_generator) {
  visit_real(x.scalar_type(), "csg_conv2d_backward", [&](auto zero) {
    using T = decltype(zero);
    Call call(x);
    CsgConvolution<T> c = csg_convolution<T>(x, grad_y, codes, generator, kernel_shape, slice_shape, stride, padding,
                                             dilation, flat, groups);
    c.from = in<T>(grad_y);
    if (grad_x) {
      for (int d = 0; d < 4; ++d) c.x_step[d] = grad_x->stride(d);
      convolve(call, c, true, *grad_x);
    }
    if (!grad_codes && !grad_generator) return;
    for (int d = 0; d < 4; ++d) c.x_step[d] = x.stride(d);
    c.rows = int(grad_y.numel() / grad_y.size(1));
    const int64_t values = kernel_shape[0] * kernel_shape[1] * kernel_shape[2] * kernel_shape[3];
    const int64_t splits = filter_splits(c);
    T* const filter = call.memory<T>(values);
    T* const sums = splits == 1 ? filter : call.memory<T>(splits * values);
    run_filter_gradient(c, in<T>(x), in<T>(grad_y), sums, call.stream());
    if (splits > 1) add_parts(call, sums, filter, values, splits);
    csg_gradients<T>(call, codes, generator, kernel_shape, c.shape, {filter}, out<T>(grad_codes),
                     out<T>(grad_generator));
  });
}

SPECTRAL_CUDA_LIBRARY(m) { SPECTRAL_OP(m, csg_conv2d_backward, &csg_conv2d_backward); }

}  // namespace spectral::cuda
