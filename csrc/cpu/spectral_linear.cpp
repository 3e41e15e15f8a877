#include "drive.h"

namespace spectral {

// x (N, I, Q), transform (Q', Q), weight (Q', O, I), bias (Q', O), inverse (Q, Q') -> out (N, O, Q)
void spectral_linear(const Tensor& x, const Tensor& transform, const Tensor& weight, std::optional<Tensor> bias,
                     int64_t activation, double offset, const Tensor& inverse, int64_t output_activation,
                     double output_offset, const Tensor& y) {
  visit_number(x.scalar_type(), "spectral_linear", [&](auto zero) {
    using T = decltype(zero);
    const Chain<T> chain({weight}, {bias}, {activation}, {offset});
    Network<T> net{};
    net.samples = x.size(0);
    net.branches = transform.size(0);
    net.in = x.size(1);
    net.out = weight.size(1);
    net.widest = chain.widest;
    net.x = in<T>(x);
    net.layers = chain.layers.data();
    net.depth = 1;
    net.output_activation = Activation(output_activation);
    net.output_offset = T(output_offset);
    net.y = out<T>(y);
    if (is_complex(weight)) {
      const PackedComplexTube<T> forward(transform), backward(inverse, is_complex(y) ? 1 : -1);
      return run(ComplexNetwork<T>{net, &forward.matrix, &backward.matrix, is_complex(x), is_complex(y)},
                 chain.operations);
    }
    const auto forward = packed<T>(transform), backward = packed<T>(inverse);
    net.transform = &forward->matrix;
    net.inverse = &backward->matrix;
    run(net, chain.operations);
  });
}

STABLE_TORCH_LIBRARY_IMPL(spectral_native, CPU, m) { SPECTRAL_OP(m, spectral_linear, &spectral_linear); }

}  // namespace spectral
