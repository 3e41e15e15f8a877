// The filters of many layers by one product of codes and generator, and the two products of its gradient. Tiles cross
// the borders of layers; each value finds its place in its layer's filter by itself.
#include "csg.cuh"
#include "tile_product.cuh"

namespace spectral::cuda {

namespace {

template <class T> struct Base {
  Csg<T> csg;

  // The place of value r of slice s, or null.
  SPECTRAL_DEVICE T* place(int64_t s, int64_t r) const {
    int low = 0, high = csg.count - 1;  // the last filter whose first slice is at most s
    while (low < high) {
      const int middle = (low + high + 1) / 2;
      if (csg.filters[middle].first <= s)
        low = middle;
      else
        high = middle - 1;
    }
    const CsgFilter<T>& filter = csg.filters[low];
    if (!filter.values) return nullptr;
    const int64_t at = place_in_filter(csg.shape, filter.size, int(s - filter.first), int(r));
    return at < 0 ? nullptr : filter.values + at;
  }
  SPECTRAL_DEVICE T gradient(int64_t s, int64_t r) const {
    const T* at = place(s, r);
    return at ? *at : T(0);
  }
  SPECTRAL_DEVICE T code(int64_t s, int64_t c) const { return csg.source.codes[s * csg.source.code_size + c]; }
  SPECTRAL_DEVICE T generator(int64_t r, int64_t c) const { return generator_at(csg.source, r, c); }
};

template <class T> struct Filters : Base<T> {
  static constexpr bool kRowsSideBySide = false, kColumnsSideBySide = false;
  int64_t rows, columns, depth;
  SPECTRAL_DEVICE T a(int64_t r, int64_t c) const { return this->generator(r, c); }
  SPECTRAL_DEVICE T b(int64_t s, int64_t c) const { return this->code(s, c); }
  // lanes are positions: neighbours in a filter
  SPECTRAL_DEVICE void put(int64_t r, int64_t s, T value, int64_t) const {
    if (T* at = this->place(s, r)) *at = value;
  }
};

template <class T> struct CodeGradients : Base<T> {
  static constexpr bool kRowsSideBySide = false, kColumnsSideBySide = true;
  int64_t rows, columns, depth;
  T* sums;  // (splits, S, n_c)
  SPECTRAL_DEVICE T a(int64_t s, int64_t r) const { return this->gradient(s, r); }
  SPECTRAL_DEVICE T b(int64_t c, int64_t r) const { return this->generator(r, c); }
  SPECTRAL_DEVICE void put(int64_t s, int64_t c, T value, int64_t split) const {
    sums[(split * rows + s) * columns + c] = value;
  }
};

template <class T> struct GeneratorGradients : Base<T> {
  static constexpr bool kRowsSideBySide = true, kColumnsSideBySide = true;
  int64_t rows, columns, depth;
  T* sums;  // (splits, F K h w, n_c)
  SPECTRAL_DEVICE T a(int64_t r, int64_t s) const { return this->gradient(s, r); }
  SPECTRAL_DEVICE T b(int64_t c, int64_t s) const { return this->code(s, c); }
  SPECTRAL_DEVICE void put(int64_t r, int64_t c, T value, int64_t split) const {
    sums[(split * rows + r) * columns + c] = value;
  }
};

template <class T> CodeGradients<T> code_gradients(const Csg<T>& csg, T* sums) {
  return {{csg}, csg.slices, csg.source.code_size, csg.shape.positions, sums};
}
template <class T> GeneratorGradients<T> generator_gradients(const Csg<T>& csg, T* sums) {
  return {{csg}, csg.shape.positions, csg.source.code_size, csg.slices, sums};
}

}  // namespace

template <class T> void run(const Csg<T>& csg, void* stream) {
  const Filters<T> p{{csg}, csg.shape.positions, csg.slices, csg.source.code_size};
  run_tiles<T>(p, tile_grid<T>(p, 1), stream);
}

template <class T> int64_t code_splits(const Csg<T>& csg) {
  return tile_grid<T>(code_gradients<T>(csg, nullptr), kGradientItems).splits;
}
template <class T> void run_code_gradients(const Csg<T>& csg, T* sums, void* stream) {
  const auto p = code_gradients(csg, sums);
  run_tiles<T>(p, tile_grid<T>(p, kGradientItems), stream);
}

template <class T> int64_t generator_splits(const Csg<T>& csg) {
  return tile_grid<T>(generator_gradients<T>(csg, nullptr), kGradientItems).splits;
}
template <class T> void run_generator_gradients(const Csg<T>& csg, T* sums, void* stream) {
  const auto p = generator_gradients(csg, sums);
  run_tiles<T>(p, tile_grid<T>(p, kGradientItems), stream);
}

#define SPECTRAL_FOR(T)                                          \
  template void run<T>(const Csg<T>&, void*);                    \
  template int64_t code_splits<T>(const Csg<T>&);                \
  template int64_t generator_splits<T>(const Csg<T>&);           \
  template void run_code_gradients<T>(const Csg<T>&, T*, void*); \
  template void run_generator_gradients<T>(const Csg<T>&, T*, void*)
SPECTRAL_FOR(float);
SPECTRAL_FOR(double);
#undef SPECTRAL_FOR

}  // namespace spectral::cuda
