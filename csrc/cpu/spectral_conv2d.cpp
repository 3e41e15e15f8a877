// A small layer is over sooner than the calls from Python that its stages would be: they are one call, and the
// library's convolution is called between them.
#include "convolution.h"
#include "drive.h"

namespace spectral {

namespace {

using Sizes = std::vector<int64_t>;
using Three = std::tuple<Tensor, Tensor, Tensor>;

template <class T> std::vector<T> transposed(const Tensor& matrix) {
  const int64_t rows = matrix.size(0), columns = matrix.size(1);
  std::vector<T> result(rows * columns);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < columns; ++c) result[c * rows + r] = in<T>(matrix)[r * columns + c];
  return result;
}

struct Applied {
  Activation activation;
  double offset;
};

// matrix . act(x) across the slices of images x in this order, or with z (matrix . x) act'(z). matrix: (rows, columns).
template <class T> Tensor stage(Order order, const Tensor& x, const T* matrix, int64_t rows, int64_t columns,
                                Applied applied = {}, const Tensor* z = nullptr) {
  const int64_t features = x.size(1) / columns, area = x.size(2) * x.size(3),
                inner = order.last ? features : features * area;
  const Tensor y = order.empty(x, rows * features);
  const Slices<T> s{x.size(0) * (order.last ? area : 1),
                    rows,
                    columns,
                    inner,
                    in<T>(x),
                    matrix,
                    z ? in<T>(*z) : nullptr,
                    applied.activation,
                    T(applied.offset),
                    out<T>(y)};
  const int64_t items = kernels<T>().slice_items(s);
  parallel_for(0, items, grain(x.numel() / std::max<int64_t>(items, 1) * rows),
               [&](int64_t begin, int64_t end) { kernels<T>().slices(s, begin, end); });
  return y;
}

}  // namespace

// y = inverse . act(z), z = weight * v + bias, v = transform . x: y, v and z. Complex layers come as real ones, their
// images in planes (ops/planes.py), so that rows 2k and 2k + 1 of the transform are the parts of branch k. x lies in
// the order that channels_last says; weight (groups O, I, kh, kw) and bias as the convolution takes them, whose
// branches the transform makes.
Three spectral_conv2d(const Tensor& x, const Tensor& transform, const Tensor& weight, std::optional<Tensor> bias,
                      int64_t activation, double offset, const Tensor& inverse, Sizes stride, Sizes padding,
                      Sizes dilation, int64_t groups, bool channels_last) {
  const Order order{channels_last};
  const int64_t p = transform.size(0), q = transform.size(1);
  std::optional<Three> results;
  visit_real(x.scalar_type(), "spectral_conv2d", [&](auto zero) {
    using T = decltype(zero);
    const Tensor v = stage(order, x, in<T>(transform), p, q);
    const Tensor z = order.of(Convolution{stride, padding, dilation, groups}.forward(v, weight, bias));
    const Applied applied{static_cast<Activation>(activation), offset};
    results = {stage(order, z, in<T>(inverse), inverse.size(0), inverse.size(1), applied), v, z};
  });
  return *results;
}

// The gradients of x, weight and bias, each where it is wanted, from that of y, which lies in the same order.
Three spectral_conv2d_backward(const Tensor& grad, const Tensor& v, const Tensor& z, const Tensor& transform,
                               const Tensor& weight, bool want_x, bool want_weight, bool want_bias, int64_t activation,
                               double offset, const Tensor& inverse, Sizes stride, Sizes padding, Sizes dilation,
                               int64_t groups, bool channels_last) {
  const Order order{channels_last};
  const int64_t p = transform.size(0), q = transform.size(1);
  std::optional<Three> results;
  visit_real(grad.scalar_type(), "spectral_conv2d_backward", [&](auto zero) {
    using T = decltype(zero);
    const std::vector<T> back = transposed<T>(inverse), ahead = transposed<T>(transform);
    const Applied applied{static_cast<Activation>(activation), offset};
    const Tensor grad_z = stage(order, grad, back.data(), inverse.size(1), inverse.size(0), applied, &z);
    auto [grad_v, grad_weight, grad_bias] =
        Convolution{stride, padding, dilation, groups}.backward(grad_z, v, weight, {want_x, want_weight, want_bias});
    results = {want_x ? stage(order, order.of(grad_v), ahead.data(), q, p) : grad_v, grad_weight, grad_bias};
  });
  return *results;
}

STABLE_TORCH_LIBRARY_IMPL(spectral_native, CPU, m) {
  SPECTRAL_OP(m, spectral_conv2d, &spectral_conv2d);
  SPECTRAL_OP(m, spectral_conv2d_backward, &spectral_conv2d_backward);
}

}  // namespace spectral
