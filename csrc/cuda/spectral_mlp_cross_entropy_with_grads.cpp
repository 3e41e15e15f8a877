#include "stages.h"

namespace spectral::cuda {

// The training step of branches that learn alone: losses, logits and gradients in one pass over the samples.
void spectral_mlp_cross_entropy_with_grads(const Tensor& x, std::optional<Tensor> transform, Tensors weights,
                                           OptionalTensors biases, std::vector<int64_t> activations,
                                           std::vector<double> offsets, const Tensor& target, const Tensor& losses,
                                           const Tensor& logits, std::optional<Tensor> grad_x, Tensors grad_weights,
                                           Tensors grad_biases) {
  visit_number(x.scalar_type(), "spectral_mlp_cross_entropy_with_grads", [&](auto zero) {
    using T = decltype(zero);
    Call call(x);
    const Mlp<T> mlp(call, x, transform, weights, biases, activations, offsets, true);
    Gradients<T> g = mlp.gradients();
    g.target = in<int64_t>(target);
    g.logits = out<T>(logits);
    g.grad_x = out<T>(grad_x);
    descend<T>(call, g, grad_weights, grad_biases, out<T>(losses), 1 / double(mlp.samples));
  });
}

SPECTRAL_CUDA_LIBRARY(m) {
  SPECTRAL_OP(m, spectral_mlp_cross_entropy_with_grads, &spectral_mlp_cross_entropy_with_grads);
}

}  // namespace spectral::cuda
