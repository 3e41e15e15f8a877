// The arguments of the mixtures, without their results.
#pragma once
#include "drive.h"

namespace spectral::cuda {

template <class T> Ensemble<T> ensemble(const T* logits, bool complex, int64_t branches, int64_t samples,
                                        int64_t classes, const T* weights, bool softmax) {
  Ensemble<T> e{};
  e.branches = branches;
  e.samples = samples;
  e.classes = classes;
  e.logits = logits;
  e.complex = complex;
  e.weights = weights;
  e.softmax = softmax;
  return e;
}

}  // namespace spectral::cuda
