#include "csg.h"

namespace spectral::cuda {

// The gradients of codes and generator, each where wanted: a product each, whose depth is split, and the parts added in
// order.
void csg_kernels_backward(OptionalTensors grads, const Tensor& codes, const Tensor& generator,
                          std::vector<int64_t> kernel_shapes, std::vector<int64_t> slice_shape, bool flat,
                          bool channels_last, std::optional<Tensor> grad_codes, std::optional<Tensor> grad_generator) {
  visit_real(codes.scalar_type(), "csg_kernels_backward", [&](auto zero) {
    using T = decltype(zero);
    Call call(codes);
    std::vector<T*> places;
    for (const auto& grad : grads) places.push_back(const_cast<T*>(in<T>(grad)));  // only read
    const auto each = [&](auto f) {
      each_launch<T>(codes, generator, kernel_shapes, csg_shape(slice_shape, flat, channels_last), places, f);
    };
    const auto add = [&](T* sums, T* total, int64_t values, int64_t blocks) {
      BlockSums<T> all{};
      all.blocks = blocks;
      all.count = 1;
      all.parts[0] = {sums, total, values};
      run(all, call.stream());
    };
    if (grad_codes)
      each([&](const Csg<T>& csg, int64_t begin) {
        const int64_t values = csg.slices * csg.source.code_size, splits = code_splits(csg);
        T* total = out<T>(grad_codes) + begin * csg.source.code_size;
        T* sums = splits == 1 ? total : call.memory<T>(splits * values);
        run_code_gradients(csg, sums, call.stream());
        if (splits > 1) add(sums, total, values, splits);
      });
    if (grad_generator) {
      int64_t splits = 0;
      each([&](const Csg<T>& csg, int64_t) { splits += generator_splits(csg); });
      const int64_t values = generator.numel();
      T* const total = out<T>(grad_generator);
      T* const sums = splits == 1 ? total : call.memory<T>(splits * values);
      int64_t done = 0;
      each([&](const Csg<T>& csg, int64_t) {
        run_generator_gradients(csg, sums + done * values, call.stream());
        done += generator_splits(csg);
      });
      if (splits > 1) add(sums, total, values, splits);
    }
  });
}

SPECTRAL_CUDA_LIBRARY(m) { SPECTRAL_OP(m, csg_kernels_backward, &csg_kernels_backward); }

}  // namespace spectral::cuda
