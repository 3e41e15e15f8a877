// The arguments that all network ops share, as a network that lacks only its sink.
#pragma once
#include "drive.h"

namespace spectral {

template <class T> struct Mlp {
  Chain<T> chain;
  bool complex;  // the branches: Python makes the weights and the transform complex where anything is
  bool complex_x;
  std::shared_ptr<const PackedTube<T>> tube;
  std::optional<PackedComplexTube<T>> complex_tube;
  Network<T> net{};

  Mlp(const Tensor& x, const std::optional<Tensor>& transform, const Tensors& weights, const OptionalTensors& biases,
      const std::vector<int64_t>& activations, const std::vector<double>& offsets)
      : chain(weights, biases, activations, offsets), complex(is_complex(weights[0])), complex_x(is_complex(x)) {
    if (transform && complex) complex_tube.emplace(*transform);
    if (transform && !complex) tube = packed<T>(*transform);
    net.samples = transform ? x.size(0) : x.size(1);
    net.branches = weights[0].size(0);
    net.in = weights[0].size(2);
    net.out = weights.back().size(1);
    net.widest = chain.widest;
    net.x = in<T>(x);
    net.transform = tube ? &tube->matrix : nullptr;
    net.layers = chain.layers.data();
    net.depth = chain.depth();
  }

  int64_t tile() const { return complex ? kernels<T>().complex_tile : kernels<T>().tile; }

  // Runs `some`, which is `net` or a part of it.
  void run(const Network<T>& some) const {
    if (!complex) return spectral::run(some, chain.operations);
    spectral::run(ComplexNetwork<T>{some, complex_tube ? &complex_tube->matrix : nullptr, nullptr, complex_x, true},
                  chain.operations);
  }

  // Memory for what the gradient needs of the forward pass, (Q', tiles, rows, tile): `net` will keep it there.
  Tensor keep(const Tensor& like) {
    constexpr ScalarType kReal = std::is_same_v<T, float> ? ScalarType::Float : ScalarType::Double;
    const int64_t rows = kernels<T>().state_rows(net.layers, net.depth);
    const Tensor states =
        torch::stable::new_empty(like, {net.branches, ceil_div(net.samples, tile()), rows, kernels<T>().tile}, kReal);
    net.states = out<T>(states);
    return states;
  }

  // The network's input in branches, (Q', N, I): x itself, or its transform, in `memory`.
  const T* branches(std::unique_ptr<T[]>& memory) const {
    if (!tube && !complex_tube) return net.x;
    memory.reset(new T[(complex ? 2 : 1) * net.branches * net.samples * net.in]);
    Network<T> analysis = net;
    analysis.depth = 0;
    analysis.out = analysis.in;
    analysis.y = memory.get();
    run(analysis);
    return memory.get();
  }

  // The arguments of `descend` that lack where the logits' gradient comes from, and where gradients go.
  Gradients<T> gradients(std::unique_ptr<T[]>& memory) const {
    Gradients<T> g{};
    g.samples = net.samples;
    g.branches = net.branches;
    g.x = branches(memory);
    g.complex = complex;
    return g;
  }
};

}  // namespace spectral
