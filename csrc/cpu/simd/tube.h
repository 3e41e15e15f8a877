// A matrix along the tube, applied to a tile: y[p] = sum_q m[p][q] x[q], rows of kTile samples.
#pragma once
#include "tile.h"

namespace spectral::SPECTRAL_LEVEL {

// How many values of work space `apply` needs.
template <class T> SPECTRAL_INLINE int64_t tube_space(const TubeMatrix<T>& m) {
  return round_up(m.kind == TubeMatrix<T>::Kind::analysis ? m.columns : m.rows, 2) * kTile<T>;
}

// How many products follow each other in a sum of `terms`: longer sums are sums of equal shorter ones.
template <class T> SPECTRAL_INLINE int64_t chain_of(const TubeMatrix<T>& m, int64_t terms) {
  return ceil_div(terms, max(1, ceil_div(terms, m.chain)));
}

// y = w x, as `product` has it, in sums of at most `chain` products.
template <class T, int V> SPECTRAL_INLINE void chained(int64_t chain, const T* x, int64_t ldx, int64_t depth,
                                                       const T* w, int64_t ldw, T* y, int64_t ldy, int64_t rows) {
  product<T, V, Factor::rows, Start::zero, Finish::store>(x, ldx, min(chain, depth), w, ldw, nullptr, y, ldy, rows);
  for (int64_t k = chain; k < depth; k += chain)
    product<T, V, Factor::rows, Start::zero, Finish::add>(x + k * ldx, ldx, min(chain, depth - k), w + k * ldw, ldw,
                                                          nullptr, y, ldy, rows);
}

// x: rows ldx apart, y: rows ldy apart, V vectors of each row. Rows [first, last) of a dense or analysis matrix may be
// asked for alone. With symmetry s_q = x_q + x_(n-1-q) serves the even rows and d_q = x_q - x_(n-1-q) the odd ones
// (analysis), or y_p and y_(n-1-p) are the sum and the difference of what the even and the odd columns give
// (synthesis).
template <class T, int V>
void apply(const TubeMatrix<T>& m, const T* x, int64_t ldx, T* y, int64_t ldy, T* space, int64_t first, int64_t last) {
  using Kind = typename TubeMatrix<T>::Kind;
  constexpr int n = kLanes<T>;
  const int64_t half = m.kind == Kind::analysis ? m.columns / 2 : m.rows / 2;
  if (m.kind == Kind::dense)
    return chained<T, V>(chain_of(m, m.columns), x, ldx, m.columns, m.dense + first, m.rows, y + first * ldy, ldy,
                         last - first);
  const int64_t terms = half + (m.kind == Kind::analysis ? m.columns : m.rows) % 2;  // with the middle of an odd length
  const int64_t chain = chain_of(m, terms);
  T *first_part = space, *second_part = space + terms * kTile<T>;
  if (m.kind == Kind::analysis) {
    for (int64_t q = 0; q < terms; ++q)
      for (int v = 0; v < V * n; v += n) {
        const Vec<T> a = load_loose(x + q * ldx + v),
                     b = q < half ? load_loose(x + (m.columns - 1 - q) * ldx + v) : Vec<T>{};
        store(first_part + q * kTile<T> + v, a + b);
        store(second_part + q * kTile<T> + v, a - b);
      }
    // rows first .. last: even ones 2e, odd ones 2o + 1
    const int64_t even_first = (first + 1) / 2, even_last = (last + 1) / 2, odd_first = first / 2, odd_last = last / 2;
    chained<T, V>(chain, first_part, kTile<T>, terms, m.even + even_first, (m.rows + 1) / 2, y + 2 * even_first * ldy,
                  2 * ldy, even_last - even_first);
    chained<T, V>(chain, second_part, kTile<T>, terms, m.odd + odd_first, m.rows / 2, y + (2 * odd_first + 1) * ldy,
                  2 * ldy, odd_last - odd_first);
    return;
  }
  chained<T, V>(chain, x, 2 * ldx, (m.columns + 1) / 2, m.even, terms, first_part, kTile<T>, terms);
  chained<T, V>(chain, x + ldx, 2 * ldx, m.columns / 2, m.odd, terms, second_part, kTile<T>, terms);
  for (int64_t p = 0; p < terms; ++p)
    for (int v = 0; v < V * n; v += n) {
      const Vec<T> a = load(first_part + p * kTile<T> + v), b = load(second_part + p * kTile<T> + v);
      store_loose(y + p * ldy + v, a + b);
      if (p < half) store_loose(y + (m.rows - 1 - p) * ldy + v, a - b);
    }
}

}  // namespace spectral::SPECTRAL_LEVEL
