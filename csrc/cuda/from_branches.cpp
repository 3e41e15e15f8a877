#include "stages.h"

namespace spectral::cuda {

// y (Q', N, I), inverse (Q, Q') -> out (N, I, Q), real where it holds the real part only
void from_branches(const Tensor& y, const Tensor& inverse, const Tensor& x) {
  visit_number(y.scalar_type(), "from_branches", [&](auto zero) {
    using T = decltype(zero);
    const Call call(y);
    synthesise(call, in<T>(y), inverse, false, y.size(1) * y.size(2), is_complex(x), out<T>(x));
  });
}

SPECTRAL_CUDA_LIBRARY(m) { SPECTRAL_OP(m, from_branches, &from_branches); }

}  // namespace spectral::cuda
