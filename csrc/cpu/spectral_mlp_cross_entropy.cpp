#include <cmath>

#include "cross_entropy.h"
#include "mlp.h"

namespace spectral {

// The loss alone: logits by the network kernel, then one pass over them.
void spectral_mlp_cross_entropy(const Tensor& x, std::optional<Tensor> transform, Tensors weights,
                                OptionalTensors biases, std::vector<int64_t> activations, const Tensor& target,
                                const Tensor& losses, const Tensor& logits) {
  visit_real(x.scalar_type(), "spectral_mlp_cross_entropy", [&](auto zero) {
    using T = decltype(zero);
    Mlp<T> mlp(x, transform, weights, biases, activations);
    const int64_t samples = mlp.net.samples, classes = mlp.net.out;
    const int64_t* t = checked_target(target, classes);
    mlp.net.y = out<T>(logits);
    run(mlp.net, mlp.chain.operations);
    parallel_for(0, mlp.net.branches, grain(40 * samples * classes), [&](int64_t begin, int64_t end) {
      for (int64_t q = begin; q < end; ++q) {
        double total = 0;
        for (int64_t n = 0; n < samples; ++n) {
          const T* z = in<T>(logits) + (q * samples + n) * classes;
          const T top = *std::max_element(z, z + classes);
          T sum = 0;
          for (int64_t c = 0; c < classes; ++c) sum += std::exp(z[c] - top);
          total += double(std::log(sum) + (top - z[t[n]]));
        }
        out<T>(losses)[q] = T(total / double(samples));
      }
    });
  });
}

STABLE_TORCH_LIBRARY_IMPL(spectral_native, CPU, m) {
  SPECTRAL_OP(m, spectral_mlp_cross_entropy, &spectral_mlp_cross_entropy);
}

}  // namespace spectral
