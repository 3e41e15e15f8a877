// Runs the gradient kernel over (branch, block of samples) and adds the blocks in order.
#pragma once
#include "drive.h"

namespace spectral {

// `net` lacks layers, blocks and sums; of_branch (Q',) or null receives `scale` times the sums of each branch. Blocks
// depend on the sizes alone: the same bits for any number of threads. About 32 items are enough to keep a machine busy,
// and a block is long enough to pay for its partial sums.
template <class T> void descend(Gradients<T> net, const Chain<T>& chain, const Tensors& grad_weights,
                                const Tensors& grad_biases, T* of_branch, double scale) {
  constexpr int64_t kItems = 32, kShortest = 256, kTiles = 32;
  const int64_t wanted = ceil_div(kItems, std::max<int64_t>(net.branches, 1));
  const int64_t shared = ceil_div(net.samples, std::max<int64_t>(wanted, 1));
  net.block = std::max(kShortest, ceil_div(shared, kTiles) * kTiles);
  net.blocks = std::max<int64_t>(ceil_div(net.samples, net.block), 1);  // without samples one empty block writes zeros
  net.layers = chain.layers.data();
  net.depth = chain.depth();
  net.widest = chain.widest;

  const int64_t parts = net.complex ? 2 : 1;
  const bool direct = net.blocks == 1;
  int64_t bytes = CallMemory::bytes_for<double>(net.blocks * net.branches);
  for (int64_t j = 0; j < net.depth && !direct; ++j) {
    const Layer<T>& layer = net.layers[j];
    bytes += CallMemory::bytes_for<T>(net.blocks * net.branches * parts * layer.out * layer.in) +
             CallMemory::bytes_for<T>(net.blocks * net.branches * parts * layer.out);
  }
  CallMemory memory(bytes);
  double* branch_sums = memory.take<double>(net.blocks * net.branches);
  net.branch_sums = of_branch ? branch_sums : nullptr;
  std::vector<T*> weight_sums(net.depth), bias_sums(net.depth), weights(net.depth), biases(net.depth);
  for (int64_t j = 0, b = 0; j < net.depth; ++j) {
    const Layer<T>& layer = net.layers[j];
    weights[j] = out<T>(grad_weights[j]);
    biases[j] = layer.bias ? out<T>(grad_biases[b++]) : nullptr;
    if (direct) {
      weight_sums[j] = weights[j];
      bias_sums[j] = biases[j];
    } else {
      weight_sums[j] = memory.take<T>(net.blocks * net.branches * parts * layer.out * layer.in);
      bias_sums[j] = memory.take<T>(net.blocks * net.branches * parts * layer.out);
    }
  }
  net.weight_sums = weight_sums.data();
  net.bias_sums = bias_sums.data();
  parallel_for(0, net.blocks * net.branches, grain(3 * net.block * chain.operations),
               [&](int64_t begin, int64_t end) { kernels<T>().gradients(net, begin, end); });

  if (!direct)
    parallel_for(0, net.branches, 1, [&](int64_t begin, int64_t end) {
      for (int64_t j = 0; j < net.depth; ++j) {
        const int64_t out = parts * net.layers[j].out, size = out * net.layers[j].in;
        add_blocks(weight_sums[j], net.blocks, net.branches * size, weights[j], begin * size, end * size);
        if (biases[j]) add_blocks(bias_sums[j], net.blocks, net.branches * out, biases[j], begin * out, end * out);
      }
    });
  for (int64_t q = 0; of_branch && q < net.branches; ++q) {
    double total = 0;
    for (int64_t block = 0; block < net.blocks; ++block) total += branch_sums[block * net.branches + q];
    of_branch[q] = T(total * scale);
  }
}

// The arguments of `descend` where the forward pass kept its states; they lack where the logits' gradient comes from,
// and where gradients go.
template <class T>
Gradients<T> from_states(const Tensor& states, const Chain<T>& chain, int64_t branches, int64_t samples, bool complex) {
  const Kernels<T>& k = kernels<T>();
  SPECTRAL_CHECK(states.size(0) == branches && states.size(1) == ceil_div(samples, complex ? k.complex_tile : k.tile) &&
                     states.size(2) == k.state_rows(chain.layers.data(), chain.depth()) && states.size(3) == k.tile,
                 "the states are those of another network or of another SIMD level");
  Gradients<T> net{};
  net.samples = samples;
  net.branches = branches;
  net.states = in<T>(states);
  net.complex = complex;
  return net;
}

}  // namespace spectral
