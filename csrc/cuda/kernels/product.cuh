// Products of small matrices with a tile of rows in shared memory.
//
// A tile is [feature][row], rows in the lanes of a warp, kVectors of them to a lane, so that no number of features
// wastes lanes. Each feature has kPitch places, an odd number: read along the features, too, lanes meet no bank twice.
// A warp computes kOutputs features of the result at a time; their weights lie side by side, [input][output], and reach
// all lanes by one broadcast of 16 bytes each half.
#pragma once
#include "activation.cuh"

namespace spectral::cuda {

// float: 2 x 8 accumulators of 2 + 2 loads; the wider numbers have as many bytes in half as many
template <class N> constexpr int kVectors = sizeof(N) == 4 ? 2 : 1;
template <class N> constexpr int kOutputs = 32 / sizeof(N);
template <class N, int vectors> constexpr int kPitch = vectors * kWarp + 1;

// Values of a staged matrix: `outputs` columns, padded, for `inputs` and the bias below them.
template <class N> constexpr int64_t staged_values(int64_t inputs, int64_t outputs) {
  return (inputs + 1) * round_up(outputs, kOutputs<N>);
}

// Copies outputs [first, first + count) of branch q to shared memory as [input][output], and the bias, or 0, as one
// more input. Without barriers.
template <class N> SPECTRAL_DEVICE void stage(const Matrix<Real<N>>& w, const Real<N>* bias, int inputs, int outputs,
                                              int64_t q, int first, int count, Shared<N> to) {
  const int pitch = int(round_up(count, kOutputs<N>));
  for (int i = thread(); i < inputs * pitch; i += threads()) {
    // neighbouring threads read neighbours in memory
    const bool along = w.column_step == 1;
    const int k = along ? i % inputs : i / pitch, o = along ? i / inputs : i % pitch;
    N value{};
    if (o < count) {
      value = load_number<N>(w.values, q * w.branch_step + (first + o) * w.row_step + k * w.column_step, w.complex);
      if (w.conjugate) value = conj(value);
    }
    to[k * pitch + o] = value;
  }
  for (int o = thread(); o < pitch; o += threads())
    to[inputs * pitch + o] = bias && o < count ? load_number<N>(bias, q * outputs + first + o, w.complex) : N{};
}

// sums[r][v] += sum_k w[k][r] in[k][v * kWarp + lane], w[k] and w[k + 1] `pitch` apart.
template <class N, int vectors>
SPECTRAL_DEVICE void accumulate(N (&sums)[kOutputs<N>][vectors], Shared<N> in, int inputs, Shared<N> w, int pitch) {
  N weights[kOutputs<N>];
  for (int k = 0; k < inputs; ++k) {
    N x[vectors];
#pragma unroll
    for (int v = 0; v < vectors; ++v) x[v] = in[k * kPitch<N, vectors> + v * kWarp + lane()];
    load_row<kOutputs<N>, N>(weights, w + k * pitch);
#pragma unroll
    for (int r = 0; r < kOutputs<N>; ++r)
#pragma unroll
      for (int v = 0; v < vectors; ++v) multiply_add(sums[r][v], weights[r], x[v]);
  }
}

// finish(o, n, sum_k w[k][o] in[k][n] + w[inputs][o]) for o < count and all rows n of the tile. The groups of kOutputs
// outputs are shared out: this warp is number `me` of `all` that compute them.
template <class N, int vectors, class Finish> SPECTRAL_DEVICE void product(Shared<N> in, int inputs, Shared<N> w,
                                                                           int count, Finish finish, int me = warp(),
                                                                           int all = warps()) {
  constexpr int kRows = kOutputs<N>;
  const int pitch = int(round_up(count, kRows));
  for (int first = me * kRows; first < count; first += all * kRows) {
    N sums[kRows][vectors], weights[kRows];
    load_row<kRows, N>(weights, w + (inputs * pitch + first));
#pragma unroll
    for (int r = 0; r < kRows; ++r)
#pragma unroll
      for (int v = 0; v < vectors; ++v) sums[r][v] = weights[r];
    accumulate<N, vectors>(sums, in, inputs, w + first, pitch);
#pragma unroll
    for (int r = 0; r < kRows; ++r)
#pragma unroll
      for (int v = 0; v < vectors; ++v)
        if (first + r < count) finish(first + r, v * kWarp + lane(), sums[r][v]);
  }
}

// h = activation(h) for `features` of a tile; a pass of its own, because inlined for each accumulator of a product the
// transcendental functions would take all registers. Between barriers; relu is done by `finished`. of_real_part: what
// leaves the complex numbers is real, and so is the activation.
template <class N, int vectors>
SPECTRAL_DEVICE void activate_tile(Activation kind, Real<N> offset, int features, bool of_real_part, Shared<N> h) {
  if (kind == Activation::none || (kind == Activation::relu && !kComplex<N>)) return;
  for (int o = warp(); o < features; o += warps())
    for (int n = lane(); n < vectors * kWarp; n += kWarp) {
      const N z = h[o * kPitch<N, vectors> + n];
      if constexpr (kComplex<N>)
        h[o * kPitch<N, vectors> + n] = of_real_part ? N{activate(kind, z.re, offset), 0} : activate(kind, z, offset);
      else
        h[o * kPitch<N, vectors> + n] = activate(kind, z, offset);
    }
  barrier();
}
template <class N> SPECTRAL_DEVICE N finished(Activation kind, N sum) {
  if constexpr (kComplex<N>)
    return sum;
  else
    return kind == Activation::relu && sum < N(0) ? N(0) : sum;
}

// How many warps a block needs, so that each has outputs to compute.
template <class N> int warps_for(int64_t widest) {
  const int64_t groups = ceil_div(widest, kOutputs<N>);
  return int(groups < 1 ? 1 : groups > 8 ? 8 : groups);
}

}  // namespace spectral::cuda
