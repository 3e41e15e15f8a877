#include "ensemble.h"
#include "stages.h"

namespace spectral::cuda {

// grad_y (N, C), logits (Q, N, C), weights (Q,) -> grad_logits (Q, N, C), grad_weights (Q,)
void branch_ensemble_backward(const Tensor& grad_y, const Tensor& logits, const Tensor& weights, bool softmax,
                              const Tensor& grad_logits, const Tensor& grad_weights) {
  visit_real(logits.scalar_type(), "branch_ensemble_backward", [&](auto zero) {
    using T = decltype(zero);
    Call call(logits);
    Ensemble<T> e =
        ensemble(in<T>(logits), false, logits.size(0), logits.size(1), logits.size(2), in<T>(weights), softmax);
    e.grad_y = in<T>(grad_y);
    e.grad_logits = out<T>(grad_logits);
    e.block = samples_of_a_block(e.samples, e.branches, kGradientTile);
    e.blocks = some((e.samples + e.block - 1) / e.block);
    e.scores = call.memory<double>(e.blocks * e.branches);
    run_backward(e, call.stream());
    add_branch_sums(e.scores, e.blocks, e.branches, 1.0, out<T>(grad_weights), call.stream());
  });
}

SPECTRAL_CUDA_LIBRARY(m) { SPECTRAL_OP(m, branch_ensemble_backward, &branch_ensemble_backward); }

}  // namespace spectral::cuda
