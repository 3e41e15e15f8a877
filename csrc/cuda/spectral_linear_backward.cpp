#include "stages.h"

namespace spectral::cuda {

// grad_y (N, O, Q), x (N, I, Q), y (N, O, Q) -> grad_x (N, I, Q) or none, grad_weight (Q', O, I), grad_bias (Q', O) or
// none
void spectral_linear_backward(const Tensor& grad_y, const Tensor& x, const Tensor& y, const Tensor& transform,
                              const Tensor& weight, std::optional<Tensor> bias, int64_t activation, double,
                              const Tensor& inverse, int64_t output_activation, std::optional<Tensor> grad_x,
                              const Tensor& grad_weight, std::optional<Tensor> grad_bias) {
  visit_real(x.scalar_type(), "spectral_linear_backward", [&](auto zero) {
    using T = decltype(zero);
    Call call(x);
    const Mlp<T> layer(call, x, transform, {weight}, {bias}, {activation}, {}, true);
    const int64_t samples = layer.samples, branches = layer.chain.branches;
    const T* grad = in<T>(grad_y);
    if (Activation(output_activation) != Activation::none) {
      T* before = call.memory<T>(y.numel());
      multiply_by_slope(Activation(output_activation), grad, in<T>(y), y.numel(), before, call.stream());
      grad = before;
    }
    T* grad_of_outputs = call.memory<T>(branches * samples * weight.size(1));
    analyse(call, grad, false, inverse, true, samples * weight.size(1), grad_of_outputs);
    Gradients<T> g = layer.gradients();
    g.grad_y = grad_of_outputs;
    g.grad_x = grad_x ? call.memory<T>(branches * samples * weight.size(2)) : nullptr;
    descend<T>(call, g, {grad_weight}, bias ? Tensors{*grad_bias} : Tensors{}, nullptr, 0);
    if (grad_x) synthesise<T>(call, g.grad_x, transform, true, samples * weight.size(2), false, out<T>(grad_x));
  });
}

SPECTRAL_CUDA_LIBRARY(m) { SPECTRAL_OP(m, spectral_linear_backward, &spectral_linear_backward); }

}  // namespace spectral::cuda
