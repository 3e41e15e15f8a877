#include "csg.h"

namespace spectral::cuda {

// filters[j] = the slices generator @ codes[s] of layer j, put together and cropped.
void csg_kernels(const Tensor& codes, const Tensor& generator, std::vector<int64_t> kernel_shapes,
                 std::vector<int64_t> slice_shape, bool flat, bool channels_last, Tensors filters) {
  visit_real(codes.scalar_type(), "csg_kernels", [&](auto zero) {
    using T = decltype(zero);
    const Call call(codes);
    std::vector<T*> places;
    for (const Tensor& filter : filters) places.push_back(out<T>(filter));
    each_launch<T>(codes, generator, kernel_shapes, csg_shape(slice_shape, flat, channels_last), places,
                   [&](const Csg<T>& csg, int64_t) { run(csg, call.stream()); });
  });
}

SPECTRAL_CUDA_LIBRARY(m) { SPECTRAL_OP(m, csg_kernels, &csg_kernels); }

}  // namespace spectral::cuda
