// The DCT of tubes of eight values that lie one after the other: each stays in its half or quarter of a vector.
//
// x_l and x_(7-l) give s_l = x_l + x_(7-l) in the lower four lanes and -d_(7-l) in the upper four. Lane k of every
// four, broadcast to its four, meets the coefficients of the even outputs below and of the odd ones above: four
// multiply-adds with as many shuffles, and one shuffle more puts the outputs in order. A synthesis does the same
// backward. Without symmetry each of the eight lanes is broadcast to its eight.
#pragma once
#include "tube.h"

namespace spectral::SPECTRAL_LEVEL {

SPECTRAL_INLINE bool takes_octets(const TubeMatrix<float>& m) {
  return m.rows == 8 && m.columns == 8 && kLanes<float> >= 8;
}

// v[f(l)] in lane l, f(l) being within the eight lanes of l.
#define SPECTRAL_WITHIN_EIGHT(a, b, c, d, e, f, g, h) \
  {a, b, c, d, e, f, g, h, a + 8, b + 8, c + 8, d + 8, e + 8, f + 8, g + 8, h + 8}
SPECTRAL_INLINE Vec<float> within_eight(Vec<float> v, const int (&from)[16]) {
  VectorOf<float>::integer mask;
  for (int l = 0; l < kLanes<float>; ++l) mask[l] = from[l];
  return __builtin_shuffle(v, mask);
}

inline constexpr int kReversed[] = SPECTRAL_WITHIN_EIGHT(7, 6, 5, 4, 3, 2, 1, 0);
inline constexpr int kEvenFirst[] = SPECTRAL_WITHIN_EIGHT(0, 2, 4, 6, 1, 3, 5, 7);
inline constexpr int kByTurns[] = SPECTRAL_WITHIN_EIGHT(0, 4, 1, 5, 2, 6, 3, 7);
#define SPECTRAL_EIGHT_OF(a) SPECTRAL_WITHIN_EIGHT(a, a, a, a, a, a, a, a)
#define SPECTRAL_FOURS_OF(a) SPECTRAL_WITHIN_EIGHT(a, a, a, a, a + 4, a + 4, a + 4, a + 4)
inline constexpr int kFours[8][16] = {SPECTRAL_FOURS_OF(0), SPECTRAL_FOURS_OF(1), SPECTRAL_FOURS_OF(2),
                                      SPECTRAL_FOURS_OF(3)};
inline constexpr int kEights[8][16] = {SPECTRAL_EIGHT_OF(0), SPECTRAL_EIGHT_OF(1), SPECTRAL_EIGHT_OF(2),
                                       SPECTRAL_EIGHT_OF(3), SPECTRAL_EIGHT_OF(4), SPECTRAL_EIGHT_OF(5),
                                       SPECTRAL_EIGHT_OF(6), SPECTRAL_EIGHT_OF(7)};

// Vector k holds what lane k of every eight is multiplied by, of a dense matrix; else what lane k of every four is:
// even(l, k) below; above, where an analysis finds -d_(3-k) and a synthesis wants the outputs in reverse, -odd(l, 3-k)
// or odd(3-l, k).
SPECTRAL_INLINE void octet_coefficients(const TubeMatrix<float>& m, float* coefficients) {
  using Kind = TubeMatrix<float>::Kind;
  const auto coefficient = [&](int k, int lane) {
    const int l = lane % 4;
    if (m.kind == Kind::dense) return m.dense[k * 8 + lane];
    if (lane < 4) return m.even[k * 4 + l];
    return m.kind == Kind::analysis ? -m.odd[(3 - k) * 4 + l] : m.odd[k * 4 + 3 - l];
  };
  for (int k = 0; k < (m.kind == Kind::dense ? 8 : 4); ++k)
    for (int lane = 0; lane < kLanes<float>; ++lane) coefficients[k * kLanes<float> + lane] = coefficient(k, lane % 8);
}

// The transform of the tubes in one vector, with what `octet_coefficients` wrote.
template <TubeMatrix<float>::Kind kKind> struct Octets {
  using Kind = TubeMatrix<float>::Kind;
  static constexpr int kTerms = kKind == Kind::dense ? 8 : 4;
  Vec<float> sign, c[kTerms];

  SPECTRAL_INLINE explicit Octets(const float* coefficients) {
    for (int l = 0; l < kLanes<float>; ++l) sign[l] = l % 8 < 4 ? 1.0f : -1.0f;
    for (int k = 0; k < kTerms; ++k) c[k] = load(coefficients + k * kLanes<float>);
  }
  SPECTRAL_INLINE Vec<float> operator()(Vec<float> v) const {
    if constexpr (kKind == Kind::analysis) v = v + sign * within_eight(v, kReversed);
    if constexpr (kKind == Kind::synthesis) v = within_eight(v, kEvenFirst);
    const auto& lane = kKind == Kind::dense ? kEights : kFours;
    Vec<float> sum = {};  // from the first product on there is one way to fuse, wherever this is inlined
#pragma GCC unroll 8
    for (int k = 0; k < kTerms; ++k) sum += within_eight(v, lane[k]) * c[k];
    if constexpr (kKind == Kind::analysis) return within_eight(sum, kByTurns);
    if constexpr (kKind == Kind::synthesis) return within_eight(sum, kReversed) + sign * sum;
    return sum;
  }
};

// f.template operator()<kind, stream>()
template <class F> SPECTRAL_INLINE void visit_kind(TubeMatrix<float>::Kind kind, bool stream, F f) {
  using Kind = TubeMatrix<float>::Kind;
  const auto with = [&]<bool kStream>() {
    switch (kind) {
      case Kind::dense: return f.template operator()<Kind::dense, kStream>();
      case Kind::analysis: return f.template operator()<Kind::analysis, kStream>();
      case Kind::synthesis: return f.template operator()<Kind::synthesis, kStream>();
      case Kind::rotated: return;  // such matrices are larger, and no kernel in registers takes them
      case Kind::split: return;
    }
  };
  stream ? with.template operator()<true>() : with.template operator()<false>();
}

template <TubeMatrix<float>::Kind kKind, bool kStream>
void transform_octets(const float* coefficients, const float* x, float* y, int64_t count) {
  constexpr int lanes = kLanes<float>;
  const Octets<kKind> one(coefficients);
  const int64_t values = 8 * count, whole = values / lanes * lanes;
#pragma GCC unroll 4
  for (int64_t i = 0; i < whole; i += lanes) put<kStream>(y + i, one(load_loose(x + i)));
  if (whole < values) store_part(y + whole, one(load_part(x + whole, values - whole)), values - whole);
}

}  // namespace spectral::SPECTRAL_LEVEL
