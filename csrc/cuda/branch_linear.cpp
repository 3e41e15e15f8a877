#include "drive.h"

namespace spectral::cuda {

// x (Q, N, I), weight (Q, O, I), bias (Q, O) -> out (Q, N, O)
void branch_linear(const Tensor& x, const Tensor& weight, std::optional<Tensor> bias, int64_t activation, double offset,
                   const Tensor& y) {
  visit_number(x.scalar_type(), "branch_linear", [&](auto zero) {
    using T = decltype(zero);
    const Call call(x);
    Chain<T> c{};
    set_layers<T>(c, {weight}, {bias}, {activation}, {offset});
    c.rows = x.size(1);
    c.x = in<T>(x);
    c.y = out<T>(y);
    c.from = branch_rows(c.rows, x.size(2), c.complex);
    c.to = branch_rows(c.rows, weight.size(1), c.complex);
    run(c, call.stream());
  });
}

SPECTRAL_CUDA_LIBRARY(m) { SPECTRAL_OP(m, branch_linear, &branch_linear); }

}  // namespace spectral::cuda
