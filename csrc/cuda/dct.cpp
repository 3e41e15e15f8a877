#include "drive.h"

namespace spectral::cuda {

namespace {

// The tables follow one another in `table` as spectral_ops/ops/fourier.py lists them, type I folded.
template <class T> void set_tables(LongTubes<T>& t, const Tensor& table) {
  const bool halved = t.type == 4 && t.n % 2 == 0;
  t.length = t.type == 1 ? t.n + (t.sine ? 1 : -1) : halved ? t.n / 2 : t.n;
  const int64_t size = t.circle ? t.circle : t.length;
  const int64_t turns = t.type == 1 ? t.length + 1 : halved ? t.n : t.type == 4 ? 0 : t.n / 2 + 1;
  SPECTRAL_CHECK(table.numel() == 2 * (size + turns + (t.circle ? t.length + t.circle : 0)),
                 "dct: the table has another size");
  t.roots = in<T>(table);
  t.turns = t.roots + 2 * size;
  t.chirp = t.turns + 2 * turns;
  t.spectrum = t.chirp + 2 * t.length;
}

}  // namespace

// y = the transform of x along dimension dim: by the matrix that `table` is, which says which transform, or by a
// Fourier transform with the roots and factors in `table`, or where that is empty by a codelet.
void dct(const Tensor& x, const Tensor& table, int64_t type, bool sine, int64_t circle, double scale, double first_in,
         double last_in, double first_out, double last_out, int64_t dim, const Tensor& y) {
  visit_real(x.scalar_type(), "dct", [&](auto zero) {
    using T = decltype(zero);
    const Call call(x);
    int64_t outer = 1, inner = 1;
    for (int64_t d = 0; d < dim; ++d) outer *= x.size(d);
    for (int64_t d = dim + 1; d < x.dim(); ++d) inner *= x.size(d);
    if (table.dim() == 1) {
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
      if (table.numel() == 0) return run_codelet(t, call.stream());
      set_tables(t, table);
      return run(t, call.stream());
    }
    Chain<T> c = one_product(one_matrix<T>(table), table.size(0), table.size(1), outer * inner);
    c.x = in<T>(x);
    c.y = out<T>(y);
    c.from = middle(table.size(1), inner, false);
    c.to = middle(table.size(0), inner, false);
    run(c, call.stream());
  });
}

SPECTRAL_CUDA_LIBRARY(m) { SPECTRAL_OP(m, dct, &dct); }

}  // namespace spectral::cuda
