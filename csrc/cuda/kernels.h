// What the op entry points (csrc/cuda/*.cpp, compiled by the C++ compiler) and the kernels (csrc/cuda/kernels/*.cu,
// compiled by nvcc without torch's headers) say to each other. T is float or double, complex numbers are (re, im)
// pairs. Pointers are to device memory, a stream is a cudaStream_t.
#pragma once
#include <cstdint>

#include "../cpu/kernels.h"

namespace spectral::cuda {

constexpr int kMostLayers = 32;          // they travel as an argument of the kernel, which has 4096 bytes
constexpr int kGradientTile = 32;        // samples of a tile in the kernels that sum over samples
constexpr int64_t kGradientItems = 512;  // about so many blocks keep a device busy

void set_device(int device);

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

// Gradients of a chain of layers. A block of the grid takes one branch and `block` samples, and writes its own partial
// sums, which are added in order later.
template <class T> struct Gradients {
  int64_t branches, samples;
  const T* x;  // (Q, N, I)
  bool complex;
  int depth, widest;
  ChainLayer<T> layers[kMostLayers];
  const T* grad_y;              // (Q, N, O), or (N, O) with branch weights, or null with a target
  const int64_t* target;        // (N,), or null: cross-entropy gives the gradient
  T* logits;                    // (Q, N, O), with a target
  const T* branch_weights;      // (Q,), or null: the gradient comes through the mixture of all branches
  bool softmax;                 // the mixture is of probabilities
  double* branch_sums;          // (blocks, Q), or null: sums of the losses, or of the branch weights' gradients
  T* grad_x;                    // (Q, N, I) or null
  T* weight_sums[kMostLayers];  // (blocks, Q, O, I)
  T* bias_sums[kMostLayers];    // (blocks, Q, O), or null
  T* arguments;                 // (blocks, Q, arguments_of_a_tile): of the activations
  int64_t arguments_of_a_tile;
  int64_t block, blocks;
};
template <class T> void run(const Gradients<T>&, void* stream);

// total[i] = sums[0][i] + sums[1][i] + ..., in this order, of several arrays at once.
template <class T> struct BlockSums {
  struct Part {
    const T* sums;
    T* total;
    int64_t values;
  };
  int64_t blocks;
  int count;
  Part parts[2 * kMostLayers];
};
template <class T> void run(const BlockSums<T>&, void* stream);
// total[q] = scale (sums[0][q] + ...), of sums in double.
template <class T>
void add_branch_sums(const double* sums, int64_t blocks, int64_t branches, double scale, T* total, void* stream);

// y[i] = grad[i] times the slope of an activation whose result is h[i].
template <class T>
void multiply_by_slope(Activation kind, const T* grad, const T* h, int64_t count, T* y, void* stream);

// Recurrent layers, see csrc/cpu/kernels.h; of complex ones, too, in, hidden and out count numbers here, and a layer's
// `tile` is not used. `blocks`: of the samples, in the backward pass.
template <class T> void run(const Recurrent<T>&, void* stream);
template <class T> void run_backward(const RecurrentGradients<T>&, int64_t blocks, void* stream);

// Transforms of long tubes, see csrc/cpu/kernels.h.
template <class T> void run(const LongTubes<T>&, void* stream);
// Of types 2 and 3 and n = 4, 8, 16, 32 and, in float, 64: in registers, without tables.
template <class T> void run_codelet(const LongTubes<T>&, void* stream);

// Transforms of x (outer, n1, middle, n2, inner) along n1 by the matrix `first` and along n2 by `second`; y may be x.
template <class T> struct Planes {
  int64_t outer, middle, inner;
  int n1, n2;
  const T *x, *first, *second;
  T* y;
  double inverse_middle, inverse_inner;
};
template <class T> void run(const Planes<T>&, void* stream);

// The Walsh-Hadamard transform of x (outer, n, inner) along n, a power of two; y may be x.
template <class T> void run(const Butterflies<T>&, void* stream);

// Logits (Q, N, C), of complex ones the real parts; weights (Q,).
template <class T> struct Ensemble {
  int64_t branches, samples, classes;
  const T *logits, *weights;
  bool complex, softmax;
  T* y;             // (N, C)
  const T* grad_y;  // (N, C), in the backward pass
  T* grad_logits;   // (Q, N, C)
  double* scores;   // (blocks, Q): sums over the samples of a block
  int64_t block, blocks;
};
template <class T> void run(const Ensemble<T>&, void* stream);
template <class T> void run_backward(const Ensemble<T>&, void* stream);

// ---- generated filters ----
constexpr int kMostFilters = 96;  // of a launch: they travel as an argument of the kernel

struct CsgShape {
  int slice[4];   // F, K, h, w
  int positions;  // F K h w
  bool flat, channels_last;
};

template <class T> struct CsgSource {
  const T *codes, *generator;  // (S, n_c), (F K h w, n_c)
  const int8_t* signs;         // the generator as signs, or null
  int64_t code_size;
};

template <class T> struct CsgFilter {
  T* values;  // or its gradient; null: a gradient of zero
  int size[4], first;
};

// Filters of several layers, whose slices follow one another.
template <class T> struct Csg {
  CsgShape shape;
  CsgSource<T> source;
  int64_t slices;
  int count;
  CsgFilter<T> filters[kMostFilters];
};
template <class T> void run(const Csg<T>&, void* stream);
// sums: (splits, S, n_c) and (splits, F K h w, n_c), into how many parts the sums are split.
template <class T> int64_t code_splits(const Csg<T>&);
template <class T> void run_code_gradients(const Csg<T>&, T* sums, void* stream);
template <class T> int64_t generator_splits(const Csg<T>&);
template <class T> void run_generator_gradients(const Csg<T>&, T* sums, void* stream);

// A convolution with one generated filter, or the gradient of its image.
template <class T> struct CsgConvolution {
  CsgShape shape;
  CsgSource<T> source;
  int size[4], groups;                           // O, I, kh, kw
  int image[2], result[2];                       // height and width
  int stride[2], padding[2], dilation[2], rows;  // samples * pixels of the result, or of the image where that is made
  int64_t x_step[4], y_step[4];                  // of N, C, H, W
  const T *from, *bias;                          // the image or the gradient of the result; (O,) or null
  T* sums;                                       // (reduced_parts, values): what each part of the filter gives
  int64_t values;
  // by plan(): channels of a block's columns and of its sums, in how many parts those of a group are
  int columns, pitch, reduced, column_parts, reduced_parts;
};
template <class T> void plan(CsgConvolution<T>&, bool back);
template <class T> void run(const CsgConvolution<T>&, bool back, void* stream);

// The gradients of codes and of the generator from one convolution. The filter's own gradient is made in shared memory,
// a tile of it at a time: `columns` slices, of which `rows` positions. The slices of a tile lie `period` apart: they
// meet the same channels of the image at the same places of the window, with outputs `step` apart.
template <class T> struct CsgGradients {
  CsgConvolution<T> c;  // rows: of the result
  const T *x, *grad_y;
  // by plan()
  int slices, period, step, columns, rows;
  int row_tiles, slice_tiles, code_tiles, codes;  // how many, and code entries of a tile
  int parts, pixel_parts, pixels;                 // of the sums: tiles in turn, and pixels of each
  T* sums;                                        // (parts * pixel_parts, S, n_c) or (.., F K h w, n_c)
};
template <class T> void plan(CsgGradients<T>&, bool of_generator);
template <class T> void run(const CsgGradients<T>&, bool of_generator, void* stream);

// ---- convolutions in Tucker form ----

// Of an image (N, C, H, W): channels of a group, and how far apart images, channels and pixels are.
struct TuckerImage {
  int channels, height, width;
  int64_t image, channel, pixel;
};

// Of rows, or of columns: a window over x, and the tiles that the kernel goes by. `back`: tiles are of x, of the pixels
// of one residue by the stride; otherwise of y.
struct TuckerAxis {
  int window, stride, padding, dilation;
  int tile, tiles;  // pixels of a tile, tiles of an image and residue
  int halo, step;   // pixels in the other image under a tile, and how far apart
};

// The three stages from one image to the other: x to y, or with `back` y's gradient to x's.
template <class T> struct Tucker {
  int groups, blocks;
  unsigned items;  // tiles of all images
  bool back;
  TuckerAxis axes[2];
  TuckerImage from, to;
  const T* source;
  int ranks[2];         // of the image that is read, and of the other
  const T* factors[2];  // (channels, rank) of each
  const T* core;        // (groups, kh, kw, r_out, r_in)
  const T* bias;        // or null
  T* result;            // or null
  // gradients, in parts (blocks, groups, ...): null where not wanted
  const T* other;       // an image like the result
  const T* other_core;  // the core whose rank channels meet it
  T* factor_sums;       // of factors[1]
  T* core_sums;         // with its taps as in core
  T* bias_sums;
};
template <class T> void run(const Tucker<T>&, void* stream);

// losses[q] = the mean over n of -log softmax(logits[q, n])[target[n]]; NaN where a target is no class.
template <class T> void cross_entropy(const T* logits, bool complex, const int64_t* target, int64_t branches,
                                      int64_t samples, int64_t classes, T* losses, void* stream);

}  // namespace spectral::cuda
