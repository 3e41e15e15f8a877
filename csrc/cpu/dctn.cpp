#include "drive.h"

namespace spectral {

// y = the transforms of x along two dimensions, first < second, whose matrices say which they are.
void dctn(const Tensor& x, const Tensor& first_matrix, const Tensor& second_matrix, int64_t first, int64_t second,
          const Tensor& y) {
  visit_real(x.scalar_type(), "dctn", [&](auto zero) {
    using T = decltype(zero);
    const int64_t rows = x.size(first), columns = x.size(second);
    const auto one = packed<T>(first_matrix, rows), two = packed<T>(second_matrix, columns);
    Planes<T> p{1, 1, 1, in<T>(x), out<T>(y), &one->matrix, &two->matrix};
    for (int64_t d = 0; d < first; ++d) p.outer *= x.size(d);
    for (int64_t d = first + 1; d < second; ++d) p.middle *= x.size(d);
    for (int64_t d = second + 1; d < x.dim(); ++d) p.inner *= x.size(d);
    const int64_t items = kernels<T>().plane_items(p), lines = rows + columns;
    if (items == 0) return;
    parallel_for(0, items, grain(x.numel() / items * lines),
                 [&](int64_t begin, int64_t end) { kernels<T>().planes(p, begin, end); });
  });
}

STABLE_TORCH_LIBRARY_IMPL(spectral_native, CPU, m) { SPECTRAL_OP(m, dctn, &dctn); }

}  // namespace spectral
