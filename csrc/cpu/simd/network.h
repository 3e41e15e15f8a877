// One layer of one branch on a tile, and the declarations of this level's kernels.
#pragma once
#include "elementary.h"
#include "tile.h"

namespace spectral::SPECTRAL_LEVEL {

// next = act(w h + b) for one branch; `argument`, where not null, receives w h + b before the activation.
template <class T, int V>
SPECTRAL_INLINE void forward_layer(const Layer<T>& layer, int64_t branch, const T* h, T* next, T* argument) {
  const T* w = layer.weight + branch * layer.in * layer.out;
  const T* b = layer.bias ? layer.bias + branch * layer.out : nullptr;
  const auto run = [&]<Start start, Finish finish>() {
    product<T, V, Factor::columns, start, finish>(h, kTile<T>, layer.in, w, layer.in, b, argument ? argument : next,
                                                  kTile<T>, layer.out);
  };
  const bool relu = layer.activation == Activation::relu && !argument;
  if (b) {
    relu ? run.template operator()<Start::bias, Finish::relu>() : run.template operator()<Start::bias, Finish::store>();
  } else {
    relu ? run.template operator()<Start::zero, Finish::relu>() : run.template operator()<Start::zero, Finish::store>();
  }
  if (!relu && (argument || layer.activation != Activation::none))
    activate(layer.activation, argument ? argument : next, next, layer.out);
}

template <class T> void network(const Network<T>&, int64_t begin, int64_t end);
template <class T> void complex_network(const ComplexNetwork<T>&, int64_t begin, int64_t end);
template <class T> void complex_layer(const ComplexLayer<T>&, int64_t begin, int64_t end);
template <class T> void gradients(const Gradients<T>&, int64_t begin, int64_t end);
template <class T> void tube_gradients(const TubeGradients<T>&, int64_t begin, int64_t end);
template <class T> int64_t tube_items(const Tubes<T>&);
template <class T> void tubes(const Tubes<T>&, int64_t begin, int64_t end);
template <class T> int64_t plane_items(const Planes<T>&);
template <class T> void planes(const Planes<T>&, int64_t begin, int64_t end);
template <class T> int64_t slice_items(const Slices<T>&);
template <class T> void slices(const Slices<T>&, int64_t begin, int64_t end);
template <class T> int64_t long_items(const LongTubes<T>&);
template <class T> void long_tubes(const LongTubes<T>&, int64_t begin, int64_t end);
template <class T> void ensemble(const Ensemble<T>&, int64_t begin, int64_t end);
template <class T> void ensemble_gradients(const Ensemble<T>&, int64_t begin, int64_t end);
template <class T> int64_t hadamard_items(const Butterflies<T>&);
template <class T> void hadamard(const Butterflies<T>&, int64_t begin, int64_t end);
template <class T> void recurrent(const Recurrent<T>&, int64_t begin, int64_t end);
template <class T> void recurrent_gradients(const RecurrentGradients<T>&, int64_t begin, int64_t end);

}  // namespace spectral::SPECTRAL_LEVEL
