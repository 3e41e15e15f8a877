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

STABLE_TORCH_LIBRARY_IMPL(spectral_native, CPU, m) { SPECTRAL_OP(m, spectral_mlp, &spectral_mlp); }

}  // namespace spectral
