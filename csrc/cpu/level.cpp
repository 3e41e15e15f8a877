// Which SIMD level runs: the best one that this machine has, or the one that a test asked for.
#include <atomic>
#include <cstdlib>
#include <iterator>
#include <new>

#include "../signature.h"
#include "kernels.h"

namespace spectral {

#define SPECTRAL_DECLARE(level)                \
  namespace level {                            \
  extern const Kernels<float> float_kernels;   \
  extern const Kernels<double> double_kernels; \
  }
#ifdef SPECTRAL_HAVE_AVX512
SPECTRAL_DECLARE(avx512)
#endif
#ifdef SPECTRAL_HAVE_AVX2
SPECTRAL_DECLARE(avx2)
#endif
SPECTRAL_DECLARE(portable)

namespace {

struct Level {
  const char* name;
  bool supported;
  const Kernels<float>* singles;
  const Kernels<double>* doubles;
};

const Level levels[] = {
#ifdef SPECTRAL_HAVE_AVX512
    {"avx512",
     __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl"),
     &avx512::float_kernels, &avx512::double_kernels},
#endif
#ifdef SPECTRAL_HAVE_AVX2
    {"avx2", __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"), &avx2::float_kernels,
     &avx2::double_kernels},
#endif
    {"portable", true, &portable::float_kernels, &portable::double_kernels},
};

int best() {
  int i = 0;
  while (!levels[i].supported) ++i;
  return i;
}

std::atomic<int>& chosen() {
  static std::atomic<int> index = best();
  return index;
}

// Memory that grows and stays with its thread.
struct Arena {
  void* memory = nullptr;
  int64_t size = 0;
  ~Arena() { std::free(memory); }
};

}  // namespace

template <> const Kernels<float>& kernels<float>() { return *levels[chosen()].singles; }
template <> const Kernels<double>& kernels<double>() { return *levels[chosen()].doubles; }

void* scratch(Slot slot, int64_t bytes) {
  thread_local Arena arenas[2];
  Arena& arena = arenas[static_cast<int>(slot)];
  if (bytes > arena.size) {
    const int64_t rounded = (bytes + 4095) / 4096 * 4096;
    std::free(arena.memory);
    arena.memory = std::aligned_alloc(64, rounded);
    arena.size = arena.memory ? rounded : 0;
    if (!arena.memory) throw std::bad_alloc();
  }
  return arena.memory;
}

}  // namespace spectral

SPECTRAL_EXPORT int spectral_cpu_level_count() { return std::size(spectral::levels); }
SPECTRAL_EXPORT const char* spectral_cpu_level_name(int i) { return spectral::levels[i].name; }
SPECTRAL_EXPORT int spectral_cpu_level_supported(int i) { return spectral::levels[i].supported; }
SPECTRAL_EXPORT int spectral_cpu_level() { return spectral::chosen(); }
SPECTRAL_EXPORT int spectral_set_cpu_level(int i) {
  spectral::chosen() = i;
  return i;
}
