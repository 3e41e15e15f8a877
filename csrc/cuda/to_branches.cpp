#include "stages.h"

namespace spectral::cuda {

// x (N, I, Q), transform (Q', Q) -> out (Q', N, I)
void to_branches(const Tensor& x, const Tensor& transform, const Tensor& y) {
  visit_number(x.scalar_type(), "to_branches", [&](auto zero) {
    using T = decltype(zero);
    const Call call(x);
    analyse(call, in<T>(x), is_complex(x), transform, false, x.size(0) * x.size(1), out<T>(y));
  });
}

SPECTRAL_CUDA_LIBRARY(m) { SPECTRAL_OP(m, to_branches, &to_branches); }

}  // namespace spectral::cuda
