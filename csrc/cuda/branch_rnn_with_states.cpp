#include "recurrent.h"

namespace spectral::cuda {

// branch_rnn -> y (T, Q, N, O), h (Q, N, P), states (T, Q, N, P)
void branch_rnn_with_states(const Tensor& x, const Tensor& weight_x, const Tensor& weight_h, const Tensor& weight_y,
                            std::optional<Tensor> bias, const Tensor& h0, int64_t activation_h, double offset_h,
                            int64_t activation_y, double offset_y, std::optional<Tensor> lengths, const Tensor& y,
                            const Tensor& h, const Tensor& states) {
  visit_number(x.scalar_type(), "branch_rnn_with_states", [&](auto zero) {
    using T = decltype(zero);
    const Call call(x);
    Recurrent<T> layer = recurrent_layer<T>(x, weight_x, weight_h, weight_y, bias, h0, activation_h, offset_h,
                                            activation_y, offset_y, lengths);
    layer.y = out<T>(y);
    layer.last = out<T>(h);
    layer.states = out<T>(states);
    run(layer, call.stream());
  });
}

SPECTRAL_CUDA_LIBRARY(m) { SPECTRAL_OP(m, branch_rnn_with_states, &branch_rnn_with_states); }

}  // namespace spectral::cuda
