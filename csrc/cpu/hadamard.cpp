#include <cmath>

#include "drive.h"

namespace spectral {

// Tubes longer than this are transformed in two parts, H_n = (H_a x 1)(1 x H_b), each of which stays in cache.
constexpr int64_t kLongestContiguous = 1 << 14, kLongestStrided = 1 << 9;

namespace {

template <class T> void transform(const T* x, T* y, int64_t outer, int64_t n, int64_t inner, T scale) {
  const int64_t longest = inner == 1 ? kLongestContiguous : kLongestStrided;
  if (n > longest) {
    int64_t head = 1;
    while (n / head > longest) head *= 2;
    transform<T>(x, y, outer, head, n / head * inner, T(1));
    return transform<T>(y, y, outer * head, n / head, inner, scale);
  }
  const Butterflies<T> b{outer, n, inner, x, y, scale};
  const int64_t items = kernels<T>().hadamard_items(b);
  parallel_for(0, items, grain(outer * n * inner / std::max<int64_t>(items, 1) * 2),
               [&](int64_t begin, int64_t end) { kernels<T>().hadamard(b, begin, end); });
}

}  // namespace

// The Walsh-Hadamard transform of x (outer, n, inner) along its middle dimension.
void hadamard(const Tensor& x, int64_t dim, bool normalized, const Tensor& y) {
  visit_real(x.scalar_type(), "hadamard", [&](auto zero) {
    using T = decltype(zero);
    int64_t outer = 1, inner = 1;
    for (int64_t d = 0; d < dim; ++d) outer *= x.size(d);
    for (int64_t d = dim + 1; d < x.dim(); ++d) inner *= x.size(d);
    const int64_t n = x.size(dim);
    transform<T>(in<T>(x), out<T>(y), outer, n, inner, normalized ? T(1 / std::sqrt(double(n))) : T(1));
  });
}

STABLE_TORCH_LIBRARY_IMPL(spectral_native, CPU, m) { SPECTRAL_OP(m, hadamard, &hadamard); }

}  // namespace spectral
