#include "cross_entropy.h"
#include "descend.h"
#include "mlp.h"

namespace spectral {

// The training step of branches that learn alone: losses, logits and gradients in one pass over the samples.
void spectral_mlp_cross_entropy_with_grads(const Tensor& x, std::optional<Tensor> transform, Tensors weights,
                                           OptionalTensors biases, std::vector<int64_t> activations,
                                           std::vector<double> offsets, const Tensor& target, const Tensor& losses,
                                           const Tensor& logits, std::optional<Tensor> grad_x, Tensors grad_weights,
                                           Tensors grad_biases) {
  visit_number(x.scalar_type(), "spectral_mlp_cross_entropy_with_grads", [&](auto zero) {
    using T = decltype(zero);
    const Mlp<T> mlp(x, transform, weights, biases, activations, offsets);
    std::unique_ptr<T[]> memory;
    Gradients<T> net = mlp.gradients(memory);
    net.target = checked_target(target, mlp.net.out);
    net.logits = out<T>(logits);
    net.grad_x = out<T>(grad_x);
    descend<T>(net, mlp.chain, grad_weights, grad_biases, out<T>(losses), 1 / double(net.samples));
  });
}

STABLE_TORCH_LIBRARY_IMPL(spectral_native, CPU, m) {
  SPECTRAL_OP(m, spectral_mlp_cross_entropy_with_grads, &spectral_mlp_cross_entropy_with_grads);
}

}  // namespace spectral
