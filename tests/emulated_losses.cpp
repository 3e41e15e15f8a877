// The losses of two branches by csrc/cuda/kernels/ensemble.cu beside a loop in double, for tests/test_emulator.py. All
// memory is of exactly the size it must be.
#include <cmath>
#include <cstdio>
#include <memory>

#include "cuda/kernels/ensemble.cu"

int main() {
  using namespace spectral::cuda;
  constexpr int64_t kBranches = 2, kSamples = 9, kClasses = 37;
  const auto logits = std::make_unique<double[]>(kBranches * kSamples * kClasses);
  const auto losses = std::make_unique<double[]>(kBranches);
  const auto target = std::make_unique<int64_t[]>(kSamples);
  unsigned state = 1;
  const auto random = [&] { return double(int(state = state * 1664525u + 1013904223u)) / 2147483648.0; };
  for (int64_t i = 0; i < kBranches * kSamples * kClasses; ++i) logits[i] = random();
  for (int64_t n = 0; n < kSamples; ++n) target[n] = 4 * n;
  try {
    cross_entropy<double>(logits.get(), false, target.get(), kBranches, kSamples, kClasses, losses.get(), nullptr);
  } catch (const emulate::Fault& fault) {
    std::printf("fault: %s\n", fault.what());
    return 1;
  }
  bool right = true;
  for (int64_t q = 0; q < kBranches; ++q) {
    double loss = 0;
    for (int64_t n = 0; n < kSamples; ++n) {
      const double* z = &logits[(q * kSamples + n) * kClasses];
      double sum = 0;
      for (int64_t c = 0; c < kClasses; ++c) sum += std::exp(z[c]);
      loss += (std::log(sum) - z[target[n]]) / kSamples;
    }
    right = right && std::fabs(loss - losses[q]) < 1e-12;
  }
  std::printf("%s\n", right ? "right" : "wrong");
  return right ? 0 : 1;
}
