// Convolutions with generated filters, for few pixels. A block generates the part of a filter between some channels of
// the image and some of the result in its shared memory, once, and convolves all pixels with it: every value of the
// filter is generated exactly once, and none reaches device memory. What the parts add to a pixel are sums of the
// blocks.
#include "csg_conv2d.cuh"

namespace spectral::cuda {

namespace {

constexpr int kSlices = 8;           // generated side by side: each value of the generator is read once for all of them
constexpr int64_t kPart = 96 << 10;  // bytes of a block: every device has them, so that sums have the same bits on all

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

#define SPECTRAL_FOR(T)                            \
  template void plan<T>(CsgConvolution<T>&, bool); \
  template void run<T>(const CsgConvolution<T>&, bool, void*)
SPECTRAL_FOR(float);
SPECTRAL_FOR(double);
#undef SPECTRAL_FOR

}  // namespace spectral::cuda
