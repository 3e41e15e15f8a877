// What the op entry points (csrc/cuda/*.cpp, compiled by the C++ compiler) and the kernels (csrc/cuda/kernels/*.cu,
// compiled by nvcc without torch's headers) say to each other. T is float or double, complex numbers are (re, im)
// pairs. Pointers are to device memory, a stream is a cudaStream_t.
#pragma once
#include <cstdint>

#include "../cpu/kernels.h"

namespace spectral::cuda {

constexpr int kMostLayers = 32;    // they travel as an argument of the kernel, which has 4096 bytes
constexpr int kWidestBytes = 512;  // of a row's features: two tiles of rows then fit the shared memory of any device
constexpr int kGradientTile = 32;  // samples of a tile in the kernels that sum over samples
constexpr int64_t kGradientItems = 512;  // about so many blocks keep a device busy

// Of the matrices (O, I) of all branches: where w[q][o][i] is. Adjoints are the same matrix read the other way.
template <class T> struct Matrix {
  const T* values;
  int64_t branch_step, row_step, column_step;
  bool complex, conjugate;
};

template <class T> struct ChainLayer {
  Matrix<T> weight;
  const T* bias;  // (Q, O) or null
  int in, out;
  Activation activation;
  T offset;  // of modrelu
};

// Where feature k of row r of branch q is: q * branch + (r / inner) * outer + (r % inner) * row + k * feature.
struct Layout {
  int64_t branch, inner, outer, row, feature;
  bool complex;
  double inverse = 1.0 / double(inner);  // for kernels, which divide by it
};

// Products with small matrices, one after another, of many rows in each branch: layers of branches, and with one branch
// and one layer the transforms.
template <class T> struct Chain {
  int64_t branches, rows;
  const T* x;
  T* y;
  Layout from, to;
  bool complex;  // what is computed
  // where not null, x is tubes (N, I, Q) and the first thing is the transform (Q', Q) of the branch's row
  const T* transform;
  int64_t tube;
  bool complex_transform;
  int depth, widest;
  ChainLayer<T> layers[kMostLayers];
};
template <class T> void run(const Chain<T>&, void* stream);

}  // namespace spectral::cuda
