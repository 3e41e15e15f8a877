#include "stages.h"

namespace spectral::cuda {

// The loss alone: logits by the network kernel, then one pass over them.
void spectral_mlp_cross_entropy(const Tensor& x, std::optional<Tensor> transform, Tensors weights,
                                OptionalTensors biases, std::vector<int64_t> activations, std::vector<double> offsets,
                                const Tensor& target, const Tensor& losses, const Tensor& logits) {
  visit_number(x.scalar_type(), "spectral_mlp_cross_entropy", [&](auto zero) {
    using T = decltype(zero);
    Call call(x);
    Mlp<T> mlp(call, x, transform, weights, biases, activations, offsets);
    mlp.chain.y = out<T>(logits);
    run(mlp.chain, call.stream());
    cross_entropy(in<T>(logits), mlp.chain.complex, in<int64_t>(target), mlp.chain.branches, mlp.samples,
                  logits.size(2), out<T>(losses), call.stream());
  });
}

SPECTRAL_CUDA_LIBRARY(m) { SPECTRAL_OP(m, spectral_mlp_cross_entropy, &spectral_mlp_cross_entropy); }

}  // namespace spectral::cuda
