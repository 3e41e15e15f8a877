#include "branch_ensemble.h"
#include "mlp.h"

namespace spectral {

// x (N, I, Q) with transform (Q', Q), or (Q', N, I) without; branch_weights (Q',) -> out (N, C)
void spectral_ensemble(const Tensor& x, std::optional<Tensor> transform, Tensors weights, OptionalTensors biases,
                       std::vector<int64_t> activations, std::vector<double> offsets, const Tensor& branch_weights,
                       bool softmax, const Tensor& y) {
  visit_number(x.scalar_type(), "spectral_ensemble", [&](auto zero) {
    using T = decltype(zero);
    Mlp<T> mlp(x, transform, weights, biases, activations, offsets);
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
  });
}

STABLE_TORCH_LIBRARY_IMPL(spectral_native, CPU, m) { SPECTRAL_OP(m, spectral_ensemble, &spectral_ensemble); }

}  // namespace spectral
