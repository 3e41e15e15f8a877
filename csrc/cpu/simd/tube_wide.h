// tube_rows.h for tubes of more vectors than a block of sums has: up to four vectors of the results at a time, of six
// tubes, so that a vector of coefficients, which may come from the second-level cache, serves six products.
#pragma once
#include "tube_rows.h"

namespace spectral::SPECTRAL_LEVEL {

inline constexpr int kWideVectors = kLevel == Level::avx512 ? 8 : 0;
inline constexpr int kWideTubes = 6;

SPECTRAL_INLINE bool takes_wide(const TubeMatrix<float>& m) {
  return !has_parts(m) && m.rows == m.columns && !takes_rows(m) && m.rows <= kWideVectors * kLanes<float>;
}
SPECTRAL_INLINE bool takes_wide(const TubeMatrix<double>&) { return false; }

struct WideRows {
  int64_t n, terms, chain;
  const float* coefficients;  // rows of `padded` values, as `row_coefficients` writes them
  int64_t padded;
  bool stream;
};

// The values that the first `count` tubes of a block are made from, `stride` apart, and where their results go.
struct WideBlock {
  const float* values;
  int64_t stride, count;
  float* y;
  const float* next;  // what the block after this one reads
  float* results;     // and writes
};

// V vectors of the results from vector `first` on.
template <int V, RowKind kKind>
SPECTRAL_INLINE void wide_results(const WideRows& rows, const WideBlock& block, int64_t first) {
  constexpr int lanes = kLanes<float>;
  const float* const coefficients = rows.coefficients + first * lanes;
  const auto add = [&](int64_t begin, int64_t end, Vec<float>(*sums)[V]) __attribute__((always_inline)) {
    for (int64_t k = begin; k < end; ++k) {
      first ? fetch<float, 1>(block.results + k * 16, 1) : fetch<float, 0>(block.next + k * 16, 1);
      add_products<kWideTubes, V, kKind>(coefficients + k * rows.padded, block.values, block.stride, k, sums);
    }
  };
  Vec<float> sums[kWideTubes][V] = {};
  add(0, min(rows.chain, rows.terms), sums);
  for (int64_t k = rows.chain; k < rows.terms; k += rows.chain) {
    Vec<float> rest[kWideTubes][V] = {};
    add(k, min(k + rows.chain, rows.terms), rest);
#pragma GCC unroll 6
    for (int r = 0; r < kWideTubes; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sums[r][v] += rest[r][v];
  }
#pragma GCC unroll 6
  for (int r = 0; r < kWideTubes; ++r) {
    if (r >= block.count) break;
    float* const tube = block.y + r * rows.n;
    if constexpr (kKind == RowKind::synthesis) {
      unfold<V, false>(sums[r], rows.n, tube, first * lanes / 2);
    } else {
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) {
        const int64_t p = (first + v) * lanes;
        rows.stream ? put<true>(tube + p, sums[r][v]) : store_part(tube + p, sums[r][v], rows.n - p);
      }
    }
  }
}

template <RowKind kKind>
void transform_wide(const WideRows& rows, const float* x, float* y, int64_t tubes, float* space) {
  constexpr int lanes = kLanes<float>;
  const int64_t n = rows.n, vectors = rows.padded / lanes;
  for (int64_t at = 0; at < tubes; at += kWideTubes) {
    const int64_t count = min(kWideTubes, tubes - at), after = min(at + kWideTubes, tubes) * n;
    WideBlock block{x + at * n, n, count, y + at * n, x + after, y + after};
    if (kKind != RowKind::dense || count < kWideTubes) {
      block.values = space;
      block.stride = rows.padded;
      for (int64_t r = 0; r < count; ++r) {
        const float* tube = x + (at + r) * n;
        float* const to = space + r * rows.padded;
        if constexpr (kKind == RowKind::analysis)
          fold(tube, n, rows.padded, to);
        else
          for (int64_t k = 0; k < rows.padded; k += lanes) store(to + k, load_part(tube + k, n - k));
      }
      // what lies there may be denormal, which is slow to multiply
      std::memset(space + count * rows.padded, 0, (kWideTubes - count) * rows.padded * sizeof(float));
    }
    // five vectors as two and three: six sums alone would not hide the latency of the products
    for (int64_t first = 0, left = vectors; left > 0;) {
      const int64_t group = left == 5 ? 2 : min(left, 4);
      switch (group) {
        case 1: wide_results<1, kKind>(rows, block, first); break;
        case 2: wide_results<2, kKind>(rows, block, first); break;
        case 3: wide_results<3, kKind>(rows, block, first); break;
        default: wide_results<4, kKind>(rows, block, first);
      }
      first += group;
      left -= group;
    }
  }
}

SPECTRAL_INLINE void transform_wide(const TubeMatrix<float>& m, const float* x, float* y, int64_t count, bool stream,
                                    float* coefficients) {
  constexpr int lanes = kLanes<float>;
  const int64_t n = m.columns, padded = round_up(n, lanes), terms = m.kind == RowKind::dense ? n : (n + 1) / 2;
  const WideRows rows{
      n, terms, chain_of(m, terms), coefficients, padded, stream && n % lanes == 0 && m.kind != RowKind::synthesis};
  float* const space = coefficients + n * padded;
  switch (m.kind) {
    case RowKind::dense: return transform_wide<RowKind::dense>(rows, x, y, count, space);
    case RowKind::analysis: return transform_wide<RowKind::analysis>(rows, x, y, count, space);
    case RowKind::synthesis: return transform_wide<RowKind::synthesis>(rows, x, y, count, space);
    case RowKind::rotated: return;  // not taken
    case RowKind::split: return;
  }
}

}  // namespace spectral::SPECTRAL_LEVEL
