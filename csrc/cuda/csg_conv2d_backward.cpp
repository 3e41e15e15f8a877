#include "csg_conv2d.h"

namespace spectral::cuda {

namespace {

// to = the gradient of the codes or of the generator, its parts added in order.
template <class T> void filter_gradients(Call& call, CsgGradients<T> g, bool of_generator, const Tensor& to) {
  plan(g, of_generator);
  const int64_t parts = int64_t(g.parts) * g.pixel_parts;
  T* const total = out<T>(to);
  g.sums = parts == 1 ? total : call.memory<T>(parts * to.numel());
  run(g, of_generator, call.stream());
  if (parts > 1) add_parts(call, g.sums, total, to.numel(), parts);
}

}  // namespace

// The gradients of x, in any dense memory format, of codes and generator, each where wanted. The filter is generated
// again, on the chip, and so is its gradient, from which the other two are products.
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
    CsgGradients<T> g{};
    g.c = c;
    g.x = in<T>(x);
    g.grad_y = in<T>(grad_y);
    if (grad_codes) filter_gradients(call, g, false, *grad_codes);
    if (grad_generator) filter_gradients(call, g, true, *grad_generator);
  });
}

SPECTRAL_CUDA_LIBRARY(m) { SPECTRAL_OP(m, csg_conv2d_backward, &csg_conv2d_backward); }

}  // namespace spectral::cuda
