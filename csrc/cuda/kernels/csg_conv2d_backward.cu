// The gradients of codes and generator from a convolution with a generated filter. The gradient of the filter is a sum
// over pixels; a block makes a tile of it, some positions of some slices, in shared memory and multiplies it there with
// the generator or the codes. It is made again for each of the two, and none of it reaches device memory.
#include "csg_conv2d.cuh"

namespace spectral::cuda {

namespace {

constexpr int kMostRuns = 16;    // outputs that the positions of a tile have
constexpr int kMostGroups = 4;   // of columns: the slices of a tile
constexpr int kEach = 2;         // groups of code entries of a warp
constexpr int kInts = 4;         // of a row: channel, offsets along height and width, run
constexpr int64_t kFewest = 64;  // pixels worth a part of their own

template <class T> constexpr int kMostRows = kMostTiles * kTileRows<T>;
// a tile, with its slices or its positions side by side
template <class T> constexpr int kTile = kMostTiles * kOutputs<T> * kPitch<T, kVectors<T>>;
template <class T> constexpr int kLines = kChunk * kMostRuns * kMostGroups * kOutputs<T>;

template <class T> struct Memory {
  Shared<T> scratch, lines, tile, codes;
  Shared<int> rows;
  SPECTRAL_DEVICE Memory() {
    SharedMemory memory;
    scratch = memory.take<T>(kScratch<T>);
    lines = memory.take<T>(kLines<T>);
    tile = memory.take<T>(kTile<T>);
    codes = memory.take<T>(kMostGroups * kOutputs<T> * kMostGroups * kEach * kOutputs<T>);
    rows = memory.take<int>(kInts * kMostRows<T>);
  }
  static constexpr int64_t bytes() {
    return shared_bytes_for<T>(kScratch<T>) + shared_bytes_for<T>(kLines<T>) + shared_bytes_for<T>(kTile<T>) +
           shared_bytes_for<T>(kMostGroups * kOutputs<T> * kMostGroups * kEach * kOutputs<T>) +
           shared_bytes_for<int>(kInts * kMostRows<T>);
  }
};

// Tile number `item` of slices: the first one, and how many.
struct Slices {
  int first, count;
  template <class T> SPECTRAL_DEVICE Slices(const CsgGradients<T>& g, int item) {
    const int classes = g.period < g.slices ? g.period : g.slices;
    first = item % classes + item / classes * g.columns * g.period;
    const int left = int(ceil_div(g.slices - first, g.period));
    count = left < 0 ? 0 : left < g.columns ? left : g.columns;
  }
};

// What a block takes: some of the pixels and of the tiles that are summed, code entries from `base` on, and one tile of
// the others (slices for the codes, positions for the generator).
struct Item {
  int pixel_part, part, base, tile;
  template <class T> SPECTRAL_DEVICE explicit Item(const CsgGradients<T>& g) {
    int rest = int(block());
    pixel_part = rest % g.pixel_parts;
    rest /= g.pixel_parts;
    part = rest % g.parts;
    rest /= g.parts;
    base = rest % g.code_tiles * g.codes;
    tile = rest / g.code_tiles;
  }
  // where this block's share of the sums begins, `values` to a share
  template <class T> SPECTRAL_DEVICE T* sums(const CsgGradients<T>& g, int64_t values) const {
    return g.sums + (int64_t(pixel_part) * g.parts + part) * values;
  }
};

// sums[slice][position] = the gradient of the filter at positions [r0, r0 + g.rows) of some slices, over some pixels.
template <class T> SPECTRAL_DEVICE void filter_gradient(T (&sums)[kOutputs<T>][kVectors<T>], const CsgGradients<T>& g,
                                                        const Share<T>& share, const Slices& slices, int r0,
                                                        int pixel_part, const Memory<T>& memory) {
  constexpr int kRows = kTileRows<T>, kPlaces = kPitch<T, kVectors<T>>;
  const CsgConvolution<T>& c = g.c;
  const int outputs = c.size[0], per_group = outputs / c.groups, pitch = share.groups * kOutputs<T>;
#pragma unroll
  for (int r = 0; r < kOutputs<T>; ++r)
#pragma unroll
    for (int v = 0; v < kVectors<T>; ++v) sums[r][v] = T(0);
  if (slices.count == 0) return;
  int at[4], last[4];
  const int end = r0 + g.rows < c.shape.positions ? r0 + g.rows : c.shape.positions;
  coordinates(c.shape, c.size, slices.first, r0, at);
  coordinates(c.shape, c.size, slices.first, end - 1, last);
  const int output = at[0], runs = last[0] - output + 1;
  for (int m = thread(); m < share.rows(); m += threads()) {
    const bool there = r0 + m < end && coordinates(c.shape, c.size, slices.first, r0 + m, at);
    memory.rows[kInts * m] = there ? at[1] : -1;
    memory.rows[kInts * m + 1] = there ? at[2] * c.dilation[0] - c.padding[0] : 0;
    memory.rows[kInts * m + 2] = there ? at[3] * c.dilation[1] - c.padding[1] : 0;
    memory.rows[kInts * m + 3] = there ? at[0] - output : 0;
  }
  barrier();
  int run[kVectors<T>] = {};
  if (share.tile < share.tiles)
#pragma unroll
    for (int v = 0; v < kVectors<T>; ++v) run[v] = memory.rows[kInts * (share.tile * kRows + v * kWarp + lane()) + 3];

  const int begin = pixel_part * g.pixels, limit = begin + g.pixels < c.rows ? begin + g.pixels : c.rows;
  const int highest = output + runs - 1 + (slices.count - 1) * g.step;
  const int last_group = (highest < outputs ? highest : outputs - 1) / per_group;
  for (int group = output / per_group; group <= last_group; ++group)
    for (int p0 = begin; p0 < limit; p0 += kChunk) {
      // a thread has one pixel
      const int k = thread() % kChunk;
      const bool exists = p0 + k < limit;
      const Pixel<T, false> pixel(c, exists ? p0 + k : 0);
      for (int m = thread() / kChunk; m < share.rows(); m += threads() / kChunk) {
        const int channel = memory.rows[kInts * m];
        const int h = pixel.h * c.stride[0] + memory.rows[kInts * m + 1];
        const int w = pixel.w * c.stride[1] + memory.rows[kInts * m + 2];
        const bool there = exists && channel >= 0 && h >= 0 && h < c.image[0] && w >= 0 && w < c.image[1];
        memory.scratch[(m / kRows * kChunk + k) * kPlaces + m % kRows] =
            there ? g.x[pixel.n * c.x_step[0] + (int64_t(group) * c.size[1] + channel) * c.x_step[1] + h * c.x_step[2] +
                        w * c.x_step[3]]
                  : T(0);
      }
      for (int i = thread() / kChunk; i < runs * pitch; i += threads() / kChunk) {
        const int column = i % pitch, o = output + i / pitch + column * g.step;
        const bool there = exists && column < slices.count && o < outputs && o / per_group == group;
        memory.lines[k * runs * pitch + i] =
            there ? g.grad_y[pixel.n * c.y_step[0] + o * c.y_step[1] + pixel.h * c.y_step[2] + pixel.w * c.y_step[3]]
                  : T(0);
      }
      barrier();
      if (share.tile < share.tiles)
        for (int j = 0; j < kChunk; ++j)
#pragma unroll
          for (int v = 0; v < kVectors<T>; ++v) {
            const T x = memory.scratch[(share.tile * kChunk + j) * kPlaces + v * kWarp + lane()];
            T weights[kOutputs<T>];
            load_row<kOutputs<T>, T>(weights, memory.lines + ((j * runs + run[v]) * pitch + share.group * kOutputs<T>));
#pragma unroll
            for (int r = 0; r < kOutputs<T>; ++r) multiply_add(sums[r][v], weights[r], x);
          }
      barrier();
    }
}

template <class T> __global__ void __launch_bounds__(kMostThreads, 2) gradients_of_codes(const CsgGradients<T> g) {
  const Memory<T> memory;
  const Share<T> share(g.columns);
  const int pitch = share.groups * kOutputs<T>, code_size = int(g.c.source.code_size);
  const Item item(g);
  const Slices slices(g, item.tile);
  T sums[kOutputs<T>][kVectors<T>] = {};
  for (int tile = item.part; tile < g.row_tiles; tile += g.parts) {
    const int r0 = tile * g.rows, left = g.c.shape.positions - r0, rows = left < g.rows ? left : g.rows;
    {
      T gradients[kOutputs<T>][kVectors<T>];
      filter_gradient<T>(gradients, g, share, slices, r0, item.pixel_part, memory);
      each_sum<T>(gradients, share, [&](int m, int j, T value) { memory.tile[m * pitch + j] = value; });
    }
    barrier();
    add_products<T>(
        sums, share, rows, pitch, memory.scratch,
        [&](int m, int k0, auto put) {
          for (int k = 0; k < kChunk; ++k)
            put(k, k0 + k < rows && item.base + m < code_size ? generator_at(g.c.source, r0 + k0 + k, item.base + m)
                                                              : T(0));
        },
        [&](int k0) { return memory.tile + k0 * pitch; });
  }
  T* const to = item.sums(g, int64_t(g.slices) * code_size);
  each_sum<T>(sums, share, [&](int m, int j, T value) {
    if (item.base + m < code_size && j < slices.count)
      to[int64_t(slices.first + j * g.period) * code_size + item.base + m] = value;
  });
}

template <class T> __global__ void __launch_bounds__(kMostThreads, 2) gradients_of_generator(const CsgGradients<T> g) {
  constexpr int kRows = kTileRows<T>, kPlaces = kPitch<T, kVectors<T>>;
  const Memory<T> memory;
  const Share<T> share(g.columns);
  const int pitch = share.groups * kOutputs<T>, code_size = int(g.c.source.code_size);
  const Item item(g);
  const int r0 = item.tile * g.rows;
  T sums[kEach][kOutputs<T>][kVectors<T>] = {};
  for (int tile = item.part; tile < g.slice_tiles; tile += g.parts) {
    const Slices slices(g, tile);
    {
      T gradients[kOutputs<T>][kVectors<T>];
      filter_gradient<T>(gradients, g, share, slices, r0, item.pixel_part, memory);
      each_sum<T>(gradients, share,
                  [&](int m, int j, T value) { memory.tile[(m / kRows * pitch + j) * kPlaces + m % kRows] = value; });
    }
    for (int i = thread(); i < pitch * g.codes; i += threads()) {
      const int j = i / g.codes, code = item.base + i % g.codes;
      memory.codes[i] = j < slices.count && code < code_size
                            ? g.c.source.codes[int64_t(slices.first + j * g.period) * code_size + code]
                            : T(0);
    }
    barrier();
    if (share.tile < share.tiles)
#pragma unroll
      for (int e = 0; e < kEach; ++e)
        accumulate<T, kVectors<T>>(sums[e], memory.tile + share.tile * pitch * kPlaces, pitch,
                                   memory.codes + (share.group * kEach + e) * kOutputs<T>, g.codes);
    barrier();
  }
  T* const to = item.sums(g, int64_t(g.c.shape.positions) * code_size);
#pragma unroll
  for (int e = 0; e < kEach; ++e)
    each_sum<T>(sums[e], share, [&](int m, int j, T value) {
      const int code = item.base + j + (share.group * (kEach - 1) + e) * kOutputs<T>;  // j counts groups of one
      if (m < g.rows && r0 + m < g.c.shape.positions && code < code_size)
        to[int64_t(r0 + m) * code_size + code] = value;
    });
}

int common_divisor(int a, int b) { return b ? common_divisor(b, a % b) : a; }

}  // namespace

template <class T> void plan(CsgGradients<T>& g, bool of_generator) {
  const CsgShape& shape = g.c.shape;
  int grid[4], whole[4];
  for (int d = 0; d < 4; ++d) {
    grid[d] = int(ceil_div(g.c.size[d], shape.slice[d]));
    whole[d] = grid[d] * shape.slice[d];
  }
  g.slices = grid[0] * grid[1] * grid[2] * grid[3];
  // positions of one output that follow one another
  const int run = shape.flat ? whole[1] * whole[2] * whole[3] : shape.slice[1] * shape.slice[2] * shape.slice[3];
  g.period = shape.flat ? run / common_divisor(run, shape.positions) : grid[1] * grid[2] * grid[3];
  g.step = shape.flat ? int(int64_t(g.period) * shape.positions / run) : shape.slice[0];
  const int lines = int(ceil_div(g.slices, g.period)), most = kMostGroups * kOutputs<T>;
  g.columns = lines < most ? lines : most;
  const int groups = int(ceil_div(g.columns, kOutputs<T>)), tiles = kMostTiles / groups;
  const int64_t few = int64_t(kMostRuns - 1) * run;
  g.rows = int(few < tiles * kTileRows<T> ? few : tiles * kTileRows<T>);
  g.row_tiles = int(ceil_div(shape.positions, g.rows));
  g.slice_tiles = int((g.period < g.slices ? g.period : g.slices) * ceil_div(lines, g.columns));
  g.codes = of_generator ? groups * kEach * kOutputs<T> : tiles * kTileRows<T>;
  g.code_tiles = int(ceil_div(g.c.source.code_size, g.codes));
  const int64_t owned = (of_generator ? g.row_tiles : g.slice_tiles) * int64_t(g.code_tiles);
  const int64_t wanted = ceil_div(kGradientItems, owned < 1 ? 1 : owned);
  const int64_t in_turn = of_generator ? g.slice_tiles : g.row_tiles;
  g.parts = int(wanted < in_turn ? wanted : in_turn);
  const int64_t pixel_parts = ceil_div(wanted, g.parts), worth = ceil_div(g.c.rows, kFewest);
  g.pixel_parts = int(pixel_parts < worth ? pixel_parts : worth < 1 ? 1 : worth);
  g.pixels = int(ceil_div(g.c.rows, g.pixel_parts));
}

template <class T> void run(const CsgGradients<T>& g, bool of_generator, void* stream) {
  const int64_t owned = of_generator ? g.row_tiles : g.slice_tiles;
  launch(stream, Grid{owned * g.code_tiles * g.parts * g.pixel_parts, kMostThreads, Memory<T>::bytes()},
         of_generator ? &gradients_of_generator<T> : &gradients_of_codes<T>, g);
}

#define SPECTRAL_FOR(T)                          \
  template void plan<T>(CsgGradients<T>&, bool); \
  template void run<T>(const CsgGradients<T>&, bool, void*)
SPECTRAL_FOR(float);
SPECTRAL_FOR(double);
#undef SPECTRAL_FOR

}  // namespace spectral::cuda
