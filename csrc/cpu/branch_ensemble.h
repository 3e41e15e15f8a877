// The ensemble kernel over all samples; spectral_ensemble uses it too, where a batch is too small to share out by
// tiles.
#pragma once
#include "drive.h"

namespace spectral {

template <class T> void ensemble(const T* logits, int64_t branches, int64_t samples, int64_t classes, const T* weights,
                                 bool softmax, T* y) {
  Ensemble<T> e{};
  e.branches = branches;
  e.samples = samples;
  e.classes = classes;
  e.logits = logits;
  e.weights = weights;
  e.softmax = softmax;
  e.y = y;
  const int64_t tile = kernels<T>().tile;
  parallel_for(0, ceil_div(samples, tile), grain(30 * tile * branches * classes),
               [&](int64_t begin, int64_t end) { kernels<T>().ensemble(e, begin, end); });
}

}  // namespace spectral
