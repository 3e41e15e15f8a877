// The forward pass of branch networks, tile by tile: a tile of samples passes all layers of a branch without leaving
// L1, and all branches without leaving L2. to_branches, from_branches, branch_linear, spectral_linear, spectral_mlp and
// spectral_ensemble are this one kernel with stages left out.
#include "network.h"
#include "mixture.h"
#include "states.h"
#include "tube.h"

namespace spectral::SPECTRAL_LEVEL {

template <class T, int V> struct Pass {
  const Network<T>& net;
  int64_t first_sample, count;  // of this tile
  States<T> kept;
  T *staged, *outputs, *ping, *pong, *space, *mixed;

  // tubes (N, I, Q) -> staged [branch][feature], or where the states of the branches begin, branches [from, to)
  void analyse(int64_t from, int64_t to) const {
    const int64_t tube = net.transform->columns, step = kept ? kept.step : net.in * kTile<T>;
    T* branches = kept ? kept.first : staged - from * step;
    for (int64_t i = 0; i < net.in; ++i) {
      load_tile(net.x + (first_sample * net.in + i) * tube, net.in * tube, count, tube, ping);
      apply<T, V>(*net.transform, ping, kTile<T>, branches + i * kTile<T>, step, space, from, to);
    }
  }

  // outputs [branch][feature] -> tubes (N, O, Q)
  void synthesise() const {
    const int64_t tube = net.inverse->rows;
    for (int64_t o = 0; o < net.out; ++o) {
      apply<T, V>(*net.inverse, outputs + o * kTile<T>, net.out * kTile<T>, ping, kTile<T>, space, 0, tube);
      if (net.output_activation != Activation::none) activate(net.output_activation, ping, ping, tube);
      store_tile(ping, tube, count, net.y + (first_sample * net.out + o) * tube, net.out * tube);
    }
  }

  const T* input(int64_t branch, int64_t from) const {
    if (net.transform) return kept ? kept.of(branch) : staged + (branch - from) * net.in * kTile<T>;
    T* tile = kept ? kept.of(branch) : ping;
    load_tile(net.x + (branch * net.samples + first_sample) * net.in, net.in, count, net.in, tile);
    return tile;
  }

  // All branches of [from, to) through all layers; without layers the input is the output.
  void run(int64_t from, int64_t to) const {
    if (net.transform) analyse(from, to);
    for (int64_t branch = from; branch < to; ++branch) {
      const T* h = input(branch, from);
      T* room = kept ? kept.of(branch) + net.in * kTile<T> : nullptr;
      for (int64_t j = 0; j < net.depth; ++j) {
        LayerTiles<T> next{h == ping ? pong : ping, nullptr};
        if (net.inverse && j == net.depth - 1) next.result = outputs + branch * net.out * kTile<T>;
        if (kept) next = next_tiles(net.layers[j], room);
        forward_layer<T, V>(net.layers[j], branch, h, next.result, next.argument);
        h = next.result;
      }
      if (net.inverse) {
        if (net.depth == 0) std::memcpy(outputs + branch * net.out * kTile<T>, h, net.out * kTile<T> * sizeof(T));
      } else if (net.branch_weights) {
        mix<T>(h, net.out, net.branch_weights[branch], net.softmax, branch == 0, mixed);
      } else {
        store_tile(h, net.out, count, net.y + (branch * net.samples + first_sample) * net.out, net.out);
      }
    }
    if (net.inverse) synthesise();
    if (net.branch_weights) store_tile(mixed, net.out, count, net.y + first_sample * net.out, net.out);
  }
};

template <class T> void network(const Network<T>& net, int64_t begin, int64_t end) {
  const int64_t tube = max(net.transform ? net.transform->columns : 0, net.inverse ? net.inverse->rows : 0);
  const int64_t row = max(max(net.widest, tube), 1) * kTile<T>;
  const int64_t branches_a_range = ceil_div(net.branches, net.ranges);
  const int64_t staged = net.transform ? branches_a_range * net.in * kTile<T> : 0;
  const int64_t outputs = net.inverse ? net.branches * net.out * kTile<T> : 0;
  const int64_t space = max(net.transform ? tube_space(*net.transform) : 0, net.inverse ? tube_space(*net.inverse) : 0);
  T* memory = static_cast<T*>(scratch(Slot::item, (staged + outputs + 2 * row + space + row) * sizeof(T)));
  const int64_t tiles = ceil_div(net.samples, kTile<T>), kept = net.states ? state_rows(net.layers, net.depth) : 0;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t first = item % tiles * kTile<T>, count = min(kTile<T>, net.samples - first);
    const int64_t from = min(net.branches, item / tiles * branches_a_range),
                  to = min(net.branches, from + branches_a_range);
    const States<T> states(net.states, kept, tiles, item % tiles);
    T *a = memory + staged, *b = a + outputs, *c = b + row, *d = c + row, *e = d + row;
    if (count > kLanes<T>)
      Pass<T, 2>{net, first, count, states, memory, a, b, c, e, d}.run(from, to);
    else
      Pass<T, 1>{net, first, count, states, memory, a, b, c, e, d}.run(from, to);
  }
}

template void network<float>(const Network<float>&, int64_t, int64_t);
template void network<double>(const Network<double>&, int64_t, int64_t);

}  // namespace spectral::SPECTRAL_LEVEL
