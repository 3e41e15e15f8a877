#include <cmath>

#include "drive.h"

namespace spectral::cuda {

// The Walsh-Hadamard transform of x (outer, n, inner) along its middle dimension.
void hadamard(const Tensor& x, int64_t dim, bool normalized, const Tensor& y) {
  visit_real(x.scalar_type(), "hadamard", [&](auto zero) {
    using T = decltype(zero);
    const Call call(x);
    int64_t outer = 1, inner = 1;
    for (int64_t d = 0; d < dim; ++d) outer *= x.size(d);
    for (int64_t d = dim + 1; d < x.dim(); ++d) inner *= x.size(d);
    const int64_t n = x.size(dim);
    const T scale = normalized ? T(1 / std::sqrt(double(n))) : T(1);
    run(Butterflies<T>{outer, n, inner, in<T>(x), out<T>(y), scale}, call.stream());
  });
}

SPECTRAL_CUDA_LIBRARY(m) { SPECTRAL_OP(m, hadamard, &hadamard); }

}  // namespace spectral::cuda
