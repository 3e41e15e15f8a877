// The forward pass of complex branches, as in network.cpp: a tile of samples passes all layers of a branch, and all
// branches. Real tubes meet a complex matrix as two real products, one for each part of the result; so does an inverse
// of which only the real part is wanted (a half spectrum).
#include "mixture.h"
#include "numbers.h"
#include "states.h"

namespace spectral::SPECTRAL_LEVEL {

template <class T> struct ComplexPass {
  using Numbers = ComplexNumbers<T>;
  const ComplexNetwork<T>& c;
  int64_t first_sample, count;  // of this tile
  States<T> kept;
  T *staged, *outputs, *ping, *pong, *mixed;

  static constexpr int64_t kRow = kTile<T>, kHalf = kLanes<T>;

  // tubes (N, I, Q) -> staged [branch][feature], or where the states of the branches begin, branches [from, to)
  void analyse(int64_t from, int64_t to) const {
    const Network<T>& net = c.net;
    const ComplexTube<T>& m = *c.transform;
    const int64_t tube = m.columns * (c.complex_x ? 2 : 1), step = kept ? kept.step : net.in * kRow;
    T* branches = kept ? kept.of(from) : staged;
    for (int64_t i = 0; i < net.in; ++i) {
      load_lanes(net.x + (first_sample * net.in + i) * tube, net.in * tube, count, tube, ping);
      T* y = branches + i * kRow;
      if (c.complex_x) {
        complex_product<T, Factor::columns, Start::zero, Finish::store, Conjugate::none>(
            ping, kRow, tube / 2, m.values + 2 * from * m.columns, m.columns, nullptr, y, step, to - from);
      } else {
        real_rows<Start::zero>(ping, kHalf, tube, m.re + from, m.rows, y, step, to - from);
        real_rows<Start::zero>(ping, kHalf, tube, m.im + from, m.rows, y + kHalf, step, to - from);
      }
    }
  }

  // outputs [branch][feature] -> tubes (N, O, Q)
  void synthesise() const {
    const Network<T>& net = c.net;
    const ComplexTube<T>& m = *c.inverse;
    const int64_t tube = m.rows * (c.complex_y ? 2 : 1);
    for (int64_t o = 0; o < net.out; ++o) {
      const T* h = outputs + o * kRow;
      if (c.complex_y) {
        complex_product<T, Factor::columns, Start::zero, Finish::store, Conjugate::none>(
            h, net.out * kRow, m.columns, m.values, m.columns, nullptr, ping, kRow, m.rows);
        if (net.output_activation != Activation::none)
          activate_complex(net.output_activation, net.output_offset, ping, ping, m.rows);
      } else {
        real_rows<Start::zero>(h, net.out * kRow, m.columns, m.re, m.rows, ping, kHalf, m.rows);
        real_rows<Start::accumulate>(h + kHalf, net.out * kRow, m.columns, m.im, m.rows, ping, kHalf, m.rows);
        if (net.output_activation != Activation::none)
          activate(net.output_activation, ping, ping, ceil_div(m.rows, 2));  // two rows of one vector are one of two
      }
      store_lanes(ping, tube, count, net.y + (first_sample * net.out + o) * tube, net.out * tube);
    }
  }

  // A real product on one vector of lanes: y[j] = start + sum_k w[k * ldw + j] x[k].
  template <Start start> static void real_rows(const T* x, int64_t ldx, int64_t depth, const T* w, int64_t ldw, T* y,
                                               int64_t ldy, int64_t rows) {
    product<T, 1, Factor::rows, start, Finish::store>(x, ldx, depth, w, ldw, nullptr, y, ldy, rows);
  }

  const T* input(int64_t branch, int64_t from) const {
    const Network<T>& net = c.net;
    if (c.transform) return kept ? kept.of(branch) : staged + (branch - from) * net.in * kRow;
    T* tile = kept ? kept.of(branch) : ping;
    Numbers::load(net.x + 2 * (branch * net.samples + first_sample) * net.in, count, net.in, tile);
    return tile;
  }

  void run(int64_t from, int64_t to) const {
    const Network<T>& net = c.net;
    if (c.transform) analyse(from, to);
    for (int64_t branch = from; branch < to; ++branch) {
      const T* h = input(branch, from);
      T* room = kept ? kept.of(branch) + net.in * kRow : nullptr;
      for (int64_t j = 0; j < net.depth; ++j) {
        LayerTiles<T> next{h == ping ? pong : ping, nullptr};
        if (c.inverse && j == net.depth - 1) next.result = outputs + branch * net.out * kRow;
        if (kept) next = next_tiles(net.layers[j], room);
        Numbers::forward(net.layers[j], branch, h, next.result, next.argument);
        h = next.result;
      }
      if (c.inverse) {
        if (net.depth == 0) std::memcpy(outputs + branch * net.out * kRow, h, net.out * kRow * sizeof(T));
      } else if (net.branch_weights) {
        mix<T>(h, net.out, net.branch_weights[branch], net.softmax, branch == 0, mixed, kHalf);
      } else {
        Numbers::store(h, net.out, count, net.y + 2 * (branch * net.samples + first_sample) * net.out);
      }
    }
    if (c.inverse) synthesise();
    if (net.branch_weights) store_tile(mixed, net.out, count, net.y + first_sample * net.out, net.out);
  }
};

template <class T> void complex_network(const ComplexNetwork<T>& c, int64_t begin, int64_t end) {
  const Network<T>& net = c.net;
  const int64_t tube = max(c.transform ? c.transform->columns : 0, c.inverse ? c.inverse->rows : 0);
  const int64_t row = max(max(net.widest, tube), 1) * kTile<T>;
  const int64_t branches_a_range = ceil_div(net.branches, net.ranges);
  const int64_t staged = c.transform ? branches_a_range * net.in * kTile<T> : 0;
  const int64_t outputs = c.inverse ? net.branches * net.out * kTile<T> : 0;
  T* memory = static_cast<T*>(scratch(Slot::item, (staged + outputs + 3 * row) * sizeof(T)));
  const int64_t tiles = ceil_div(net.samples, kLanes<T>), kept = net.states ? state_rows(net.layers, net.depth) : 0;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t first = item % tiles * kLanes<T>, count = min(kLanes<T>, net.samples - first);
    const int64_t from = min(net.branches, item / tiles * branches_a_range),
                  to = min(net.branches, from + branches_a_range);
    T *a = memory + staged, *b = a + outputs;
    const States<T> states(net.states, kept, tiles, item % tiles);
    ComplexPass<T>{c, first, count, states, memory, a, b, b + row, b + 2 * row}.run(from, to);
  }
}

template void complex_network<float>(const ComplexNetwork<float>&, int64_t, int64_t);
template void complex_network<double>(const ComplexNetwork<double>&, int64_t, int64_t);

}  // namespace spectral::SPECTRAL_LEVEL
