// Rows of features between device memory and a tile.
#pragma once
#include "product.cuh"

namespace spectral::cuda {

// r / divisor by its reciprocal: a division of 64 bits is a call, around which registers are spilled. One off at most.
SPECTRAL_DEVICE int64_t quotient(int64_t r, int64_t divisor, double inverse) {
  const int64_t guess = int64_t(double(r) * inverse);
  return guess * divisor > r ? guess - 1 : r - guess * divisor >= divisor ? guess + 1 : guess;
}

SPECTRAL_DEVICE int64_t place(const Layout& at, int64_t q, int64_t r) {
  const int64_t outer = quotient(r, at.inner, at.inverse);
  return q * at.branch + outer * at.outer + (r - outer * at.inner) * at.row;
}

// h[k][n] for the rows of a tile; places of absent rows are 0.
template <class N, int vectors> SPECTRAL_DEVICE void load_tile(const Real<N>* x, const Layout& from,
                                                               Shared<int64_t> places, int features, int count,
                                                               Shared<N> h) {
  constexpr int kRows = vectors * kWarp;
  if (from.feature == 1) {
    for (int n = warp(); n < kRows; n += warps())
      for (int k = lane(); k < features; k += kWarp)
        h[k * kPitch<N, vectors> + n] = n < count ? load_number<N>(x, places[n] + k, from.complex) : N{};
    return;
  }
  for (int k = warp(); k < features; k += warps())
    for (int n = lane(); n < kRows; n += kWarp)
      h[k * kPitch<N, vectors> + n] = n < count ? load_number<N>(x, places[n] + k * from.feature, from.complex) : N{};
}

template <class N, int vectors> SPECTRAL_DEVICE void store_tile(Real<N>* y, const Layout& to, Shared<int64_t> places,
                                                                int features, int count, Shared<N> h) {
  if (to.feature == 1) {
    for (int n = warp(); n < count; n += warps())
      for (int k = lane(); k < features; k += kWarp)
        store_number<N>(y, places[n] + k, h[k * kPitch<N, vectors> + n], to.complex);
    return;
  }
  for (int k = warp(); k < features; k += warps())
    for (int n = lane(); n < count; n += kWarp)
      store_number<N>(y, places[n] + k * to.feature, h[k * kPitch<N, vectors> + n], to.complex);
}

}  // namespace spectral::cuda
