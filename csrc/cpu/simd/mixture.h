// Softmax and the weighted sum of branches, on a tile [class][sample].
#pragma once
#include "elementary.h"
#include "tile.h"

namespace spectral::SPECTRAL_LEVEL {

// The largest logit of each sample; a NaN among them is kept.
template <class T> SPECTRAL_INLINE Vec<T> largest(const T* logits, int64_t classes) {
  Vec<T> top = load(logits);
  for (int64_t c = 1; c < classes; ++c) {
    const Vec<T> z = load(logits + c * kTile<T>);
    top = z > top ? z : top;
  }
  return top;
}

// e[c] = exp(logit - largest), for one vector of samples; returns their sum. e may be the logits themselves.
template <class T> SPECTRAL_INLINE Vec<T> exponentials(const T* logits, int64_t classes, Vec<T> top, T* e) {
  Vec<T> total{};
  for (int64_t c = 0; c < classes; ++c) {
    const Vec<T> value = exponential_of_negative<T>(load(logits + c * kTile<T>) - top);
    store(e + c * kTile<T>, value);
    total += value;
  }
  return total;
}

// mixed (+)= weight * softmax(logits), or weight * logits, in the first `reals` lanes: the real parts of complex
// logits.
template <class T>
void mix(const T* logits, int64_t classes, T weight, bool softmax, bool first, T* mixed, int64_t reals = kTile<T>) {
  if (classes == 0) return;
  for (int64_t v = 0; v < reals; v += kLanes<T>) {
    if (softmax) {
      alignas(64) T kept[64 * kTile<T>];  // up to 64 classes are kept, more are computed twice
      const Vec<T> top = largest(logits + v, classes);
      const bool keep = classes <= 64;
      Vec<T> total{};
      if (keep) {
        total = exponentials(logits + v, classes, top, kept);
      } else {
        for (int64_t c = 0; c < classes; ++c)
          total += exponential_of_negative<T>(load(logits + c * kTile<T> + v) - top);
      }
      const Vec<T> scale = weight / total;
      for (int64_t c = 0; c < classes; ++c) {
        T* y = mixed + c * kTile<T> + v;
        const Vec<T> e =
            keep ? load(kept + c * kTile<T>) : exponential_of_negative<T>(load(logits + c * kTile<T> + v) - top);
        store(y, first ? e * scale : load(y) + e * scale);
      }
    } else {
      for (int64_t c = 0; c < classes; ++c) {
        T* y = mixed + c * kTile<T> + v;
        const Vec<T> z = load(logits + c * kTile<T> + v) * weight;
        store(y, first ? z : load(y) + z);
      }
    }
  }
}

// The gradient of `mix` to one branch's logits, for one vector of samples: with p = softmax(logits), s = <grad_y, p> it
// is weight p (grad_y - s), without softmax weight grad_y. Returns s (without softmax <grad_y, logits>), the gradient
// of the weight. grad_logits may be the logits themselves.
template <class T> SPECTRAL_INLINE Vec<T> mix_gradient(const T* logits, int64_t classes, T weight, bool softmax,
                                                       const T* grad_y, T* grad_logits) {
  Vec<T> score{};
  if (!softmax) {
    for (int64_t c = 0; c < classes * kTile<T>; c += kTile<T>) {
      score += load(logits + c) * load(grad_y + c);
      store(grad_logits + c, weight * load(grad_y + c));
    }
    return score;
  }
  const Vec<T> scale = T(1) / exponentials(logits, classes, largest(logits, classes), grad_logits);
  for (int64_t c = 0; c < classes * kTile<T>; c += kTile<T>) {
    const Vec<T> p = load(grad_logits + c) * scale;
    store(grad_logits + c, p);
    score += p * load(grad_y + c);
  }
  for (int64_t c = 0; c < classes * kTile<T>; c += kTile<T>)
    store(grad_logits + c, weight * load(grad_logits + c) * (load(grad_y + c) - score));
  return score;
}

}  // namespace spectral::SPECTRAL_LEVEL
