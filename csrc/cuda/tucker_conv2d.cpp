#include "tucker.h"

namespace spectral::cuda {

// x (N, C, H, W), core (groups, kh, kw, r_out, r_in), u_out (O, r_out), u_in (C, r_in), bias (O,) -> y (N, O, H', W')
void tucker_conv2d(const Tensor& x, const Tensor& core, const Tensor& u_out, const Tensor& u_in,
                   std::optional<Tensor> bias, Ints stride, Ints padding, Ints dilation, Ints tile, bool channels_last,
                   const Tensor& y) {
  visit_real(x.scalar_type(), "tucker_conv2d", [&](auto zero) {
    using T = decltype(zero);
    constexpr int64_t kBlocks = 2048;  // some waves of blocks; none waits for another
    const Call call(x);
    const TuckerGeometry geometry{core, stride, padding, dilation, tile, channels_last};
    Tucker<T> t = geometry.stages<T>(x, y, u_in, u_out, false, kBlocks);
    t.bias = in<T>(bias);
    t.result = out<T>(y);
    run(t, call.stream());
  });
}

SPECTRAL_CUDA_LIBRARY(m) { SPECTRAL_OP(m, tucker_conv2d, &tucker_conv2d); }

}  // namespace spectral::cuda
