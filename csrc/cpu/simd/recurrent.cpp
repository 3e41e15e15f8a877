// A recurrent layer, all steps of a tile of samples in one go. W_x X_t + b and W_y H_t are products over many steps at
// a time; between them only W_h H_(t-1) and the activation wait for each other. Weights, states and arguments of a tile
// stay in L1.
#include "rows.h"

namespace spectral::SPECTRAL_LEVEL {

// Rows (steps x samples) whose states are kept at a time.
inline constexpr int64_t kStateRows = 128;

template <class T> struct Rollout {
  const Recurrent<T>& net;
  int64_t rows;            // of states, beside those of the step before
  T *wx, *wh, *wy, *bias;  // transposed and padded
  T *h, *y;                // [step][sample][padded]; h starts with the step before

  void pack(int64_t branch) const {
    const int64_t p = net.hidden;
    transpose_weights(net, net.weight_x, branch, p, net.in, wx);
    transpose_weights(net, net.weight_h, branch, p, p, wh);
    transpose_weights(net, net.weight_y, branch, net.out, p, wy);
    if (net.bias)
      load_rows(net.bias + branch * p, p, p, 1, bias);
    else
      std::memset(bias, 0, padded<T>(p) * sizeof(T));
  }

  // z = W_x X_t + b for the steps [from, from + steps).
  void project(const Sequences<T>& tile, int64_t from, int64_t steps, T* z) const {
    const int64_t ld = padded<T>(net.hidden), in = net.in, row = tile.count * ld;
    const T* x = net.x + tile.at(from, in);
    const int64_t step = net.branches * net.samples * in;
    if (tile.count >= steps) {
      for (int64_t k = 0; k < steps; ++k)
        row_product<T, Factor::columns, Start::lanes>(x + k * step, in, in, wx, net.hidden, z + k * row, ld, tile.count,
                                                      bias);
    } else {
      for (int64_t s = 0; s < tile.count; ++s)
        row_product<T, Factor::columns, Start::lanes>(x + s * in, step, in, wx, net.hidden, z + s * ld, row, steps,
                                                      bias);
    }
  }

  // Y_t = act(W_y H_t), some steps at a time.
  void read_out(const Sequences<T>& tile, int64_t from, int64_t steps) const {
    const int64_t ld = padded<T>(net.hidden), ldy = padded<T>(net.out), count = tile.count;
    const int64_t piece = max(1, kRecurrentTile<T> / count);
    for (int64_t k = 0; k < steps; k += piece) {
      const int64_t part = min(piece, steps - k);
      row_product<T, Factor::columns, Start::zero>(h + (k + 1) * count * ld, ld, net.hidden, wy, net.out, y, ldy,
                                                   part * count);
      activate_rows(net.activation_y, net.offset_y, y, part * count * ldy);
      for (int64_t i = 0; i < part; ++i) {
        T* to = net.y + tile.at(from + k + i, net.out);
        store_rows(y + i * count * ldy, net.out, count, to);
        tile.ended(from + k + i, [&](int64_t s) { std::memset(to + s * net.out, 0, net.out * sizeof(T)); });
      }
    }
  }

  void run(const Sequences<T>& tile) const {
    const int64_t p = net.hidden, ld = padded<T>(p), row = tile.count * ld, longest = tile.longest();
    load_rows(net.h0 + tile.at(0, p), p, p, tile.count, h);
    for (int64_t from = 0; from < longest; from += rows / tile.count) {
      const int64_t steps = min(rows / tile.count, longest - from);
      project(tile, from, steps, h + row);
      for (int64_t k = 0; k < steps; ++k) {
        T *before = h + k * row, *now = before + row;
        // meanwhile X of the next steps and the place of this one's Y come nearer
        if (from + steps + k < longest) fetch<T, 0>(net.x + tile.at(from + steps + k, net.in), tile.count * net.in);
        fetch<T, 1>(net.y + tile.at(from + k, net.out), tile.count * net.out);
        row_product<T, Factor::columns, Start::accumulate>(before, ld, p, wh, p, now, ld, tile.count);
        activate_rows(net.activation_h, net.offset_h, now, row);
        tile.ended(from + k, [&](int64_t s) { copy_row(before + s * ld, ld, now + s * ld); });
        if (net.states) store_rows(now, p, tile.count, net.states + tile.at(from + k, p));
      }
      if (net.out) read_out(tile, from, steps);
      for (int64_t s = 0; s < tile.count; ++s) copy_row(h + steps * row + s * ld, ld, h + s * ld);
    }
    for (int64_t t = longest; t < net.steps; ++t) {
      std::memset(net.y + tile.at(t, net.out), 0, tile.count * net.out * sizeof(T));
      if (net.states) store_rows(h, p, tile.count, net.states + tile.at(t, p));
    }
    store_rows(h, p, tile.count, net.last + tile.at(0, p));
  }
};

template <class T> void recurrent(const Recurrent<T>& net, int64_t begin, int64_t end) {
  const int64_t p = padded<T>(net.hidden), o = padded<T>(net.out), rows = max(kStateRows, net.tile);
  const int64_t wx = net.in * p, wh = net.hidden * p, wy = net.hidden * o, h = (rows + net.tile) * p;
  T* memory = static_cast<T*>(scratch(Slot::item, (wx + wh + wy + p + h + kRecurrentTile<T> * o) * int64_t(sizeof(T))));
  const Rollout<T> rollout{net,
                           rows,
                           memory,
                           memory + wx,
                           memory + wx + wh,
                           memory + wx + wh + wy,
                           memory + wx + wh + wy + p,
                           memory + wx + wh + wy + p + h};
  const int64_t tiles = ceil_div(net.samples, net.tile);
  for (int64_t item = begin; item < end; ++item) {
    const int64_t branch = item / tiles, first = item % tiles * net.tile;
    if (item == begin || item % tiles == 0) rollout.pack(branch);
    rollout.run({net, branch, first, min(net.tile, net.samples - first)});
  }
}

template void recurrent<float>(const Recurrent<float>&, int64_t, int64_t);
template void recurrent<double>(const Recurrent<double>&, int64_t, int64_t);

}  // namespace spectral::SPECTRAL_LEVEL
