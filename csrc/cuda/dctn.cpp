#include "drive.h"

namespace spectral::cuda {

// y = the transforms of x along two dimensions, first < second, whose matrices say which they are; y may be x.
void dctn(const Tensor& x, const Tensor& first_matrix, const Tensor& second_matrix, int64_t first, int64_t second,
          const Tensor& y) {
  visit_real(x.scalar_type(), "dctn", [&](auto zero) {
    using T = decltype(zero);
    const Call call(x);
    Planes<T> p{};
    p.n1 = int(x.size(first));
    p.n2 = int(x.size(second));
    p.x = in<T>(x);
    p.y = out<T>(y);
    p.first = in<T>(first_matrix);
    p.second = in<T>(second_matrix);
    p.outer = p.middle = p.inner = 1;
    for (int64_t d = 0; d < first; ++d) p.outer *= x.size(d);
    for (int64_t d = first + 1; d < second; ++d) p.middle *= x.size(d);
    for (int64_t d = second + 1; d < x.dim(); ++d) p.inner *= x.size(d);
    p.inverse_middle = 1.0 / double(p.middle);
    p.inverse_inner = 1.0 / double(p.inner);
    run(p, call.stream());
  });
}

SPECTRAL_CUDA_LIBRARY(m) { SPECTRAL_OP(m, dctn, &dctn); }

}  // namespace spectral::cuda
