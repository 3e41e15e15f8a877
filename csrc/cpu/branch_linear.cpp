#include "drive.h"

namespace spectral {

// x (Q, N, I), weight (Q, O, I), bias (Q, O) -> out (Q, N, O)
void branch_linear(const Tensor& x, const Tensor& weight, std::optional<Tensor> bias, int64_t activation, double offset,
                   const Tensor& y) {
  visit_number(x.scalar_type(), "branch_linear", [&](auto zero) {
    using T = decltype(zero);
    const Chain<T> chain({weight}, {bias}, {activation}, {offset});
    Network<T> net{};
    net.samples = x.size(1);
    net.branches = x.size(0);
    net.in = x.size(2);
    net.out = weight.size(1);
    net.widest = chain.widest;
    net.x = in<T>(x);
    net.layers = chain.layers.data();
    net.depth = 1;
    net.y = out<T>(y);
    if (is_complex(weight)) {
      constexpr int64_t kBlock = 128;
      const ComplexLayer<T> layer{net.samples, net.branches, net.x, chain.layers[0], net.y, kBlock};
      return parallel_for(0, net.branches * ceil_div(net.samples, kBlock),
                          grain(4 * std::min(net.samples, kBlock) * chain.operations),
                          [&](int64_t begin, int64_t end) { kernels<T>().complex_layer(layer, begin, end); });
    }
    run(net, chain.operations);
  });
}

STABLE_TORCH_LIBRARY_IMPL(spectral_native, CPU, m) { SPECTRAL_OP(m, branch_linear, &branch_linear); }

}  // namespace spectral
