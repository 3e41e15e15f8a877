// The parts of the network ops: transforms, networks, gradients.
#pragma once
#include "drive.h"

namespace spectral::cuda {

// x, tubes of `rows` rows (N I, Q) -> y in branches (Q', N I), by m (Q', Q) or the adjoint of m (Q, Q').
template <class T>
void analyse(const Call& call, const T* x, bool complex_x, const Tensor& m, bool adjoint, int64_t rows, T* y) {
  const int64_t outputs = m.size(adjoint ? 1 : 0), inputs = m.size(adjoint ? 0 : 1);
  Chain<T> c = one_product(one_matrix<T>(m, adjoint), outputs, inputs, rows);
  c.x = x;
  c.y = y;
  c.from = tube_rows(rows, inputs, complex_x);
  c.to = across_branches(rows, c.complex);
  run(c, call.stream());
}

// And back: branches (Q', N I) -> tubes (N I, Q), by m (Q, Q') or the adjoint of m (Q', Q), then an activation. Where
// the branches are complex and y is not, y is the real part.
template <class T> void synthesise(const Call& call, const T* y, const Tensor& m, bool adjoint, int64_t rows,
                                   bool complex_x, T* x, Activation activation = Activation::none, T offset = T(0)) {
  const int64_t outputs = m.size(adjoint ? 1 : 0), inputs = m.size(adjoint ? 0 : 1);
  Chain<T> c = one_product(one_matrix<T>(m, adjoint), outputs, inputs, rows);
  c.layers[0].activation = activation;
  c.layers[0].offset = offset;
  c.x = y;
  c.y = x;
  c.from = across_branches(rows, c.complex);
  c.to = tube_rows(rows, outputs, complex_x);
  run(c, call.stream());
}

// The arguments that the network ops share, as a chain that lacks only where its logits go.
template <class T> struct Mlp {
  // Up to so many values of x each branch transforms what it needs of x itself, reading all of x: one launch. Beyond, x
  // would be read from memory once a branch; the crossover is not yet measured.
  static constexpr int64_t kFused = 1 << 20;

  Chain<T> chain{};
  int64_t samples;

  Mlp(Call& call, const Tensor& x, const std::optional<Tensor>& transform, const Tensors& weights,
      const OptionalTensors& biases, const std::vector<int64_t>& activations, const std::vector<double>& offsets,
      bool whole_branches = false) {
    set_layers(chain, weights, biases, activations, offsets);
    samples = chain.rows = x.size(transform ? 0 : 1);
    const int64_t in = weights[0].size(2), out = weights.back().size(1);
    chain.x = spectral::in<T>(x);
    chain.from = branch_rows(samples, in, chain.complex);
    chain.to = branch_rows(samples, out, chain.complex);
    if (!transform) return;
    const int64_t tube = x.size(2), longest = std::max(tube, transform->size(0));
    if (!whole_branches && (x.numel() <= kFused || longest > 64)) {
      chain.transform = spectral::in<T>(*transform);
      chain.complex_transform = is_complex(*transform);
      chain.tube = tube;
      chain.from.complex = is_complex(x);
      return;
    }
    // (Q', N, I) in memory, for the kernels that read it row by row
    T* branches = call.memory<T>((chain.complex ? 2 : 1) * chain.branches * samples * in);
    analyse(call, chain.x, is_complex(x), *transform, false, samples * in, branches);
    chain.x = branches;
  }

  int64_t values_of_logits() const {
    return (chain.complex ? 2 : 1) * chain.branches * samples * chain.layers[chain.depth - 1].out;
  }

  // The arguments of `descend` that lack where the logits' gradient comes from, and where gradients go.
  Gradients<T> gradients() const {
    Gradients<T> g{};
    g.branches = chain.branches;
    g.samples = samples;
    g.x = chain.x;
    g.complex = chain.complex;
    g.depth = chain.depth;
    g.widest = chain.widest;
    std::copy(chain.layers, chain.layers + chain.depth, g.layers);
    return g;
  }
};

// Samples of a block, where `items` blocks of all branches keep a device busy: by the sizes alone, so that sums have
// the same bits on every device.
inline int64_t samples_of_a_block(int64_t samples, int64_t branches, int64_t tile) {
  const int64_t wanted = some(kGradientItems / some(branches)), tiles = (samples + tile - 1) / tile;
  return some((tiles + wanted - 1) / wanted) * tile;
}

// Runs the gradient kernel and adds the blocks in order; of_branch (Q) or null receives `scale` times the sums of each
// branch.
template <class T> void descend(Call& call, Gradients<T> g, const Tensors& grad_weights, const Tensors& grad_biases,
                                T* of_branch, double scale) {
  g.block = samples_of_a_block(g.samples, g.branches, kGradientTile);
  g.blocks = some((g.samples + g.block - 1) / g.block);  // without samples one empty block writes zeros
  const int64_t parts = g.complex ? 2 : 1;
  BlockSums<T> sums{};
  sums.blocks = g.blocks;
  const auto partial = [&](T* total, int64_t values) {
    if (g.blocks == 1) return total;
    T* memory = call.memory<T>(g.blocks * values);
    sums.parts[sums.count++] = {memory, total, values};
    return memory;
  };
  size_t bias = 0;
  for (int j = 0; j < g.depth; ++j) {
    const int64_t out = g.layers[j].out, in = g.layers[j].in;
    g.arguments_of_a_tile += parts * kGradientTile * out;
    g.weight_sums[j] = partial(spectral::out<T>(grad_weights[j]), parts * g.branches * out * in);
    g.bias_sums[j] =
        g.layers[j].bias ? partial(spectral::out<T>(grad_biases[bias++]), parts * g.branches * out) : nullptr;
  }
  g.arguments = call.memory<T>(g.blocks * g.branches * g.arguments_of_a_tile);
  g.branch_sums = of_branch ? call.memory<double>(g.blocks * g.branches) : nullptr;
  run(g, call.stream());
  run(sums, call.stream());
  if (of_branch) add_branch_sums(g.branch_sums, g.blocks, g.branches, scale, of_branch, call.stream());
}

}  // namespace spectral::cuda
