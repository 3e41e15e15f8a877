// The arguments that the recurrent ops share.
#pragma once
#include "drive.h"

namespace spectral {

// A layer that lacks its results and the size of its tiles. Complex tensors count twice as many values.
template <class T>
Recurrent<T> recurrent_layer(const Tensor& x, const Tensor& weight_x, const Tensor& weight_h, const Tensor& weight_y,
                             const std::optional<Tensor>& bias, const Tensor& h0, int64_t activation_h, double offset_h,
                             int64_t activation_y, double offset_y, const std::optional<Tensor>& lengths) {
  Recurrent<T> layer{};
  layer.complex = is_complex(x);
  const int64_t parts = layer.complex ? 2 : 1;
  layer.steps = x.size(0);
  layer.branches = x.size(1);
  layer.samples = x.size(2);
  layer.in = parts * x.size(3);
  layer.hidden = parts * weight_x.size(1);
  layer.out = parts * weight_y.size(1);
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

template <class T> int64_t operations_of_a_step(const Recurrent<T>& layer) {
  return 2 * layer.hidden * (layer.in + layer.hidden + layer.out);
}

// Runs the forward kernel over (branch, tile of samples), in tiles as equal as their size allows.
template <class T> void roll_out(Recurrent<T> layer) {
  const int64_t tiles = ceil_div(layer.samples, kernels<T>().recurrent_tile);
  if (tiles == 0) return;
  layer.tile = ceil_div(layer.samples, tiles);
  parallel_for(0, layer.branches * ceil_div(layer.samples, layer.tile),
               grain(layer.steps * layer.tile * operations_of_a_step(layer)),
               [&](int64_t begin, int64_t end) { kernels<T>().recurrent(layer, begin, end); });
}

}  // namespace spectral
