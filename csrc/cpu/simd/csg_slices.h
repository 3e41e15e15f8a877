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
  const int32_t K = g.slice_shape[1], h = g.slice_shape[2], w = g.slice_shape[3];
  const int32_t longest = kind == Runs::columns ? K : kind == Runs::windows ? K * h * w : w;
  const int32_t outer = first / longest;
  Run at{0, 0, outer, 0, 0, 0};
  (kind == Runs::columns ? at.k : at.x) = first % longest;
  if (kind == Runs::columns) at.f = outer / (h * w), at.y = outer / w % h, at.x = outer % w;
  if (kind == Runs::rows) at.f = outer / (h * K), at.k = outer / h % K, at.y = outer % h;
  int64_t found = 0;
  while (at.start < count) {
    at.length = min(longest - (kind == Runs::columns ? at.k : at.x), count - at.start);
    runs[found++] = at;
    at.start += at.length;
    if (kind == Runs::columns) {
      at.k = 0;
      if (++at.x == w) at.x = 0, ++at.y;
      if (at.y == h) at.y = 0, ++at.f;
    } else {
      at.x = 0;
      if (kind == Runs::windows || ++at.y == h) at.y = 0, ++at.k;
      if (kind == Runs::windows || at.k == K) at.k = 0, ++at.f;
    }
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

// gather: filter -> values, zero where the slice sticks out; else values -> filter. offsets: of the runs in the slice.
template <bool gather, class T> SPECTRAL_INLINE void move_runs(const CsgSlice<T>& slice, int64_t window,
                                                               const Run* runs, const int64_t* offsets, int64_t count,
                                                               T* values) {
  const int64_t* in = slice.inside;
  for (int64_t r = 0; r < count; ++r) {
    const Run& run = runs[r];
    int64_t length = run.length;
    if (!slice.whole) {
      const int64_t width = window ? window * in[1] : in[3];
      const bool there = run.f < in[0] && run.k < in[1] && run.y < in[2] && run.x < width;
      const int64_t left = slice.layer->runs == CsgLayer<T>::Runs::columns ? in[1] - run.k : width - run.x;
      length = there ? min(length, left) : 0;
    }
    T *at = slice.at + offsets[r], *own = values + run.start;
    if constexpr (gather) {
      copy_run(at, own, length);
      if (length < run.length) clear_run(own + length, run.length - length);
    } else {
      copy_run(own, at, length);
    }
  }
}

// The same where each run is one vector of a slice that is not cropped.
template <bool gather, class T>
SPECTRAL_INLINE void move_vectors(T* slice, const int64_t* offsets, int64_t count, T* values) {
  for (int64_t r = 0; r < count; ++r) {
    T *at = slice + offsets[r], *own = values + r * kLanes<T>;
    if constexpr (gather)
      store(own, load_loose(at));
    else
      store_loose(at, load(own));
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
  int64_t* offsets;  // of the runs in a slice of the layer at hand
  const CsgLayer<T>* at_hand;
  Run* of[3];  // columns, windows, rows: space for as many as positions
  int64_t found[3];
  bool vectors[3];  // whether each is one vector

  RunsOf(const Csg<T>& g, void* space, int64_t longest)
      : g(g), offsets(static_cast<int64_t*>(space)), at_hand(nullptr), found{}, vectors{} {
    for (int kind = 0; kind < 3; ++kind) of[kind] = reinterpret_cast<Run*>(offsets + longest) + kind * longest;
  }

  static int64_t space(int64_t longest) { return longest * int64_t(sizeof(int64_t) + 3 * sizeof(Run)); }

  void find(int64_t at, int64_t length) {
    first = at;
    count = length;
    at_hand = nullptr;
    if (g.reordered) return find(Runs::columns);
    find(Runs::windows);
    find(Runs::rows);
  }

  // Values to or from a slice in its filter.
  template <bool gather> SPECTRAL_INLINE void move(const CsgSlice<T>& slice, T* values) {
    const CsgLayer<T>& layer = *slice.layer;
    if (!layer.filter) return clear_run(values, count);
    const int64_t kind = place(layer);
    if (kind >= 0) {
      if (slice.whole && vectors[kind]) return move_vectors<gather>(slice.at, offsets, found[kind], values);
      const int64_t window = layer.runs == Runs::windows ? g.slice_shape[2] * g.slice_shape[3] : 0;
      return move_runs<gather>(slice, window, of[kind], offsets, found[kind], values);
    }
    if (layer.runs == Runs::single) return move_singles<gather>(slice, g, first, count, values);
    T* at = layer.filter + slice.index * g.positions + first;
    if constexpr (gather)
      copy_run(at, values, count);
    else
      copy_run(values, at, count);
  }

 private:
  void find(Runs kind) {
    const int k = static_cast<int>(kind);
    found[k] = find_runs(g, kind, first, count, of[k]);
    vectors[k] = found[k] * kLanes<T> == count;
    for (int64_t r = 0; r < found[k]; ++r) vectors[k] = vectors[k] && of[k][r].length == kLanes<T>;
  }

  // Which of the kinds the layer's runs are, their offsets in it being there now; -1: it has none.
  SPECTRAL_INLINE int64_t place(const CsgLayer<T>& layer) {
    if (layer.runs > Runs::rows) return -1;
    const int64_t kind = static_cast<int64_t>(layer.runs);
    if (at_hand != &layer) {
      at_hand = &layer;
      for (int64_t r = 0; r < found[kind]; ++r) {
        const Run& run = of[kind][r];
        offsets[r] =
            run.f * layer.stride[0] + run.k * layer.stride[1] + run.y * layer.stride[2] + run.x * layer.stride[3];
      }
    }
    return kind;
  }
};

}  // namespace spectral::SPECTRAL_LEVEL
