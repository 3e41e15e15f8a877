#include "drive.h"

namespace spectral {

// x (N, I, Q), transform (Q', Q), weight (Q', O, I), bias (Q', O), inverse (Q, Q') -> out (N, O, Q)
void spectral_linear(const Tensor& x, const Tensor& transform, const Tensor& weight, std::optional<Tensor> bias,
                     int64_t activation, const Tensor& inverse, int64_t output_activation, const Tensor& y) {
  visit_real(x.scalar_type(), "spectral_linear", [&](auto zero) {
    using T = decltype(zero);
    const Chain<T> chain({weight}, {bias}, {activation});
    const PackedTube<T> forward(transform), backward(inverse);
    Network<T> net{};
    net.samples = x.size(0);
    net.branches = transform.size(0);
    net.in = x.size(1);
    net.out = weight.size(1);
    net.widest = chain.widest;
    net.x = in<T>(x);
    net.transform = &forward;
    net.layers = chain.layers.data();
    net.depth = 1;
    net.inverse = &backward;
    net.output_activation = Activation(output_activation);
    net.y = out<T>(y);
    run(net, chain.operations);
  });
}

STABLE_TORCH_LIBRARY_IMPL(spectral_native, CPU, m) { SPECTRAL_OP(m, spectral_linear, &spectral_linear); }

}  // namespace spectral
