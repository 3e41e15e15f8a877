// A matrix along the tube, applied to a tile: y[p] = sum_q m[p][q] x[q], rows of kTile samples.
#pragma once
#include "tile.h"

namespace spectral::SPECTRAL_LEVEL {

// Whether it is several matrices of a fraction of the length, and not one.
template <class T> SPECTRAL_INLINE bool has_parts(const TubeMatrix<T>& m) {
  return m.kind == TubeMatrix<T>::Kind::rotated || m.kind == TubeMatrix<T>::Kind::split;
}

// How many values of work space `apply` needs.
template <class T> int64_t tube_space(const TubeMatrix<T>& m) {
  if (m.kind == TubeMatrix<T>::Kind::split)
    return m.rows * kTile<T> + max(tube_space(*m.halves[0]), tube_space(*m.halves[1]));
  if (m.kind == TubeMatrix<T>::Kind::rotated) return (round_up(m.rows, 4) + m.rows) * kTile<T>;
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

// s_q = x_q + x_(n-1-q), then d_q = x_q - x_(n-1-q), for the `terms` first q: rows of V vectors.
template <class T, int V> SPECTRAL_INLINE void fold(int64_t n, const T* x, int64_t ldx, T* s, T* d, int64_t terms) {
  for (int64_t q = 0; q < terms; ++q)
    for (int v = 0; v < V * kLanes<T>; v += kLanes<T>) {
      const Vec<T> a = load_loose(x + q * ldx + v), b = q < n / 2 ? load_loose(x + (n - 1 - q) * ldx + v) : Vec<T>{};
      store(s + q * kTile<T> + v, a + b);
      store(d + q * kTile<T> + v, a - b);
    }
}

// Of a rotated matrix: the analyses U (0) and V (1).
template <class T> SPECTRAL_INLINE TubeMatrix<T> half_of(const TubeMatrix<T>& m, int which) {
  const int64_t half = m.rows / 2, values = half * ((half + 1) / 2);
  return {TubeMatrix<T>::Kind::analysis, half, half, nullptr, m.even + which * values, m.odd + which * values, m.chain};
}

// The rotation, and of both halves of its result s_q and d_q as `fold` has them, each for the `terms` first q. Not
// inlined: which of two products is rounded before their sum is left to the compiler, but the same for all callers.
template <class T, int V>
__attribute__((noinline)) void rotate(const TubeMatrix<T>& m, const T* x, int64_t ldx, T* sums, int64_t terms) {
  const int64_t n = m.rows, half = n / 2, step = terms * kTile<T>;
  for (int64_t q = 0; q < terms; ++q)
    for (int v = 0; v < V * kLanes<T>; v += kLanes<T>) {
      const auto at = [&](int64_t j) { return load_loose(x + j * ldx + v); };
      const auto turned = [&](Vec<T> own, Vec<T> other, int64_t j) {
        return m.rotation[j] * own + m.rotation[n + j] * other;
      };
      const int64_t mirror = half - 1 - q;
      const bool middle = mirror == q;
      const Vec<T> first = at(q), last = at(n - 1 - q), before = at(mirror), behind = at(half + q);
      const Vec<T> a = turned(first, last, q), b = middle ? Vec<T>{} : turned(before, behind, mirror);
      const Vec<T> c = turned(behind, before, half + q), d = middle ? Vec<T>{} : turned(last, first, n - 1 - q);
      T* const to = sums + q * kTile<T> + v;
      store(to, a + b);
      store(to + step, a - b);
      store(to + 2 * step, c + d);
      store(to + 3 * step, c - d);
    }
}

// y from U and V, `half` rows each.
template <class T, int V> void unite(T sign, const T* first, const T* second, T* y, int64_t ldy, int64_t half) {
  for (int v = 0; v < V * kLanes<T>; v += kLanes<T>) {
    store_loose(y + v, load(first + v));
    store_loose(y + (2 * half - 1) * ldy + v, -sign * load(second + (half - 1) * kTile<T> + v));
  }
  for (int64_t k = 1; k < half; ++k)
    for (int v = 0; v < V * kLanes<T>; v += kLanes<T>) {
      const Vec<T> a = load(first + k * kTile<T> + v), b = load(second + (k - 1) * kTile<T> + v);
      store_loose(y + (2 * k - 1) * ldy + v, sign * (a - b));
      store_loose(y + 2 * k * ldy + v, a + b);
    }
}

// y_p = a_p + b_p and y_(n-1-p) = a_p - b_p.
template <class T, int V>
SPECTRAL_INLINE void unfold(int64_t n, const T* a, const T* b, T* y, int64_t ldy, int64_t terms) {
  for (int64_t p = 0; p < terms; ++p)
    for (int v = 0; v < V * kLanes<T>; v += kLanes<T>) {
      const Vec<T> even = load(a + p * kTile<T> + v), odd = load(b + p * kTile<T> + v);
      store_loose(y + p * ldy + v, even + odd);
      if (p < n / 2) store_loose(y + (n - 1 - p) * ldy + v, even - odd);
    }
}

// Whether the results are sums and differences of what two matrices give.
template <class T> bool synthesises(const TubeMatrix<T>& m) {
  if (m.kind == TubeMatrix<T>::Kind::split) return synthesises(*m.halves[0]) || synthesises(*m.halves[1]);
  return m.kind == TubeMatrix<T>::Kind::synthesis;
}

// Of how many blocks of sums a product of so many rows is.
template <class T> SPECTRAL_INLINE int64_t blocks_of(int64_t rows) { return ceil_div(rows, kRows<T>); }

// Whether `apply` reads each row of x only once, and so may take it from far away.
template <class T> bool reads_once(const TubeMatrix<T>& m) {
  if (m.kind == TubeMatrix<T>::Kind::split) return reads_once(*m.halves[0]) && reads_once(*m.halves[1]);
  if (m.kind == TubeMatrix<T>::Kind::dense) return blocks_of<T>(m.rows) == 1;
  return m.kind != TubeMatrix<T>::Kind::synthesis || blocks_of<T>((m.rows + 1) / 2) == 1;
}

// Of how many blocks all products are.
template <class T> int64_t blocks_of(const TubeMatrix<T>& m) {
  if (m.kind == TubeMatrix<T>::Kind::split) return blocks_of(*m.halves[0]) + blocks_of(*m.halves[1]);
  if (m.kind == TubeMatrix<T>::Kind::dense) return blocks_of<T>(m.rows);
  if (m.kind == TubeMatrix<T>::Kind::rotated) return 2 * blocks_of(half_of(m, 0));
  return blocks_of<T>((m.rows + 1) / 2) +
         blocks_of<T>(m.kind == TubeMatrix<T>::Kind::analysis ? m.rows / 2 : (m.rows + 1) / 2);
}

// x: rows ldx apart, y: rows ldy apart, V vectors of each row. Rows [first, last) of a dense or analysis matrix may be
// asked for alone. With symmetry s_q = x_q + x_(n-1-q) serves the even rows and d_q = x_q - x_(n-1-q) the odd ones
// (analysis), or y_p and y_(n-1-p) are the sum and the difference of what the even and the odd columns give
// (synthesis), or two analyses of half the length follow a rotation. What the halves of a split matrix give or take is
// no product but a transform. before() is called before each block of the products.
template <class T, int V, class Before> void apply(const TubeMatrix<T>& m, const T* x, int64_t ldx, T* y, int64_t ldy,
                                                   T* space, int64_t first, int64_t last, const Before& before) {
  using Kind = typename TubeMatrix<T>::Kind;
  if (m.kind == Kind::split) {
    const int64_t half = m.rows / 2;
    T *const parts[] = {space, space + half * kTile<T>}, *const rest = space + m.rows * kTile<T>;
    const bool analysis = !synthesises(m);
    if (analysis) fold<T, V>(m.columns, x, ldx, parts[0], parts[1], half);
    for (int i = 0; i < 2; ++i)
      apply<T, V>(*m.halves[i], analysis ? parts[i] : x + i * ldx, analysis ? kTile<T> : 2 * ldx,
                  analysis ? y + i * ldy : parts[i], analysis ? 2 * ldy : kTile<T>, rest, 0, half, before);
    if (!analysis) unfold<T, V>(m.rows, parts[0], parts[1], y, ldy, half);
    return;
  }
  const auto multiply = [&](const T* from, int64_t ld, int64_t terms, const T* w, int64_t ldw, T* to, int64_t step,
                            int64_t rows) __attribute__((always_inline)) {
    const int64_t blocks = blocks_of<T>(rows);
    for (int64_t b = 0, row = 0; b < blocks; ++b) {
      const int64_t height = (rows - row) / (blocks - b);
      before();
      chained<T, V>(chain_of(m, terms), from, ld, terms, w + row, ldw, to + row * step, step, height);
      row += height;
    }
  };
  if (m.kind == Kind::dense)
    return multiply(x, ldx, m.columns, m.dense + first, m.rows, y + first * ldy, ldy, last - first);
  // sums: s_q, then d_q, of `terms` q; rows begin .. end of a: even ones 2e, odd ones 2o + 1
  const auto analyse = [&](const TubeMatrix<T>& a, const T* sums, int64_t terms, T* to, int64_t step, int64_t begin,
                           int64_t end) __attribute__((always_inline)) {
    const int64_t even_first = (begin + 1) / 2, even_last = (end + 1) / 2, odd_first = begin / 2, odd_last = end / 2;
    multiply(sums, kTile<T>, terms, a.even + even_first, (a.rows + 1) / 2, to + 2 * even_first * step, 2 * step,
             even_last - even_first);
    multiply(sums + terms * kTile<T>, kTile<T>, terms, a.odd + odd_first, a.rows / 2, to + (2 * odd_first + 1) * step,
             2 * step, odd_last - odd_first);
  };
  if (m.kind == Kind::rotated) {
    const int64_t half = m.rows / 2, terms = (half + 1) / 2;
    T* const results = space + 4 * terms * kTile<T>;
    rotate<T, V>(m, x, ldx, space, terms);
    for (int i = 0; i < 2; ++i)
      analyse(half_of(m, i), space + 2 * i * terms * kTile<T>, terms, results + i * half * kTile<T>, kTile<T>, 0, half);
    return unite<T, V>(m.sign, results, results + half * kTile<T>, y, ldy, half);
  }
  const int64_t terms = ((m.kind == Kind::analysis ? m.columns : m.rows) + 1) / 2;  // with the middle of an odd length
  T *first_part = space, *second_part = space + terms * kTile<T>;
  if (m.kind == Kind::analysis) {
    fold<T, V>(m.columns, x, ldx, first_part, second_part, terms);
    return analyse(m, space, terms, y, ldy, first, last);
  }
  multiply(x, 2 * ldx, (m.columns + 1) / 2, m.even, terms, first_part, kTile<T>, terms);
  multiply(x + ldx, 2 * ldx, m.columns / 2, m.odd, terms, second_part, kTile<T>, terms);
  unfold<T, V>(m.rows, first_part, second_part, y, ldy, terms);
}
template <class T, int V>
void apply(const TubeMatrix<T>& m, const T* x, int64_t ldx, T* y, int64_t ldy, T* space, int64_t first, int64_t last) {
  apply<T, V>(m, x, ldx, y, ldy, space, first, last, [] {});
}

}  // namespace spectral::SPECTRAL_LEVEL
