// What both directions of a recurrent layer do: products with its weights, which stay in shared memory for all steps
// where they fit, and rows of one step between device memory and a tile.
#pragma once
#include "sample_sums.cuh"

namespace spectral::cuda {

// A matrix of the layer and where it is staged.
template <class N> struct Staged {
  Matrix<Real<N>> matrix;
  const Real<N>* bias;
  int inputs, outputs;
  int64_t at;
};

// A list of them; `values` in all when they are resident, and of the largest.
template <class N, int most> struct StagedList {
  Staged<N> items[most];
  int count = 0;
  int64_t values = 0, largest = 0;
  bool resident = false;

  void add(const Matrix<Real<N>>& matrix, const Real<N>* bias, int64_t inputs, int64_t outputs) {
    items[count++] = {matrix, bias, int(inputs), int(outputs), values};
    const int64_t mine = staged_values<N>(inputs, outputs);
    values += mine;
    largest = mine > largest ? mine : largest;
  }
  // Decides where they are, beside `others` bytes; returns the bytes of the launch.
  int64_t fit(int64_t others) {
    const int64_t room = (limits().shared_bytes - others) / int64_t(sizeof(N)) / kOutputs<N> * kOutputs<N>;
    resident = values <= room;
    values = resident ? values : largest < room ? largest : room;
    return others + shared_bytes_for<N>(values);
  }
  SPECTRAL_DEVICE void stage_all(int64_t q, Shared<N> weights) const {
    for (int i = 0; resident && i < count; ++i)
      stage<N>(items[i].matrix, items[i].bias, items[i].inputs, items[i].outputs, q, 0, items[i].outputs,
               weights + items[i].at);
  }
  // finish(o, n, value) of matrix number i times `from`; ends with a barrier.
  template <class Finish>
  SPECTRAL_DEVICE void multiply(int i, int64_t q, Shared<N> weights, Shared<N> from, Finish finish) const {
    const Staged<N>& w = items[i];
    if (resident) {
      product<N, 1>(from, w.inputs, weights + w.at, w.outputs, finish);
      barrier();
      return;
    }
    const int fit = int(values / (w.inputs + 1) / kOutputs<N> * kOutputs<N>);
    for (int o = 0; o < w.outputs; o += fit) {
      const int outputs = w.outputs - o < fit ? w.outputs - o : fit;
      stage<N>(w.matrix, w.bias, w.inputs, w.outputs, q, o, outputs, weights);
      barrier();
      product<N, 1>(from, w.inputs, weights, outputs, [&](int r, int n, N value) { finish(o + r, n, value); });
      barrier();
    }
  }
};

template <class N>
Matrix<Real<N>> recurrent_matrix(const Real<N>* values, int64_t outputs, int64_t inputs, bool adjoint = false) {
  return {values, outputs * inputs, adjoint ? 1 : inputs, adjoint ? inputs : 1, kComplex<N>, adjoint && kComplex<N>};
}

// Number `at` of a tensor, 0 for a place that `SampleTile::each` says does not exist; and back.
template <class N> SPECTRAL_DEVICE N number_at(const Real<N>* values, int64_t at) {
  return values && at >= 0 ? load_number<N>(values, at, kComplex<N>) : N{};
}
template <class N> SPECTRAL_DEVICE void put_number(Real<N>* values, int64_t at, N value) {
  if (at >= 0) store_number<N>(values, at, value, kComplex<N>);
}

// The tile of samples of one branch that a block works on.
struct SampleTile {
  int64_t q, first;
  int count;

  // f(k, n, place) for all features k and places n of a tile of step t; place < 0: no such sample.
  template <class F> SPECTRAL_DEVICE void each(int64_t t, int64_t branches, int64_t samples, int features, F f) const {
    const int64_t rows = (t * branches + q) * samples + first;
    for (int n = warp(); n < kRows; n += warps())
      for (int k = lane(); k < features; k += kWarp) f(k, n, n < count ? (rows + n) * features + k : -1);
  }
};

}  // namespace spectral::cuda
