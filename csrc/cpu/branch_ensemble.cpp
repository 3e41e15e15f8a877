#include "branch_ensemble.h"

namespace spectral {

// logits (Q, N, C), weights (Q,) -> out (N, C)
void branch_ensemble(const Tensor& logits, const Tensor& weights, bool softmax, const Tensor& y) {
  visit_real(logits.scalar_type(), "branch_ensemble", [&](auto zero) {
    using T = decltype(zero);
    ensemble(in<T>(logits), logits.size(0), logits.size(1), logits.size(2), in<T>(weights), softmax, out<T>(y));
  });
}

STABLE_TORCH_LIBRARY_IMPL(spectral_native, CPU, m) { SPECTRAL_OP(m, branch_ensemble, &branch_ensemble); }

}  // namespace spectral
