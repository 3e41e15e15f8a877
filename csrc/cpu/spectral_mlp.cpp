#include "descend.h"
#include "mlp.h"

namespace spectral {

// x (N, I, Q) with transform (Q', Q), or (Q', N, I) without -> out (Q', N, O)
void spectral_mlp(const Tensor& x, std::optional<Tensor> transform, Tensors weights, OptionalTensors biases,
                  std::vector<int64_t> activations, std::vector<double> offsets, const Tensor& y) {
  visit_number(x.scalar_type(), "spectral_mlp", [&](auto zero) {
    using T = decltype(zero);
    Mlp<T> mlp(x, transform, weights, biases, activations, offsets);
    mlp.net.y = out<T>(y);
    mlp.run(mlp.net);
  });
}

// The same, and what `spectral_mlp_from_states` needs of it.
Tensor spectral_mlp_with_states(const Tensor& x, std::optional<Tensor> transform, Tensors weights,
                                OptionalTensors biases, std::vector<int64_t> activations, std::vector<double> offsets,
                                const Tensor& y) {
  std::optional<Tensor> states;
  visit_number(x.scalar_type(), "spectral_mlp_with_states", [&](auto zero) {
    using T = decltype(zero);
    Mlp<T> mlp(x, transform, weights, biases, activations, offsets);
    mlp.net.y = out<T>(y);
    states = mlp.keep(x);
    mlp.run(mlp.net);
  });
  return *states;
}

// grad_y (Q', N, O) -> grad_branches (Q', N, I) or none, and the gradients of weights and biases
void spectral_mlp_from_states(const Tensor& grad_y, const Tensor& states, Tensors weights, OptionalTensors biases,
                              std::vector<int64_t> activations, std::vector<double> offsets,
                              std::optional<Tensor> grad_branches, Tensors grad_weights, Tensors grad_biases) {
  visit_real(states.scalar_type(), "spectral_mlp_from_states", [&](auto zero) {
    using T = decltype(zero);
    const Chain<T> chain(weights, biases, activations, offsets);
    Gradients<T> net = from_states(states, chain, grad_y.size(0), grad_y.size(1), is_complex(grad_y));
    net.grad_y = in<T>(grad_y);
    net.grad_x = out<T>(grad_branches);
    descend<T>(net, chain, grad_weights, grad_biases, nullptr, 0);
  });
}

STABLE_TORCH_LIBRARY_IMPL(spectral_native, CPU, m) {
  SPECTRAL_OP(m, spectral_mlp, &spectral_mlp);
  SPECTRAL_OP(m, spectral_mlp_with_states, &spectral_mlp_with_states);
  SPECTRAL_OP(m, spectral_mlp_from_states, &spectral_mlp_from_states);
}

}  // namespace spectral
