// Slices to and from the filters they make up: the values of a slice that lie side by side in a filter are a run.
#pragma once
#include "csg.h"

namespace spectral::SPECTRAL_LEVEL {

// columns: K channels (channels_last); windows: K h w values, where the filter's window is a slice's; rows: w values.
struct Run {
  int32_t start, length;  // within the positions asked for
  int32_t f, k, y, x;     // of its first value; windows: x counts the K h w values
};

// The runs of positions [first, first + count); returns how many.
template <class T>
int64_t find_runs(const Csg<T>& g, typename CsgLayer<T>::Runs kind, int64_t first, int64_t count, Run* runs) {
  using Runs = typename CsgLayer<T>::Runs;
  const int64_t K = g.slice_shape[1], h = g.slice_shape[2], w = g.slice_shape[3];
  const int64_t longest = kind == Runs::columns ? K : kind == Runs::windows ? K * h * w : w;
  int64_t found = 0;
  for (int64_t p = first; p < first + count; ++found) {
    const int64_t outer = p / longest, inner = p % longest, length = min(longest - inner, first + count - p);
    Run& run = runs[found] = {int32_t(p - first), int32_t(length), 0, 0, 0, int32_t(inner)};
    if (kind == Runs::columns)
      run = {run.start, run.length, int32_t(outer / (h * w)), run.x, int32_t(outer / w % h), int32_t(outer % w)};
    else if (kind == Runs::windows)
      run.f = outer;
    else
      run = {run.start, run.length, int32_t(outer / (h * K)), int32_t(outer / h % K), int32_t(outer % h), run.x};
    p += length;
  }
  return found;
}

template <class T> SPECTRAL_INLINE void copy_run(const T* from, T* to, int64_t count) {
  constexpr int n = kLanes<T>;
  for (int64_t i = 0; i < count; i += n) store_part(to + i, load_part(from + i, count - i), count - i);
}

template <class T> SPECTRAL_INLINE void clear_run(T* to, int64_t count) {
  constexpr int n = kLanes<T>;
  for (int64_t i = 0; i < count; i += n) store_part(to + i, Vec<T>{}, count - i);
}

// gather: filter -> values, zero where the slice sticks out; else values -> filter.
template <bool gather, class T>
SPECTRAL_INLINE void move_runs(const CsgSlice<T>& slice, int64_t window, const Run* runs, int64_t count, T* values) {
  using Runs = typename CsgLayer<T>::Runs;
  const CsgLayer<T>& layer = *slice.layer;
  const int64_t* in = slice.inside;
  for (const Run* run = runs; run < runs + count; ++run) {
    const bool there = run->f < in[0] && run->k < in[1] && run->y < in[2] && run->x < (window ? window * in[1] : in[3]);
    const int64_t left = layer.runs == Runs::columns ? in[1] - run->k : (window ? window * in[1] : in[3]) - run->x;
    const int64_t length = there ? min(run->length, left) : 0;
    T* at = slice.at + run->f * layer.stride[0] + run->k * layer.stride[1] + run->y * layer.stride[2] +
            run->x * layer.stride[3];
    T* own = values + run->start;
    if constexpr (gather) {
      copy_run(at, own, length);
      if (length < run->length) clear_run(own + length, run->length - length);
    } else {
      copy_run(own, at, length);
    }
  }
}

// The same of a flat layout that is cropped or channels_last: value by value.
template <bool gather, class T>
SPECTRAL_INLINE void move_singles(const CsgSlice<T>& slice, const Csg<T>& g, int64_t first, int64_t count, T* values) {
  const CsgLayer<T>& layer = *slice.layer;
  int64_t at[4], rest = slice.index * g.positions + first, whole[4];
  for (int d = 3; d >= 0; --d) {
    whole[d] = layer.grid[d] * g.slice_shape[d];
    at[d] = rest % whole[d];
    rest /= whole[d];
  }
  for (int64_t i = 0; i < count; ++i) {
    bool inside = true;
    int64_t offset = 0;
    for (int d = 0; d < 4; ++d) {
      inside = inside && at[d] < layer.size[d];
      offset += at[d] * layer.stride[d];
    }
    if constexpr (gather)
      values[i] = inside ? layer.filter[offset] : T(0);
    else if (inside)
      layer.filter[offset] = values[i];
    for (int d = 3; d >= 0 && ++at[d] == whole[d]; --d) at[d] = 0;
  }
}

// The runs of one range of positions, of every kind that layers in blocks may have.
template <class T> struct RunsOf {
  using Runs = typename CsgLayer<T>::Runs;
  const Csg<T>& g;
  int64_t first, count;
  Run* of[3];  // columns, windows, rows: space for `count` each
  int64_t found[3];

  RunsOf(const Csg<T>& g, Run* space, int64_t longest)
      : g(g), of{space, space + longest, space + 2 * longest}, found{} {}

  static int64_t space(int64_t longest) { return 3 * longest * int64_t(sizeof(Run)); }

  void find(int64_t at, int64_t length) {
    first = at;
    count = length;
    if (g.reordered) {
      found[0] = find_runs(g, Runs::columns, first, count, of[0]);
    } else {
      found[1] = find_runs(g, Runs::windows, first, count, of[1]);
      found[2] = find_runs(g, Runs::rows, first, count, of[2]);
    }
  }

  template <bool gather> SPECTRAL_INLINE void move(const CsgSlice<T>& slice, T* values) const {
    const CsgLayer<T>& layer = *slice.layer;
    if (!layer.filter) return clear_run(values, count);
    const int64_t* size = g.slice_shape;
    switch (layer.runs) {
      case Runs::columns: return move_runs<gather>(slice, 0, of[0], found[0], values);
      case Runs::windows: return move_runs<gather>(slice, size[2] * size[3], of[1], found[1], values);
      case Runs::rows: return move_runs<gather>(slice, 0, of[2], found[2], values);
      case Runs::single: return move_singles<gather>(slice, g, first, count, values);
      case Runs::whole: break;
    }
    T* at = layer.filter + slice.index * g.positions + first;
    if constexpr (gather)
      copy_run(at, values, count);
    else
      copy_run(values, at, count);
  }
};

}  // namespace spectral::SPECTRAL_LEVEL
