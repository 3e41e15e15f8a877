#include "tucker.h"

namespace spectral::cuda {

// The gradients of all arguments from grad_y; core_out and core_in as the rule module says. Two launches, and the sums
// of what their blocks leave, in order.
void tucker_conv2d_backward(const Tensor& grad_y, const Tensor& x, const Tensor& core, const Tensor& u_out,
                            const Tensor& u_in, const Tensor& core_out, const Tensor& core_in, Ints stride,
                            Ints padding, Ints dilation, Ints tile, bool channels_last, std::optional<Tensor> grad_x,
                            const Tensor& grad_core, const Tensor& grad_u_out, const Tensor& grad_u_in,
                            const Tensor& grad_bias) {
  visit_real(x.scalar_type(), "tucker_conv2d_backward", [&](auto zero) {
    using T = decltype(zero);
    Call call(x);
    const TuckerGeometry geometry{core, stride, padding, dilation, tile, channels_last};
    const auto add_up = [&](int blocks, auto... totals) {
      BlockSums<T> sums{};
      sums.blocks = blocks;
      const auto partial = [&](const Tensor& total) {
        T* memory = call.memory<T>(blocks * total.numel());
        sums.parts[sums.count++] = {memory, out<T>(total), total.numel()};
        return memory;
      };
      (void)std::initializer_list<int>{(*totals.second = partial(totals.first), 0)...};
      return sums;
    };
    Tucker<T> back = geometry.stages<T>(grad_y, x, u_out, u_in, true, kGradientItems);
    back.result = out<T>(grad_x);
    back.other = in<T>(x);
    back.other_core = in<T>(core_in);
    const BlockSums<T> of_u_in = add_up(back.blocks, std::pair<const Tensor&, T**>(grad_u_in, &back.factor_sums));
    run(back, call.stream());
    run(of_u_in, call.stream());
    Tucker<T> factors = geometry.stages<T>(x, grad_y, u_in, u_out, false, kGradientItems);
    factors.other = in<T>(grad_y);
    factors.other_core = in<T>(core_out);
    const BlockSums<T> of_factors = add_up(factors.blocks, std::pair<const Tensor&, T**>(grad_core, &factors.core_sums),
                                           std::pair<const Tensor&, T**>(grad_u_out, &factors.factor_sums),
                                           std::pair<const Tensor&, T**>(grad_bias, &factors.bias_sums));
    run(factors, call.stream());
    run(of_factors, call.stream());
  });
}

SPECTRAL_CUDA_LIBRARY(m) { SPECTRAL_OP(m, tucker_conv2d_backward, &tucker_conv2d_backward); }

}  // namespace spectral::cuda
