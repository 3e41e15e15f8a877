// The gradients of a recurrent layer, backward through time. The states are given, so only d_t = g_t * act'(z_t) and
// g_(t-1) += W_h^T d_t wait for each other; everything else is a product over all rows of several steps, the weight
// gradients too: their sums stay in registers over steps and samples.
#include "rows.h"

namespace spectral::SPECTRAL_LEVEL {

// Rows (steps x samples) that are worked on at a time: they fit L2, and are few enough for one float32 sum, which is
// then added to the block's.
inline constexpr int64_t kGradientRows = 128;

template <class T> struct Rewind {
  const RecurrentGradients<T>& net;
  int64_t rows;                             // at a time
  T *wx, *wh, *wy;                          // padded rows, as they are
  T *wxt, *wht, *wyt, *bias;                // transposed: where a derivative needs its argument again
  T *xs, *hs, *ds, *gs, *es;                // [step][sample]: X, H with the step before, d, g with the step before, e
  T* passing;                               // one step's rows
  T* z;                                     // arguments of either activation, or the gradients of X
  T *sums_x, *sums_h, *sums_y, *sums_bias;  // of these rows; the block's lie `sums` behind
  int64_t sums;
  bool again_h, again_y;  // whether the arguments of activation_h, of activation_y, are computed again

  void pack(int64_t branch) const {
    const Recurrent<T>& l = net.layer;
    const int64_t p = l.hidden;
    load_weights(l, l.weight_x, branch, p, l.in, wx);
    load_weights(l, l.weight_h, branch, p, p, wh);
    load_weights(l, l.weight_y, branch, l.out, p, wy);
    if (again_y) transpose_weights(l, l.weight_y, branch, l.out, p, wyt);
    if (!again_h) return;
    transpose_weights(l, l.weight_x, branch, p, l.in, wxt);
    transpose_weights(l, l.weight_h, branch, p, p, wht);
    if (l.bias)
      load_rows(l.bias + branch * p, p, p, 1, bias);
    else
      std::memset(bias, 0, padded<T>(p) * sizeof(T));
  }

  // e_t for the steps [from, from + steps): the gradient of W_y H_t.
  void outputs(const Sequences<T>& tile, int64_t from, int64_t steps) const {
    const Recurrent<T>& l = net.layer;
    const int64_t o = l.out, ldo = padded<T>(o), ld = padded<T>(l.hidden), count = tile.count, all = steps * count;
    for (int64_t k = 0; k < steps; ++k) load_rows(net.grad_y + tile.at(from + k, o), o, o, count, es + k * count * ldo);
    if (again_y) {
      row_product<T, Factor::columns, Start::zero>(hs + count * ld, ld, l.hidden, wyt, o, z, ldo, all);
      descend_rows<T>(l.activation_y, l.offset_y, es, z, nullptr, es, all * ldo);
    }
    for (int64_t k = 0; k < steps; ++k)
      tile.ended(from + k, [&](int64_t s) { std::memset(es + (k * count + s) * ldo, 0, ldo * sizeof(T)); });
  }

  // From g of all steps' results to d of the steps [from, from + steps), and g of the step before them.
  void descend_steps(const Sequences<T>& tile, int64_t from, int64_t steps) const {
    const Recurrent<T>& l = net.layer;
    const int64_t p = l.hidden, ld = padded<T>(p), count = tile.count, row = count * ld;
    if (again_h) {
      row_product<T, Factor::columns, Start::lanes>(xs, padded<T>(l.in), l.in, wxt, p, z, ld, steps * count, bias);
      row_product<T, Factor::columns, Start::accumulate>(hs, ld, p, wht, p, z, ld, steps * count);
    }
    for (int64_t k = steps - 1; k >= 0; --k) {
      T *d = ds + k * row, *before = gs + k * row;
      const T *g = before + row, *h = hs + (k + 1) * row;
      descend_rows(l.activation_h, l.offset_h, g, again_h ? z + k * row : h, h, d, row);
      // where a sequence has ended g passes unchanged, whatever the weights hold
      tile.ended(from + k, [&](int64_t s) {
        std::memset(d + s * ld, 0, ld * sizeof(T));
        for (int64_t c = 0; c < ld; c += kLanes<T>)
          store(passing + s * ld + c, load(before + s * ld + c) + load(g + s * ld + c));
      });
      row_product<T, Factor::columns, Start::accumulate>(d, ld, p, wh, p, before, ld, count);
      tile.ended(from + k, [&](int64_t s) { copy_row(passing + s * ld, ld, before + s * ld); });
    }
  }

  // Adds the sums over `all` rows to the block's.
  void add(int64_t all, int64_t count) const {
    const Recurrent<T>& l = net.layer;
    const int64_t p = l.hidden, ld = padded<T>(p), ldx = padded<T>(l.in), ldo = padded<T>(l.out);
    row_product<T, Factor::rows, Start::zero>(ds, ld, all, xs, l.in, sums_x, ldx, p);
    row_product<T, Factor::rows, Start::zero>(ds, ld, all, hs, p, sums_h, ld, p);
    row_product<T, Factor::rows, Start::zero>(es, ldo, net.grad_y ? all : 0, hs + count * ld, p, sums_y, ld, l.out);
    for (int64_t c = 0; c < ld; c += kLanes<T>) {
      Vec<T> sum{};
      for (int64_t r = 0; r < all; ++r) sum += load(ds + r * ld + c);
      store(sums_bias + c, sum);
    }
    add_row(sums_x, sums, sums_x + sums);
  }

  void input_gradients(const Sequences<T>& tile, int64_t from, int64_t steps) const {
    const int64_t in = net.layer.in, ldx = padded<T>(in), p = net.layer.hidden, count = tile.count;
    row_product<T, Factor::columns, Start::zero>(ds, padded<T>(p), p, wx, in, z, ldx, steps * count);
    for (int64_t k = 0; k < steps; ++k) {
      T* to = net.grad_x + tile.at(from + k, in);
      store_rows(z + k * count * ldx, in, count, to);
      tile.ended(from + k, [&](int64_t s) { std::memset(to + s * in, 0, in * sizeof(T)); });
    }
  }

  void run(const Sequences<T>& tile) const {
    const Recurrent<T>& l = net.layer;
    const int64_t p = l.hidden, ld = padded<T>(p), in = l.in, ldx = padded<T>(in), count = tile.count, row = count * ld;
    const int64_t longest = tile.longest(), most = rows / count;
    // g of the last step, and of those where all have ended: it passes through unchanged
    if (net.grad_last)
      load_rows(net.grad_last + tile.at(0, p), p, p, count, gs);
    else
      std::memset(gs, 0, row * sizeof(T));
    for (int64_t t = l.steps - 1; t >= longest; --t) {
      if (net.grad_x) std::memset(net.grad_x + tile.at(t, in), 0, count * in * sizeof(T));
      if (!net.grad_states) continue;
      load_rows(net.grad_states + tile.at(t, p), p, p, count, gs + row);
      add_row(gs + row, row, gs);
    }
    const int64_t pieces = ceil_div(longest, most);
    for (int64_t piece = pieces - 1, to = longest; piece >= 0; --piece) {
      const int64_t from = piece * longest / pieces, steps = to - from;
      for (int64_t k = 0; k < steps; ++k) {
        T* x = xs + k * count * ldx;
        load_rows(l.x + tile.at(from + k, in), in, in, count, x);
        tile.ended(from + k, [&](int64_t s) { std::memset(x + s * ldx, 0, ldx * sizeof(T)); });
      }
      for (int64_t k = 0; k <= steps; ++k) {
        const T* h = from + k ? net.states + tile.at(from + k - 1, p) : l.h0 + tile.at(0, p);
        load_rows(h, p, p, count, hs + k * row);
      }
      T* last = gs + steps * row;
      copy_row(gs, row, last);
      // what comes from above, to which the later steps then add
      std::memset(gs, 0, (net.grad_y ? 1 : steps) * row * sizeof(T));
      if (net.grad_y) {
        outputs(tile, from, steps);
        std::memcpy(passing, last, row * sizeof(T));
        row_product<T, Factor::columns, Start::zero>(es, padded<T>(l.out), l.out, wy, p, gs + row, ld, steps * count);
        for (int64_t k = 0; k < steps; ++k)
          tile.ended(from + k, [&](int64_t s) { std::memset(gs + (k + 1) * row + s * ld, 0, ld * sizeof(T)); });
        add_row(passing, row, last);
      }
      for (int64_t k = 0; net.grad_states && k < steps; ++k) {
        load_rows(net.grad_states + tile.at(from + k, p), p, p, count, ds);
        add_row(ds, row, gs + (k + 1) * row);
      }
      descend_steps(tile, from, steps);
      add(steps * count, count);
      if (net.grad_x) input_gradients(tile, from, steps);
      to = from;
    }
    store_rows(gs, p, count, net.grad_h0 + tile.at(0, p));
  }

  void write(int64_t item) const {
    const Recurrent<T>& l = net.layer;
    const int64_t p = l.hidden, o = l.out;
    store_weights(l, sums_x + sums, item, p, l.in, net.sums_x);
    store_weights(l, sums_h + sums, item, p, p, net.sums_h);
    store_weights(l, sums_y + sums, item, o, p, net.sums_y);
    if (net.sums_bias) store_rows(sums_bias + sums, p, 1, net.sums_bias + item * p);
  }
};

template <class T> void recurrent_gradients(const RecurrentGradients<T>& net, int64_t begin, int64_t end) {
  const Recurrent<T>& l = net.layer;
  const int64_t i = padded<T>(l.in), p = padded<T>(l.hidden), o = padded<T>(l.out);
  const int64_t rows = max(kGradientRows, l.tile), with_before = rows + l.tile;
  const bool again_h = needs_argument(l.activation_h), again_y = net.grad_y && l.activation_y != Activation::none;
  const int64_t sums = l.hidden * i + l.hidden * p + l.out * p + p;
  const int64_t transposed = (again_h ? l.in * p + l.hidden * p + p : 0) + (again_y ? l.hidden * o : 0);
  const int64_t z = rows * max(max(again_h ? p : 0, again_y ? o : 0), net.grad_x ? i : 0);
  const int64_t values = l.hidden * i + l.hidden * p + l.out * p + transposed + rows * (i + p + o) +
                         2 * with_before * p + l.tile * p + z + 2 * sums;
  T* next = static_cast<T*>(scratch(Slot::item, values * int64_t(sizeof(T))));
  const auto take = [&](int64_t count) {
    T* taken = next;
    next += count;
    return taken;
  };
  Rewind<T> rewind{net,     rows,    nullptr, nullptr, nullptr, nullptr, nullptr, nullptr,
                   nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr,
                   nullptr, nullptr, nullptr, nullptr, 0,       again_h, again_y};
  rewind.wx = take(l.hidden * i);
  rewind.wh = take(l.hidden * p);
  rewind.wy = take(l.out * p);
  rewind.wxt = take(again_h ? l.in * p : 0);
  rewind.wht = take(again_h ? l.hidden * p : 0);
  rewind.bias = take(again_h ? p : 0);
  rewind.wyt = take(again_y ? l.hidden * o : 0);
  rewind.xs = take(rows * i);
  rewind.ds = take(rows * p);
  rewind.es = take(rows * o);
  rewind.hs = take(with_before * p);
  rewind.gs = take(with_before * p);
  rewind.passing = take(l.tile * p);
  rewind.z = take(z);
  rewind.sums_x = take(l.hidden * i);
  rewind.sums_h = take(l.hidden * p);
  rewind.sums_y = take(l.out * p);
  rewind.sums_bias = take(p);
  rewind.sums = sums;
  T* totals = take(sums);

  for (int64_t item = begin; item < end; ++item) {
    const int64_t branch = item % l.branches, first = item / l.branches * net.block;
    const int64_t samples = max(0, min(net.block, l.samples - first));
    rewind.pack(branch);
    std::memset(totals, 0, sums * sizeof(T));
    // tiles as equal as possible
    const int64_t tiles = ceil_div(samples, l.tile);
    for (int64_t t = 0, s = 0; t < tiles; ++t) {
      const int64_t count = (samples - s) / (tiles - t);
      rewind.run({l, branch, first + s, count});
      s += count;
    }
    rewind.write(item);
  }
}

template void recurrent_gradients<float>(const RecurrentGradients<float>&, int64_t, int64_t);
template void recurrent_gradients<double>(const RecurrentGradients<double>&, int64_t, int64_t);

}  // namespace spectral::SPECTRAL_LEVEL
