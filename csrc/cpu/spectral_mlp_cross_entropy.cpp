#include <cmath>

#include "cross_entropy.h"
#include "mlp.h"

namespace spectral {

// The loss alone: logits by the network kernel, then one pass over them.
void spectral_mlp_cross_entropy(const Tensor& x, std::optional<Tensor> transform, Tensors weights,
                                OptionalTensors biases, std::vector<int64_t> activations, std::vector<double> offsets,
                                const Tensor& target, const Tensor& losses, const Tensor& logits) {
  visit_number(x.scalar_type(), "spectral_mlp_cross_entropy", [&](auto zero) {
    using T = decltype(zero);
    Mlp<T> mlp(x, transform, weights, biases, activations, offsets);
    const int64_t samples = mlp.net.samples, classes = mlp.net.out;
    const int64_t step = mlp.complex ? 2 : 1;  // of complex logits the real parts count
    const int64_t* t = checked_target(target, classes);
    mlp.net.y = out<T>(logits);
    mlp.run(mlp.net);
    parallel_for(0, mlp.net.branches, grain(40 * samples * classes), [&](int64_t begin, int64_t end) {
      for (int64_t q = begin; q < end; ++q) {
        double total = 0;
        for (int64_t n = 0; n < samples; ++n) {
          const T* z = in<T>(logits) + (q * samples + n) * classes * step;
          T top = z[0], sum = 0;
          for (int64_t c = 1; c < classes; ++c) top = std::max(top, z[c * step]);
          for (int64_t c = 0; c < classes; ++c) sum += std::exp(z[c * step] - top);
          total += double(std::log(sum) + (top - z[t[n] * step]));
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
