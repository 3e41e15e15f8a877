// From tensors to the arguments of the CUDA kernels: device, stream, work memory, layouts, layers.
#pragma once
#include <algorithm>
#include <optional>
#include <vector>

#include "../torch.h"
#include "kernels.h"

#ifndef SPECTRAL_EMULATE
#include <dlfcn.h>
#include <torch/csrc/stable/accelerator.h>
#endif

// Where the entry points are registered: for CUDA tensors; emulated, for tensors of the CPU in a namespace of its own.
#ifdef SPECTRAL_EMULATE
#define SPECTRAL_CUDA_LIBRARY(m) STABLE_TORCH_LIBRARY_IMPL(spectral_emulated, CPU, m)
#else
#define SPECTRAL_CUDA_LIBRARY(m) STABLE_TORCH_LIBRARY_IMPL(spectral_native, CUDA, m)
#endif

namespace spectral::cuda {

using Tensors = std::vector<Tensor>;
using OptionalTensors = std::vector<std::optional<Tensor>>;

#ifdef SPECTRAL_EMULATE
struct DeviceGuard {
  explicit DeviceGuard(int32_t) {}
};
inline void* current_stream(int32_t) { return nullptr; }
#else
using DeviceGuard = torch::stable::accelerator::DeviceGuard;

// torch's current stream of a device. libtorch_cuda is looked up when it is needed: a library that named its symbols
// would not load where torch has no CUDA. RTLD_DEFAULT does not see it, Python loads it with RTLD_LOCAL.
inline void* current_stream(int32_t device) {
  using Function = AOTITorchError (*)(int32_t, void**);
  static const Function find = [] {
    void* library = dlopen("libtorch_cuda.so", RTLD_LAZY | RTLD_NOLOAD);
    return library ? reinterpret_cast<Function>(dlsym(library, "aoti_torch_get_current_cuda_stream")) : nullptr;
  }();
  SPECTRAL_CHECK(find, "this torch has no CUDA");
  void* stream = nullptr;
  STABLE_TORCH_ERROR_CODE_CHECK(find(device, &stream));
  return stream;
}
#endif

// One call of an op: its device is the current one meanwhile. Work memory comes from torch's allocator, which hands it
// on to later work of the same stream only; so calls can be captured in a graph.
class Call {
 public:
  explicit Call(const Tensor& like)
      : like_(like), guard_(like.get_device_index()), stream_(current_stream(like.get_device_index())) {
    set_device(like.get_device_index());
  }

  void* stream() const { return stream_; }

  template <class T> T* memory(int64_t values) {
    constexpr auto dtype = sizeof(T) == 4 ? ScalarType::Float : ScalarType::Double;
    held_.push_back(torch::stable::new_empty(like_, {std::max<int64_t>(values, 1)}, dtype));
    return out<T>(held_.back());
  }

 private:
  const Tensor& like_;
  DeviceGuard guard_;
  void* stream_;
  Tensors held_;
};

inline int64_t some(int64_t n) { return std::max<int64_t>(n, 1); }

// ---- layouts: features of a row ----------------------------------------------------------------------------------
// branches (Q, N, I): I features of row n
inline Layout branch_rows(int64_t samples, int64_t features, bool complex) {
  return {samples * features, some(samples), 0, features, 1, complex};
}
// tubes (rows, Q): Q features of a row
inline Layout tube_rows(int64_t rows, int64_t length, bool complex) { return {0, some(rows), 0, length, 1, complex}; }
// the same in branches (Q, rows)
inline Layout across_branches(int64_t rows, bool complex) { return {0, some(rows), 0, 1, rows, complex}; }
// (outer, n, inner): n features of row (outer, inner)
inline Layout middle(int64_t n, int64_t inner, bool complex) {
  return {0, some(inner), n * inner, 1, inner == 1 ? 1 : inner, complex};
}

// ---- layers --------------------------------------------------------------------------------------------------------
template <class T> Matrix<T> branch_matrix(const Tensor& weight) {
  return {in<T>(weight), weight.size(1) * weight.size(2), weight.size(2), 1, is_complex(weight), false};
}
// One matrix (rows, columns) for all branches, or its adjoint.
template <class T> Matrix<T> one_matrix(const Tensor& m, bool adjoint = false) {
  const bool pairs = is_complex(m);
  return {in<T>(m), 0, adjoint ? 1 : m.size(1), adjoint ? m.size(1) : 1, pairs, adjoint && pairs};
}

// Applies one matrix to the features of every row.
template <class T> Chain<T> one_product(const Matrix<T>& matrix, int64_t outputs, int64_t inputs, int64_t rows) {
  Chain<T> c{};
  c.branches = 1;
  c.rows = rows;
  c.complex = matrix.complex;
  c.depth = 1;
  c.widest = int(std::max(inputs, outputs));
  c.layers[0] = {matrix, nullptr, int(inputs), int(outputs), Activation::none, T(0)};
  return c;
}

// The layers of a network, offsets: of modrelu, none where no layer has one.
template <class T> void set_layers(Chain<T>& c, const Tensors& weights, const OptionalTensors& biases,
                                   const std::vector<int64_t>& activations, const std::vector<double>& offsets) {
  SPECTRAL_CHECK(weights.size() <= kMostLayers, "a network of more layers than a launch takes");
  c.branches = weights[0].size(0);
  c.complex = is_complex(weights[0]);
  c.depth = int(weights.size());
  c.widest = 0;
  for (size_t j = 0; j < weights.size(); ++j) {
    const int64_t outputs = weights[j].size(1), inputs = weights[j].size(2);
    c.layers[j] = {
        branch_matrix<T>(weights[j]),          in<T>(biases[j]), int(inputs), int(outputs), Activation(activations[j]),
        offsets.empty() ? T(0) : T(offsets[j])};
    c.widest = std::max({c.widest, int(inputs), int(outputs)});
  }
}

}  // namespace spectral::cuda
