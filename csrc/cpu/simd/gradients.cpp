// The gradients of branch networks. A block of samples of one branch is one work item: per tile the forward pass is
// computed again with all activations kept (they stay in L2), then the chain goes backward: the weight gradient
// accumulates in registers over the samples of a tile, the input gradient is one more tile product.
#include "mixture.h"
#include "network.h"

namespace spectral::SPECTRAL_LEVEL {

template <class T> struct Descent {
  const Gradients<T>& net;
  int64_t branch;
  T** activations;  // depth + 1 tiles: the input, then what each layer gives
  T** arguments;    // per layer: before the activation, where the derivative needs it, else null
  T** weight_sums;  // per layer [O][padded I]
  T** bias_sums;    // per layer [O][kLanes]
  T *grad, *next, *rows;

  static int64_t padded(int64_t width) { return round_up(width, kLanes<T>); }

  // weight_sums[j] += grad x h^T over `count` samples; rows holds h transposed, [sample][padded I]
  void accumulate_weights(int64_t j, int64_t count) const {
    const int64_t in = net.layers[j].in, out = net.layers[j].out, width = padded(in);
    transpose_tile(activations[j], in, count, rows, width);
    int64_t column = 0;
    for (; column + 2 * kLanes<T> <= width; column += 2 * kLanes<T>)
      product<T, 2, Factor::tile, Start::accumulate, Finish::store>(rows + column, width, count, grad, 0, nullptr,
                                                                    weight_sums[j] + column, width, out);
    if (column < width)
      product<T, 1, Factor::tile, Start::accumulate, Finish::store>(rows + column, width, count, grad, 0, nullptr,
                                                                    weight_sums[j] + column, width, out);
  }

  void accumulate_bias(int64_t j) const {
    for (int64_t o = 0; o < net.layers[j].out; ++o) {
      T* sum = bias_sums[j] + o * kLanes<T>;
      store(sum, load(sum) + load(grad + o * kTile<T>) + load(grad + o * kTile<T> + kLanes<T>));
    }
  }

  // Lanes without a sample must add nothing, whatever the weights hold.
  static void clear_lanes(T* tile, int64_t width, int64_t count) {
    for (int64_t i = 0; i < width; ++i)
      for (int64_t lane = count; lane < kTile<T>; ++lane) tile[i * kTile<T> + lane] = 0;
  }

  // grad = (softmax(logits) - one hot) / N; returns the sum of the samples' losses.
  double cross_entropy(int64_t first, int64_t count, const T* logits) const {
    const int64_t classes = net.layers[net.depth - 1].out;
    alignas(64) T top[kTile<T>], total[kTile<T>];
    for (int v = 0; v < kTile<T>; v += kLanes<T>) {
      const Vec<T> m = largest(logits + v, classes), sum = exponentials(logits + v, classes, m, grad + v);
      const Vec<T> scale = T(1) / (sum * T(net.samples));
      for (int64_t c = 0; c < classes; ++c) store(grad + c * kTile<T> + v, load(grad + c * kTile<T> + v) * scale);
      store(top + v, m);
      store(total + v, sum);
    }
    double loss = 0;
    for (int64_t lane = 0; lane < count; ++lane) {
      const int64_t c = net.target[first + lane];
      loss += double(std::log(total[lane]) + (top[lane] - logits[c * kTile<T> + lane]));
      grad[c * kTile<T> + lane] -= T(1) / T(net.samples);
    }
    return loss;
  }

  // Forward and backward on one tile; returns the sum of the losses (0 without a target).
  template <int V> double tile(int64_t first, int64_t count) {
    const Layer<T>* layers = net.layers;
    const int64_t depth = net.depth, in = layers[0].in, out = layers[depth - 1].out, row = branch * net.samples + first;
    load_tile(net.x + row * in, in, count, in, activations[0]);
    for (int64_t j = 0; j < depth; ++j)
      forward_layer<T, V>(layers[j], branch, activations[j], activations[j + 1], arguments[j]);
    double loss = 0;
    if (net.target) {
      store_tile(activations[depth], out, count, net.logits + row * out, out);
      loss = cross_entropy(first, count, activations[depth]);
    } else {
      load_tile(net.grad_y + row * out, out, count, out, grad);
    }
    bool through_activation = false;  // whether grad already went through layer j's activation
    for (int64_t j = depth - 1; j >= 0; --j) {
      const Layer<T>& layer = layers[j];
      if (!through_activation && layer.activation != Activation::none)
        descend(layer.activation, grad, arguments[j] ? arguments[j] : activations[j + 1], activations[j + 1],
                layer.out);
      if (count < kTile<T>) clear_lanes(grad, layer.out, count);
      if (layer.bias) accumulate_bias(j);
      accumulate_weights(j, count);
      if (j == 0 && !net.grad_x) break;
      through_activation = j > 0 && layers[j - 1].activation == Activation::relu;
      const T* w = layer.weight + branch * layer.in * layer.out;
      if (through_activation)
        product<T, V, Factor::rows, Start::zero, Finish::relu_slope>(grad, kTile<T>, layer.out, w, layer.in,
                                                                     activations[j], next, kTile<T>, layer.in);
      else
        product<T, V, Factor::rows, Start::zero, Finish::store>(grad, kTile<T>, layer.out, w, layer.in, nullptr, next,
                                                                kTile<T>, layer.in);
      T* swap = grad;
      grad = next;
      next = swap;
    }
    if (net.grad_x) store_tile(grad, in, count, net.grad_x + row * in, in);
    return loss;
  }

  // The sums of this item, out of their padded rows.
  void write(int64_t block) const {
    for (int64_t j = 0; j < net.depth; ++j) {
      const int64_t in = net.layers[j].in, out = net.layers[j].out, item = block * net.branches + branch;
      for (int64_t o = 0; o < out; ++o)
        std::memcpy(net.weight_sums[j] + (item * out + o) * in, weight_sums[j] + o * padded(in), in * sizeof(T));
      if (!net.layers[j].bias) continue;
      for (int64_t o = 0; o < out; ++o) {
        T total = 0;
        for (int lane = 0; lane < kLanes<T>; ++lane) total += bias_sums[j][o * kLanes<T> + lane];
        net.bias_sums[j][item * out + o] = total;
      }
    }
  }
};

template <class T> void gradients(const Gradients<T>& net, int64_t begin, int64_t end) {
  const int64_t depth = net.depth, widest = max(net.widest, 1);
  // values of work space: pointers first, then tiles, then the sums
  const int64_t pointers = (4 * depth + 1) * sizeof(T*), tile_row = widest * kTile<T>;
  int64_t tiles = net.layers[0].in * kTile<T>, sums = 0;
  for (int64_t j = 0; j < depth; ++j) {
    const Layer<T>& layer = net.layers[j];
    tiles += layer.out * kTile<T> * (needs_argument(layer.activation) ? 2 : 1);
    sums += layer.out * (Descent<T>::padded(layer.in) + kLanes<T>);
  }
  const int64_t rows = kTile<T> * Descent<T>::padded(widest);
  char* memory = static_cast<char*>(
      scratch(Slot::item, round_up(pointers, 64) + (tiles + sums + 2 * tile_row + rows) * int64_t(sizeof(T))));
  T** table = reinterpret_cast<T**>(memory);
  T* next = reinterpret_cast<T*>(memory + round_up(pointers, 64));
  const auto take = [&](int64_t values) {
    T* taken = next;
    next += values;
    return taken;
  };
  Descent<T> descent{net,     0,       table,  table + depth + 1, table + 2 * depth + 1, table + 3 * depth + 1,
                     nullptr, nullptr, nullptr};
  descent.activations[0] = take(net.layers[0].in * kTile<T>);
  for (int64_t j = 0; j < depth; ++j) {
    const Layer<T>& layer = net.layers[j];
    descent.activations[j + 1] = take(layer.out * kTile<T>);
    descent.arguments[j] = needs_argument(layer.activation) ? take(layer.out * kTile<T>) : nullptr;
  }
  T* first_sum = next;
  for (int64_t j = 0; j < depth; ++j) {
    descent.weight_sums[j] = take(net.layers[j].out * Descent<T>::padded(net.layers[j].in));
    descent.bias_sums[j] = take(net.layers[j].out * kLanes<T>);
  }
  T *grad = take(tile_row), *spare = take(tile_row);
  descent.rows = take(rows);

  for (int64_t item = begin; item < end; ++item) {
    const int64_t block = item / net.branches, last = min(net.samples, (block + 1) * net.block);
    descent.branch = item % net.branches;
    std::memset(first_sum, 0, sums * sizeof(T));
    double loss = 0;
    for (int64_t first = block * net.block; first < last; first += kTile<T>) {
      const int64_t count = min(kTile<T>, last - first);
      descent.grad = grad;
      descent.next = spare;
      // a tile of one vector writes no second one: what a longer tile left there must not be summed
      loss += count > kLanes<T> ? descent.template tile<2>(first, count) : descent.template tile<1>(first, count);
    }
    descent.write(block);
    if (net.losses) net.losses[item] = loss;
  }
}

template void gradients<float>(const Gradients<float>&, int64_t, int64_t);
template void gradients<double>(const Gradients<double>&, int64_t, int64_t);

}  // namespace spectral::SPECTRAL_LEVEL
