#include "mlp.h"

namespace spectral {

// x (N, I, Q), transform (Q', Q) -> out (Q', N, I)
void to_branches(const Tensor& x, const Tensor& transform, const Tensor& y) {
  visit_number(x.scalar_type(), "to_branches", [&](auto zero) {
    using T = decltype(zero);
    Network<T> net{};
    net.samples = x.size(0);
    net.branches = transform.size(0);
    net.in = net.out = net.widest = x.size(1);
    net.x = in<T>(x);
    net.y = out<T>(y);
    if (is_complex(transform)) {
      const PackedComplexTube<T> tube(transform);
      return run(ComplexNetwork<T>{net, &tube.matrix, nullptr, is_complex(x), true}, 0);
    }
    const auto tube = packed<T>(transform);
    net.transform = &tube->matrix;
    run(net, 0);
  });
}

STABLE_TORCH_LIBRARY_IMPL(spectral_native, CPU, m) { SPECTRAL_OP(m, to_branches, &to_branches); }

}  // namespace spectral
