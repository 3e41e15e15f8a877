// The gradients of branch networks. A block of samples of one branch is one work item: per tile the forward pass is
// computed again with all activations kept (they stay in L2), unless it kept them itself; then the chain goes backward:
// the weight gradient accumulates in registers over the samples of a tile, the input gradient is one more tile product.
#include "mixture.h"
#include "numbers.h"
#include "states.h"

namespace spectral::SPECTRAL_LEVEL {

template <class T> struct Descent {
  const Gradients<T>& net;
  int64_t branch;
  T** activations;  // depth + 1 tiles: the input, then what each layer gives
  T** arguments;    // per layer: before the activation, where the derivative needs it, else null
  T** weight_sums;  // per layer [O][padded I]
  T** bias_sums;    // per layer [O][kLanes]
  T *grad, *next, *rows;
  int64_t rows_kept;  // of the states of a tile
  bool sets;          // whether this tile sets the sums

  // grad = (softmax(logits) - one hot) / N; returns the sum of the samples' losses. Of complex logits the real parts
  // count.
  template <class Numbers> double cross_entropy(int64_t first, int64_t count, const T* logits) const {
    const int64_t classes = net.layers[net.depth - 1].out;
    alignas(64) T top[kTile<T>] = {}, total[kTile<T>] = {};
    if (Numbers::kParts == 2) std::memset(grad, 0, classes * kTile<T> * sizeof(T));
    for (int v = 0; v < Numbers::kReals; v += kLanes<T>) {
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

  // grad = the gradient of the logits, of the mixture's grad_y; returns the sum of the samples' weight gradients.
  template <class Numbers> double mixture(int64_t first, int64_t count, const T* logits) const {
    const int64_t classes = net.layers[net.depth - 1].out;
    load_tile(net.grad_y + first * classes, classes, count, classes, next);
    if (Numbers::kParts == 2) std::memset(grad, 0, classes * kTile<T> * sizeof(T));
    double total = 0;
    for (int v = 0; v < Numbers::kReals; v += kLanes<T>) {
      const Vec<T> score =
          mix_gradient(logits + v, classes, net.branch_weights[branch], net.softmax, next + v, grad + v);
      for (int64_t lane = 0; lane < kLanes<T> && v + lane < count; ++lane) total += double(score[lane]);
    }
    return total;
  }

  // The tiles of activations and arguments begin there.
  void point(T* room) const {
    activations[0] = room;
    room += net.layers[0].in * kTile<T>;
    for (int64_t j = 0; j < net.depth; ++j) {
      const LayerTiles<T> tiles = next_tiles(net.layers[j], room);
      activations[j + 1] = tiles.result;
      arguments[j] = tiles.argument;
    }
  }

  // Forward and backward on one tile; returns what adds to branch_sums.
  template <class Numbers> double tile(int64_t first, int64_t count) {
    const Layer<T>* layers = net.layers;
    const int64_t depth = net.depth, in = layers[0].in, out = layers[depth - 1].out;
    const int64_t row = (branch * net.samples + first) * Numbers::kParts;
    if (net.states) {  // which nothing below writes to
      const int64_t tiles = ceil_div(net.samples, Numbers::kSamples);
      point(States<T>(const_cast<T*>(net.states), rows_kept, tiles, first / Numbers::kSamples).of(branch));
    } else {
      Numbers::load(net.x + row * in, count, in, activations[0]);
      for (int64_t j = 0; j < depth; ++j)
        Numbers::forward(layers[j], branch, activations[j], activations[j + 1], arguments[j]);
    }
    double sum = 0;
    if (net.target) {
      Numbers::store(activations[depth], out, count, net.logits + row * out);
      sum = cross_entropy<Numbers>(first, count, activations[depth]);
    } else if (net.branch_weights) {
      sum = mixture<Numbers>(first, count, activations[depth]);
    } else {
      Numbers::load(net.grad_y + row * out, count, out, grad);
    }
    bool through_activation = false;  // whether grad already went through layer j's activation
    for (int64_t j = depth - 1; j >= 0; --j) {
      const Layer<T>& layer = layers[j];
      if (!through_activation && layer.activation != Activation::none)
        Numbers::descend(layer, grad, arguments[j] ? arguments[j] : activations[j + 1], activations[j + 1]);
      if (count < Numbers::kSamples) Numbers::clear(grad, layer.out, count);
      Numbers::sum(sets, layer, activations[j], grad, count, rows, weight_sums[j], bias_sums[j]);
      if (j == 0 && !net.grad_x) break;
      through_activation = j > 0 && Numbers::slope_in_product(layers[j - 1]);
      if (through_activation)
        Numbers::template back<Finish::relu_slope>(layer, branch, grad, activations[j], next);
      else
        Numbers::template back<Finish::store>(layer, branch, grad, nullptr, next);
      T* swap = grad;
      grad = next;
      next = swap;
    }
    if (net.grad_x) Numbers::store(grad, in, count, net.grad_x + row * in);
    return sum;
  }

  // offset: of the result behind the sums.
  template <class Numbers> void write(int64_t block, int64_t offset) const {
    for (int64_t j = 0; j < net.depth; ++j) {
      const Layer<T>& layer = net.layers[j];
      const int64_t item = block * net.branches + branch;
      Numbers::write(layer, weight_sums[j] + offset, bias_sums[j] + offset,
                     net.weight_sums[j] + item * layer.out * layer.in * Numbers::kParts,
                     layer.bias ? net.bias_sums[j] + item * layer.out * Numbers::kParts : nullptr);
    }
  }
};

// Full: numbers of a whole tile. Part: of a tile whose samples leave the second vector empty.
template <class T, class Full, class Part>
SPECTRAL_INLINE void gradients_of(const Gradients<T>& net, int64_t begin, int64_t end) {
  constexpr int64_t parts = Full::kParts, samples = Full::kSamples;
  const int64_t depth = net.depth, widest = max(net.widest, 1);
  // values of work space: pointers first, then tiles, then the sums
  const int64_t pointers = (4 * depth + 1) * sizeof(T*), tile_row = widest * kTile<T>;
  const int64_t kept = state_rows(net.layers, depth), tiles = net.states ? 0 : kept * kTile<T>;
  int64_t sums = 0;
  for (int64_t j = 0; j < depth; ++j) {
    const Layer<T>& layer = net.layers[j];
    sums += parts * layer.out * (padded<T>(layer.in) + kLanes<T>);
  }
  const int64_t rows = kTile<T> * padded<T>(widest);
  char* memory = static_cast<char*>(
      scratch(Slot::item,
              round_up(pointers, 64) + (tiles + BlockSums<T>::space(sums) + 2 * tile_row + rows) * int64_t(sizeof(T))));
  T** table = reinterpret_cast<T**>(memory);
  T* next = reinterpret_cast<T*>(memory + round_up(pointers, 64));
  const auto take = [&](int64_t values) {
    T* taken = next;
    next += values;
    return taken;
  };
  Descent<T> descent{
      net,     0,    table, table + depth + 1, table + 2 * depth + 1, table + 3 * depth + 1, nullptr, nullptr,
      nullptr, kept, true};
  if (!net.states) descent.point(take(tiles));
  T* first_sum = next;
  for (int64_t j = 0; j < depth; ++j) {
    descent.weight_sums[j] = take(parts * net.layers[j].out * padded<T>(net.layers[j].in));
    descent.bias_sums[j] = take(parts * net.layers[j].out * kLanes<T>);
  }
  T *grad = take(tile_row), *spare = take(tile_row);
  descent.rows = take(rows);
  BlockSums<T> block_sums{first_sum, take(sums), sums};

  for (int64_t item = begin; item < end; ++item) {
    const int64_t block = item / net.branches, last = min(net.samples, (block + 1) * net.block);
    descent.branch = item % net.branches;
    block_sums.start();
    double sum = 0;
    for (int64_t first = block * net.block; first < last; first += samples) {
      const int64_t count = min(samples, last - first);
      descent.grad = grad;
      descent.next = spare;
      descent.sets = block_sums.sets();
      sum += count > kLanes<T> ? descent.template tile<Full>(first, count) : descent.template tile<Part>(first, count);
    }
    descent.template write<Full>(block, block_sums.finish());
    if (net.branch_sums) net.branch_sums[item] = sum;
  }
}

template <class T> void gradients(const Gradients<T>& net, int64_t begin, int64_t end) {
  net.complex ? gradients_of<T, ComplexNumbers<T>, ComplexNumbers<T>>(net, begin, end)
              : gradients_of<T, Real<T, 2>, Real<T, 1>>(net, begin, end);
}

template void gradients<float>(const Gradients<float>&, int64_t, int64_t);
template void gradients<double>(const Gradients<double>&, int64_t, int64_t);

}  // namespace spectral::SPECTRAL_LEVEL
