// One layer of complex branches, a batched complex product. Features lie in lanes and x is read as scalars, so that
// neither x nor y is transposed, which for one product only would cost a third of it. The forms are those of tiles.h:
// with x = a + ib and w = c + id
//   planar   re = (a + b) c - b (c + d),  im = (a + b) c + a (d - c)
//   pairs    (re, im) = a (c, d) + b (-d, c)
#include "accumulate.h"
#include "pairs.h"

namespace spectral::SPECTRAL_LEVEL {

template <class T> struct ComplexRows {
  const ComplexLayer<T>& net;
  ComplexForm form;
  int64_t ld, plane;  // values of a packed row of weights, and of all its rows
  T *weights, *bias;  // packed [plane][I][ld]; bias: what each accumulator starts from, [plane][ld]
  T* sums;            // a + b of each x, in the lane of a

  void pack(int64_t branch) const {
    constexpr int n = kLanes<T>;
    const int64_t in = net.layer.in, out = net.layer.out;
    const T* w = net.layer.weight + 2 * branch * out * in;
    for (int64_t o = 0; o < out; o += n)
      for (int64_t column = 0; column < 2 * in; column += n) {
        const int64_t part = min(n, 2 * in - column);
        Vec<T> v[n];
#pragma GCC unroll 16
        for (int r = 0; r < n; ++r) v[r] = o + r < out ? load_part(w + 2 * (o + r) * in + column, part) : Vec<T>{};
        transpose<T>(v);
#pragma GCC unroll 16
        for (int r = 0; r < n; r += 2)
          if (r < part) put(weights + (column + r) / 2 * ld + o, v[r], v[r + 1]);
      }
    std::memset(bias, 0, 3 * ld * sizeof(T));
    for (int64_t o = 0; net.layer.bias && o < out; ++o) {
      const T *b = net.layer.bias + 2 * (branch * out + o), re = b[0], im = b[1];
      if (form == ComplexForm::pairs) {
        bias[2 * o] = re;
        bias[2 * o + 1] = im;
      } else {
        bias[ld + o] = im;
        bias[2 * ld + o] = -re;
      }
    }
  }

  // The weights of a vector of outputs with one feature.
  void put(T* to, Vec<T> re, Vec<T> im) const {
    if (form == ComplexForm::pairs) {
      store(to, interleave<T, 0>(re, im));
      store(to + plane, interleave<T, 0>(-im, re));
    } else {
      store(to, re);
      store(to + plane, im - re);
      store(to + 2 * plane, re + im);
    }
  }

  // y of J samples and the outputs that lie in `kTile.vectors` vectors from lane `column` on. Inlined it would spill.
  template <ComplexTile kTile, int J, Finish finish>
  __attribute__((noinline)) void block(const T* x, const T* sum, T* y, int64_t column) const {
    constexpr int n = kLanes<T>, V = kTile.vectors, P = kTile.products();
    constexpr bool planar = kTile.form == ComplexForm::planar;
    const int64_t in = net.layer.in, out = net.layer.out, row = 2 * in;
    Vec<T> z[P][J][V];
#pragma GCC unroll 3
    for (int p = 0; p < P; ++p)
#pragma GCC unroll 16
      for (int j = 0; j < J; ++j)
#pragma GCC unroll 2
        for (int v = 0; v < V; ++v) z[p][j][v] = load(bias + p * ld + column + v * n);
    const auto multiply = [&](Vec<T>(&to)[J][V], const T* values, const T* w) {
      Vec<T> factor[V];
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) factor[v] = load(w + v * n);
#pragma GCC unroll 16
      for (int j = 0; j < J; ++j) {
        const T value = values[j * row];
#pragma GCC unroll 2
        for (int v = 0; v < V; ++v) to[j][v] += value * factor[v];
      }
    };
    const T* w = weights + column;
    for (int64_t k = 0; k < row; k += 2, w += ld) {
      if constexpr (planar) multiply(z[P - 3], sum + k, w);
      multiply(z[P - 2], x + k, w + (P - 2) * plane);
      multiply(z[P - 1], x + k + 1, w + (P - 1) * plane);
    }
#pragma GCC unroll 16
    for (int j = 0; j < J; ++j)
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) {
        const auto end = [](Vec<T> value) {
          if constexpr (finish == Finish::relu) return Vec<T>{} > value ? Vec<T>{} : value;  // NaN stays NaN
          return value;
        };
        const int64_t at = column + v * n, left = 2 * (out - at);
        T* to = y + 2 * (j * out + at);
        if constexpr (planar) {
          const Vec<T> re = end(z[0][j][v] - z[2][j][v]), im = end(z[0][j][v] + z[1][j][v]);
          store_part(to, interleave<T, 0>(re, im), min(left, n));
          if (left > n) store_part(to + n, interleave<T, 1>(re, im), min(left - n, n));
        } else {
          store_part(to, end(z[0][j][v] + z[1][j][v]), min(left, n));
        }
      }
  }

  template <ComplexTile kTile, Finish finish> void columns(const T* x, T* y, int64_t count, int64_t column) const {
    constexpr int J = kTile.samples;
    const int64_t row = 2 * net.layer.in;
    int64_t s = 0;
    for (; s + J <= count; s += J)
      block<kTile, J, finish>(x + s * row, sums + s * row, y + 2 * s * net.layer.out, column);
    for (; s < count; ++s) block<kTile, 1, finish>(x + s * row, sums + s * row, y + 2 * s * net.layer.out, column);
  }

  template <Finish finish> void run(const T* x, T* y, int64_t count) const {
    constexpr int n = kLanes<T>, registers = kTileRow<T>.registers;
    if (form == ComplexForm::pairs)
      return columns<complex_tile(registers, ComplexForm::pairs, 1), finish>(x, y, count, 0);
    const int64_t values = 2 * count * net.layer.in;
    int64_t i = 0;
    for (; i + n < values; i += n) store(sums + i, load_loose(x + i) + load_loose(x + i + 1));
    if (i < values) store(sums + i, load_part(x + i, values - i) + load_part(x + i + 1, values - i - 1));
    int64_t column = 0;
    for (; column + 2 * n <= ld; column += 2 * n)
      columns<complex_tile(registers, ComplexForm::planar, 2), finish>(x, y, count, column);
    if (column < ld) columns<complex_tile(registers, ComplexForm::planar, 1), finish>(x, y, count, column);
  }
};

template <class T> void complex_layer(const ComplexLayer<T>& net, int64_t begin, int64_t end) {
  constexpr int64_t kTogether = 24;  // samples, a multiple of all tile rows' : they, their sums and a column are in L1
  const int64_t in = net.layer.in, out = net.layer.out;
  const ComplexForm form = 2 * out <= kLanes<T> ? ComplexForm::pairs : ComplexForm::planar;
  const int64_t ld = padded<T>(out), plane = in * ld;
  T* memory = static_cast<T*>(
      scratch(Slot::item, (3 * (plane + ld) + round_up(2 * kTogether * in, kLanes<T>)) * int64_t(sizeof(T))));
  const ComplexRows<T> rows{net, form, ld, plane, memory, memory + 3 * plane, memory + 3 * (plane + ld)};
  const bool relu = net.layer.activation == Activation::crelu;
  const int64_t blocks = ceil_div(net.samples, net.block);
  for (int64_t item = begin; item < end; ++item) {
    const int64_t branch = item / blocks, first = item % blocks * net.block;
    const int64_t last = min(net.samples, first + net.block);
    if (item == begin || item % blocks == 0) rows.pack(branch);
    for (int64_t s = first; s < last; s += kTogether) {
      const int64_t count = min(kTogether, last - s), at = branch * net.samples + s;
      const T* x = net.x + 2 * at * in;
      T* y = net.y + 2 * at * out;
      relu ? rows.template run<Finish::relu>(x, y, count) : rows.template run<Finish::store>(x, y, count);
      if (!relu) activate_pairs(net.layer.activation, net.layer.offset, y, 2 * count * out);
    }
  }
}

template void complex_layer<float>(const ComplexLayer<float>&, int64_t, int64_t);
template void complex_layer<double>(const ComplexLayer<double>&, int64_t, int64_t);

}  // namespace spectral::SPECTRAL_LEVEL
