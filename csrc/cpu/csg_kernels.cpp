#include "csg.h"

namespace spectral {

// filters[j] = the slices generator @ codes[s] of layer j, put together and cropped.
void csg_kernels(const Tensor& codes, const Tensor& generator, std::vector<int64_t> kernel_shapes,
                 std::vector<int64_t> slice_shape, bool flat, bool channels_last, std::vector<Tensor> filters) {
  visit_real(codes.scalar_type(), "csg_kernels", [&](auto zero) {
    using T = decltype(zero);
    CsgLayers<T> layers(codes, generator, kernel_shapes, slice_shape, flat, channels_last);
    std::vector<T*> places;
    for (const Tensor& filter : filters) places.push_back(out<T>(filter));
    const Csg<T>& csg = layers.at(places);
    const int64_t panel = kernels<T>().csg_items.panel;
    parallel_for(0, ceil_div(csg.positions, panel), grain(2 * csg.slices * csg.code_size * panel),
                 [&](int64_t begin, int64_t end) { kernels<T>().csg(csg, begin, end); });
  });
}

STABLE_TORCH_LIBRARY_IMPL(spectral_native, CPU, m) { SPECTRAL_OP(m, csg_kernels, &csg_kernels); }

}  // namespace spectral
