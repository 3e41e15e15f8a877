// The gradients of spectral_linear, tile by tile: both transforms, the layer and the way back without leaving L2.
// Work item: a block of samples, all branches.
#include "accumulate.h"
#include "tube.h"

namespace spectral::SPECTRAL_LEVEL {

template <class T> struct TubeDescent {
  const TubeGradients<T>& net;
  T *inputs, *grads;       // tiles [branch][feature]: the transformed x, and the gradient of the layer's result
  T *row, *other, *space;  // one tube, [q][sample]
  T *argument, *value;     // of one branch: before and after the activation, where its derivative needs them
  T *rows, *sums;          // for the weight gradients; sums [branch][sums_size]
  bool sets;               // whether this tile sets the sums

  template <int V> void tile(int64_t first, int64_t count) const {
    const Layer<T>& layer = net.layer;
    const int64_t tube = net.transform->columns, in = layer.in, out = layer.out, step = kTile<T>;
    for (int64_t i = 0; i < in; ++i) {
      load_tile(net.x + (first * in + i) * tube, in * tube, count, tube, row);
      apply<T, V>(*net.transform, row, step, inputs + i * step, in * step, space, 0, net.branches);
    }
    for (int64_t o = 0; o < out; ++o) {
      load_tile(net.grad_y + (first * out + o) * tube, out * tube, count, tube, row);
      if (net.output_activation != Activation::none) {
        load_tile(net.y + (first * out + o) * tube, out * tube, count, tube, other);
        descend(net.output_activation, row, other, other, tube);
      }
      apply<T, V>(*net.inverse_adjoint, row, step, grads + o * step, out * step, space, 0, net.branches);
    }
    for (int64_t branch = 0; branch < net.branches; ++branch) {
      T *h = inputs + branch * in * step, *grad = grads + branch * out * step, *sum = sums + branch * sums_size(layer);
      if (layer.activation != Activation::none) {
        forward_layer<T, V>(layer, branch, h, value, argument);
        descend(layer.activation, grad, argument, value, out);
      }
      if (count < kTile<T>) clear_lanes(grad, out, count);
      accumulate(sets, layer, h, grad, count, rows, sum, sum + out * padded<T>(in));
      // h has served: the gradient of the transformed x takes its place
      if (net.grad_x)
        product<T, V, Factor::rows, Start::zero, Finish::store>(grad, step, out, layer.weight + branch * in * out, in,
                                                                nullptr, h, step, in);
    }
    for (int64_t i = 0; net.grad_x && i < in; ++i) {
      apply<T, V>(*net.transform_adjoint, inputs + i * step, in * step, row, step, space, 0, tube);
      store_tile(row, tube, count, net.grad_x + (first * in + i) * tube, in * tube);
    }
  }
};

template <class T> void tube_gradients(const TubeGradients<T>& net, int64_t begin, int64_t end) {
  const Layer<T>& layer = net.layer;
  const int64_t tube = net.transform->columns, widest = max(max(layer.in, layer.out), 1);
  const int64_t space =
      max(max(tube_space(*net.transform), tube_space(*net.inverse_adjoint)), tube_space(*net.transform_adjoint));
  const int64_t inputs = net.branches * layer.in * kTile<T>, grads = net.branches * layer.out * kTile<T>;
  const int64_t row = tube * kTile<T>, layer_tile = widest * kTile<T>, rows = kTile<T> * padded<T>(widest);
  const int64_t sums = net.branches * sums_size(layer);
  T* next = static_cast<T*>(scratch(
      Slot::item, (inputs + grads + 2 * row + space + 2 * layer_tile + rows + BlockSums<T>::space(sums)) * sizeof(T)));
  const auto take = [&](int64_t values) {
    T* taken = next;
    next += values;
    return taken;
  };
  TubeDescent<T> descent{net, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, true};
  descent.inputs = take(inputs);
  descent.grads = take(grads);
  descent.row = take(row);
  descent.other = take(row);
  descent.space = take(space);
  descent.argument = take(layer_tile);
  descent.value = take(layer_tile);
  descent.rows = take(rows);
  descent.sums = take(sums);
  BlockSums<T> block_sums{descent.sums, take(sums), sums};
  for (int64_t block = begin; block < end; ++block) {
    block_sums.start();
    const int64_t last = min(net.samples, (block + 1) * net.block);
    for (int64_t first = block * net.block; first < last; first += kTile<T>) {
      const int64_t count = min(kTile<T>, last - first);
      descent.sets = block_sums.sets();
      count > kLanes<T> ? descent.template tile<2>(first, count) : descent.template tile<1>(first, count);
    }
    const T* result = descent.sums + block_sums.finish();
    for (int64_t branch = 0; branch < net.branches; ++branch) {
      const T* sum = result + branch * sums_size(layer);
      const int64_t item = block * net.branches + branch;
      write_sums(layer, sum, sum + layer.out * padded<T>(layer.in), net.weight_sums + item * layer.out * layer.in,
                 layer.bias ? net.bias_sums + item * layer.out : nullptr);
    }
  }
}

template void tube_gradients<float>(const TubeGradients<float>&, int64_t, int64_t);
template void tube_gradients<double>(const TubeGradients<double>&, int64_t, int64_t);

}  // namespace spectral::SPECTRAL_LEVEL
