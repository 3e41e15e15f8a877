// The target of a cross-entropy, checked before a kernel reads with it.
#pragma once
#include "drive.h"

namespace spectral {

inline const int64_t* checked_target(const Tensor& target, int64_t classes) {
  const int64_t* t = in<int64_t>(target);
  for (int64_t n = 0; n < target.numel(); ++n)
    SPECTRAL_CHECK(t[n] >= 0 && t[n] < classes, "spectral_mlp_cross_entropy: target must hold classes 0 .. ",
                   classes - 1, ", got ", t[n], " at index ", n);
  return t;
}

}  // namespace spectral
