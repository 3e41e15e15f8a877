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
    if (is_complex(weight)) return run(ComplexNetwork<T>{net, nullptr, nullptr, true, true}, chain.operations);
    run(net, chain.operations);
  });
}

STABLE_TORCH_LIBRARY_IMPL(spectral_native, CPU, m) { SPECTRAL_OP(m, branch_linear, &branch_linear); }

}  // namespace spectral
