// CUDA on the host: the source of a kernel, compiled as C++, runs block by block without a GPU.
//
// The threads of a block are fibers (ucontext). One fiber runs until it reaches a barrier, then the next one, so a
// block goes from barrier to barrier in lockstep. A shuffle is two barriers of a warp. What a GPU would leave to chance
// is an error here, with the name of the thread and of the place:
//     out of bounds    shared memory is reached through Shared<T>, which knows where its array ends (memory of the
//                      device is ordinary memory: the address sanitizer watches it, and is told of every switch)
//     no initial value shared memory that no thread of this block has written
//     race             two threads touch a value of shared memory, one of them writes, and no barrier lies between
//     divergence       some threads wait at a barrier that the others do not reach
//     lanes            a shuffle or barrier of a warp without all its lanes, or from a lane that does not exist
// Blocks run one after another, so what goes wrong between blocks is not seen: kernels may not exchange values between
// blocks of one launch. One launch at a time, of one host thread.
#pragma once
#include <ucontext.h>

#include <cstdint>
#include <cstring>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#else
inline void __sanitizer_start_switch_fiber(void**, const void*, size_t) {}
inline void __sanitizer_finish_switch_fiber(void*, const void**, size_t*) {}
#endif

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
};
inline dim3 threadIdx, blockIdx, blockDim, gridDim;  // of the fiber that runs
constexpr int warpSize = 32;

namespace emulate {

struct Fault : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// A touch of a value in shared memory: by whom, and when. Times count the barriers of the block, and of the warp.
struct Touch {
  int thread = -1, time = -1, warp_time = -1;
};

// The last write, and the last reads of two threads: whoever writes next, one of them is another thread.
struct Mark {
  Touch write, read, read_before;
};

struct Array {
  std::unique_ptr<char[]> bytes;  // an allocation of its own, so that the address sanitizer knows its ends too
  int64_t count = 0;
  size_t size = 0;  // of a value
  std::vector<Mark> marks;
};

enum class Wait { nothing, warp, block, over };

struct Fiber {
  static constexpr size_t kStack = 128 << 10;
  ucontext_t context;
  std::unique_ptr<char[]> stack{new char[kStack]};
  void* fake_stack = nullptr;  // the address sanitizer's
  Wait wait = Wait::nothing;
  int warp_time = 0;
  size_t arrays = 0;      // of dynamic shared memory, that this thread has taken
  size_t used_bytes = 0;  // of it
};

struct Machine {
  std::vector<std::unique_ptr<Fiber>> fibers;
  ucontext_t scheduler;
  const void* scheduler_stack = nullptr;
  size_t scheduler_stack_size = 0;
  int current = 0, threads = 0, time = 0;
  std::function<void()> kernel;
  std::exception_ptr fault;
  std::map<const void*, Array> static_shared;          // by place in the source
  std::vector<std::unique_ptr<Array>> dynamic_shared;  // in the order in which threads take it
  size_t dynamic_bytes = 0;
  std::vector<std::vector<char>> slots;  // what a lane gives to its warp in a shuffle
};
inline Machine machine;

inline Fiber& here() { return *machine.fibers[machine.current]; }
inline std::string thread_name(int thread) {
  return "thread " + std::to_string(thread) + " of block " + std::to_string(blockIdx.x);
}
[[noreturn]] inline void fail(const std::string& what) { throw Fault(thread_name(machine.current) + " " + what); }

// ---- fibers and barriers ----
inline void switch_to_scheduler(bool for_good) {
  Fiber& fiber = here();
  __sanitizer_start_switch_fiber(for_good ? nullptr : &fiber.fake_stack, machine.scheduler_stack,
                                 machine.scheduler_stack_size);
  swapcontext(&fiber.context, &machine.scheduler);
  __sanitizer_finish_switch_fiber(fiber.fake_stack, nullptr, nullptr);
}

inline void wait_for(Wait barrier) {
  here().wait = barrier;
  switch_to_scheduler(false);
}

inline void run_fiber() {
  __sanitizer_finish_switch_fiber(nullptr, &machine.scheduler_stack, &machine.scheduler_stack_size);
  try {
    machine.kernel();
  } catch (...) {
    machine.fault = std::current_exception();
  }
  here().wait = Wait::over;
  switch_to_scheduler(true);
}

inline void start_fiber(Fiber& fiber) {
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = fiber.stack.get();
  fiber.context.uc_stack.ss_size = Fiber::kStack;
  fiber.context.uc_link = nullptr;
  makecontext(&fiber.context, run_fiber, 0);
  fiber.wait = Wait::nothing;
  fiber.fake_stack = nullptr;
  fiber.arrays = fiber.used_bytes = 0;
}

inline void resume(int thread) {
  machine.current = thread;
  const unsigned t = thread, plane = blockDim.x * blockDim.y;
  threadIdx = {t % blockDim.x, t % plane / blockDim.x, t / plane};
  Fiber& fiber = here();
  void* fake_stack = nullptr;
  __sanitizer_start_switch_fiber(&fake_stack, fiber.stack.get(), Fiber::kStack);
  swapcontext(&machine.scheduler, &fiber.context);
  __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
  if (machine.fault) std::rethrow_exception(machine.fault);
}

// Lets the threads [begin, end) pass the barrier if all of them wait there; returns whether they did.
inline bool release(int begin, int end, Wait barrier) {
  for (int t = begin; t < end; ++t)
    if (machine.fibers[t]->wait != barrier) return false;
  for (int t = begin; t < end; ++t) {
    machine.fibers[t]->wait = Wait::nothing;
    machine.fibers[t]->warp_time += barrier == Wait::warp;
  }
  machine.time += barrier == Wait::block;
  return true;
}

inline void report_divergence() {
  const char* what[] = {"runs", "waits at a barrier of its warp", "waits at a barrier of the block", "has ended"};
  const auto state = [&](int t) { return what[int(machine.fibers[t]->wait)]; };
  for (int t = 1; t < machine.threads; ++t)
    if (machine.fibers[t]->wait != machine.fibers[0]->wait)
      throw Fault("divergent barrier: " + thread_name(0) + " " + state(0) + ", thread " + std::to_string(t) + " " +
                  state(t));
}

inline void run_block() {
  machine.static_shared.clear();
  machine.dynamic_shared.clear();
  for (int t = 0; t < machine.threads; ++t) start_fiber(*machine.fibers[t]);
  for (bool live = true; live;) {
    for (int t = 0; t < machine.threads; ++t)
      if (machine.fibers[t]->wait == Wait::nothing) resume(t);
    if (release(0, machine.threads, Wait::block)) continue;
    bool moved = false;
    for (int t = 0; t < machine.threads; t += warpSize) moved |= release(t, t + warpSize, Wait::warp);
    if (moved) continue;
    report_divergence();
    live = false;  // all have ended
  }
}

// Runs kernel(arguments...) for every thread of the grid.
template <class Kernel, class... Arguments>
void launch(Kernel kernel, dim3 grid, dim3 block, size_t shared_bytes, Arguments... arguments) {
  machine.threads = block.x * block.y * block.z;
  if (machine.threads % warpSize || machine.threads == 0 || machine.threads > 1024)
    throw Fault("a block must have a multiple of 32 threads, 1024 at most, not " + std::to_string(machine.threads));
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.y > 65535 || grid.z > 65535)
    throw Fault("the grid has a size that no device takes");
  while (int(machine.fibers.size()) < machine.threads) machine.fibers.push_back(std::make_unique<Fiber>());
  machine.slots.assign(machine.threads, {});
  machine.dynamic_bytes = shared_bytes;
  machine.fault = nullptr;
  machine.kernel = [=] { kernel(arguments...); };
  gridDim = grid;
  blockDim = block;
  for (unsigned z = 0; z < grid.z; ++z)
    for (unsigned y = 0; y < grid.y; ++y)
      for (unsigned x = 0; x < grid.x; ++x) {
        blockIdx = {x, y, z};
        run_block();
      }
}

// ---- shared memory ----
inline Touch now() { return {machine.current, machine.time, here().warp_time}; }

// Whether `touch` is the running thread's own, or a barrier has ended it.
inline bool settled(const Touch& touch) {
  return touch.thread < 0 || touch.thread == machine.current || touch.time != machine.time ||
         (touch.thread / warpSize == machine.current / warpSize && touch.warp_time != here().warp_time);
}

inline void note_read(Mark& mark) {
  if (mark.write.thread < 0) fail("reads shared memory that no thread has written");
  if (!settled(mark.write))
    fail("reads what " + thread_name(mark.write.thread) + " writes: a race, no barrier between");
  if (mark.read.thread != machine.current) mark.read_before = mark.read;
  mark.read = now();
}

inline void note_write(Mark& mark) {
  if (!settled(mark.write))
    fail("writes what " + thread_name(mark.write.thread) + " writes: a race, no barrier between");
  for (const Touch& read : {mark.read, mark.read_before})
    if (!settled(read)) fail("writes what " + thread_name(read.thread) + " reads: a race, no barrier between");
  mark.write = now();
}

template <class T> class Value;

// A pointer into shared memory that knows its array.
template <class T> class Shared {
 public:
  Shared() = default;
  Shared(Array* array, int64_t at) : array_(array), at_(at) {}
  Value<T> operator[](int64_t i) const {
    const int64_t at = at_ + i;
    if (!array_ || at < 0 || at >= array_->count)
      fail("touches value " + std::to_string(at) + " of " + std::to_string(array_ ? array_->count : 0) +
           " in shared memory: out of bounds");
    return Value<T>(reinterpret_cast<T*>(array_->bytes.get()) + at, &array_->marks[at]);
  }
  Value<T> operator*() const { return (*this)[0]; }
  Shared operator+(int64_t i) const { return Shared(array_, at_ + i); }
  explicit operator bool() const { return array_; }

 private:
  Array* array_ = nullptr;
  int64_t at_ = 0;
};

// What Shared<T>[i] gives: a T that notes who reads and who writes it.
template <class T> class Value {
 public:
  Value(T* value, Mark* mark) : value_(value), mark_(mark) {}
  operator T() const {
    note_read(*mark_);
    return *value_;
  }
  T operator=(T value) const {
    note_write(*mark_);
    return *value_ = value;
  }
  T operator=(const Value& other) const { return *this = T(other); }
  T operator+=(T value) const { return *this = T(*this) + value; }
  T add_atomically(T value) const {  // no race with other atomic touches
    const T old = *value_;
    *value_ += value;
    return old;
  }

 private:
  T* value_;
  Mark* mark_;
};

template <class T> void allocate(Array& array, int64_t count) {
  array.count = count;
  array.size = sizeof(T);
  array.bytes.reset(new char[count * sizeof(T)]);
  std::memset(array.bytes.get(), 0xff, count * sizeof(T));  // NaN
  array.marks.assign(count, {});
}

// The block's array that belongs to a place in the source: `__shared__ T name[count]`.
template <class T> Shared<T> static_array(const void* place, int64_t count) {
  Array& array = machine.static_shared[place];
  if (!array.bytes) allocate<T>(array, count);
  return Shared<T>(&array, 0);
}

// The next piece of the launch's dynamic shared memory; every thread of a block takes the same ones.
template <class T> Shared<T> dynamic_array(int64_t count, size_t bytes) {
  Fiber& fiber = here();
  fiber.used_bytes += bytes;
  if (fiber.used_bytes > machine.dynamic_bytes)
    fail("takes " + std::to_string(fiber.used_bytes) + " bytes of shared memory where the launch gave " +
         std::to_string(machine.dynamic_bytes));
  if (fiber.arrays == machine.dynamic_shared.size()) {
    machine.dynamic_shared.push_back(std::make_unique<Array>());
    allocate<T>(*machine.dynamic_shared.back(), count);
  }
  Array& array = *machine.dynamic_shared[fiber.arrays++];
  if (array.count != count || array.size != sizeof(T)) fail("takes another array of shared memory than others do");
  return Shared<T>(&array, 0);
}

// ---- what a warp exchanges ----
inline void check_lanes(unsigned mask) {
  if (mask != 0xffffffffu) fail("names only some lanes of its warp, which this header does not follow");
}

template <class T> T exchange(unsigned mask, T value, int lane) {
  check_lanes(mask);
  if (lane < 0 || lane >= warpSize) fail("asks for lane " + std::to_string(lane) + " of its warp");
  std::vector<char>& slot = machine.slots[machine.current];
  slot.resize(sizeof(T));
  std::memcpy(slot.data(), &value, sizeof(T));
  wait_for(Wait::warp);
  std::memcpy(&value, machine.slots[machine.current / warpSize * warpSize + lane].data(), sizeof(T));
  wait_for(Wait::warp);
  return value;
}

}  // namespace emulate

inline void __syncthreads() { emulate::wait_for(emulate::Wait::block); }
inline void __syncwarp(unsigned mask = 0xffffffffu) {
  emulate::check_lanes(mask);
  emulate::wait_for(emulate::Wait::warp);
}
template <class T> T __shfl_sync(unsigned mask, T value, int lane) { return emulate::exchange(mask, value, lane); }
template <class T> T __shfl_xor_sync(unsigned mask, T value, int lanes) {
  return emulate::exchange(mask, value, (emulate::machine.current % warpSize) ^ lanes);
}
// As on a device, lanes past the end of the warp get their own value back.
template <class T> T __shfl_down_sync(unsigned mask, T value, int lanes) {
  const int lane = emulate::machine.current % warpSize, from = lane + lanes;
  return emulate::exchange(mask, value, from < warpSize ? from : lane);
}
template <class T> T atomicAdd(T* address, T value) {
  const T old = *address;
  *address += value;
  return old;
}
template <class T> T atomicAdd(const emulate::Value<T>& place, T value) { return place.add_atomically(value); }
