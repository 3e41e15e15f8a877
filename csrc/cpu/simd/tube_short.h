// The transform of tubes of at most a vector that lie one after the other in memory, without a transpose.
#pragma once
#include "fetch.h"
#include "tube.h"

namespace spectral::SPECTRAL_LEVEL {

// Other levels have no permutation of two vectors, and too few registers for a matrix: there, tubes that fill a vector
// exactly.
SPECTRAL_INLINE bool takes_short(const TubeMatrix<float>& m) {
  constexpr int lanes = kLanes<float>;
  if (m.kind == TubeMatrix<float>::Kind::split || m.rows != m.columns || m.rows < 2 || m.rows == 8) return false;
  return kLevel == Level::avx512 ? m.rows <= lanes : m.rows <= lanes && lanes % m.rows == 0;
}

// m(p, q), whatever symmetry it is packed by.
SPECTRAL_INLINE float entry(const TubeMatrix<float>& m, int64_t p, int64_t q) {
  using Kind = TubeMatrix<float>::Kind;
  const int64_t n = m.columns, evens = (n + 1) / 2;
  if (m.kind == Kind::dense) return m.dense[q * n + p];
  const bool analysis = m.kind == Kind::analysis;
  const int64_t folded = analysis ? q : p, other = analysis ? p : q, near = min(folded, n - 1 - folded);
  if (other % 2 == 0) return analysis ? m.even[near * evens + p / 2] : m.even[q / 2 * evens + near];
  const float value = analysis ? m.odd[near * (n / 2) + p / 2] : m.odd[q / 2 * evens + near];
  return folded == near ? value : -value;
}

// A vector of results holds parts of several tubes. Lane l takes value q of its own tube by one permutation of the two
// vectors in which these tubes lie, and multiplies it by m(p, q) for its own p: N permutations and as many
// multiply-adds, nothing masked, and no lane sees a value of another tube. Everything repeats where tubes and vectors
// end together, after N / gcd(N, lanes) vectors. Tubes that fill a vector exactly stay where they lie.
template <int N, bool kBroadcasts = (N > 6)> struct ShortTubes {
  using Integer = VectorOf<float>::integer;
  static constexpr int lanes = kLanes<float>;
  static constexpr bool kFills = lanes % N == 0;
  static consteval int vectors() {
    int v = 1;
    while (v * lanes % N) ++v;
    return v;
  }
  static constexpr int kVectors = vectors(), kBlock = kVectors * lanes;
  static constexpr int64_t kSpace = 2 * N * kBlock;
  // The first value of the tubes that vector v of results meets; the last one ends within two vectors.
  static constexpr int start(int v) { return v * lanes / N * N; }
  static_assert(kFills || lanes + 2 * (N - 1) <= 2 * lanes);

  // For each vector of results, and each q, where its lanes find value q of their tubes; behind all of these likewise
  // what they multiply it by.
  static void fill(const TubeMatrix<float>& m, float* table) {
    float column[lanes + N];
    for (int q = 0; q < N; ++q) {
      for (int p = 0; p < lanes + N; ++p) column[p] = p < N ? entry(m, p, q) : column[p - N];
      for (int v = 0; v < kVectors; ++v) {
        Integer from;
        for (int l = 0; l < lanes; ++l) from[l] = (v * lanes + l) / N * N - start(v) + q;
        store(table + (v * N + q) * lanes, (Vec<float>)from);
        store(table + (v * N + q) * lanes + kSpace / 2, load_loose(column + v * lanes % N));
      }
    }
  }

  // The first `values` of kVectors vectors of results.
  template <bool kStream, bool kWhole>
  SPECTRAL_INLINE static void block(const float* table, const float* x, float* y, int64_t values) {
    const auto read = [&](int64_t at) { return kWhole ? load_loose(x + at) : load_part(x + at, max(values - at, 0)); };
    for (int v = 0; v < kVectors && (kWhole || v * lanes < values); ++v) {
      const Vec<float> a = read(start(v)), b = kFills ? a : read(start(v) + lanes);
      Vec<float> sums[2] = {};
#pragma GCC unroll 8
      for (int q = 0; q < N; ++q) {
        const float* const row = table + (v * N + q) * lanes;
        Integer from = kFills ? Integer{} : (Integer)load(row);
        for (int l = 0; kFills && l < lanes; ++l) from[l] = l / N * N + q;
        const Vec<float> value = kFills ? __builtin_shuffle(a, from) : __builtin_shuffle(a, b, from);
        sums[q % 2] += value * load(row + kSpace / 2);
      }
      const Vec<float> sum = sums[0] + sums[1];
      kWhole ? put<kStream>(y + v * lanes, sum) : store_part(y + v * lanes, sum, values - v * lanes);
    }
  }

  // A block reads up to two vectors past its end: the last ones read with care.
  template <bool kStream> static void run(float* table, const float* x, float* y, int64_t count) {
    const int64_t values = count * N;
    int64_t at = 0;
    for (; values - at >= kBlock + (kFills ? 0 : 2 * lanes); at += kBlock)
      block<kStream, true>(table, x + at, y + at, kBlock);
    for (; at < values; at += kBlock) block<false, false>(table, x + at, y + at, min(kBlock, values - at));
  }
};

// A tube that fills a vector or most of one: column q of the matrix, padded, stays in a register and meets value q in
// all lanes, in one instruction. Results that go past the caches wait behind the table until vectors of them are whole.
template <int N> struct ShortTubes<N, true> {
  static constexpr int lanes = kLanes<float>, kBlock = N * lanes;
  static constexpr int64_t kSpace = 3 * kBlock;

  static void fill(const TubeMatrix<float>& m, float* table) {
    for (int q = 0; q < N; ++q)
      for (int p = 0; p < lanes; ++p) table[q * lanes + p] = p < N ? entry(m, p, q) : 0;
  }

  template <bool kStream> static void run(float* table, const float* x, float* y, int64_t count) {
    Vec<float> column[N];
#pragma GCC unroll 16
    for (int q = 0; q < N; ++q) column[q] = load(table + q * lanes);
    const auto tube = [&](const float* from, float* to) __attribute__((always_inline)) {
      Vec<float> sums[2] = {from[0] * column[0], from[1] * column[1]};
#pragma GCC unroll 16
      for (int q = 2; q < N; ++q) sums[q % 2] += from[q] * column[q];
      N == lanes ? put<kStream>(to, sums[0] + sums[1]) : store_part(to, sums[0] + sums[1], N);
    };
    constexpr bool kWaits = kStream && N < lanes;
    const int64_t blocks = kWaits ? count / lanes : 0;
    for (int64_t i = 0; kWaits && i <= blocks; ++i) {
      float *const to = table + (1 + i % 2) * kBlock, *const finished = table + (2 - i % 2) * kBlock;
      for (int t = 0; t < lanes; ++t) {
        if (i < blocks) tube(x + i * kBlock + t * N, to + t * N);
        if (i > 0 && t < N) put<true>(y + (i - 1) * kBlock + t * lanes, load(finished + t * lanes));
      }
    }
    for (int64_t t = blocks * lanes; t < count; ++t) tube(x + t * N, y + t * N);
  }
};

// f.template operator()<ShortTubes<n>>() for the n of `takes_short`.
template <class F> SPECTRAL_INLINE void visit_short(int64_t n, F f) {
  if constexpr (kLevel == Level::avx512) switch (n) {
      case 3: return f.template operator()<ShortTubes<3>>();
      case 5: return f.template operator()<ShortTubes<5>>();
      case 6: return f.template operator()<ShortTubes<6>>();
      case 7: return f.template operator()<ShortTubes<7>>();
      case 9: return f.template operator()<ShortTubes<9>>();
      case 10: return f.template operator()<ShortTubes<10>>();
      case 11: return f.template operator()<ShortTubes<11>>();
      case 12: return f.template operator()<ShortTubes<12>>();
      case 13: return f.template operator()<ShortTubes<13>>();
      case 14: return f.template operator()<ShortTubes<14>>();
      case 15: return f.template operator()<ShortTubes<15>>();
      case 16: return f.template operator()<ShortTubes<16>>();
    }
  return n == 2 ? f.template operator()<ShortTubes<2>>() : f.template operator()<ShortTubes<4>>();
}

SPECTRAL_INLINE int64_t short_space(int64_t n) {
  int64_t space = 0;
  visit_short(n, [&]<class Tubes>() { space = Tubes::kSpace; });
  return space;
}
SPECTRAL_INLINE void short_coefficients(const TubeMatrix<float>& m, float* table) {
  visit_short(m.rows, [&]<class Tubes>() { Tubes::fill(m, table); });
}
// `count` tubes of n values; stream: y may be written past the caches.
SPECTRAL_INLINE void transform_short(int64_t n, float* table, const float* x, float* y, int64_t count, bool stream) {
  visit_short(n, [&]<class Tubes>() {
    stream ? Tubes::template run<true>(table, x, y, count) : Tubes::template run<false>(table, x, y, count);
  });
}

}  // namespace spectral::SPECTRAL_LEVEL
