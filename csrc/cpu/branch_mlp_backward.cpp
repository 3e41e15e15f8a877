#include "descend.h"

namespace spectral {

// grad_y (Q', N, O), x (Q', N, I) -> grad_x (Q', N, I) or none, and the gradients of weights and biases
void branch_mlp_backward(const Tensor& grad_y, const Tensor& x, Tensors weights, OptionalTensors biases,
                         std::vector<int64_t> activations, std::vector<double> offsets, std::optional<Tensor> grad_x,
                         Tensors grad_weights, Tensors grad_biases) {
  visit_number(x.scalar_type(), "branch_mlp_backward", [&](auto zero) {
    using T = decltype(zero);
    const Chain<T> chain(weights, biases, activations, offsets);
    Gradients<T> net{};
    net.complex = is_complex(x);
    net.samples = x.size(1);
    net.branches = x.size(0);
    net.x = in<T>(x);
    net.grad_y = in<T>(grad_y);
    net.grad_x = out<T>(grad_x);
    descend<T>(net, chain, grad_weights, grad_biases, nullptr, 0);
  });
}

STABLE_TORCH_LIBRARY_IMPL(spectral_native, CPU, m) { SPECTRAL_OP(m, branch_mlp_backward, &branch_mlp_backward); }

}  // namespace spectral
