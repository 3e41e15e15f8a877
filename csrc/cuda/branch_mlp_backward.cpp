#include "stages.h"

namespace spectral::cuda {

// grad_y (Q', N, O), x (Q', N, I) -> grad_x (Q', N, I) or none, and the gradients of weights and biases
void branch_mlp_backward(const Tensor& grad_y, const Tensor& x, Tensors weights, OptionalTensors biases,
                         std::vector<int64_t> activations, std::vector<double> offsets, std::optional<Tensor> grad_x,
                         Tensors grad_weights, Tensors grad_biases) {
  visit_number(x.scalar_type(), "branch_mlp_backward", [&](auto zero) {
    using T = decltype(zero);
    Call call(x);
    Gradients<T> g = Mlp<T>(call, x, {}, weights, biases, activations, offsets).gradients();
    g.grad_y = in<T>(grad_y);
    g.grad_x = out<T>(grad_x);
    descend<T>(call, g, grad_weights, grad_biases, nullptr, 0);
  });
}

SPECTRAL_CUDA_LIBRARY(m) { SPECTRAL_OP(m, branch_mlp_backward, &branch_mlp_backward); }

}  // namespace spectral::cuda
