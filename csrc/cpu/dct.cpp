#include "drive.h"

namespace spectral {

// y = matrix x along dimension dim; the matrix says which transform it is, so dct_adjoint is the same kernel.
void dct(const Tensor& x, const Tensor& matrix, int64_t dim, const Tensor& y) {
  visit_real(x.scalar_type(), "dct", [&](auto zero) {
    using T = decltype(zero);
    const PackedTube<T> tube(matrix);
    Tubes<T> t{1, 1, in<T>(x), out<T>(y), &tube};
    for (int64_t d = 0; d < dim; ++d) t.outer *= x.size(d);
    for (int64_t d = dim + 1; d < x.dim(); ++d) t.inner *= x.size(d);
    const int64_t tile = kernels<T>().tile, n = matrix.size(0);
    parallel_for(0, kernels<T>().tube_items(t), grain(4 * tile * n * n),
                 [&](int64_t begin, int64_t end) { kernels<T>().tubes(t, begin, end); });
  });
}

STABLE_TORCH_LIBRARY_IMPL(spectral_native, CPU, m) { SPECTRAL_OP(m, dct, &dct); }

}  // namespace spectral
