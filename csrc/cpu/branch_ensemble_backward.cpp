#include "drive.h"

namespace spectral {

// grad_y (N, C), logits (Q, N, C), weights (Q,) -> grad_logits (Q, N, C), grad_weights (Q,)
void branch_ensemble_backward(const Tensor& grad_y, const Tensor& logits, const Tensor& weights, bool softmax,
                              const Tensor& grad_logits, const Tensor& grad_weights) {
  visit_real(logits.scalar_type(), "branch_ensemble_backward", [&](auto zero) {
    using T = decltype(zero);
    Ensemble<T> e{};
    e.branches = logits.size(0);
    e.samples = logits.size(1);
    e.classes = logits.size(2);
    e.logits = in<T>(logits);
    e.weights = in<T>(weights);
    e.softmax = softmax;
    e.grad_y = in<T>(grad_y);
    e.grad_logits = out<T>(grad_logits);
    // blocks depend on the sizes alone, and are summed in order: the same bits for any number of threads
    const int64_t tile = kernels<T>().tile, wanted = std::clamp<int64_t>(ceil_div(e.samples, tile), 1, 256);
    e.block = std::max<int64_t>(ceil_div(ceil_div(e.samples, wanted), tile), 1) * tile;
    const int64_t blocks = ceil_div(e.samples, e.block);
    CallMemory memory(CallMemory::bytes_for<double>(blocks * e.branches));
    e.scores = memory.take<double>(blocks * e.branches);
    parallel_for(0, blocks, grain(40 * e.block * e.branches * e.classes),
                 [&](int64_t begin, int64_t end) { kernels<T>().ensemble_gradients(e, begin, end); });
    for (int64_t q = 0; q < e.branches; ++q) {
      double total = 0;
      for (int64_t b = 0; b < blocks; ++b) total += e.scores[b * e.branches + q];
      out<T>(grad_weights)[q] = T(total);
    }
  });
}

STABLE_TORCH_LIBRARY_IMPL(spectral_native, CPU, m) {
  SPECTRAL_OP(m, branch_ensemble_backward, &branch_ensemble_backward);
}

}  // namespace spectral
