// Kernels with planted faults, for tests/test_emulator.py: each must end with the emulator's own words, or, where it is
// right, print what it computed. The first argument names the kernel.
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "cuda/tile.cuh"

namespace spectral::cuda {

__global__ void reversed(const float* x, float* y, bool with_barrier) {
  SharedMemory memory;
  const Shared<float> values = memory.take<float>(threads());
  values[thread()] = x[thread()];
  if (with_barrier) barrier();
  y[thread()] = values[threads() - 1 - thread()];
}

// A barrier of the warp orders the threads of one warp, not two warps.
__global__ void neighbours(const float* x, float* y, int distance) {
  SharedMemory memory;
  const Shared<float> values = memory.take<float>(threads());
  values[thread()] = x[thread()];
  __syncwarp();
  y[thread()] = values[thread() ^ distance];
}

// Reads, and writes over what others have read.
__global__ void overwritten(const float* x, float* y, bool with_barrier) {
  SharedMemory memory;
  const Shared<float> value = memory.take<float>(1);
  if (thread() == 0) value[0] = x[0];
  barrier();
  y[thread()] = value[0];
  if (with_barrier) barrier();
  if (thread() == 0) value[0] = x[1];
}

__global__ void all_write(float* y) {
  SharedMemory memory;
  const Shared<float> value = memory.take<float>(1);
  value[0] = float(thread());
  barrier();
  y[thread()] = value[0];
}

__global__ void unwritten(float* y) {
  SharedMemory memory;
  const Shared<float> values = memory.take<float>(threads());
  if (thread() != 5) values[thread()] = 1;
  barrier();
  y[thread()] = values[thread()];
}

__global__ void past_the_end(float* y, int count) {
  SharedMemory memory;
  const Shared<float> values = memory.take<float>(count), others = memory.take<float>(threads());
  others[thread()] = 2;
  values[thread()] = 1;
  y[thread()] = values[thread()];
}

__global__ void past_the_end_of_device_memory(float* y, int at) { y[thread() + at] = 1; }

__global__ void divergent(float* y, bool wait) {
  if (wait || thread() < 7) barrier();
  y[thread()] = 1;
}

__global__ void half_at_the_warp(float* y) {
  if (warp() == 0)
    __syncwarp();
  else
    barrier();
  y[thread()] = 1;
}

// The sum of a warp with `first` as the first distance: 16 is right.
__global__ void summed(const float* x, float* y, int first) {
  float sum = x[thread()];
  for (int lanes = first; lanes; lanes /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, lanes);
  y[thread()] = sum;
}

__global__ void from_a_lane(const float* x, float* y, int lane) {
  y[thread()] = __shfl_sync(0xffffffffu, x[thread()], lane);
}

__global__ void half_a_warp(const float* x, float* y) { y[thread()] = __shfl_down_sync(0xffffu, x[thread()], 1); }

__global__ void counted(float* y) {
  SharedMemory memory;
  const Shared<float> count = memory.take<float>(1);
  if (thread() == 0) count[0] = 0;
  barrier();
  atomicAdd(count[0], 1.0f);
  atomicAdd(&y[1], 1.0f);
  barrier();
  if (thread() == 0) y[0] = count[0];
}

__global__ void too_much_shared_memory(float* y) {
  SharedMemory memory;
  memory.take<float>(2 * threads())[thread()] = 1;
  y[thread()] = 1;
}

}  // namespace spectral::cuda

int main(int count, char** arguments) {
  using namespace spectral::cuda;
  constexpr int kThreads = 64;
  std::vector<float> x(kThreads), y(kThreads, -1);
  for (int i = 0; i < kThreads; ++i) x[i] = float(i + 1);
  const float* in = x.data();
  float* out = y.data();
  const Grid grid{2, kThreads, shared_bytes_for<float>(kThreads + 1) + 16};
  const std::map<std::string, std::function<void()>> cases = {
      {"reversed", [&] { launch(nullptr, grid, &reversed, in, out, true); }},
      {"missing barrier", [&] { launch(nullptr, grid, &reversed, in, out, false); }},
      {"neighbours of a warp", [&] { launch(nullptr, grid, &neighbours, in, out, 1); }},
      {"neighbours of two warps", [&] { launch(nullptr, grid, &neighbours, in, out, 32); }},
      {"overwritten in time", [&] { launch(nullptr, grid, &overwritten, in, out, true); }},
      {"overwritten too early", [&] { launch(nullptr, grid, &overwritten, in, out, false); }},
      {"all write", [&] { launch(nullptr, grid, &all_write, out); }},
      {"unwritten", [&] { launch(nullptr, grid, &unwritten, out); }},
      {"past the end", [&] { launch(nullptr, Grid{1, kThreads, 1024}, &past_the_end, out, kThreads - 1); }},
      {"past the end of device memory", [&] { launch(nullptr, grid, &past_the_end_of_device_memory, out, 1); }},
      {"divergent", [&] { launch(nullptr, grid, &divergent, out, false); }},
      {"all wait", [&] { launch(nullptr, grid, &divergent, out, true); }},
      {"half at the warp", [&] { launch(nullptr, grid, &half_at_the_warp, out); }},
      {"sum", [&] { launch(nullptr, grid, &summed, in, out, 16); }},
      {"wrong shuffle", [&] { launch(nullptr, grid, &summed, in, out, 8); }},
      {"absent lane", [&] { launch(nullptr, grid, &from_a_lane, in, out, 32); }},
      {"half a warp", [&] { launch(nullptr, grid, &half_a_warp, in, out); }},
      {"counted", [&] { y[1] = 0, launch(nullptr, grid, &counted, out); }},
      {"too much shared memory", [&] { launch(nullptr, grid, &too_much_shared_memory, out); }},
      {"launch too large", [&] { launch(nullptr, Grid{1, kThreads, 100 << 10}, &all_write, out); }},
      {"odd block", [&] { launch(nullptr, Grid{1, 33, 0}, &summed, in, out, 16); }},
  };
  try {
    cases.at(count > 1 ? arguments[1] : "")();
  } catch (const emulate::Fault& fault) {
    std::printf("fault: %s\n", fault.what());
    return 1;
  }
  std::printf("%g %g %g\n", y[0], y[1], y[kThreads - 1]);
  return 0;
}
