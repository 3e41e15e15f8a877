// Convolutions with generated filters, for few pixels. A block generates the part of a filter between some channels of
// the image and some of the result in its shared memory, once, and convolves all pixels with it: every value of the
// filter is generated exactly once, and none reaches device memory. What the parts add to a pixel are sums of the
// blocks.
#include "csg.cuh"
#include "tile_product.cuh"

namespace spectral::cuda {

namespace {

constexpr int kChunk = 8;            // of a sum's depth, at a time
constexpr int kSlices = 8;           // generated side by side: each value of the generator is read once for all of them
constexpr int kMostTiles = 8;        // of rows: a warp each, where 8 slices are one group of columns
constexpr int64_t kPart = 96 << 10;  // bytes of a block: every device has them, so that sums have the same bits on all

template <class T> constexpr int64_t kScratch = kMostTiles * kChunk * kPitch<T, kVectors<T>>;

// A warp's place among the tiles of rows and the groups of columns that a block works on.
template <class T> struct Share {
  int groups, tiles, group, tile;
  SPECTRAL_DEVICE explicit Share(int columns) {
    groups = int(ceil_div(columns, kOutputs<T>));
    tiles = warps() / groups < kMostTiles ? warps() / groups : kMostTiles;
    group = warp() % groups;
    tile = warp() / groups;
  }
  SPECTRAL_DEVICE int rows() const { return tiles * kTileRows<T>; }
};

// sums += the depth's products of rows, which load(m, k0, put) gives with put(k, value), with the columns of a chunk,
// which lie from weights(k0) on. Ends with a barrier.
template <class T, class Load, class Weights>
SPECTRAL_DEVICE void add_products(T (&sums)[kOutputs<T>][kVectors<T>], const Share<T>& share, int depth, int pitch,
                                  Shared<T> scratch, Load load, Weights weights) {
  constexpr int kRows = kTileRows<T>, kPlaces = kPitch<T, kVectors<T>>;
  for (int k0 = 0; k0 < depth; k0 += kChunk) {
    for (int m = thread(); m < share.rows(); m += threads())
      load(m, k0, [&](int k, T value) { scratch[(m / kRows * kChunk + k) * kPlaces + m % kRows] = value; });
    const Shared<T> columns = weights(k0);
    barrier();
    if (share.tile < share.tiles)
      accumulate<T, kVectors<T>>(sums, scratch + share.tile * kChunk * kPlaces,
                                 depth - k0 < kChunk ? depth - k0 : kChunk, columns + share.group * kOutputs<T>, pitch);
    barrier();
  }
}

// f(row of the block, column, sum) for what this warp has summed up.
template <class T, class F>
SPECTRAL_DEVICE void each_sum(const T (&sums)[kOutputs<T>][kVectors<T>], const Share<T>& share, F f) {
  if (share.tile >= share.tiles) return;
#pragma unroll
  for (int v = 0; v < kVectors<T>; ++v)
#pragma unroll
    for (int r = 0; r < kOutputs<T>; ++r)
      f(share.tile * kTileRows<T> + v * kWarp + lane(), share.group * kOutputs<T> + r, sums[r][v]);
}

// A range of each of a filter's first two dimensions, and the slices that it takes.
struct Part {
  int o, outputs, i, inputs;

  SPECTRAL_DEVICE int first_of(const CsgShape& shape, const int (&size)[4], int o_at, int i_at) const {
    const int windows = grid(shape, size, 2) * grid(shape, size, 3);
    if (!shape.flat) return (o_at / shape.slice[0] * grid(shape, size, 1) + i_at / shape.slice[1]) * windows;
    const int window = windows * shape.slice[2] * shape.slice[3];
    return (o_at * grid(shape, size, 1) * shape.slice[1] + i_at) * window / shape.positions;
  }
  static SPECTRAL_DEVICE int grid(const CsgShape& shape, const int (&size)[4], int d) {
    return int(ceil_div(size[d], shape.slice[d]));
  }
};

// w[feature][column] = the part of the filter; forward columns are outputs, backward inputs.
template <class T, bool kBack> SPECTRAL_DEVICE void generate(const CsgConvolution<T>& c, const Part& part, Shared<T> w,
                                                             Shared<T> scratch, Shared<T> codes) {
  const CsgShape& shape = c.shape;
  const int code_size = int(c.source.code_size), pitch = c.pitch;
  const int windows = Part::grid(shape, c.size, 2) * Part::grid(shape, c.size, 3);
  const int first = part.first_of(shape, c.size, part.o, part.i);
  // slices in `lines` of `line` that follow one another
  int line, lines = 1, step = 0;
  if (shape.flat) {
    const int window = windows * shape.slice[2] * shape.slice[3], row = Part::grid(shape, c.size, 1) * shape.slice[1];
    const int last = ((part.o + part.outputs - 1) * row + part.i + part.inputs) * window - 1;
    line = last / shape.positions - first + 1;
  } else {
    line = ((part.i + part.inputs - 1) / shape.slice[1] - part.i / shape.slice[1] + 1) * windows;
    lines = (part.o + part.outputs - 1) / shape.slice[0] - part.o / shape.slice[0] + 1;
    step = Part::grid(shape, c.size, 1) * windows;
  }
  const int slices = line * lines;
  const auto slice = [&](int j) { return first + j / line * step + j % line; };
  const Share<T> share(kSlices);
  for (int j0 = 0; j0 < slices; j0 += kSlices)
    for (int base = 0; base < shape.positions; base += share.rows()) {
      T sums[kOutputs<T>][kVectors<T>] = {};
      add_products<T>(
          sums, share, code_size, kSlices, scratch,
          [&](int m, int k0, auto put) {
            for (int k = 0; k < kChunk; ++k)
              put(k,
                  base + m < shape.positions && k0 + k < code_size ? generator_at(c.source, base + m, k0 + k) : T(0));
          },
          [&](int k0) {
            for (int at = thread(); at < kChunk * kSlices; at += threads()) {
              const int k = at % kChunk, j = j0 + at / kChunk;
              codes[k * kSlices + at / kChunk] =
                  j < slices && k0 + k < code_size ? c.source.codes[int64_t(slice(j)) * code_size + k0 + k] : T(0);
            }
            return codes;
          });
      each_sum<T>(sums, share, [&](int m, int j, T value) {
        int at[4];
        if (base + m >= shape.positions || j0 + j >= slices || !coordinates(shape, c.size, slice(j0 + j), base + m, at))
          return;
        const int o = at[0] - part.o, i = at[1] - part.i;
        if (o < 0 || o >= part.outputs || i < 0 || i >= part.inputs) return;
        w[(((kBack ? o : i) * c.size[2] + at[2]) * c.size[3] + at[3]) * pitch + (kBack ? i : o)] = value;
      });
    }
}

// A row (n, h, w) of the result (backward: of the image), and where it finds its pixel for a place of the window.
template <class T, bool kBack> struct Pixel {
  int n, h, w;
  SPECTRAL_DEVICE Pixel(const CsgConvolution<T>& c, int row) {
    const int (&size)[2] = kBack ? c.image : c.result;
    w = row % size[1];
    h = row / size[1] % size[0];
    n = row / size[1] / size[0];
  }
  SPECTRAL_DEVICE bool find(const CsgConvolution<T>& c, int y, int x, int& from_h, int& from_w) const {
    return along(c, 0, h, y, from_h) && along(c, 1, w, x, from_w);
  }

 private:
  static SPECTRAL_DEVICE bool along(const CsgConvolution<T>& c, int d, int at, int k, int& from) {
    if constexpr (kBack) {
      const int shifted = at + c.padding[d] - k * c.dilation[d];
      from = shifted / c.stride[d];
      return shifted >= 0 && shifted % c.stride[d] == 0 && from < c.result[d];
    }
    from = at * c.stride[d] - c.padding[d] + k * c.dilation[d];
    return from >= 0 && from < c.image[d];
  }
};

template <class T, bool kBack> __global__ void __launch_bounds__(kMostThreads, 2) generated(const CsgConvolution<T> c) {
  SharedMemory memory;
  const Shared<T> w = memory.take<T>(int64_t(c.reduced) * c.size[2] * c.size[3] * c.pitch);
  const Shared<T> scratch = memory.take<T>(kScratch<T>), codes = memory.take<T>(kChunk * kSlices);
  const int per_group = c.size[0] / c.groups, window = c.size[2] * c.size[3];
  const int reduced = int(block() % unsigned(c.reduced_parts)), rest = int(block() / unsigned(c.reduced_parts));
  const int group = rest / c.column_parts, begin = reduced * c.reduced, column = rest % c.column_parts * c.columns;
  const int most = kBack ? per_group : c.size[1], widest = kBack ? c.size[1] : per_group;
  const int count = most - begin < c.reduced ? most - begin : c.reduced;
  const int columns = widest - column < c.columns ? widest - column : c.columns;
  const Part part = kBack ? Part{group * per_group + begin, count, column, columns}
                          : Part{group * per_group + column, columns, begin, count};
  // the image's first channel of the group, and the result's
  const int from_channel = kBack ? part.o : group * c.size[1] + part.i;
  const int to_channel = kBack ? group * c.size[1] + part.i : part.o;
  const int64_t* from_step = kBack ? c.y_step : c.x_step;
  const int64_t* to_step = kBack ? c.x_step : c.y_step;

  for (int i = thread(); i < count * window * c.pitch; i += threads()) w[i] = T(0);
  barrier();
  generate<T, kBack>(c, part, w, scratch, codes);
  barrier();
  const Share<T> share(columns);
  T* const sums_here = c.sums + reduced * c.values;
  for (int base = 0; base < c.rows; base += share.rows()) {
    T sums[kOutputs<T>][kVectors<T>] = {};
    add_products<T>(
        sums, share, count * window, c.pitch, scratch,
        [&](int m, int k0, auto put) {
          const bool exists = base + m < c.rows;
          const Pixel<T, kBack> pixel(c, exists ? base + m : 0);
          int x = k0 % c.size[3], y = k0 / c.size[3] % c.size[2], channel = k0 / window;
          for (int k = 0; k < kChunk; ++k) {
            int h = 0, v = 0;
            const bool there = exists && channel < count && pixel.find(c, y, x, h, v);
            put(k, there ? c.from[pixel.n * from_step[0] + (from_channel + channel) * from_step[1] + h * from_step[2] +
                                  v * from_step[3]]
                         : T(0));
            if (++x < c.size[3]) continue;
            x = 0;
            if (++y < c.size[2]) continue;
            y = 0;
            ++channel;
          }
        },
        [&](int k0) { return w + k0 * c.pitch; });
    each_sum<T>(sums, share, [&](int m, int j, T value) {
      if (base + m >= c.rows || j >= columns) return;
      const Pixel<T, kBack> pixel(c, base + m);
      const int channel = to_channel + j;
      sums_here[pixel.n * to_step[0] + channel * to_step[1] + pixel.h * to_step[2] + pixel.w * to_step[3]] =
          c.bias && reduced == 0 ? value + c.bias[channel] : value;
    });
  }
}

// The gradient of the filter of one group, (O / groups, I kh kw), its sums over pixels split.
template <class T> struct FilterGradient {
  static constexpr bool kRowsSideBySide = false, kColumnsSideBySide = false;
  CsgConvolution<T> c;
  const T *x, *grad_y;
  int64_t rows, columns, depth;
  int group;
  T* sums;  // (splits, O, I kh kw)

  SPECTRAL_DEVICE T a(int64_t o, int64_t row) const {
    const Pixel<T, false> pixel(c, int(row));
    return grad_y[pixel.n * c.y_step[0] + (group * rows + o) * c.y_step[1] + pixel.h * c.y_step[2] +
                  pixel.w * c.y_step[3]];
  }
  SPECTRAL_DEVICE T b(int64_t feature, int64_t row) const {
    const Pixel<T, false> pixel(c, int(row));
    const int f = int(feature), kw = c.size[3], kh = c.size[2];
    int h = 0, w = 0;
    if (!pixel.find(c, f / kw % kh, f % kw, h, w)) return T(0);
    return x[pixel.n * c.x_step[0] + (int64_t(group) * c.size[1] + f / kw / kh) * c.x_step[1] + h * c.x_step[2] +
             w * c.x_step[3]];
  }
  SPECTRAL_DEVICE void put(int64_t o, int64_t feature, T value, int64_t split) const {
    sums[(split * c.size[0] + group * rows + o) * columns + feature] = value;
  }
};

template <class T>
FilterGradient<T> filter_gradient(const CsgConvolution<T>& c, const T* x, const T* grad_y, int group, T* sums) {
  const int64_t columns = int64_t(c.size[1]) * c.size[2] * c.size[3];
  return {c, x, grad_y, c.size[0] / c.groups, columns, c.rows, group, sums};
}

}  // namespace

template <class T> void plan(CsgConvolution<T>& c, bool back) {
  const int per_group = c.size[0] / c.groups, window = c.size[2] * c.size[3];
  // sizes of slices along the columns and the channels summed over
  const int across = c.shape.slice[back ? 1 : 0], along = c.shape.slice[back ? 0 : 1];
  const int columns = back ? c.size[1] : per_group, reduced = back ? per_group : c.size[1];
  const int wanted = across < 16 ? 16 / across * across : across, most = kTileColumns<T>;
  c.columns = columns < wanted ? columns : wanted;
  c.columns = c.columns < most ? c.columns : most;
  c.pitch = int(round_up(c.columns, kOutputs<T>));
  const int64_t room = kPart / int64_t(sizeof(T)) - kScratch<T> - kChunk * kSlices;
  const int64_t fit = room / (int64_t(c.pitch) * window), whole = fit / along * along;
  const int64_t channels = whole ? whole : fit;
  if (channels == 0) throw std::runtime_error("csg_conv2d: a window too large for shared memory");
  c.reduced = int(channels < reduced ? channels : reduced);
  c.column_parts = int(ceil_div(columns, c.columns));
  c.reduced_parts = int(ceil_div(reduced, c.reduced));
}

template <class T> void run(const CsgConvolution<T>& c, bool back, void* stream) {
  const int64_t blocks = int64_t(c.column_parts) * c.reduced_parts * c.groups;
  const int64_t bytes = shared_bytes_for<T>(int64_t(c.reduced) * c.size[2] * c.size[3] * c.pitch) +
                        shared_bytes_for<T>(kScratch<T>) + shared_bytes_for<T>(kChunk * kSlices);
  launch(stream, Grid{blocks, kMostThreads, bytes}, back ? &generated<T, true> : &generated<T, false>, c);
}

template <class T> int64_t filter_splits(const CsgConvolution<T>& c) {
  const T* none = nullptr;
  return tile_grid<T>(filter_gradient<T>(c, none, none, 0, nullptr), kGradientItems / c.groups).splits;
}
template <class T>
void run_filter_gradient(const CsgConvolution<T>& c, const T* x, const T* grad_y, T* sums, void* stream) {
  for (int group = 0; group < c.groups; ++group) {
    const auto p = filter_gradient(c, x, grad_y, group, sums);
    run_tiles<T>(p, tile_grid<T>(p, kGradientItems / c.groups), stream);
  }
}

#define SPECTRAL_FOR(T)                                        \
  template void plan<T>(CsgConvolution<T>&, bool);             \
  template void run<T>(const CsgConvolution<T>&, bool, void*); \
  template int64_t filter_splits<T>(const CsgConvolution<T>&); \
  template void run_filter_gradient<T>(const CsgConvolution<T>&, const T*, const T*, T*, void*)
SPECTRAL_FOR(float);
SPECTRAL_FOR(double);
#undef SPECTRAL_FOR

}  // namespace spectral::cuda
