#include "stages.h"

namespace spectral::cuda {

// x (N, I, Q), transform (Q', Q), weight (Q', O, I), bias (Q', O), inverse (Q, Q') -> out (N, O, Q). Three launches: a
// tile of all branches does not fit the shared memory beside their weights.
void spectral_linear(const Tensor& x, const Tensor& transform, const Tensor& weight, std::optional<Tensor> bias,
                     int64_t activation, double offset, const Tensor& inverse, int64_t output_activation,
                     double output_offset, const Tensor& y) {
  visit_number(x.scalar_type(), "spectral_linear", [&](auto zero) {
    using T = decltype(zero);
    Call call(x);
    Mlp<T> layer(call, x, transform, {weight}, {bias}, {activation}, {offset}, true);
    layer.chain.y = call.memory<T>(layer.values_of_logits());
    run(layer.chain, call.stream());
    synthesise<T>(call, layer.chain.y, inverse, false, layer.samples * weight.size(1), is_complex(y), out<T>(y),
                  Activation(output_activation), T(output_offset));
  });
}

SPECTRAL_CUDA_LIBRARY(m) { SPECTRAL_OP(m, spectral_linear, &spectral_linear); }

}  // namespace spectral::cuda
