#include "drive.h"

namespace spectral {

namespace {

template <class T> void by_matrix(const Tensor& x, const Tensor& matrix, int64_t type, int64_t outer, int64_t n,
                                  int64_t inner, const Tensor& y) {
  const auto tube = packed<T>(matrix, n);
  TubeMatrix<T> m = tube->matrix;
  if (type == 1) m.chain = 8;  // as accurate as an FFT of twice the length, whose values come in equal pairs
  const Tubes<T> t{outer, inner, in<T>(x), out<T>(y), &m};
  const int64_t tile = kernels<T>().tile;
  parallel_for(0, kernels<T>().tube_items(t), grain(4 * tile * n * n),
               [&](int64_t begin, int64_t end) { kernels<T>().tubes(t, begin, end); });
}

// `t` lacks its tables, which follow one another in `table` as csrc/cpu/kernels.h lists them.
template <class T> void by_fourier(LongTubes<T> t, const Tensor& table) {
  const bool folds = t.type == 4 && t.n % 2 == 0;
  t.length = t.type == 1 ? 2 * (t.n + (t.sine ? 1 : -1)) : folds ? t.n / 2 : t.n;
  const int64_t size = t.circle ? t.circle : t.length;
  const int64_t turns = folds ? t.n : t.type == 2 || t.type == 3 ? t.n / 2 + 1 : 0;
  t.rows = std::max(t.n, folds ? 2 * size : size);
  SPECTRAL_CHECK(table.numel() == 2 * (size + turns + (t.circle ? t.length + t.circle : 0)),
                 "dct: the table has another size");
  t.roots = in<T>(table);
  t.turns = t.roots + 2 * size;
  t.chirp = t.turns + 2 * turns;
  t.spectrum = t.chirp + 2 * t.length;
  const int64_t tile = kernels<T>().tile;
  parallel_for(0, kernels<T>().long_items(t), grain(200 * tile * t.n),
               [&](int64_t begin, int64_t end) { kernels<T>().long_tubes(t, begin, end); });
}

}  // namespace

// y = the transform of x along dimension dim: by the matrix that `table` is or holds, which says which transform, or by
// a Fourier transform with the roots and factors in `table`.
void dct(const Tensor& x, const Tensor& table, int64_t type, bool sine, int64_t circle, double scale, double first_in,
         double last_in, double first_out, double last_out, int64_t dim, const Tensor& y) {
  visit_real(x.scalar_type(), "dct", [&](auto zero) {
    using T = decltype(zero);
    int64_t outer = 1, inner = 1;
    for (int64_t d = 0; d < dim; ++d) outer *= x.size(d);
    for (int64_t d = dim + 1; d < x.dim(); ++d) inner *= x.size(d);
    if (table.dim() == 2) return by_matrix<T>(x, table, type, outer, x.size(dim), inner, y);
    LongTubes<T> t{};
    t.outer = outer;
    t.n = x.size(dim);
    t.inner = inner;
    t.x = in<T>(x);
    t.y = out<T>(y);
    t.type = type;
    t.sine = sine;
    t.circle = circle;
    t.scale = T(scale);
    t.first_in = T(first_in);
    t.last_in = T(last_in);
    t.first_out = T(first_out);
    t.last_out = T(last_out);
    by_fourier<T>(t, table);
  });
}

STABLE_TORCH_LIBRARY_IMPL(spectral_native, CPU, m) { SPECTRAL_OP(m, dct, &dct); }

}  // namespace spectral
