// What the network kernels need to know of the numbers in the branches: real ones, two vectors of samples in a row of
// the tile, or complex ones, one vector of samples in two parts.
#pragma once
#include "accumulate.h"
#include "complex.h"
#include "network.h"

namespace spectral::SPECTRAL_LEVEL {

// V: the vectors of a row that hold samples.
template <class T, int V> struct Real {
  static constexpr int64_t kParts = 1;           // values in a number
  static constexpr int64_t kSamples = kTile<T>;  // in a tile
  static constexpr int64_t kReals = kTile<T>;    // lanes of a row that hold real parts

  static void load(const T* rows, int64_t count, int64_t width, T* tile) { load_tile(rows, width, count, width, tile); }
  static void store(const T* tile, int64_t width, int64_t count, T* rows) {
    store_tile(tile, width, count, rows, width);
  }
  static void clear(T* tile, int64_t width, int64_t count) { clear_lanes(tile, width, count); }

  static void forward(const Layer<T>& layer, int64_t branch, const T* h, T* next, T* argument) {
    forward_layer<T, V>(layer, branch, h, next, argument);
  }
  static void descend(const Layer<T>& layer, T* grad, const T* z, const T* h) {
    SPECTRAL_LEVEL::descend(layer.activation, grad, z, h, layer.out);
  }
  // The gradient of a layer's input; with relu_slope that of the layer before it, whose result h is.
  template <Finish finish> static void back(const Layer<T>& layer, int64_t branch, const T* grad, const T* h, T* next) {
    product<T, V, Factor::rows, Start::zero, finish>(
        grad, kTile<T>, layer.out, layer.weight + branch * layer.in * layer.out, layer.in, h, next, kTile<T>, layer.in);
  }
  static bool slope_in_product(const Layer<T>& before) { return before.activation == Activation::relu; }

  static void sum(bool sets, const Layer<T>& layer, const T* h, const T* grad, int64_t count, T* rows, T* weights,
                  T* biases) {
    accumulate(sets, layer, h, grad, count, rows, weights, biases);
  }
  static void write(const Layer<T>& layer, const T* weights, const T* biases, T* weight, T* bias) {
    write_sums(layer, weights, biases, weight, bias);
  }
};

template <class T> struct ComplexNumbers {
  static constexpr int64_t kParts = 2, kSamples = kLanes<T>, kReals = kLanes<T>;

  static void load(const T* rows, int64_t count, int64_t width, T* tile) {
    load_lanes(rows, 2 * width, count, 2 * width, tile);
  }
  static void store(const T* tile, int64_t width, int64_t count, T* rows) {
    store_lanes(tile, 2 * width, count, rows, 2 * width);
  }
  static void clear(T* tile, int64_t width, int64_t count) {
    for (int64_t i = 0; i < 2 * width; ++i)
      for (int64_t lane = count; lane < kLanes<T>; ++lane) tile[i * kLanes<T> + lane] = 0;
  }

  static void forward(const Layer<T>& layer, int64_t branch, const T* h, T* next, T* argument) {
    const T* w = layer.weight + 2 * branch * layer.in * layer.out;
    const T* b = layer.bias ? layer.bias + 2 * branch * layer.out : nullptr;
    T* z = argument ? argument : next;
    const auto run = [&]<Start start, Finish finish>() {
      complex_product<T, Factor::columns, start, finish, Conjugate::none>(h, kTile<T>, layer.in, w, layer.in, b, z,
                                                                          kTile<T>, layer.out);
    };
    const bool relu = layer.activation == Activation::crelu;
    if (b) {
      relu ? run.template operator()<Start::bias, Finish::relu>()
           : run.template operator()<Start::bias, Finish::store>();
    } else {
      relu ? run.template operator()<Start::zero, Finish::relu>()
           : run.template operator()<Start::zero, Finish::store>();
    }
    if (!relu && layer.activation != Activation::none)
      activate_complex(layer.activation, layer.offset, z, next, layer.out);
  }
  static void descend(const Layer<T>& layer, T* grad, const T* z, const T* h) {
    descend_complex(layer.activation, layer.offset, grad, z, h, layer.out);
  }
  template <Finish finish> static void back(const Layer<T>& layer, int64_t branch, const T* grad, const T* h, T* next) {
    complex_product<T, Factor::rows, Start::zero, finish, Conjugate::factor>(
        grad, kTile<T>, layer.out, layer.weight + 2 * branch * layer.in * layer.out, layer.in, h, next, kTile<T>,
        layer.in);
  }
  static bool slope_in_product(const Layer<T>& before) { return before.activation == Activation::crelu; }

  // weights += grad h^H, as [O][block of kLanes inputs][re, im]. rows: h transposed, [sample][block][re, im].
  static void sum(bool sets, const Layer<T>& layer, const T* h, const T* grad, int64_t count, T* rows, T* weights,
                  T* biases) {
    sets ? sum<Start::zero>(layer, h, grad, count, rows, weights, biases)
         : sum<Start::accumulate>(layer, h, grad, count, rows, weights, biases);
  }
  static void write(const Layer<T>& layer, const T* weights, const T* biases, T* weight, T* bias) {
    constexpr int n = kLanes<T>;
    const int64_t width = padded<T>(layer.in);
    for (int64_t o = 0; o < layer.out; ++o)
      for (int64_t i = 0; i < layer.in; i += n) {
        const T* sum = weights + 2 * (o * width + i);
        T* pairs = weight + 2 * (o * layer.in + i);
        const int64_t left = 2 * (layer.in - i);
        store_part(pairs, interleave<T, 0>(SPECTRAL_LEVEL::load(sum), SPECTRAL_LEVEL::load(sum + n)), min(left, n));
        if (left > n)
          store_part(pairs + n, interleave<T, 1>(SPECTRAL_LEVEL::load(sum), SPECTRAL_LEVEL::load(sum + n)), left - n);
      }
    if (!layer.bias) return;
    for (int64_t o = 0; o < 2 * layer.out; ++o) {
      double total = 0;
      for (int lane = 0; lane < n; ++lane) total += double(biases[o * n + lane]);
      bias[o] = T(total);
    }
  }

 private:
  template <Start start>
  static void sum(const Layer<T>& layer, const T* h, const T* grad, int64_t count, T* rows, T* weights, T* biases) {
    constexpr int n = kLanes<T>;
    const int64_t width = padded<T>(layer.in);
    for (int64_t i = 0; i < layer.in; i += n)
      for (int part = 0; part < 2; ++part) {
        Vec<T> v[n];
#pragma GCC unroll 16
        for (int r = 0; r < n; ++r)
          v[r] = i + r < layer.in ? SPECTRAL_LEVEL::load(h + (i + r) * kTile<T> + part * n) : Vec<T>{};
        transpose<T>(v);
#pragma GCC unroll 16
        for (int r = 0; r < n; ++r) SPECTRAL_LEVEL::store(rows + 2 * (r * width + i) + part * n, v[r]);
      }
    for (int64_t i = 0; i < layer.in; i += n)
      complex_product<T, Factor::tile, start, Finish::store, Conjugate::tile>(
          rows + 2 * i, 2 * width, count, grad, 0, nullptr, weights + 2 * i, 2 * width, layer.out);
    for (int64_t o = 0; layer.bias && o < 2 * layer.out; ++o) {
      const Vec<T> g = SPECTRAL_LEVEL::load(grad + o * n);
      SPECTRAL_LEVEL::store(biases + o * n, start == Start::zero ? g : SPECTRAL_LEVEL::load(biases + o * n) + g);
    }
  }
};

}  // namespace spectral::SPECTRAL_LEVEL
