#include "drive.h"

namespace spectral {

// y (Q', N, I), inverse (Q, Q') -> out (N, I, Q)
void from_branches(const Tensor& y, const Tensor& inverse, const Tensor& x) {
  visit_real(y.scalar_type(), "from_branches", [&](auto zero) {
    using T = decltype(zero);
    const PackedTube<T> tube(inverse);
    Network<T> net{};
    net.samples = y.size(1);
    net.branches = y.size(0);
    net.in = net.out = net.widest = y.size(2);
    net.x = in<T>(y);
    net.inverse = &tube;
    net.y = out<T>(x);
    run(net, 0);
  });
}

STABLE_TORCH_LIBRARY_IMPL(spectral_native, CPU, m) { SPECTRAL_OP(m, from_branches, &from_branches); }

}  // namespace spectral
