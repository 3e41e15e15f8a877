#include "csg.h"

namespace spectral {

// The gradients of codes and generator, each where wanted.
void csg_kernels_backward(OptionalTensors grads, const Tensor& codes, const Tensor& generator,
                          std::vector<int64_t> kernel_shapes, std::vector<int64_t> slice_shape, bool flat,
                          bool channels_last, std::optional<Tensor> grad_codes, std::optional<Tensor> grad_generator) {
  visit_real(codes.scalar_type(), "csg_kernels_backward", [&](auto zero) {
    using T = decltype(zero);
    CsgLayers<T> layers(codes, generator, kernel_shapes, slice_shape, flat, channels_last);
    std::vector<T*> places;
    for (const auto& grad : grads) places.push_back(const_cast<T*>(in<T>(grad)));  // only read
    Csg<T> csg = layers.at(places);
    csg.grad_codes = out<T>(grad_codes);
    csg.grad_generator = out<T>(grad_generator);

    const Kernels<T>& run = kernels<T>();
    const int64_t width = ceil_div(csg.code_size, run.tile) * run.tile;
    CallMemory memory(CallMemory::bytes_for<T>(csg.slices * width) + CallMemory::bytes_for<T>(csg.positions * width));
    if (csg.grad_generator) csg.codes_packed = memory.take<T>(csg.slices * width);
    if (csg.grad_codes) csg.generator_packed = memory.take<T>(csg.positions * width);
    parallel_for(0, csg.slices + csg.positions, grain(2 * width),
                 [&](int64_t begin, int64_t end) { run.csg_pack(csg, begin, end); });
    const int64_t slices = run.csg_items.code_block, positions = run.csg_items.generator_block;
    if (csg.grad_codes)
      parallel_for(0, ceil_div(csg.slices, slices), grain(2 * slices * csg.positions * width),
                   [&](int64_t begin, int64_t end) { run.csg_code_gradients(csg, begin, end); });
    if (csg.grad_generator)
      parallel_for(0, ceil_div(csg.positions, positions), grain(2 * positions * csg.slices * width),
                   [&](int64_t begin, int64_t end) { run.csg_generator_gradients(csg, begin, end); });
  });
}

STABLE_TORCH_LIBRARY_IMPL(spectral_native, CPU, m) { SPECTRAL_OP(m, csg_kernels_backward, &csg_kernels_backward); }

}  // namespace spectral
