// With cpu/convolution.h the only file that includes torch, and only its stable ABI of torch 2.10: what is built runs
// on later versions too.
#pragma once
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include "signature.h"

namespace spectral {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

SPECTRAL_TYPE_NAME(Tensor, "Tensor");

// Throws (RuntimeError in Python) when a condition fails. Arguments are checked in Python: use this only where a wrong
// call would read or write out of bounds.
#define SPECTRAL_CHECK(condition, ...) STD_TORCH_CHECK(condition, __VA_ARGS__)

// Registers a kernel and records its C++ signature; in the body of STABLE_TORCH_LIBRARY_IMPL(spectral_native, CPU, m):
//   SPECTRAL_OP(m, branch_linear, &branch_linear);
#define SPECTRAL_OP(library, name, function)       \
  do {                                             \
    ::spectral::record_signature(#name, function); \
    (library).impl(#name, TORCH_BOX(function));    \
  } while (false)

// Dense data of a tensor. Python has checked the dtype and made the tensor contiguous.
template <class T> const T* in(const Tensor& t) { return static_cast<const T*>(t.const_data_ptr()); }
template <class T> T* out(const Tensor& t) { return static_cast<T*>(t.mutable_data_ptr()); }
template <class T> const T* in(const std::optional<Tensor>& t) { return t ? in<T>(*t) : nullptr; }
template <class T> T* out(const std::optional<Tensor>& t) { return t ? out<T>(*t) : nullptr; }

// f(first, last) over pieces of [begin, end), on torch's threads. What f throws arrives in Python as a RuntimeError,
// but without its text: a C interface lies between.
template <class F> void parallel_for(int64_t begin, int64_t end, int64_t grain, const F& f) {
  if (begin < end) torch::stable::parallel_for(begin, end, grain, f);
}

inline int num_threads() { return static_cast<int>(torch::stable::get_num_threads()); }

// f(T()) with T = float or double, after the dtype:
//   visit_real(x.scalar_type(), "dct", [&](auto zero) { using T = decltype(zero); ... });
template <class F> void visit_real(ScalarType dtype, const char* name, F&& f) {
  if (dtype == ScalarType::Float) return f(0.0f);
  if (dtype == ScalarType::Double) return f(0.0);
  SPECTRAL_CHECK(false, name, ": dtype must be float32 or float64, is ", torch::headeronly::toString(dtype));
}

inline bool is_complex(const Tensor& t) {
  return t.scalar_type() == ScalarType::ComplexFloat || t.scalar_type() == ScalarType::ComplexDouble;
}

// f(T()) with T the type of the real numbers in x or of the parts of its complex numbers.
template <class F> void visit_number(ScalarType dtype, const char* name, F&& f) {
  if (dtype == ScalarType::ComplexFloat) return f(0.0f);
  if (dtype == ScalarType::ComplexDouble) return f(0.0);
  visit_real(dtype, name, f);
}

}  // namespace spectral
