// One layer of branches through csrc/cuda/kernels/chain.cu beside a loop in double, for tests/test_emulator.py, which
// compiles it from sources with and without planted faults. All memory is of exactly the size it must be.
#include <cmath>
#include <cstdio>
#include <memory>

#include "cuda/kernels/chain.cu"

int main() {
  using namespace spectral::cuda;
  // three tiles of samples, of which one block has two
  constexpr int64_t kBranches = 2, kSamples = 150, kIn = 29, kOut = 21;
  const auto values = [](int64_t count) { return std::make_unique<float[]>(count); };
  const auto x = values(kBranches * kSamples * kIn), w = values(kBranches * kOut * kIn), b = values(kBranches * kOut),
             y = values(kBranches * kSamples * kOut);
  unsigned state = 1;
  const auto random = [&] { return float(int(state = state * 1664525u + 1013904223u)) / 2147483648.0f; };
  for (int64_t i = 0; i < kBranches * kSamples * kIn; ++i) x[i] = random();
  for (int64_t i = 0; i < kBranches * kOut * kIn; ++i) w[i] = random();
  for (int64_t i = 0; i < kBranches * kOut; ++i) b[i] = random();

  Chain<float> c{};
  c.branches = kBranches;
  c.rows = kSamples;
  c.x = x.get();
  c.y = y.get();
  c.from = {kSamples * kIn, kSamples, 0, kIn, 1, false};
  c.to = {kSamples * kOut, kSamples, 0, kOut, 1, false};
  c.depth = 1;
  c.widest = kIn;
  c.layers[0] = {{w.get(), kOut * kIn, kIn, 1, false, false}, b.get(), kIn, kOut, spectral::Activation::silu, 0.0f};
  try {
    run(c, nullptr);
  } catch (const emulate::Fault& fault) {
    std::printf("fault: %s\n", fault.what());
    return 1;
  }
  double worst = 0;
  for (int64_t q = 0; q < kBranches; ++q)
    for (int64_t n = 0; n < kSamples; ++n)
      for (int64_t o = 0; o < kOut; ++o) {
        double z = b[q * kOut + o];
        for (int64_t i = 0; i < kIn; ++i) z += double(x[(q * kSamples + n) * kIn + i]) * w[(q * kOut + o) * kIn + i];
        const double error = std::fabs(z / (1 + std::exp(-z)) - y[(q * kSamples + n) * kOut + o]);
        worst = error > worst || error != error ? error : worst;
      }
  std::printf("%s\n", worst < 1e-5 ? "right" : "wrong");
  return worst < 1e-5 ? 0 : 1;
}
