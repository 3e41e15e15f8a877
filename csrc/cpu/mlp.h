// The arguments that all network ops share, as a Network that lacks only its sink.
#pragma once
#include "drive.h"

namespace spectral {

template <class T> struct Mlp {
  Chain<T> chain;
  std::optional<PackedTube<T>> tube;
  Network<T> net{};

  Mlp(const Tensor& x, const std::optional<Tensor>& transform, const Tensors& weights, const OptionalTensors& biases,
      const std::vector<int64_t>& activations)
      : chain(weights, biases, activations), tube(pack_tube<T>(transform)) {
    net.samples = transform ? x.size(0) : x.size(1);
    net.branches = weights[0].size(0);
    net.in = weights[0].size(2);
    net.out = weights.back().size(1);
    net.widest = chain.widest;
    net.x = in<T>(x);
    net.transform = tube ? &*tube : nullptr;
    net.layers = chain.layers.data();
    net.depth = chain.depth();
  }

  // The network's input in branches, (Q', N, I): x itself, or its transform, in `memory`.
  const T* branches(std::unique_ptr<T[]>& memory) const {
    if (!net.transform) return net.x;
    memory.reset(new T[net.branches * net.samples * net.in]);
    Network<T> analysis = net;
    analysis.depth = 0;
    analysis.out = analysis.in;
    analysis.y = memory.get();
    run(analysis, 0);
    return memory.get();
  }
};

}  // namespace spectral
