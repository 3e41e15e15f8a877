// What the forward pass keeps for the gradient: of a branch and a tile of samples the input's tile, then of each layer
// the tile of its result and, where the activation's derivative needs it, that of its argument. They lie as the kernels
// use them, so that both directions work in this memory and nothing is copied.
#pragma once
#include "elementary.h"

namespace spectral::SPECTRAL_LEVEL {

// Rows of kTile values that a layer adds.
template <class T> SPECTRAL_INLINE int64_t rows_kept(const Layer<T>& layer) {
  return layer.out * (needs_argument(layer.activation) ? 2 : 1);
}

// And those of all layers.
template <class T> int64_t state_rows(const Layer<T>* layers, int64_t depth) {
  int64_t rows = layers[0].in;
  for (int64_t j = 0; j < depth; ++j) rows += rows_kept(layers[j]);
  return rows;
}

// The tiles of one layer's result and argument (or null), the next ones in `room`.
template <class T> struct LayerTiles {
  T *result, *argument;
};
template <class T> SPECTRAL_INLINE LayerTiles<T> next_tiles(const Layer<T>& layer, T*& room) {
  T *result = room, *argument = needs_argument(layer.activation) ? room + layer.out * kTile<T> : nullptr;
  room += rows_kept(layer) * kTile<T>;
  return {result, argument};
}

// Where the states of the branches are, for one tile of samples.
template <class T> struct States {
  T* first;      // of branch 0, or null
  int64_t step;  // from branch to branch

  States(T* states, int64_t rows, int64_t tiles, int64_t tile)
      : first(states ? states + tile * rows * kTile<T> : nullptr), step(tiles * rows * kTile<T>) {}
  explicit operator bool() const { return first != nullptr; }
  T* of(int64_t branch) const { return first + branch * step; }
};

}  // namespace spectral::SPECTRAL_LEVEL
