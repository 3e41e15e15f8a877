#include "csg.h"

namespace spectral::cuda {

// The gradients of codes and generator, each where wanted.
void csg_kernels_backward(OptionalTensors grads, const Tensor& codes, const Tensor& generator,
                          std::vector<int64_t> kernel_shapes, std::vector<int64_t> slice_shape, bool flat,
                          bool channels_last, std::optional<Tensor> grad_codes, std::optional<Tensor> grad_generator) {
  visit_real(codes.scalar_type(), "csg_kernels_backward", [&](auto zero) {
    using T = decltype(zero);
    Call call(codes);
    std::vector<T*> places;
    for (const auto& grad : grads) places.push_back(const_cast<T*>(in<T>(grad)));  // only read
    csg_gradients<T>(call, codes, generator, kernel_shapes, csg_shape(slice_shape, flat, channels_last), places,
                     out<T>(grad_codes), out<T>(grad_generator));
  });
}

SPECTRAL_CUDA_LIBRARY(m) { SPECTRAL_OP(m, csg_kernels_backward, &csg_kernels_backward); }

}  // namespace spectral::cuda
