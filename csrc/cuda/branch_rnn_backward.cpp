#include "recurrent.h"
#include "stages.h"

namespace spectral::cuda {

// grad_y (T, Q, N, O), grad_h (Q, N, P) and grad_states (T, Q, N, P), or none, and the layer with its states
// -> grad_x (T, Q, N, I) or none, and the gradients of weights, bias and h0.
void branch_rnn_backward(std::optional<Tensor> grad_y, std::optional<Tensor> grad_h, std::optional<Tensor> grad_states,
                         const Tensor& x, const Tensor& weight_x, const Tensor& weight_h, const Tensor& weight_y,
                         std::optional<Tensor> bias, const Tensor& h0, const Tensor& states, int64_t activation_h,
                         double offset_h, int64_t activation_y, double offset_y, std::optional<Tensor> lengths,
                         std::optional<Tensor> grad_x, const Tensor& grad_weight_x, const Tensor& grad_weight_h,
                         const Tensor& grad_weight_y, std::optional<Tensor> grad_bias, const Tensor& grad_h0) {
  visit_number(x.scalar_type(), "branch_rnn_backward", [&](auto zero) {
    using T = decltype(zero);
    Call call(x);
    RecurrentGradients<T> g{};
    g.layer = recurrent_layer<T>(x, weight_x, weight_h, weight_y, bias, h0, activation_h, offset_h, activation_y,
                                 offset_y, lengths);
    g.states = in<T>(states);
    g.grad_y = in<T>(grad_y);
    g.grad_last = in<T>(grad_h);
    g.grad_states = in<T>(grad_states);
    g.grad_x = out<T>(grad_x);
    g.grad_h0 = out<T>(grad_h0);
    g.block = samples_of_a_block(g.layer.samples, g.layer.branches, kGradientTile);
    BlockSums<T> sums{};
    sums.blocks = some((g.layer.samples + g.block - 1) / g.block);  // without samples one empty block writes zeros
    const auto partial = [&](T* total, int64_t numbers) {
      const int64_t values = numbers * (g.layer.complex ? 2 : 1);
      if (sums.blocks == 1) return total;
      T* memory = call.memory<T>(sums.blocks * values);
      sums.parts[sums.count++] = {memory, total, values};
      return memory;
    };
    g.sums_x = partial(out<T>(grad_weight_x), weight_x.numel());
    g.sums_h = partial(out<T>(grad_weight_h), weight_h.numel());
    g.sums_y = partial(out<T>(grad_weight_y), weight_y.numel());
    if (bias) g.sums_bias = partial(out<T>(grad_bias), bias->numel());
    run_backward(g, sums.blocks, call.stream());
    run(sums, call.stream());
  });
}

SPECTRAL_CUDA_LIBRARY(m) { SPECTRAL_OP(m, branch_rnn_backward, &branch_rnn_backward); }

}  // namespace spectral::cuda
