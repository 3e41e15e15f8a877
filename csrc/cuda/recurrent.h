// The arguments that the recurrent ops share.
#pragma once
#include "drive.h"

namespace spectral::cuda {

// A layer that lacks its results; all of its tensors are real, or all are complex, Python sees to that.
template <class T>
Recurrent<T> recurrent_layer(const Tensor& x, const Tensor& weight_x, const Tensor& weight_h, const Tensor& weight_y,
                             const std::optional<Tensor>& bias, const Tensor& h0, int64_t activation_h, double offset_h,
                             int64_t activation_y, double offset_y, const std::optional<Tensor>& lengths) {
  Recurrent<T> layer{};
  layer.complex = is_complex(x);
  layer.steps = x.size(0);
  layer.branches = x.size(1);
  layer.samples = x.size(2);
  layer.in = x.size(3);
  layer.hidden = weight_x.size(1);
  layer.out = weight_y.size(1);
  layer.x = in<T>(x);
  layer.weight_x = in<T>(weight_x);
  layer.weight_h = in<T>(weight_h);
  layer.weight_y = in<T>(weight_y);
  layer.bias = in<T>(bias);
  layer.h0 = in<T>(h0);
  layer.activation_h = Activation(activation_h);
  layer.activation_y = Activation(activation_y);
  layer.offset_h = T(offset_h);
  layer.offset_y = T(offset_y);
  layer.lengths = in<int64_t>(lengths);
  return layer;
}

}  // namespace spectral::cuda
