// The weighted sum of the branches' outputs, and its gradients. Work item: a tile of samples (forward), a block
// (backward).
#include "mixture.h"
#include "network.h"

namespace spectral::SPECTRAL_LEVEL {

template <class T> void ensemble(const Ensemble<T>& e, int64_t begin, int64_t end) {
  const int64_t row = e.classes * kTile<T>;
  T* logits = static_cast<T*>(scratch(Slot::item, 2 * row * sizeof(T)));
  T* mixed = logits + row;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t first = item * kTile<T>, count = min(kTile<T>, e.samples - first);
    std::memset(mixed, 0, row * sizeof(T));
    for (int64_t q = 0; q < e.branches; ++q) {
      load_tile(e.logits + (q * e.samples + first) * e.classes, e.classes, count, e.classes, logits);
      mix<T>(logits, e.classes, e.weights[q], e.softmax, q == 0, mixed);
    }
    store_tile(mixed, e.classes, count, e.y + first * e.classes, e.classes);
  }
}

template <class T> void ensemble_gradients(const Ensemble<T>& e, int64_t begin, int64_t end) {
  const int64_t row = e.classes * kTile<T>;
  T* logits = static_cast<T*>(scratch(Slot::item, 2 * row * sizeof(T)));
  T* grad = logits + row;
  for (int64_t item = begin; item < end; ++item) {
    double* scores = e.scores + item * e.branches;
    for (int64_t q = 0; q < e.branches; ++q) scores[q] = 0;
    const int64_t last = min(e.samples, (item + 1) * e.block);
    for (int64_t first = item * e.block; first < last; first += kTile<T>) {
      const int64_t count = min(kTile<T>, last - first);
      load_tile(e.grad_y + first * e.classes, e.classes, count, e.classes, grad);
      for (int64_t q = 0; q < e.branches; ++q) {
        const int64_t offset = (q * e.samples + first) * e.classes;
        load_tile(e.logits + offset, e.classes, count, e.classes, logits);
        for (int v = 0; v < kTile<T>; v += kLanes<T>) {
          const Vec<T> score = mix_gradient(logits + v, e.classes, e.weights[q], e.softmax, grad + v, logits + v);
          for (int64_t lane = 0; lane < kLanes<T> && v + lane < count; ++lane) scores[q] += double(score[lane]);
        }
        store_tile(logits, e.classes, count, e.grad_logits + offset, e.classes);
      }
    }
  }
}

template void ensemble<float>(const Ensemble<float>&, int64_t, int64_t);
template void ensemble<double>(const Ensemble<double>&, int64_t, int64_t);
template void ensemble_gradients<float>(const Ensemble<float>&, int64_t, int64_t);
template void ensemble_gradients<double>(const Ensemble<double>&, int64_t, int64_t);

}  // namespace spectral::SPECTRAL_LEVEL
