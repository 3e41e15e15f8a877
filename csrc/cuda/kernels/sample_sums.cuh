// Sums over the samples of a tile: what one tile adds to the gradients of weights and biases. The sums of a block are
// in device memory and its own; the same thread adds to the same value, so no barrier lies between two tiles.
#pragma once
#include "rows.cuh"

namespace spectral::cuda {

constexpr int kRows = kGradientTile;
template <class N> constexpr int kStep = kPitch<N, 1>;

// sums[o][i] (+)= sum_n d[o][n] conj(h[i][n]), four outputs and two inputs a thread.
template <class N>
SPECTRAL_DEVICE void add_weight_gradient(Shared<N> d, Shared<N> h, int outputs, int inputs, bool first, Real<N>* sums) {
  const int columns = int(ceil_div(inputs, 2));
  for (int t = thread(); t < ceil_div(outputs, 4) * columns; t += threads()) {
    const int i = t % columns, o = t / columns * 4;  // inputs i and i + columns: lanes meet no bank twice
    N sum[4][2] = {};
    int rows[4], other = i + columns < inputs ? i + columns : i;
#pragma unroll
    for (int r = 0; r < 4; ++r) rows[r] = o + r < outputs ? o + r : o;
    for (int n = 0; n < kRows; ++n) {
      const N a = conj(N(h[i * kStep<N> + n])), b = conj(N(h[other * kStep<N> + n]));
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        const N grad = d[rows[r] * kStep<N> + n];
        multiply_add(sum[r][0], grad, a);
        multiply_add(sum[r][1], grad, b);
      }
    }
#pragma unroll
    for (int r = 0; r < 4; ++r)
      for (int part = 0; part < 2; ++part) {
        const int column = i + part * columns;
        if (o + r >= outputs || column >= inputs) continue;
        const int64_t at = int64_t(o + r) * inputs + column;
        const N before = first ? N{} : load_number<N>(sums, at, kComplex<N>);
        store_number<N>(sums, at, before + sum[r][part], kComplex<N>);
      }
  }
}

template <class N> SPECTRAL_DEVICE void add_bias_gradient(Shared<N> d, int outputs, bool first, Real<N>* sums) {
  for (int o = thread(); o < outputs; o += threads()) {
    N sum = first ? N{} : load_number<N>(sums, o, kComplex<N>);
    for (int n = 0; n < kRows; ++n) sum = sum + N(d[o * kStep<N> + n]);
    store_number<N>(sums, o, sum, kComplex<N>);
  }
}

}  // namespace spectral::cuda
