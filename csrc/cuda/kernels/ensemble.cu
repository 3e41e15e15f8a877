// Mixtures of the branches' outputs and the losses of branches: a warp takes one sample, its lanes the classes.
#include "../kernels.h"
#include "../tile.cuh"

namespace spectral::cuda {

namespace {

constexpr int kThreads = 128, kWarps = kThreads / kWarp;

// Logits of one sample in one branch, with their softmax; all lanes of the warp together.
template <class T> struct Logits {
  const T* z;
  int64_t classes, step;  // step: 2 where they are complex
  T top = T(0), sum = T(1);

  SPECTRAL_DEVICE Logits(const T* logits, int64_t classes_, bool complex)
      : z(logits), classes(classes_), step(complex ? 2 : 1) {}
  SPECTRAL_DEVICE T at(int64_t c) const { return z[c * step]; }
  SPECTRAL_DEVICE T probability(int64_t c) const { return std::exp(at(c) - top) / sum; }
  SPECTRAL_DEVICE void normalise() {
    top = T(-INFINITY);
    for (int64_t c = lane(); c < classes; c += kWarp) top = at(c) > top || at(c) != at(c) ? at(c) : top;
    top = warp_max(top);
    sum = T(0);
    for (int64_t c = lane(); c < classes; c += kWarp) sum += std::exp(at(c) - top);
    sum = warp_sum(sum);
  }
};

template <class T> SPECTRAL_DEVICE Logits<T> logits_of(const Ensemble<T>& e, int64_t q, int64_t n) {
  Logits<T> logits(e.logits + (q * e.samples + n) * e.classes * (e.complex ? 2 : 1), e.classes, e.complex);
  if (e.softmax) logits.normalise();
  return logits;
}

// The lanes of a warp go through its classes four times 32 at a time; more than 128 classes normalise again.
template <class T> __global__ void __launch_bounds__(kThreads, 4) mix(const Ensemble<T> e) {
  constexpr int kEach = 4;
  const int64_t n = int64_t(block()) * kWarps + warp();
  if (n >= e.samples) return;
  for (int64_t first = 0; first < e.classes; first += kEach * kWarp) {
    T sums[kEach] = {};
    for (int64_t q = 0; q < e.branches; ++q) {
      const Logits<T> logits = logits_of(e, q, n);
      const T weight = e.weights[q];
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
        const int64_t c = first + i * kWarp + lane();
        if (c < e.classes) multiply_add(sums[i], weight, e.softmax ? logits.probability(c) : logits.at(c));
      }
    }
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int64_t c = first + i * kWarp + lane();
      if (c < e.classes) e.y[n * e.classes + c] = sums[i];
    }
  }
}

// A block takes one branch and `block` samples; its warps take them in turn, and their sums are added in order.
template <class T> __global__ void __launch_bounds__(kThreads, 4) mix_backward(const Ensemble<T> e) {
  SharedMemory memory;
  const Shared<double> scores = memory.take<double>(kWarps);
  const int64_t q = block() % unsigned(e.branches), b = block() / unsigned(e.branches);
  const int64_t begin = b * e.block, end = begin + e.block < e.samples ? begin + e.block : e.samples;
  const T weight = e.weights[q];
  double total = 0;
  for (int64_t n = begin + warp(); n < end; n += kWarps) {
    const Logits<T> logits = logits_of(e, q, n);
    const T* grad_y = e.grad_y + n * e.classes;
    T score = T(0);
    for (int64_t c = lane(); c < e.classes; c += kWarp)
      multiply_add(score, e.softmax ? logits.probability(c) : logits.at(c), grad_y[c]);
    score = warp_sum(score);
    total += double(score);
    for (int64_t c = lane(); c < e.classes; c += kWarp)
      e.grad_logits[(q * e.samples + n) * e.classes + c] =
          e.softmax ? weight * logits.probability(c) * (grad_y[c] - score) : weight * grad_y[c];
  }
  if (lane() == 0) scores[warp()] = total;
  barrier();
  if (thread() == 0) {
    double sum = 0;
    for (int w = 0; w < kWarps; ++w) sum += scores[w];
    e.scores[b * e.branches + q] = sum;
  }
}

template <class T> __global__ void __launch_bounds__(kThreads, 4)
    losses_of_branches(const T* logits, bool complex, const int64_t* target, int64_t samples, int64_t classes,
                       T* losses) {
  SharedMemory memory;
  const Shared<double> sums = memory.take<double>(kWarps);
  const int64_t q = block();
  double total = 0;
  for (int64_t n = warp(); n < samples; n += kWarps) {
    Logits<T> row(logits + (q * samples + n) * classes * (complex ? 2 : 1), classes, complex);
    row.normalise();
    const int64_t hot = target[n];
    total += hot >= 0 && hot < classes ? double(std::log(row.sum) + (row.top - row.at(hot))) : double(NAN);
  }
  if (lane() == 0) sums[warp()] = total;
  barrier();
  if (thread() == 0) {
    double sum = 0;
    for (int w = 0; w < kWarps; ++w) sum += sums[w];
    losses[q] = T(sum / double(samples));
  }
}

constexpr int64_t kShared = shared_bytes_for<double>(kWarps);

}  // namespace

template <class T> void run(const Ensemble<T>& e, void* stream) {
  launch(stream, Grid{ceil_div(e.samples, kWarps), kThreads, 0}, &mix<T>, e);
}
template <class T> void run_backward(const Ensemble<T>& e, void* stream) {
  launch(stream, Grid{e.branches * e.blocks, kThreads, kShared}, &mix_backward<T>, e);
}
template <class T> void cross_entropy(const T* logits, bool complex, const int64_t* target, int64_t branches,
                                      int64_t samples, int64_t classes, T* losses, void* stream) {
  launch(stream, Grid{branches, kThreads, kShared}, &losses_of_branches<T>, logits, complex, target, samples, classes,
         losses);
}

#define SPECTRAL_FOR(T)                                     \
  template void run<T>(const Ensemble<T>&, void*);          \
  template void run_backward<T>(const Ensemble<T>&, void*); \
  template void cross_entropy<T>(const T*, bool, const int64_t*, int64_t, int64_t, int64_t, T*, void*)
SPECTRAL_FOR(float);
SPECTRAL_FOR(double);
#undef SPECTRAL_FOR

}  // namespace spectral::cuda
