#include "stages.h"

namespace spectral::cuda {

// x (N, I, Q) with transform (Q', Q), or (Q', N, I) without -> out (Q', N, O)
void spectral_mlp(const Tensor& x, std::optional<Tensor> transform, Tensors weights, OptionalTensors biases,
                  std::vector<int64_t> activations, std::vector<double> offsets, const Tensor& y) {
  visit_number(x.scalar_type(), "spectral_mlp", [&](auto zero) {
    using T = decltype(zero);
    Call call(x);
    Mlp<T> mlp(call, x, transform, weights, biases, activations, offsets);
    mlp.chain.y = out<T>(y);
    run(mlp.chain, call.stream());
  });
}

SPECTRAL_CUDA_LIBRARY(m) { SPECTRAL_OP(m, spectral_mlp, &spectral_mlp); }

}  // namespace spectral::cuda
