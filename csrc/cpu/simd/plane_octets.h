// Transforms along both dimensions of planes of 8 x 8, which pass through the registers once: eight vectors hold the
// rows of two planes (where lanes are 8, of one). Columns are then sums of vectors with broadcast coefficients, and
// rows what tube_octets.h does in each vector.
#pragma once
#include "fetch.h"
#include "lines.h"
#include "tube_octets.h"

namespace spectral::SPECTRAL_LEVEL {

SPECTRAL_INLINE bool takes_octets(const Planes<float>& p) {
  return p.inner == 1 && takes_octets(*p.first) && takes_octets(*p.second) && p.first->kind == p.second->kind;
}

// The longest columns that fit the registers.
inline constexpr int kColumnRows = kLevel == Level::avx512 ? 16 : 8;

// Whether `transform_columns` takes a matrix.
SPECTRAL_INLINE bool takes_columns(const TubeMatrix<float>& m) {
  return m.rows == m.columns && !has_parts(m) && m.rows > 1 && m.rows <= kColumnRows &&
         m.chain >= (m.kind == TubeMatrix<float>::Kind::dense ? m.rows : (m.rows + 1) / 2);
}
SPECTRAL_INLINE bool takes_columns(const TubeMatrix<double>&) { return false; }

// f.template operator()<n>() for the n of `takes_columns`.
template <int kRows = 2, class F> SPECTRAL_INLINE void visit_rows(int64_t n, F f) {
  if (n == kRows) return f.template operator()<kRows>();
  if constexpr (kRows < kColumnRows) visit_rows<kRows + 1>(n, f);
}

// f.template operator()<p, count>() for blocks of numbers below kEnd, p being the first; of as many as the registers
// have room for sums beside the rows.
template <int kEnd, int kFirst = 0, class F> SPECTRAL_INLINE void in_blocks(F f) {
  constexpr int kMost = kColumnRows / 4;
  if constexpr (kFirst < kEnd) {
    f.template operator()<kFirst, min(kMost, kEnd - kFirst)>();
    in_blocks<kEnd, kFirst + kMost>(f);
  }
}

// The columns whose rows are v, by the sums and differences that `apply` (tube.h) makes. write(p, result) takes each
// row as soon as it is there: 16 rows and as many results would fill the registers.
template <TubeMatrix<float>::Kind kKind, int kRows, class Write>
SPECTRAL_INLINE void transform_columns(const TubeMatrix<float>& m, const Vec<float> (&v)[kRows], Write write) {
  using Kind = TubeMatrix<float>::Kind;
  constexpr bool analysis = kKind == Kind::analysis, dense = kKind == Kind::dense;
  constexpr int evens = (kRows + 1) / 2, odds = kRows / 2;
  constexpr int terms = dense ? kRows : evens;
  Vec<float> first[terms], second[terms];  // what the even and the odd half of the matrix multiply, or all of it
#pragma GCC unroll 16
  for (int k = 0; k < terms; ++k) {
    const Vec<float> mirror = k < odds ? v[kRows - 1 - k] : Vec<float>{};
    first[k] = analysis ? v[k] + mirror : v[dense ? k : 2 * k];
    if (analysis || k < odds) second[k] = analysis ? v[k] - mirror : v[dense ? k : 2 * k + 1];
  }
  // y_j = sum_k row[k ld + j] x_k, side by side: one sum alone would wait for each of its products
  const auto sums = []<int kTerms, int kCount>(const float* row, int64_t ld, const Vec<float>* x, Vec<float>* y) {
    for (int j = 0; j < kCount; ++j) y[j] = Vec<float>{};  // so that the first product is fused like the others
#pragma GCC unroll 16
    for (int k = 0; k < kTerms; ++k)
#pragma GCC unroll 4
      for (int j = 0; j < kCount; ++j) y[j] += broadcast(row[k * ld + j]) * x[k];
  };
  in_blocks<terms>([&]<int p, int kCount>() __attribute__((always_inline)) {
    Vec<float> even[kCount], odd[kCount];
    if constexpr (dense) {
      sums.template operator()<terms, kCount>(m.dense + p, kRows, first, even);
#pragma GCC unroll 4
      for (int j = 0; j < kCount; ++j) write(p + j, even[j]);
    } else {
      constexpr int kOdd = analysis ? min(kCount, odds - p) : kCount;  // without the middle of an odd length
      sums.template operator()<evens, kCount>(m.even + p, evens, first, even);
      sums.template operator()<analysis ? evens : odds, kOdd>(m.odd + p, analysis ? odds : evens, second, odd);
#pragma GCC unroll 4
      for (int j = 0; j < kCount; ++j) {
        const int q = p + j;
        write(analysis ? 2 * q : q, analysis ? even[j] : even[j] + odd[j]);
        if (q < odds) write(analysis ? 2 * q + 1 : kRows - 1 - q, analysis ? odd[j] : even[j] - odd[j]);
      }
    }
  });
}

// Vectors of rows r and r + 1 of plane a and of plane b to those of row r and of row r + 1 of both, and back.
SPECTRAL_INLINE void exchange(Vec<float>& a, Vec<float>& b) {
  constexpr int n = kLanes<float>;
  VectorOf<float>::integer first, second;
  for (int l = 0; l < n; ++l) {
    first[l] = l < n / 2 ? l : n / 2 + l;
    second[l] = first[l] + n / 2;
  }
  const Vec<float> rows = __builtin_shuffle(a, b, first);
  b = __builtin_shuffle(a, b, second);
  a = rows;
}

// `count` planes from x to y, one after the other. The lines of later ones are asked for: else they take 1.2 times as
// long.
template <TubeMatrix<float>::Kind kKind, bool kStream> void transform_planes(const TubeMatrix<float>& first,
                                                                             const float* second_coefficients,
                                                                             const float* x, float* y, int64_t count) {
  constexpr int64_t lanes = kLanes<float>, together = lanes / 8, plane = 64, ahead = 8;
  const Octets<kKind> row(second_coefficients);
  for (int64_t c = 0; c < count; c += together) {
    const float* a = x + c * plane;
    float* to = y + c * plane;
    const int64_t other = min(together, count - c) * plane - plane;  // a last one alone is its own neighbour
    if (c + ahead + together <= count) fetch<float, 0>(a + ahead * plane, together * plane);
    Vec<float> v[8];
#pragma GCC unroll 8
    for (int r = 0; r < 8; r += together) {
      v[r] = load_loose(a + 8 * r);
      if constexpr (together == 1) continue;
      v[r + 1] = load_loose(a + other + 8 * r);
      exchange(v[r], v[r + 1]);
    }
    Vec<float> w[8];
    transform_columns<kKind>(first, v, [&](int r, Vec<float> result) { w[r] = result; });
#pragma GCC unroll 8
    for (int r = 0; r < 8; ++r) w[r] = row(w[r]);
#pragma GCC unroll 8
    for (int r = 0; r < 8; r += together) {
      if constexpr (together == 2) exchange(w[r], w[r + 1]);
      if constexpr (together == 2) put<kStream>(to + other + 8 * r, w[r + 1]);
      put<kStream>(to + 8 * r, w[r]);
    }
  }
}

// Planes of kRows rows side by side, the rows of x and y ldx and ldy apart, `width` values of each; x + next: planes
// that come later. row(v): the transform of the rows in v; where it is none, columns alone are transformed.
// write(result, row, column, piece) takes what comes out.
template <TubeMatrix<float>::Kind kKind, int kRows, class Row, class Write>
SPECTRAL_INLINE void transform_planes(const TubeMatrix<float>& first, const float* x, int64_t ldx, int64_t width,
                                      int64_t next, Row row, Write write) {
  constexpr int64_t lanes = kLanes<float>;
  for (int64_t c = 0; c < width; c += lanes) {
    Vec<float> v[kRows];
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      fetch<float, 0>(x + next + r * ldx + c, 1);
      v[r] = load_part(x + r * ldx + c, width - c);
    }
    const Piece piece = {min(lanes, width - c), c == 0, c + lanes >= width};
    transform_columns<kKind>(
        first, v, [&](int r, Vec<float> result) __attribute__((always_inline)) { write(row(result), r, c, piece); });
  }
}

// The same into y; kStream: past the caches, wherever in a line its rows begin.
template <TubeMatrix<float>::Kind kKind, bool kStream, int kRows, class Row>
SPECTRAL_INLINE void transform_planes(const TubeMatrix<float>& first, const float* x, int64_t ldx, float* y,
                                      int64_t ldy, int64_t width, int64_t next, Row row) {
  using Line = Lines<float, 1>;
  constexpr int64_t lanes = kLanes<float>;
  // Past the caches both halves of a line go one after the other: by turns with those of seven other rows they take
  // four times as long.
  constexpr bool halves = kStream && 2 * sizeof(Vec<float>) == 64;
  [[maybe_unused]] alignas(64) float first_halves[halves ? kRows * lanes : 1] = {};
  const auto whole = [&](Vec<float> result, int r, int64_t c, Piece piece) __attribute__((always_inline)) {
    float* const to = y + r * ldy + c;
    if constexpr (halves) {
      float* const half = first_halves + r * lanes;
      const bool second = reinterpret_cast<uintptr_t>(to) % 64 != 0;
      if (!second && !piece.last) return store(half, result);
      if (second && !piece.first) put<kStream>(to - lanes, load(half));
    }
    if (piece.count == lanes)
      put<kStream>(to, result);
    else
      store_part(to, result, piece.count);
  };
  if (!kStream || (reinterpret_cast<uintptr_t>(y) % sizeof(Vec<float>) == 0 && ldy % lanes == 0))
    return transform_planes<kKind, kRows>(first, x, ldx, width, next, row, whole);
  alignas(64) float waiting[kRows * Line::kSpace] = {};
  const auto shifted = [&](Vec<float> result, int r, int64_t c, Piece piece) __attribute__((always_inline)) {
    Line::write({result}, y + r * ldy + c, waiting + r * Line::kSpace, piece);
  };
  transform_planes<kKind, kRows>(first, x, ldx, width, next, row, shifted);
}

}  // namespace spectral::SPECTRAL_LEVEL
