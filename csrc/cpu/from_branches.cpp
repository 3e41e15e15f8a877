#include "drive.h"

namespace spectral {

// y (Q', N, I), inverse (Q, Q') -> out (N, I, Q), real where it holds the real part only
void from_branches(const Tensor& y, const Tensor& inverse, const Tensor& x) {
  visit_number(y.scalar_type(), "from_branches", [&](auto zero) {
    using T = decltype(zero);
    Network<T> net{};
    net.samples = y.size(1);
    net.branches = y.size(0);
    net.in = net.out = net.widest = y.size(2);
    net.x = in<T>(y);
    net.y = out<T>(x);
    if (is_complex(inverse)) {
      const PackedComplexTube<T> tube(inverse, is_complex(x) ? 1 : -1);
      return run(ComplexNetwork<T>{net, nullptr, &tube.matrix, true, is_complex(x)}, 0);
    }
    const auto tube = packed<T>(inverse);
    net.inverse = &tube->matrix;
    run(net, 0);
  });
}

STABLE_TORCH_LIBRARY_IMPL(spectral_native, CPU, m) { SPECTRAL_OP(m, from_branches, &from_branches); }

}  // namespace spectral
