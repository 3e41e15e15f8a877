// Tiles of rows, for layers whose steps follow each other: [sample][padded feature], features in SIMD lanes, every row
// a whole number of vectors. A product then has vectors of weights and broadcast samples: what x and the results hold
// in memory is a tile already, and all steps of a sample are rows under each other, so that whatever does not depend on
// the step before is one product over many steps.
#pragma once
#include "fetch.h"
#include "pairs.h"

namespace spectral::SPECTRAL_LEVEL {

// Samples that go through the steps together: two register blocks (four of the lower ones).
template <class T> inline constexpr int64_t kRecurrentTile = kRows<T> * (kRows<T> > 8 ? 2 : 4);

// `count` rows of memory, `stride` apart -> rows of `width` padded; the padding becomes 0.
template <class T>
SPECTRAL_INLINE void load_rows(const T* from, int64_t stride, int64_t width, int64_t count, T* rows) {
  constexpr int n = kLanes<T>;
  const int64_t ld = padded<T>(width), whole = width / n * n;
  for (int64_t r = 0; r < count; ++r) {
    for (int64_t c = 0; c < whole; c += n) store(rows + r * ld + c, load_loose(from + r * stride + c));
    if (whole < width) store(rows + r * ld + whole, load_part(from + r * stride + whole, width - whole));
  }
}

// Rows of `width` padded -> `count` dense rows of memory.
template <class T> SPECTRAL_INLINE void store_rows(const T* rows, int64_t width, int64_t count, T* to) {
  constexpr int n = kLanes<T>;
  const int64_t ld = padded<T>(width), whole = width / n * n;
  for (int64_t r = 0; r < count; ++r) {
    for (int64_t c = 0; c < whole; c += n) store_loose(to + r * width + c, load(rows + r * ld + c));
    if (whole < width) store_part(to + r * width + whole, load(rows + r * ld + whole), width - whole);
  }
}

template <class T> SPECTRAL_INLINE void copy_row(const T* from, int64_t ld, T* to) {
  for (int64_t c = 0; c < ld; c += kLanes<T>) store(to + c, load(from + c));
}

template <class T> SPECTRAL_INLINE void add_row(const T* from, int64_t ld, T* to) {
  for (int64_t c = 0; c < ld; c += kLanes<T>) store(to + c, load(to + c) + load(from + c));
}

// m (rows, columns) -> its transpose in padded rows.
template <class T> void transpose_rows(const T* m, int64_t rows, int64_t columns, T* out) {
  constexpr int n = kLanes<T>;
  const int64_t ld = padded<T>(rows);
  for (int64_t row = 0; row < rows; row += n)
    for (int64_t column = 0; column < columns; column += n) {
      const int64_t part = min(n, columns - column);
      Vec<T> v[n];
#pragma GCC unroll 16
      for (int r = 0; r < n; ++r) v[r] = row + r < rows ? load_part(m + (row + r) * columns + column, part) : Vec<T>{};
      transpose<T>(v);
#pragma GCC unroll 16
      for (int r = 0; r < n; ++r)
        if (r < part) store(out + (column + r) * ld + row, v[r]);
    }
}

// out[r][lanes] = start (Start::lanes: the bias) + sum_k a(r, k) m[k][lanes] for all lanes of `width` padded. a(r, k) =
// a[r * lda + k], or with Factor::rows a[k * lda + r].
template <class T, Factor factor, Start start>
SPECTRAL_INLINE void row_product(const T* a, int64_t lda, int64_t depth, const T* m, int64_t width, T* out, int64_t ldo,
                                 int64_t rows, const T* bias = nullptr) {
  constexpr int n = kLanes<T>;
  const int64_t ld = padded<T>(width);
  int64_t c = 0;
  for (; c + 2 * n <= ld; c += 2 * n)
    product<T, 2, factor, start, Finish::store>(m + c, ld, depth, a, lda, start == Start::lanes ? bias + c : nullptr,
                                                out + c, ldo, rows);
  if (c < ld)
    product<T, 1, factor, start, Finish::store>(m + c, ld, depth, a, lda, start == Start::lanes ? bias + c : nullptr,
                                                out + c, ldo, rows);
}

// z = act(z) on `values` values (whole vectors).
template <class T> void activate_rows(Activation kind, T offset, T* z, int64_t values) {
  if (kind == Activation::none) return;
  visit_any(kind, [&]<Activation kKind>() {
    for (int64_t i = 0; i < values; i += kLanes<T>) store(z + i, activation_of_lanes<T, kKind>(load(z + i), offset));
  });
}

// to = grad * act'(z), where h = act(z), or null: then it is computed again. to may be grad.
template <class T>
void descend_rows(Activation kind, T offset, const T* grad, const T* z, const T* h, T* to, int64_t values) {
  visit_any(kind, [&]<Activation kKind>() {
    for (int64_t i = 0; i < values; i += kLanes<T>) {
      const Vec<T> argument = load(z + i), value = h ? load(h + i) : activation_of_lanes<T, kKind>(argument, offset);
      store(to + i, through_lanes<T, kKind>(load(grad + i), argument, value, offset));
    }
  });
}

// The weights (rows, columns) of a branch, of a layer whose widths these are, in padded rows, as they are or
// transposed; and the way back for their gradients.
template <class T> SPECTRAL_INLINE void load_weights(const Recurrent<T>& net, const T* w, int64_t branch, int64_t rows,
                                                     int64_t columns, T* out) {
  net.complex ? load_map(w + branch * rows * columns / 2, rows / 2, columns / 2, out)
              : load_rows(w + branch * rows * columns, columns, columns, rows, out);
}
template <class T> SPECTRAL_INLINE void transpose_weights(const Recurrent<T>& net, const T* w, int64_t branch,
                                                          int64_t rows, int64_t columns, T* out) {
  net.complex ? transpose_map(w + branch * rows * columns / 2, rows / 2, columns / 2, out)
              : transpose_rows(w + branch * rows * columns, rows, columns, out);
}
template <class T> SPECTRAL_INLINE void store_weights(const Recurrent<T>& net, const T* grads, int64_t item,
                                                      int64_t rows, int64_t columns, T* w) {
  net.complex ? fold_map(grads, rows / 2, columns / 2, w + item * rows * columns / 2)
              : store_rows(grads, columns, rows, w + item * rows * columns);
}

// The samples of one tile in one branch, and how long each of them runs.
template <class T> struct Sequences {
  const Recurrent<T>& net;
  int64_t branch, first, count;

  int64_t length(int64_t s) const { return net.lengths ? max(0, min(net.steps, net.lengths[first + s])) : net.steps; }
  int64_t longest() const {
    int64_t most = net.lengths ? 0 : net.steps;
    for (int64_t s = 0; net.lengths && s < count; ++s) most = max(most, length(s));
    return most;
  }
  // Where the samples of step t lie in a tensor (T, Q, N, width), and in one without T.
  int64_t at(int64_t t, int64_t width) const { return ((t * net.branches + branch) * net.samples + first) * width; }
  // f(s) for each sample that has ended before step t.
  template <class F> SPECTRAL_INLINE void ended(int64_t t, F f) const {
    for (int64_t s = 0; net.lengths && s < count; ++s)
      if (length(s) <= t) f(s);
  }
};

}  // namespace spectral::SPECTRAL_LEVEL
