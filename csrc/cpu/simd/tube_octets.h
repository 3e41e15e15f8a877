// The DCT of tubes of eight values that lie one after the other: each stays in its half or quarter of a vector.
//
// x_l and x_(7-l) give s_l = x_l + x_(7-l) in the lower four lanes and -d_(7-l) in the upper four. Lane k of every
// four, broadcast to its four, meets the coefficients of the even outputs below and of the odd ones above: four
// multiply-adds with as many shuffles, and one shuffle more puts the outputs in order. A synthesis does the same
// backward.
#pragma once
#include "tube.h"

namespace spectral::SPECTRAL_LEVEL {

SPECTRAL_INLINE bool takes_octets(const TubeMatrix<float>& m) {
  return m.kind != TubeMatrix<float>::Kind::dense && m.rows == 8 && m.columns == 8 && kLanes<float> >= 8;
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
inline constexpr int kFours[4][16] = {
    SPECTRAL_WITHIN_EIGHT(0, 0, 0, 0, 4, 4, 4, 4), SPECTRAL_WITHIN_EIGHT(1, 1, 1, 1, 5, 5, 5, 5),
    SPECTRAL_WITHIN_EIGHT(2, 2, 2, 2, 6, 6, 6, 6), SPECTRAL_WITHIN_EIGHT(3, 3, 3, 3, 7, 7, 7, 7)};

// Vector k holds what lane k of every four is multiplied by: even(l, k) below; above, where an analysis finds -d_(3-k)
// and a synthesis wants the outputs in reverse, -odd(l, 3-k) or odd(3-l, k).
SPECTRAL_INLINE void octet_coefficients(const TubeMatrix<float>& m, float* coefficients) {
  const bool analysis = m.kind == TubeMatrix<float>::Kind::analysis;
  for (int k = 0; k < 4; ++k)
    for (int lane = 0; lane < kLanes<float>; ++lane) {
      const int l = lane % 4;
      const float odd = analysis ? -m.odd[(3 - k) * 4 + l] : m.odd[k * 4 + 3 - l];
      coefficients[k * kLanes<float> + lane] = lane % 8 < 4 ? m.even[k * 4 + l] : odd;
    }
}

template <bool analysis>
SPECTRAL_INLINE void transform_octets(const float* coefficients, const float* x, float* y, int64_t count) {
  constexpr int lanes = kLanes<float>;
  Vec<float> sign, c[4];
  for (int l = 0; l < lanes; ++l) sign[l] = l % 8 < 4 ? 1.0f : -1.0f;
  for (int k = 0; k < 4; ++k) c[k] = load(coefficients + k * lanes);
  const auto one = [&](Vec<float> v) {
    if constexpr (analysis)
      v = v + sign * within_eight(v, kReversed);
    else
      v = within_eight(v, kEvenFirst);
    Vec<float> sum = within_eight(v, kFours[0]) * c[0];
#pragma GCC unroll 3
    for (int k = 1; k < 4; ++k) sum += within_eight(v, kFours[k]) * c[k];
    if constexpr (analysis)
      return within_eight(sum, kByTurns);
    else
      return within_eight(sum, kReversed) + sign * sum;
  };
  const int64_t values = 8 * count, whole = values / lanes * lanes;
#pragma GCC unroll 4
  for (int64_t i = 0; i < whole; i += lanes) store_loose(y + i, one(load_loose(x + i)));
  if (whole < values) store_part(y + whole, one(load_part(x + whole, values - whole)), values - whole);
}

}  // namespace spectral::SPECTRAL_LEVEL
