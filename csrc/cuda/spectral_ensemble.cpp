#include "ensemble.h"
#include "stages.h"

namespace spectral::cuda {

// x (N, I, Q) with transform (Q', Q), or (Q', N, I) without; branch_weights (Q',) -> out (N, C). Branches meet in a
// second launch: blocks exchange nothing within one.
void spectral_ensemble(const Tensor& x, std::optional<Tensor> transform, Tensors weights, OptionalTensors biases,
                       std::vector<int64_t> activations, std::vector<double> offsets, const Tensor& branch_weights,
                       bool softmax, const Tensor& y) {
  visit_number(x.scalar_type(), "spectral_ensemble", [&](auto zero) {
    using T = decltype(zero);
    Call call(x);
    Mlp<T> mlp(call, x, transform, weights, biases, activations, offsets);
    mlp.chain.y = call.memory<T>(mlp.values_of_logits());
    run(mlp.chain, call.stream());
    Ensemble<T> e = ensemble(mlp.chain.y, mlp.chain.complex, mlp.chain.branches, mlp.samples, y.size(1),
                             in<T>(branch_weights), softmax);
    e.y = out<T>(y);
    run(e, call.stream());
  });
}

SPECTRAL_CUDA_LIBRARY(m) { SPECTRAL_OP(m, spectral_ensemble, &spectral_ensemble); }

}  // namespace spectral::cuda
