// The DCT of short tubes that lie one after the other in memory, without a transpose: outputs in lanes.
//
// With s_k = x_k + x_(n-1-k) and d_k = x_k - x_(n-1-k), k < n/2, the even outputs of an analysis are products with s
// and the odd ones with d. Stored in pairs (s_k, d_k), one 64-bit broadcast puts s_k in every even lane and d_k in
// every odd one, where a coefficient row (even, odd, even, ...) waits: n/2 multiply-adds a vector instead of n, and the
// outputs come out in order. A synthesis runs the same way backward: its inputs are pairs already, and its sums are the
// even and odd parts in pairs, e_p + o_p and e_p - o_p being the outputs p and n-1-p.
#pragma once
#include "fetch.h"
#include "tube.h"

namespace spectral::SPECTRAL_LEVEL {

inline constexpr int kRowVectors = 4;   // a row of up to four vectors
inline constexpr int64_t kAhead = 256;  // values, of a kilobyte, that are asked for before their turn

SPECTRAL_INLINE bool takes_rows(const TubeMatrix<float>& m) {
  return m.kind != TubeMatrix<float>::Kind::dense && m.rows == m.columns && m.rows <= kRowVectors * kLanes<float>;
}
SPECTRAL_INLINE bool takes_rows(const TubeMatrix<double>&) { return false; }

SPECTRAL_INLINE VectorOf<float>::integer lane_numbers() {
  VectorOf<float>::integer lane;
  for (int l = 0; l < kLanes<float>; ++l) lane[l] = l;
  return lane;
}

// The first `count` lanes in reverse order. Lanes behind them, where 0, stay behind them.
SPECTRAL_INLINE Vec<float> reverse(Vec<float> v, int count) {
  return __builtin_shuffle(v, (count - 1 - lane_numbers()) & (kLanes<float> - 1));
}

SPECTRAL_INLINE Vec<float> broadcast_pair(const float* pair) {
  double both;
  std::memcpy(&both, pair, sizeof both);
  return (Vec<float>)broadcast<double>(both);
}

// Lanes kPhase, kPhase + 2, ... of a, then of b.
template <int kPhase> SPECTRAL_INLINE Vec<float> deinterleave(Vec<float> a, Vec<float> b) {
  return __builtin_shuffle(a, b, 2 * lane_numbers() + kPhase);
}

// The coefficients as the sums want them: row k holds even(p, k), odd(p, k) for p = 0, 1, ..., padded to whole vectors.
SPECTRAL_INLINE void pair_coefficients(const TubeMatrix<float>& m, int64_t padded, float* rows) {
  // both halves are packed column by column: `even` is square with (n + 1) / 2 rows; `odd` has n / 2 rows (analysis) or
  // columns (synthesis) and as many of the other as `even`
  const bool analysis = m.kind == TubeMatrix<float>::Kind::analysis;
  const int64_t evens = (m.rows + 1) / 2, odds = m.rows / 2;
  const int64_t odd_rows = analysis ? odds : evens, odd_columns = analysis ? evens : odds;
  for (int64_t k = 0; k < evens; ++k)
    for (int64_t p = 0; p < padded / 2; ++p) {
      rows[k * padded + 2 * p] = p < evens ? m.even[k * evens + p] : 0;
      rows[k * padded + 2 * p + 1] = p < odd_rows && k < odd_columns ? m.odd[k * odd_rows + p] : 0;
    }
}

// (s_k, d_k) of one tube, pair after pair, padded with zeros.
SPECTRAL_INLINE void fold(const float* tube, int64_t n, int64_t padded, float* pairs) {
  constexpr int lanes = kLanes<float>;
  const int64_t half = n / 2, terms = (n + 1) / 2;  // the middle of an odd n is its own sum
  for (int64_t k = 0; 2 * k < padded; k += lanes) {
    const int64_t heads = min(lanes, max(terms - k, 0)), tails = min(lanes, max(half - k, 0));
    const Vec<float> head = load_part(tube + k, heads);
    const Vec<float> tail = reverse(load_part(tube + n - k - tails, tails), tails);
    store(pairs + 2 * k, interleave<float, 0>(head + tail, head - tail));
    if (2 * k + lanes < padded) store(pairs + 2 * k + lanes, interleave<float, 1>(head + tail, head - tail));
  }
}

// (e_p, o_p) in `sums`, V vectors, to one tube.
template <int V> SPECTRAL_INLINE void unfold(const Vec<float>* sums, int64_t n, float* tube) {
  constexpr int lanes = kLanes<float>;
  const int64_t half = n / 2, terms = (n + 1) / 2;
#pragma GCC unroll 2
  for (int v = 0; v < V; v += 2) {
    const int64_t p = v / 2 * lanes;
    const Vec<float> next = v + 1 < V ? sums[v + 1 < V ? v + 1 : v] : Vec<float>{};
    const Vec<float> even = deinterleave<0>(sums[v], next), odd = deinterleave<1>(sums[v], next);
    const int64_t heads = min(lanes, max(terms - p, 0)), tails = min(lanes, max(half - p, 0));
    store_part(tube + p, even + odd, heads);
    store_part(tube + n - p - tails, reverse(even - odd, tails), tails);
  }
}

// Tubes whose sums are accumulated together: as many as the registers hold beside the coefficients and one broadcast.
template <int V> inline constexpr int kTubesAtOnce = (kLevel == Level::avx512 ? 24 : 10) / V;

// sums += the products of pairs and coefficients [begin, end).
template <int V> SPECTRAL_INLINE void add_pairs(const float* coefficients, const float* pairs, int64_t begin,
                                                int64_t end, Vec<float> (*sums)[V]) {
  constexpr int64_t padded = V * kLanes<float>;
  for (int64_t k = begin; k < end; ++k) {
    Vec<float> c[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) c[v] = load(coefficients + k * padded + v * kLanes<float>);
#pragma GCC unroll 24
    for (int r = 0; r < kTubesAtOnce<V>; ++r) {
      const Vec<float> pair = broadcast_pair(pairs + r * padded + 2 * k);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sums[r][v] += pair * c[v];
    }
  }
}

// `count` tubes of V vectors from x to y. pairs: room for kTubesAtOnce rows.
template <int V, bool analysis> void transform_rows(int64_t n, int64_t chain, const float* coefficients, const float* x,
                                                    float* y, int64_t count, float* pairs) {
  constexpr int lanes = kLanes<float>, together = kTubesAtOnce<V>;
  constexpr int64_t padded = V * lanes;
  for (int64_t first = 0; first < count; first += together) {
    const int64_t block = min(together, count - first), ahead = min(first * n + kAhead, count * n);
    fetch<float, 0>(x + ahead, min(together * n, count * n - ahead));
    fetch<float, 1>(y + first * n, block * n);
    for (int64_t r = 0; r < block; ++r) {
      const float* tube = x + (first + r) * n;
      if constexpr (analysis) {
        fold(tube, n, padded, pairs + r * padded);
      } else {
        for (int64_t k = 0; k < padded; k += lanes)
          store(pairs + r * padded + k, load_part(tube + min(k, n), max(n - k, 0)));
      }
    }
    // what lies there may be denormal, which is slow to multiply
    std::memset(pairs + block * padded, 0, (together - block) * padded * sizeof(float));
    const int64_t terms = (n + 1) / 2;
    Vec<float> sums[together][V] = {};
    add_pairs<V>(coefficients, pairs, 0, chain, sums);
    for (int64_t k = chain; k < terms; k += chain) {
      Vec<float> rest[together][V] = {};
      add_pairs<V>(coefficients, pairs, k, min(k + chain, terms), rest);
#pragma GCC unroll 24
      for (int r = 0; r < together; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) sums[r][v] += rest[r][v];
    }
#pragma GCC unroll 24
    for (int r = 0; r < together; ++r) {
      if (r >= block) break;
      float* tube = y + (first + r) * n;
      if constexpr (analysis) {
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) store_part(tube + v * lanes, sums[r][v], n - v * lanes);
      } else {
        unfold<V>(sums[r], n, tube);
      }
    }
  }
}

// Work space in values, and the whole transform of `count` tubes.
SPECTRAL_INLINE int64_t row_space(int64_t n) {
  const int64_t padded = round_up(n, kLanes<float>);
  return ((n + 1) / 2 + 24) * padded;
}

template <bool analysis>
SPECTRAL_INLINE void transform_rows(int64_t n, int64_t chain, const float* x, float* y, int64_t count, float* space) {
  const int64_t padded = round_up(n, kLanes<float>);
  float* pairs = space + (n + 1) / 2 * padded;
  switch (padded / kLanes<float>) {
    case 1: return transform_rows<1, analysis>(n, chain, space, x, y, count, pairs);
    case 2: return transform_rows<2, analysis>(n, chain, space, x, y, count, pairs);
    case 3: return transform_rows<3, analysis>(n, chain, space, x, y, count, pairs);
    default: return transform_rows<4, analysis>(n, chain, space, x, y, count, pairs);
  }
}

}  // namespace spectral::SPECTRAL_LEVEL
