#include "stages.h"

namespace spectral::cuda {

// grad_y (N, C), x (N, I, Q) with transform (Q', Q) or (Q', N, I) without -> grad_branches (Q', N, I) or none, the
// gradients of weights and biases, grad_branch_weights (Q',)
void spectral_ensemble_backward(const Tensor& grad_y, const Tensor& x, std::optional<Tensor> transform, Tensors weights,
                                OptionalTensors biases, std::vector<int64_t> activations, std::vector<double> offsets,
                                const Tensor& branch_weights, bool softmax, std::optional<Tensor> grad_branches,
                                Tensors grad_weights, Tensors grad_biases, const Tensor& grad_branch_weights) {
  visit_number(x.scalar_type(), "spectral_ensemble_backward", [&](auto zero) {
    using T = decltype(zero);
    Call call(x);
    Gradients<T> g = Mlp<T>(call, x, transform, weights, biases, activations, offsets, true).gradients();
    g.grad_y = in<T>(grad_y);
    g.branch_weights = in<T>(branch_weights);
    g.softmax = softmax;
    g.grad_x = out<T>(grad_branches);
    descend<T>(call, g, grad_weights, grad_biases, out<T>(grad_branch_weights), 1);
  });
}

SPECTRAL_CUDA_LIBRARY(m) { SPECTRAL_OP(m, spectral_ensemble_backward, &spectral_ensemble_backward); }

}  // namespace spectral::cuda
