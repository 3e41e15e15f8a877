#include "descend.h"
#include "mlp.h"

namespace spectral {

// grad_y (N, C), x (N, I, Q) with transform (Q', Q) or (Q', N, I) without -> grad_branches (Q', N, I) or none, the
// gradients of weights and biases, grad_branch_weights (Q',)
void spectral_ensemble_backward(const Tensor& grad_y, const Tensor& x, std::optional<Tensor> transform, Tensors weights,
                                OptionalTensors biases, std::vector<int64_t> activations, std::vector<double> offsets,
                                const Tensor& branch_weights, bool softmax, std::optional<Tensor> grad_branches,
                                Tensors grad_weights, Tensors grad_biases, const Tensor& grad_branch_weights) {
  visit_number(x.scalar_type(), "spectral_ensemble_backward", [&](auto zero) {
    using T = decltype(zero);
    const Mlp<T> mlp(x, transform, weights, biases, activations, offsets);
    std::unique_ptr<T[]> memory;
    Gradients<T> net = mlp.gradients(memory);
    net.grad_y = in<T>(grad_y);
    net.branch_weights = in<T>(branch_weights);
    net.softmax = softmax;
    net.grad_x = out<T>(grad_branches);
    descend<T>(net, mlp.chain, grad_weights, grad_biases, out<T>(grad_branch_weights), 1);
  });
}

STABLE_TORCH_LIBRARY_IMPL(spectral_native, CPU, m) {
  SPECTRAL_OP(m, spectral_ensemble_backward, &spectral_ensemble_backward);
}

}  // namespace spectral
