#include "recurrent.h"

namespace spectral::cuda {

// x (T, Q, N, I), weight_x (Q, P, I), weight_h (Q, P, P), weight_y (Q, O, P), bias (Q, P), h0 (Q, N, P), lengths (N)
// -> y (T, Q, N, O), h (Q, N, P)
void branch_rnn(const Tensor& x, const Tensor& weight_x, const Tensor& weight_h, const Tensor& weight_y,
                std::optional<Tensor> bias, const Tensor& h0, int64_t activation_h, double offset_h,
                int64_t activation_y, double offset_y, std::optional<Tensor> lengths, const Tensor& y,
                const Tensor& h) {
  visit_number(x.scalar_type(), "branch_rnn", [&](auto zero) {
    using T = decltype(zero);
    const Call call(x);
    Recurrent<T> layer = recurrent_layer<T>(x, weight_x, weight_h, weight_y, bias, h0, activation_h, offset_h,
                                            activation_y, offset_y, lengths);
    layer.y = out<T>(y);
    layer.last = out<T>(h);
    run(layer, call.stream());
  });
}

SPECTRAL_CUDA_LIBRARY(m) { SPECTRAL_OP(m, branch_rnn, &branch_rnn); }

}  // namespace spectral::cuda
