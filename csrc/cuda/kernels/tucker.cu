// Convolutions in Tucker form: a block goes through tiles of 32 pixels. The rank channels of all pixels under a tile's
// window stay in shared memory; the core's taps gather their pixels there; what comes out is shared memory's too.
#include "sample_sums.cuh"

namespace spectral::cuda {

namespace {

constexpr int kChannels = 32;  // that are in shared memory at a time

SPECTRAL_DEVICE int floor_div(int a, int b) { return a >= 0 ? a / b : -((b - 1 - a) / b); }

// Where a tile is along one axis.
struct Place {
  int first;    // the first pixel of the tile, among those of its residue
  int residue;  // 0 where tiles are of y
  int start;    // the first pixel of the halo
};

SPECTRAL_DEVICE Place place_of(const TuckerAxis& axis, bool back, int tile, int residue) {
  const int first = tile * axis.tile;
  if (!back) return {first, 0, first * axis.stride - axis.padding};
  const int reach = axis.dilation * (axis.window - 1);
  return {first, residue, first + floor_div(residue + axis.padding - reach, axis.stride)};
}

// How far into the halo a tap is from the tile's first pixel; negative where the residue does not have it.
SPECTRAL_DEVICE int offset_of(const TuckerAxis& axis, bool back, const Place& at, int tap) {
  if (!back) return tap * axis.dilation / axis.step;
  const int reached = at.residue + axis.padding - axis.dilation * tap, offset = floor_div(reached, axis.stride);
  return offset * axis.stride == reached ? offset - (at.start - at.first) : -1;
}

template <class T> __global__ void __launch_bounds__(kMostThreads, 2) tucker(const Tucker<T> t, const int staged) {
  SharedMemory memory;
  const int first_rank = t.ranks[0], rank = t.ranks[1], most = first_rank > rank ? first_rank : rank;
  const TuckerAxis &rows = t.axes[0], &columns = t.axes[1];
  const int halo = rows.halo * columns.halo, pitch = halo | 1, taps = rows.window * columns.window;
  const Shared<T> weights = memory.take<T>(staged);
  const Shared<T> tile = memory.take<T>((most > kChannels ? most : kChannels) * kStep<T>);
  const Shared<T> h = memory.take<T>(first_rank * pitch), z = memory.take<T>(rank * kStep<T>);
  const Shared<T> d = memory.take<T>(t.core_sums ? rank * kStep<T> : 0);
  const Shared<int64_t> places = memory.take<int64_t>(halo), targets = memory.take<int64_t>(kRows);
  const int group = int(block() % unsigned(t.groups));
  const int64_t part = block();
  const int step_down = t.back ? 1 : rows.stride / rows.step, step_along = t.back ? 1 : columns.stride / columns.step;

  // finish(o, n, sum) for outputs o of in [input][pixel], as many at a time as fit
  const auto multiply = [&](Shared<T> in, const Matrix<T>& w, const T* bias, int inputs, int outputs, auto finish) {
    const int fit = staged / (inputs + 1) / kOutputs<T> * kOutputs<T>;
    for (int o = 0; o < outputs; o += fit) {
      const int count = outputs - o < fit ? outputs - o : fit;
      stage<T>(w, bias, inputs, outputs, 0, o, count, weights);
      barrier();
      product<T, 1>(in, inputs, weights, count, [&](int i, int n, T sum) { finish(o + i, n, sum); });
      barrier();
    }
  };
  // some channels of an image at 32 of the places, 0 where there is no pixel
  const auto load = [&](const T* image, const TuckerImage& of, Shared<int64_t> at, int from, int last, int channel,
                        int count) {
    const bool along = of.channel == 1;
    for (int i = thread(); i < kRows * count; i += threads()) {
      const int n = along ? i / count : i % kRows, c = along ? i % count : i / kRows;
      const int64_t place = from + n < last ? int64_t(at[from + n]) : -1;
      tile[c * kStep<T> + n] =
          place < 0 ? T(0) : image[place + (int64_t(group) * of.channels + channel + c) * of.channel];
    }
  };
  const auto factor = [&](int which, int channels, int channel, bool adjoint) {
    const int r = t.ranks[which];
    const T* values = t.factors[which] + (int64_t(group) * channels + channel) * r;
    return Matrix<T>{values, 0, adjoint ? 1 : r, adjoint ? r : 1, false, false};
  };

  for (unsigned item = block() / unsigned(t.groups), begin = item; item < t.items; item += unsigned(t.blocks)) {
    unsigned left = item;
    const auto next = [&](int count) {
      const int value = int(left % unsigned(count));
      left /= unsigned(count);
      return value;
    };
    const int along = next(columns.tiles), down = next(rows.tiles);
    const int right = next(t.back ? columns.stride : 1), low = next(t.back ? rows.stride : 1);
    const Place row = place_of(rows, t.back, down, low), column = place_of(columns, t.back, along, right);
    for (int p = thread(); p < halo; p += threads()) {
      const int y = row.start + p / columns.halo * rows.step, x = column.start + p % columns.halo * columns.step;
      const bool there = y >= 0 && y < t.from.height && x >= 0 && x < t.from.width;
      places[p] = there ? left * t.from.image + (int64_t(y) * t.from.width + x) * t.from.pixel : -1;
    }
    for (int n = thread(); n < kRows; n += threads()) {
      int y = row.first + n / columns.tile, x = column.first + n % columns.tile;
      if (t.back) {
        y = y * rows.stride + row.residue;
        x = x * columns.stride + column.residue;
      }
      const bool there = n < rows.tile * columns.tile && y < t.to.height && x < t.to.width;
      targets[n] = there ? left * t.to.image + (int64_t(y) * t.to.width + x) * t.to.pixel : -1;
    }
    barrier();

    for (int p = 0; p < halo; p += kRows)
      for (int c = 0; c < t.from.channels; c += kChannels) {
        const int count = t.from.channels - c < kChannels ? t.from.channels - c : kChannels;
        load(t.source, t.from, places, p, halo, c, count);
        multiply(tile, factor(0, t.from.channels, c, true), nullptr, count, first_rank, [&](int r, int n, T sum) {
          if (p + n >= halo) return;
          const T before = c ? T(h[r * pitch + p + n]) : T(0);
          h[r * pitch + p + n] = places[p + n] < 0 ? T(0) : before + sum;
        });
      }
    barrier();

    // tile = what a tap meets at the tile's pixels; false where it is none of theirs
    const auto gather = [&](int tap) {
      const int i = offset_of(rows, t.back, row, tap / columns.window);
      const int j = offset_of(columns, t.back, column, tap % columns.window);
      if (i < 0 || j < 0) return false;
      for (int r = warp(); r < first_rank; r += warps()) {
        const int n = lane(), y = n / columns.tile * step_down + i, x = n % columns.tile * step_along + j;
        tile[r * kStep<T> + n] = targets[n] < 0 ? T(0) : T(h[r * pitch + y * columns.halo + x]);
      }
      return true;
    };
    const auto through = [&](const T* core) {
      for (int i = thread(); i < rank * kRows; i += threads()) z[i / kRows * kStep<T> + i % kRows] = T(0);
      for (int tap = 0; tap < taps; ++tap) {
        if (!gather(tap)) continue;
        const T* values = core + (int64_t(group) * taps + tap) * first_rank * rank;
        const Matrix<T> w{values, 0, t.back ? 1 : first_rank, t.back ? rank : 1, false, false};
        multiply(tile, w, nullptr, first_rank, rank,
                 [&](int a, int n, T sum) { z[a * kStep<T> + n] = T(z[a * kStep<T> + n]) + sum; });
      }
      barrier();
    };

    if (t.other) {
      through(t.other_core);
      for (int c = 0; c < t.to.channels; c += kChannels) {
        const int count = t.to.channels - c < kChannels ? t.to.channels - c : kChannels;
        load(t.other, t.to, targets, 0, kRows, c, count);
        barrier();
        add_weight_gradient<T>(tile, z, count, rank, item == begin, t.factor_sums + (part * t.to.channels + c) * rank);
        if (t.bias_sums) add_bias_gradient<T>(tile, count, item == begin, t.bias_sums + part * t.to.channels + c);
        if (t.core_sums)
          multiply(tile, factor(1, t.to.channels, c, true), nullptr, count, rank,
                   [&](int a, int n, T sum) { d[a * kStep<T> + n] = c ? T(d[a * kStep<T> + n]) + sum : sum; });
        else
          barrier();
      }
      for (int tap = 0; tap < taps && t.core_sums; ++tap) {
        gather(tap);
        barrier();
        add_weight_gradient<T>(d, tile, rank, first_rank, item == begin,
                               t.core_sums + (part * taps + tap) * rank * first_rank);
        barrier();
      }
    }
    if (t.result) {
      if (!t.other || t.other_core != t.core) through(t.core);
      for (int c = 0; c < t.to.channels; c += kChannels) {
        const int count = t.to.channels - c < kChannels ? t.to.channels - c : kChannels;
        const T* bias = t.bias ? t.bias + int64_t(group) * t.to.channels + c : nullptr;
        multiply(z, factor(1, t.to.channels, c, false), bias, rank, count,
                 [&](int o, int n, T sum) { tile[o * kStep<T> + n] = sum; });
        const bool across = t.to.channel == 1;
        for (int i = thread(); i < kRows * count; i += threads()) {
          const int n = across ? i / count : i % kRows, o = across ? i % count : i / kRows;
          const int64_t at = targets[n];
          if (at >= 0) t.result[at + (int64_t(group) * t.to.channels + c + o) * t.to.channel] = tile[o * kStep<T> + n];
        }
        barrier();
      }
    }
    barrier();
  }
}

}  // namespace

template <class T> void run(const Tucker<T>& t, void* stream) {
  const int most = t.ranks[0] > t.ranks[1] ? t.ranks[0] : t.ranks[1], tall = most > kChannels ? most : kChannels;
  const int64_t halo = t.axes[0].halo * t.axes[1].halo, staged = (tall + 1) * kChannels;
  const int64_t bytes = shared_bytes_for<T>(staged) + shared_bytes_for<T>(tall * kStep<T>) +
                        shared_bytes_for<T>(t.ranks[0] * (halo | 1)) +
                        (t.core_sums ? 2 : 1) * shared_bytes_for<T>(t.ranks[1] * kStep<T>) +
                        shared_bytes_for<int64_t>(halo) + shared_bytes_for<int64_t>(kRows);
  launch(stream, Grid{int64_t(t.blocks) * t.groups, kMostThreads, bytes}, &tucker<T>, t, int(staged));
}
template void run<float>(const Tucker<float>&, void*);
template void run<double>(const Tucker<double>&, void*);

}  // namespace spectral::cuda
