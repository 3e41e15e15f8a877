// What the op entry points (csrc/cpu/*.cpp, compiled once) and the SIMD kernels (csrc/cpu/simd/*.cpp, compiled per
// level) say to each other. Torch-free, and free of standard library templates: an inline function of the standard
// library that one level emitted with AVX-512 must never be the copy that the linker keeps for all.
#pragma once
#include <cstdint>

namespace spectral {

// The order is that of ACTIVATIONS in spectral_ops/ops/checks.py.
enum class Activation : int64_t { none, relu, gelu, silu, tanh, sigmoid, crelu, zrelu, cardioid, modrelu };

// One layer of every branch.
template <class T> struct Layer {
  const T* weight;  // (Q, O, I)
  const T* bias;    // (Q, O) or null
  int64_t in, out;
  Activation activation;
  T offset;  // of modrelu
};

// A matrix along the tube, (rows, columns), packed column by column. Where its rows are even and odd by turns, as those
// of a DCT-II (analysis), or its columns are (synthesis), `even` and `odd` hold its halves and cost half the
// operations.
//
// Rotated: type IV of an even length n = 2 h. With w_j = a_j x_j + b_j x_(n-1-j), a and b one after the other in
// `rotation`, and analyses U of the first h values of w and V of the others, whose halves follow those of U,
//   y_0 = U_0, y_2k = U_k + V_(k-1), y_(2k-1) = sign (U_k - V_(k-1)), y_(n-1) = -sign V_(h-1).
//
// Split: type II (III) of a length divisible by 4. Its even and its odd rows (columns) are transforms of half the
// length themselves, of the same type and of type IV: `halves`.
template <class T> struct TubeMatrix {
  enum class Kind { dense, analysis, synthesis, rotated, split };
  Kind kind;
  int64_t rows, columns;
  const T *dense, *even, *odd;
  int64_t chain = 16;  // products that are added one after the other at most: rounding errors grow with their number
  const T* rotation = nullptr;
  T sign = 1;                        // of a sine transform -1
  const TubeMatrix* halves[2] = {};  // of the even and of the odd rows or columns
};

// A complex matrix along the tube, (rows, columns) pairs; and its real and imaginary parts, packed column by column,
// for the products that are real on one side.
template <class T> struct ComplexTube {
  int64_t rows, columns;
  const T *values, *re, *im;
};

// From x through the layers to y, sample tile by sample tile. Work item: (range of branches, tile).
template <class T> struct Network {
  int64_t samples, branches, in, out, widest;
  const T* x;                      // tubes (N, I, Q) with a transform, branches (Q', N, I) without
  const TubeMatrix<T>* transform;  // or null
  const Layer<T>* layers;
  int64_t depth;
  T* y;                          // mixture (N, O) with branch weights, tubes (N, O, Q) with an inverse, else (Q', N, O)
  const TubeMatrix<T>* inverse;  // or null
  Activation output_activation;  // after the inverse
  T output_offset;
  const T* branch_weights;  // or null
  bool softmax;             // the mixture is of probabilities
  int64_t ranges;           // 1 with an inverse, a mixture or a synthesis transform
  T* states;                // (Q', tiles, rows of states, tile), or null: what the gradient needs (simd/states.h)
};

// The same with complex branches: weights, biases, logits and branches are (re, im) pairs, and so are x and the tubes
// of y where complex_x and complex_y say so. An inverse that gives real tubes has the sign of its imaginary part
// changed.
template <class T> struct ComplexNetwork {
  Network<T> net;                            // its transform and inverse are not used
  const ComplexTube<T>*transform, *inverse;  // or null
  bool complex_x, complex_y;
};

// One layer of complex branches and nothing else. Work item: (branch, block of samples).
template <class T> struct ComplexLayer {
  int64_t samples, branches;
  const T* x;  // (Q', N, I) pairs, as weight, bias and y
  Layer<T> layer;
  T* y;  // (Q', N, O)
  int64_t block;
};

// Gradients of a chain of layers. Work item: (branch, block of samples); each writes its own partial sums, ordered
// later.
template <class T> struct Gradients {
  int64_t samples, branches, widest;
  const T* x;       // (Q', N, I), or null with states
  const T* states;  // what the forward pass kept, or null: it runs again
  const Layer<T>* layers;
  int64_t depth;
  const T* grad_y;          // (Q', N, O), or (N, O) with branch weights, or null with a target
  const int64_t* target;    // (N,), or null: cross-entropy gives the gradient
  T* logits;                // (Q', N, O), with a target
  const T* branch_weights;  // (Q',), or null: the gradient comes through the mixture of all branches
  bool softmax;             // the mixture is of probabilities
  double* branch_sums;      // (blocks, Q'), or null: sums of the losses, or of the branch weights' gradients
  T* grad_x;                // (Q', N, I) or null
  T* const* weight_sums;    // per layer (blocks, Q', O, I)
  T* const* bias_sums;      // per layer (blocks, Q', O), or null
  bool complex;           // x, weights, biases, logits and their gradients are (re, im) pairs; losses are of real parts
  int64_t block, blocks;  // samples in a block
};

// Gradients of spectral_linear. Work item: a block of samples.
template <class T> struct TubeGradients {
  int64_t samples, branches;
  const T *x, *y, *grad_y;                 // (N, I, Q), (N, O, Q), (N, O, Q); y only with an output activation
  const TubeMatrix<T>* transform;          // (Q', Q)
  const TubeMatrix<T>* transform_adjoint;  // (Q, Q')
  const TubeMatrix<T>* inverse_adjoint;    // (Q', Q)
  Layer<T> layer;
  Activation output_activation;  // one whose derivative y tells: not gelu, not silu
  T* grad_x;                     // (N, I, Q) or null
  T *weight_sums, *bias_sums;    // (blocks, Q', O, I), (blocks, Q', O) or null
  int64_t block;
};

// A transform of x seen as (outer, n, inner).
template <class T> struct Tubes {
  int64_t outer, inner;
  const T* x;
  T* y;
  const TubeMatrix<T>* matrix;
};

// Transforms of x seen as (outer, n1, middle, n2, inner), along n1 by the first matrix and along n2 by the second.
template <class T> struct Planes {
  int64_t outer, middle, inner;
  const T* x;
  T* y;
  const TubeMatrix<T>*first, *second;
};

// matrix . act(x), or (matrix . x) act'(z), along the middle dimension of x seen as (outer, columns, inner).
// Activations of complex numbers take rows 2k and 2k + 1 as the real and imaginary parts of branch k.
template <class T> struct Slices {
  int64_t outer, rows, columns, inner;
  const T *x, *matrix;  // (outer, columns, inner), (rows, columns)
  const T* z;           // (outer, rows, inner) or null
  Activation activation;
  T offset;  // of modrelu
  T* y;      // (outer, rows, inner)
};

// The Walsh-Hadamard transform of x (outer, n, inner) along n, a power of two; y may be x.
template <class T> struct Butterflies {
  int64_t outer, n, inner;
  const T* x;
  T* y;
  T scale;
};

// A cosine or sine transform of x seen as (outer, n, inner), O(n log n). Roots and factors are (re, im) pairs. Work
// item: a tile of tubes, as `long_items` counts them.
template <class T> struct LongTubes {
  int64_t outer, n, inner;
  const T* x;
  T* y;
  int64_t type;  // 1 to 4
  bool sine;
  int64_t length;             // of the complex transform: n; type I 2(n - 1) or 2(n + 1); type IV of even n n / 2
  int64_t circle;             // the power of two in which a convolution gives it, or 0
  int64_t rows;               // of a work tile
  const T* roots;             // exp(-2 pi i j / length), or of the circle
  const T* turns;             // types II, III: exp(i pi k / 2n), 2k <= n; IV of even n: of t_j, then of T_k
  const T *chirp, *spectrum;  // with a circle: exp(-i pi j^2 / length), the transform of its inverse / circle
  T scale, first_in, last_in, first_out, last_out;
};

template <class T> struct Ensemble {
  int64_t branches, samples, classes;
  const T *logits, *weights;
  bool softmax;
  T* y;             // (N, C)
  const T* grad_y;  // (N, C), in the backward pass
  T* grad_logits;   // (Q, N, C)
  double* scores;   // (blocks, Q): sums over the block's samples
  int64_t block;
};

// A recurrent layer through all steps. Work item: (branch, tile of samples). Complex numbers are (re, im) pairs and in,
// hidden and out count values, so that a complex layer is the real one of twice the widths, but for its weights: the
// kernels write each w as ((re, -im), (im, re)).
template <class T> struct Recurrent {
  bool complex;
  int64_t steps, branches, samples, in, hidden, out;
  const T* x;                               // (T, Q, N, I)
  const T *weight_x, *weight_h, *weight_y;  // (Q, P, I), (Q, P, P), (Q, O, P)
  const T *bias, *h0;                       // (Q, P) or null, (Q, N, P)
  Activation activation_h, activation_y;
  T offset_h, offset_y;    // of modrelu
  const int64_t* lengths;  // (N,) or null: all steps
  int64_t tile;            // samples of a work item, at most recurrent_tile
  T *y, *last, *states;    // (T, Q, N, O), (Q, N, P), (T, Q, N, P) or null
};

// Backward through time. Work item: (branch, block of samples); each writes its own partial sums, ordered later.
template <class T> struct RecurrentGradients {
  Recurrent<T> layer;                         // without results
  const T* states;                            // (T, Q, N, P)
  const T *grad_y, *grad_last, *grad_states;  // as y, last, states; or null: zero
  T *grad_x, *grad_h0;                        // (T, Q, N, I) or null, (Q, N, P)
  T *sums_x, *sums_h, *sums_y, *sums_bias;    // (blocks, Q, ...) as the weights; sums_bias null without a bias
  int64_t block;
};

// The filter of one layer, made of slices: sizes O, I, kh, kw, how many slices along each, strides in values.
template <class T> struct CsgLayer {
  T* filter;  // or its gradient; null: a gradient of zero
  int64_t size[4], grid[4], stride[4];
  enum class Runs { columns, windows, rows, whole, single } runs;  // what of a slice lies side by side (csg_slices.h)
};

// Where one slice lies in its filter.
template <class T> struct CsgSlice {
  const CsgLayer<T>* layer;
  T* at;              // of its first value; unused where runs are whole or single
  int64_t index;      // in its layer
  int64_t inside[4];  // how much of the slice is not cropped
  bool whole;         // all of it
};

// Filters generated from codes, and the gradients of both. A *position* is an index into a slice: in its own order
// (F, K, h, w), or (F, h, w, K) where filters are channels_last in blocks.
template <class T> struct Csg {
  int64_t slices, code_size, positions, slice_shape[4];
  bool reordered;  // positions are (F, h, w, K)
  const CsgSlice<T>* slice;
  const T *codes, *generator;          // (S, n_c), (F K h w, n_c)
  const int8_t* signs;                 // the generator as signs, or null
  T *codes_packed, *generator_packed;  // backward: columns in panels of a tile, [panel][row][kTile]
  T *grad_codes, *grad_generator;
};

// How many positions or slices are in one item of the kernels below.
struct CsgItems {
  int64_t panel, code_block, generator_block;
};

// One level's kernels: each works on the items [begin, end).
template <class T> struct Kernels {
  int64_t tile;            // samples in a tile
  int64_t complex_tile;    // of complex numbers
  int64_t recurrent_tile;  // and at most in one of a recurrent layer
  void (*network)(const Network<T>&, int64_t begin, int64_t end);
  void (*complex_network)(const ComplexNetwork<T>&, int64_t begin, int64_t end);
  void (*complex_layer)(const ComplexLayer<T>&, int64_t begin, int64_t end);
  int64_t (*state_rows)(const Layer<T>* layers, int64_t depth);
  void (*gradients)(const Gradients<T>&, int64_t begin, int64_t end);
  void (*tube_gradients)(const TubeGradients<T>&, int64_t begin, int64_t end);
  int64_t (*tube_items)(const Tubes<T>&);
  void (*tubes)(const Tubes<T>&, int64_t begin, int64_t end);
  int64_t (*plane_items)(const Planes<T>&);
  void (*planes)(const Planes<T>&, int64_t begin, int64_t end);
  int64_t (*slice_items)(const Slices<T>&);
  void (*slices)(const Slices<T>&, int64_t begin, int64_t end);
  int64_t (*long_items)(const LongTubes<T>&);
  void (*long_tubes)(const LongTubes<T>&, int64_t begin, int64_t end);
  void (*ensemble)(const Ensemble<T>&, int64_t begin, int64_t end);
  void (*ensemble_gradients)(const Ensemble<T>&, int64_t begin, int64_t end);
  int64_t (*hadamard_items)(const Butterflies<T>&);
  void (*hadamard)(const Butterflies<T>&, int64_t begin, int64_t end);
  void (*recurrent)(const Recurrent<T>&, int64_t begin, int64_t end);
  void (*recurrent_gradients)(const RecurrentGradients<T>&, int64_t begin, int64_t end);
  CsgItems csg_items;
  void (*csg)(const Csg<T>&, int64_t begin, int64_t end);                      // items: panels of positions
  void (*csg_pack)(const Csg<T>&, int64_t begin, int64_t end);                 // items: rows, codes before generator
  void (*csg_code_gradients)(const Csg<T>&, int64_t begin, int64_t end);       // items: blocks of slices
  void (*csg_generator_gradients)(const Csg<T>&, int64_t begin, int64_t end);  // items: blocks of positions
};

// The kernels of the level in use.
template <class T> const Kernels<T>& kernels();

// Memory of the calling thread, 64-byte aligned, kept for the next call; two slots, because a thread that starts a
// parallel region also works in it.
enum class Slot { call, item };
void* scratch(Slot slot, int64_t bytes);

}  // namespace spectral
