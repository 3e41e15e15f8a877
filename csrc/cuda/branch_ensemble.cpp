#include "ensemble.h"

namespace spectral::cuda {

// logits (Q, N, C), weights (Q,) -> out (N, C)
void branch_ensemble(const Tensor& logits, const Tensor& weights, bool softmax, const Tensor& y) {
  visit_real(logits.scalar_type(), "branch_ensemble", [&](auto zero) {
    using T = decltype(zero);
    const Call call(logits);
    Ensemble<T> e =
        ensemble(in<T>(logits), false, logits.size(0), logits.size(1), logits.size(2), in<T>(weights), softmax);
    e.y = out<T>(y);
    run(e, call.stream());
  });
}

SPECTRAL_CUDA_LIBRARY(m) { SPECTRAL_OP(m, branch_ensemble, &branch_ensemble); }

}  // namespace spectral::cuda
