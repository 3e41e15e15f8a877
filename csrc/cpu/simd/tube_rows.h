// The DCT of short tubes that lie one after the other in memory, without a transpose: outputs in lanes.
//
// With s_k = x_k + x_(n-1-k) and d_k = x_k - x_(n-1-k), k < n/2, the even outputs of an analysis are products with s
// and the odd ones with d. Stored in pairs (s_k, d_k), one 64-bit broadcast puts s_k in every even lane and d_k in
// every odd one, where a coefficient row (even, odd, even, ...) waits: n/2 multiply-adds a vector instead of n, and the
// outputs come out in order. A synthesis runs the same way backward: its inputs are pairs already, and its sums are the
// even and odd parts in pairs, e_p + o_p and e_p - o_p being the outputs p and n-1-p. A rotated matrix is two analyses
// of half the length: pairs of both, n/2 multiply-adds, and outputs whose order in every four lanes is 0 1 3 2, so that
// even and odd rows still take turns. Without symmetry a broadcast is one value, and n multiply-adds follow.
#pragma once
#include "fetch.h"
#include "tube.h"

namespace spectral::SPECTRAL_LEVEL {

using RowKind = TubeMatrix<float>::Kind;

inline constexpr int kRowVectors = 4;  // a row of up to four vectors

SPECTRAL_INLINE bool takes_rows(const TubeMatrix<float>& m) {
  return m.kind != RowKind::split && m.rows == m.columns && m.rows <= kRowVectors * kLanes<float>;
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

// How many products a vector of outputs is the sum of: with one value or with a pair of them.
SPECTRAL_INLINE int64_t terms_of(RowKind kind, int64_t n) {
  return kind == RowKind::dense ? n : kind == RowKind::rotated ? (n / 2 + 1) / 2 * 2 : (n + 1) / 2;
}

// Lanes 2 and 3 of every four change places.
SPECTRAL_INLINE VectorOf<float>::integer by_fours() {
  const auto lane = lane_numbers();
  return lane ^ (lane >> 1 & 1);
}

// Of a rotated matrix: pairs of U, then of V, in the order of `by_fours`; then what `fold_rotated` rotates by.
SPECTRAL_INLINE void rotated_coefficients(const TubeMatrix<float>& m, int64_t padded, float* rows) {
  const int64_t n = m.rows, half = n / 2, terms = (half + 1) / 2;
  const auto value = [&](const TubeMatrix<float>& a, int64_t row, int64_t q) {
    if (row < 0 || row >= half) return 0.0f;
    return row % 2 ? a.odd[q * (half / 2) + row / 2] : a.even[q * terms + row / 2];
  };
  const TubeMatrix<float> u = half_of(m, 0), v = half_of(m, 1);
  for (int64_t q = 0; q < terms; ++q)
    for (int64_t lane = 0; lane < padded; ++lane) {
      const int64_t p = lane ^ (lane >> 1 & 1), k = (p + 1) / 2;
      // of a sine transform `fold_rotated` gives -v
      const float first = p % 2 ? m.sign : 1.0f, second = p % 2 ? -1.0f : m.sign;
      rows[q * padded + lane] = p < n ? first * value(u, k, q) : 0;
      rows[(terms + q) * padded + lane] = p < n ? second * value(v, k - 1, q) : 0;
    }
  float* turns = rows + 2 * terms * padded;
  for (int64_t q = 0; q < kLanes<float>; ++q) {
    const bool is = q < terms, pair = q < half / 2;  // the middle of an odd half is its own sum
    turns[q] = is ? m.rotation[q] : 0;
    turns[kLanes<float> + q] = is ? m.rotation[n + q] : 0;
    turns[2 * kLanes<float> + q] = pair ? m.rotation[half - 1 - q] : 0;
    turns[3 * kLanes<float> + q] = pair ? m.rotation[n + half - 1 - q] : 0;
  }
}

// The coefficients as the sums want them, padded to whole vectors: row k holds column k of a dense matrix, or even(p,
// k), odd(p, k) for p = 0, 1, ...
SPECTRAL_INLINE void row_coefficients(const TubeMatrix<float>& m, int64_t padded, float* rows) {
  if (m.kind == RowKind::rotated) return rotated_coefficients(m, padded, rows);
  for (int64_t k = 0; m.kind == RowKind::dense && k < m.columns; ++k)
    for (int64_t p = 0; p < padded; ++p) rows[k * padded + p] = p < m.rows ? m.dense[k * m.rows + p] : 0;
  if (m.kind == RowKind::dense) return;
  // both halves are packed column by column: `even` is square with (n + 1) / 2 rows; `odd` has n / 2 rows (analysis) or
  // columns (synthesis) and as many of the other as `even`
  const bool analysis = m.kind == RowKind::analysis;
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

// The same of both halves of the rotated tube, pairs of V being (d_k, s_k). In lane k are x_k, x_(n-1-k), x_(h-1-k) and
// x_(h+k), h = n/2, each from a vector inside the tube; lanes behind the last pair hold anything.
SPECTRAL_INLINE void fold_rotated(const float* tube, int64_t n, const float* turns, float* pairs) {
  constexpr int lanes = kLanes<float>;
  const int64_t half = n / 2, terms = (half + 1) / 2, last = max(n - lanes, 0);
  const int64_t before = max(half - lanes, 0), behind = min(half, last);
  const auto lane = lane_numbers();
  const auto from = [&](int64_t at, VectorOf<float>::integer order) {
    return __builtin_shuffle(load_part(tube + at, n), order & (lanes - 1));
  };
  const Vec<float> a = load_part(tube, n), b = from(last, int32_t(n - 1 - last) - lane);
  const Vec<float> c = from(before, int32_t(half - 1 - before) - lane), d = from(behind, int32_t(half - behind) + lane);
  const Vec<float> cosine = load(turns), sine = load(turns + lanes);
  const Vec<float> inner_cosine = load(turns + 2 * lanes), inner_sine = load(turns + 3 * lanes);
  const Vec<float> u = cosine * a + sine * b, inner_u = inner_cosine * c + inner_sine * d;
  const Vec<float> v = cosine * b - sine * a, inner_v = inner_cosine * d - inner_sine * c;
  const auto write = [&](float* to, Vec<float> first, Vec<float> second) {
    put<false>(to, interleave<float, 0>(first, second));
    if (2 * terms > lanes) put<false>(to + lanes, interleave<float, 1>(first, second));
  };
  write(pairs, u + inner_u, u - inner_u);
  write(pairs + 2 * terms, inner_v - v, inner_v + v);
}

// (e_p, o_p) in `sums`, V vectors from p = first on, to one tube. kStream: of a multiple of two vectors,
// whose parts are whole vectors.
template <int V, bool kStream>
SPECTRAL_INLINE void unfold(const Vec<float>* sums, int64_t n, float* tube, int64_t first = 0) {
  constexpr int lanes = kLanes<float>;
  const int64_t half = n / 2, terms = (n + 1) / 2;
#pragma GCC unroll 2
  for (int v = 0; v < V; v += 2) {
    const int64_t p = first + v / 2 * lanes;
    const Vec<float> next = v + 1 < V ? sums[v + 1 < V ? v + 1 : v] : Vec<float>{};
    const Vec<float> even = deinterleave<0>(sums[v], next), odd = deinterleave<1>(sums[v], next);
    if constexpr (kStream) {
      put<true>(tube + p, even + odd);
      put<true>(tube + n - p - lanes, reverse(even - odd, lanes));
      continue;
    }
    const int64_t heads = min(lanes, max(terms - p, 0)), tails = min(lanes, max(half - p, 0));
    store_part(tube + p, even + odd, heads);
    store_part(tube + n - p - tails, reverse(even - odd, tails), tails);
  }
}

// Tubes whose sums are accumulated together: of one or two vectors enough sums to hide the latency of 8 products, for
// the processor then looks past a block, and its memory and its products overlap; of longer ones as many as the
// registers hold beside the coefficients and one broadcast.
template <int V> inline constexpr int kTubesAtOnce = (kLevel != Level::avx512 ? 10 : V <= 2 ? 8 : 24) / V;

// The values that a block of tubes is made from, `stride` apart, and memory that later blocks will need: asked for line
// by line between the products, because as many lines at once as a block has wait for one another. stream: results go
// past the caches, and are not asked for.
struct RowBlock {
  const float *values, *next;
  float* results;
  int64_t stride;
  bool stream;
};

// sums += value k, or pair k, of R tubes times V vectors of coefficients.
template <int R, int V, RowKind kKind> SPECTRAL_INLINE void add_products(const float* coefficients, const float* values,
                                                                         int64_t stride, int64_t k,
                                                                         Vec<float> (*sums)[V]) {
  constexpr int width = kKind == RowKind::dense ? 1 : 2;  // values of a broadcast
  Vec<float> c[V];
#pragma GCC unroll 4
  for (int v = 0; v < V; ++v) c[v] = load(coefficients + v * kLanes<float>);
#pragma GCC unroll 24
  for (int r = 0; r < R; ++r) {
    const float* at = values + r * stride + width * k;
    const Vec<float> value = width == 1 ? broadcast(*at) : broadcast_pair(at);
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) sums[r][v] += value * c[v];
  }
}

// sums += the products of values and coefficients [begin, end).
template <int V, RowKind kKind> SPECTRAL_INLINE void add_rows(const float* coefficients, const RowBlock& block,
                                                              int64_t begin, int64_t end, Vec<float> (*sums)[V]) {
  constexpr int lanes = kLanes<float>, together = kTubesAtOnce<V>, line = 64 / sizeof(float);
  constexpr int width = kKind == RowKind::dense ? 1 : 2;  // values of a broadcast
  constexpr int lines = (together * width + line - 1) / line;
  for (int64_t k = begin; k < end; ++k) {
    fetch<float, 0>(block.next + k * lines * line, lines * line);
    if (!block.stream) fetch<float, 1>(block.results + k * lines * line, lines * line);
    add_products<together, V, kKind>(coefficients + k * V * lanes, block.values, block.stride, k, sums);
  }
}

// `count` tubes from x to y, kTubesAtOnce of them unless they are the last ones, in sums of `chain` products or, where
// all are one chain, without room for sums of sums: these then stay in registers.
template <int V, RowKind kKind, bool kLast, bool kChained>
SPECTRAL_INLINE void transform_block(int64_t n, int64_t chain, const float* coefficients, const float* x, float* y,
                                     int64_t count, RowBlock block, float* space) {
  constexpr int lanes = kLanes<float>, together = kTubesAtOnce<V>;
  constexpr int64_t padded = V * lanes;
  const int64_t terms = terms_of(kKind, n);
  if (kKind == RowKind::dense && !kLast) {
    block.values = x;
    block.stride = n;
  } else {
    block.values = space;
    block.stride = padded;
    for (int64_t r = 0; r < count; ++r) {
      if constexpr (kKind == RowKind::analysis)
        fold(x + r * n, n, padded, space + r * padded);
      else if constexpr (kKind == RowKind::rotated)
        fold_rotated(x + r * n, n, coefficients + terms * padded, space + r * padded);
      else
        for (int64_t k = 0; k < padded; k += lanes)
          store(space + r * padded + k, load_part(x + r * n + min(k, n), max(n - k, 0)));
    }
    // what lies there may be denormal, which is slow to multiply
    if (kLast) std::memset(space + count * padded, 0, (together - count) * padded * sizeof(float));
  }
  Vec<float> sums[together][V] = {};
  add_rows<V, kKind>(coefficients, block, 0, kChained ? min(chain, terms) : terms, sums);
  for (int64_t k = chain; kChained && k < terms; k += chain) {
    Vec<float> rest[together][V] = {};
    add_rows<V, kKind>(coefficients, block, k, min(k + chain, terms), rest);
#pragma GCC unroll 24
    for (int r = 0; r < together; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sums[r][v] += rest[r][v];
  }
  const auto write = [&]<bool kStream>() {
#pragma GCC unroll 24
    for (int r = 0; r < together; ++r) {
      if (kLast && r >= count) break;
      float* tube = y + r * n;
      if constexpr (kKind == RowKind::synthesis) {
        unfold<V, kStream>(sums[r], n, tube);
      } else {
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) {
          const Vec<float> y = kKind == RowKind::rotated ? __builtin_shuffle(sums[r][v], by_fours()) : sums[r][v];
          if constexpr (kStream)
            put<true>(tube + v * lanes, y);
          else
            store_part(tube + v * lanes, y, n - v * lanes);
        }
      }
    }
  };
  block.stream ? write.template operator()<true>() : write.template operator()<false>();
}

// `count` tubes of V vectors from x to y. space: room for kTubesAtOnce rows.
template <int V, RowKind kKind> void transform_rows(int64_t n, int64_t chain, const float* coefficients, const float* x,
                                                    float* y, int64_t count, bool stream, float* space) {
  constexpr int together = kTubesAtOnce<V>;
  const bool chained = chain < terms_of(kKind, n);
  for (int64_t first = 0; first < count; first += together) {
    const RowBlock block{nullptr, x + min(first + 2 * together, count) * n, y + min(first + together, count) * n, 0,
                         stream};
    const float* from = x + first * n;
    float* to = y + first * n;
    if (first + together > count)
      transform_block<V, kKind, true, true>(n, chain, coefficients, from, to, count - first, block, space);
    else if (chained)
      transform_block<V, kKind, false, true>(n, chain, coefficients, from, to, together, block, space);
    else
      transform_block<V, kKind, false, false>(n, chain, coefficients, from, to, together, block, space);
  }
}

// Work space in values, and the whole transform of `count` tubes.
SPECTRAL_INLINE int64_t row_space(int64_t n) {
  const int64_t padded = round_up(n, kLanes<float>);
  return (n + 24) * padded;
}

template <RowKind kKind> SPECTRAL_INLINE void transform_rows(const TubeMatrix<float>& m, const float* x, float* y,
                                                             int64_t count, bool stream, float* coefficients) {
  const int64_t n = m.columns, padded = round_up(n, kLanes<float>);
  const int64_t chain = chain_of(m, terms_of(kKind, n));
  float* space = coefficients + n * padded;
  switch (padded / kLanes<float>) {
    case 1: return transform_rows<1, kKind>(n, chain, coefficients, x, y, count, stream, space);
    case 2: return transform_rows<2, kKind>(n, chain, coefficients, x, y, count, stream, space);
    case 3: return transform_rows<3, kKind>(n, chain, coefficients, x, y, count, stream, space);
    default: return transform_rows<4, kKind>(n, chain, coefficients, x, y, count, stream, space);
  }
}
// stream: y may be written past the caches, where vectors of results are whole.
SPECTRAL_INLINE void transform_rows(const TubeMatrix<float>& m, const float* x, float* y, int64_t count, bool stream,
                                    float* coefficients) {
  constexpr int lanes = kLanes<float>;
  stream = stream && m.columns % (m.kind == RowKind::synthesis ? 2 * lanes : lanes) == 0;
  switch (m.kind) {
    case RowKind::dense: return transform_rows<RowKind::dense>(m, x, y, count, stream, coefficients);
    case RowKind::analysis: return transform_rows<RowKind::analysis>(m, x, y, count, stream, coefficients);
    case RowKind::synthesis: return transform_rows<RowKind::synthesis>(m, x, y, count, stream, coefficients);
    case RowKind::rotated: return transform_rows<RowKind::rotated>(m, x, y, count, stream, coefficients);
    case RowKind::split: return;  // not taken
  }
}

}  // namespace spectral::SPECTRAL_LEVEL
