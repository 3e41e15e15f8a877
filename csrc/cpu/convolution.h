// The library's convolution of images (N, C, H, W), through the C functions that compiled models call it by: they are
// as stable as the rest of the ABI, and cost less than a call through the dispatcher.
#pragma once
#include <torch/csrc/inductor/aoti_torch/generated/c_shim_cpu.h>

#include <array>
#include <vector>

#include "../torch.h"

namespace spectral {

// Other sizes and strides of the same values.
inline Tensor seen(const Tensor& t, const std::vector<int64_t>& sizes, const std::vector<int64_t>& strides) {
  AtenTensorHandle made = nullptr;
  SPECTRAL_CHECK(aoti_torch__reinterpret_tensor(t.get(), static_cast<int64_t>(sizes.size()), sizes.data(),
                                                strides.data(), 0, &made) == AOTI_TORCH_SUCCESS,
                 "no view of a tensor");
  return Tensor(made);
}

// The memory order of images: channels last, or first.
struct Order {
  bool last;

  Tensor empty(const Tensor& like, int64_t channels) const {
    return empty(like, {like.size(0), channels, like.size(2), like.size(3)});
  }

  Tensor empty(const Tensor& like, const std::array<int64_t, 4>& sizes) const {
    const auto [images, channels, height, width] = sizes;
    const int64_t area = height * width;
    const int64_t strides[] = {channels * area, last ? 1 : area, last ? width * channels : width, last ? channels : 1};
    int32_t dtype, device;
    AtenTensorHandle made = nullptr;
    SPECTRAL_CHECK(
        aoti_torch_get_dtype(like.get(), &dtype) == AOTI_TORCH_SUCCESS &&
            aoti_torch_get_device_type(like.get(), &device) == AOTI_TORCH_SUCCESS &&
            aoti_torch_empty_strided(4, sizes.data(), strides, dtype, device, 0, &made) == AOTI_TORCH_SUCCESS,
        "no memory for images");
    return Tensor(made);
  }

  // t in this order: t itself where it lies so (strides along a dimension of one value mean nothing).
  Tensor of(const Tensor& t) const {
    constexpr int64_t kFastestFirst[2][4] = {{3, 2, 1, 0}, {1, 3, 2, 0}};
    int64_t step = 1;
    for (const int64_t d : kFastestFirst[last]) {
      if (t.size(d) != 1 && t.stride(d) != step)
        return torch::stable::contiguous(
            t, last ? torch::headeronly::MemoryFormat::ChannelsLast : torch::headeronly::MemoryFormat::Contiguous);
      step *= t.size(d);
    }
    return t;
  }
};

struct Convolution {
  std::vector<int64_t> stride, padding, dilation;
  int64_t groups;

  // x (N, C, H, W), weight (O, C / groups, kh, kw), bias (O,)
  Tensor forward(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias) const {
    AtenTensorHandle vector = bias ? bias->get() : nullptr, y = nullptr;
    SPECTRAL_CHECK(
        aoti_torch_cpu_convolution(x.get(), weight.get(), bias ? &vector : nullptr, stride.data(), 2, padding.data(), 2,
                                   dilation.data(), 2, false, kNone, 2, groups, &y) == AOTI_TORCH_SUCCESS,
        "the library's convolution failed");
    return Tensor(y);
  }

  // The gradients of x, weight and bias, each where it is wanted.
  std::array<Tensor, 3> backward(const Tensor& grad, const Tensor& x, const Tensor& weight,
                                 std::array<bool, 3> want) const {
    const int32_t mask[] = {want[0], want[1], want[2]};
    const int64_t outputs[] = {weight.size(0)}, *bias_sizes = outputs;
    AtenTensorHandle grads[3] = {};
    SPECTRAL_CHECK(
        aoti_torch_cpu_convolution_backward(grad.get(), x.get(), weight.get(), want[2] ? &bias_sizes : nullptr, 1,
                                            stride.data(), 2, padding.data(), 2, dilation.data(), 2, false, kNone, 2,
                                            groups, mask, 3, &grads[0], &grads[1], &grads[2]) == AOTI_TORCH_SUCCESS,
        "the gradient of the library's convolution failed");
    return {Tensor(grads[0]), Tensor(grads[1]), Tensor(grads[2])};
  }

 private:
  static constexpr int64_t kNone[] = {0, 0};
};

}  // namespace spectral
