#include "branch_ensemble.h"
#include "descend.h"
#include "mlp.h"

namespace spectral {

namespace {

template <class T> void mixture(Mlp<T>& mlp, const Tensor& branch_weights, bool softmax, const Tensor& y) {
  Network<T>& net = mlp.net;
  // With fewer tiles than threads the branches are shared out and meet in a second pass; so are none at all, whose
  // sum is 0. Both ways add the branches in the same order: the same bits for any number of threads.
  if (ceil_div(net.samples, mlp.tile()) < num_threads() || net.branches == 0) {
    const int64_t values = net.branches * net.samples * net.out;
    std::vector<T> logits(mlp.complex ? 2 * values : values);
    net.y = logits.data();
    mlp.run(mlp.net);
    for (int64_t i = 0; mlp.complex && i < values; ++i) logits[i] = logits[2 * i];  // the real parts count
    return ensemble<T>(logits.data(), net.branches, net.samples, net.out, in<T>(branch_weights), softmax, out<T>(y));
  }
  net.branch_weights = in<T>(branch_weights);
  net.softmax = softmax;
  net.y = out<T>(y);
  mlp.run(mlp.net);
}

}  // namespace

// x (N, I, Q) with transform (Q', Q), or (Q', N, I) without; branch_weights (Q',) -> out (N, C)
void spectral_ensemble(const Tensor& x, std::optional<Tensor> transform, Tensors weights, OptionalTensors biases,
                       std::vector<int64_t> activations, std::vector<double> offsets, const Tensor& branch_weights,
                       bool softmax, const Tensor& y) {
  visit_number(x.scalar_type(), "spectral_ensemble", [&](auto zero) {
    Mlp<decltype(zero)> mlp(x, transform, weights, biases, activations, offsets);
    mixture(mlp, branch_weights, softmax, y);
  });
}

// The same, and what `spectral_ensemble_from_states` needs of it.
Tensor spectral_ensemble_with_states(const Tensor& x, std::optional<Tensor> transform, Tensors weights,
                                     OptionalTensors biases, std::vector<int64_t> activations,
                                     std::vector<double> offsets, const Tensor& branch_weights, bool softmax,
                                     const Tensor& y) {
  std::optional<Tensor> states;
  visit_number(x.scalar_type(), "spectral_ensemble_with_states", [&](auto zero) {
    Mlp<decltype(zero)> mlp(x, transform, weights, biases, activations, offsets);
    states = mlp.keep(x);
    mixture(mlp, branch_weights, softmax, y);
  });
  return *states;
}

// grad_y (N, C) -> grad_branches (Q', N, I) or none, the gradients of weights and biases, grad_branch_weights (Q',)
void spectral_ensemble_from_states(const Tensor& grad_y, const Tensor& states, Tensors weights, OptionalTensors biases,
                                   std::vector<int64_t> activations, std::vector<double> offsets,
                                   const Tensor& branch_weights, bool softmax, std::optional<Tensor> grad_branches,
                                   Tensors grad_weights, Tensors grad_biases, const Tensor& grad_branch_weights) {
  visit_real(states.scalar_type(), "spectral_ensemble_from_states", [&](auto zero) {
    using T = decltype(zero);
    const Chain<T> chain(weights, biases, activations, offsets);
    Gradients<T> net = from_states(states, chain, weights[0].size(0), grad_y.size(0), is_complex(weights[0]));
    net.grad_y = in<T>(grad_y);
    net.branch_weights = in<T>(branch_weights);
    net.softmax = softmax;
    net.grad_x = out<T>(grad_branches);
    descend<T>(net, chain, grad_weights, grad_biases, out<T>(grad_branch_weights), 1);
  });
}

STABLE_TORCH_LIBRARY_IMPL(spectral_native, CPU, m) {
  SPECTRAL_OP(m, spectral_ensemble, &spectral_ensemble);
  SPECTRAL_OP(m, spectral_ensemble_with_states, &spectral_ensemble_with_states);
  SPECTRAL_OP(m, spectral_ensemble_from_states, &spectral_ensemble_from_states);
}

}  // namespace spectral
