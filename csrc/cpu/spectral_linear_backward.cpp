#include "descend.h"
#include "mlp.h"

namespace spectral {

namespace {

// The adjoint of a tube matrix, packed.
template <class T> PackedTube<T> adjoint(const Tensor& t) {
  const int64_t rows = t.size(0), columns = t.size(1);
  std::vector<T> transposed(rows * columns);
  for (int64_t p = 0; p < rows; ++p)
    for (int64_t q = 0; q < columns; ++q) transposed[q * rows + p] = in<T>(t)[p * columns + q];
  return PackedTube<T>(transposed.data(), columns, rows);
}

// The same of a complex one: transposed and conjugated; sign: see PackedComplexTube.
template <class T> struct ComplexAdjoint {
  std::vector<T> values;
  PackedComplexTube<T> tube;

  ComplexAdjoint(const Tensor& t, T sign) : values(adjoint_of(t)), tube(values.data(), t.size(1), t.size(0), sign) {}

 private:
  static std::vector<T> adjoint_of(const Tensor& t) {
    const int64_t rows = t.size(0), columns = t.size(1);
    std::vector<T> transposed(2 * rows * columns);
    for (int64_t p = 0; p < rows; ++p)
      for (int64_t q = 0; q < columns; ++q) {
        transposed[2 * (q * rows + p)] = in<T>(t)[2 * (p * columns + q)];
        transposed[2 * (q * rows + p) + 1] = -in<T>(t)[2 * (p * columns + q) + 1];
      }
    return transposed;
  }
};

// grad through an activation whose value h tells its slope, on values [begin, end).
template <class T>
void through(Activation activation, const T* grad, const T* h, T* before, int64_t begin, int64_t end) {
  const auto slope = [&](auto f) {
    for (int64_t i = begin; i < end; ++i) before[i] = f(grad[i], h[i], i);
  };
  switch (activation) {
    case Activation::tanh: return slope([](T g, T v, int64_t) { return g * (1 - v * v); });
    case Activation::sigmoid: return slope([](T g, T v, int64_t) { return g * (v * (1 - v)); });
    case Activation::zrelu:  // of both parts of a pair
      return slope([h](T g, T, int64_t i) { return h[i & ~int64_t(1)] <= 0 || h[i | 1] <= 0 ? T(0) : g; });
    default: return slope([](T g, T v, int64_t) { return v <= 0 ? T(0) : g; });  // relu, crelu
  }
}

// Complex branches, stage by stage: each is the kernel of an op of its own.
template <class T> void complex_branches(const Tensor& grad_y, const Tensor& x, const Tensor& y,
                                         const Tensor& transform, const Mlp<T>& mlp, const Tensor& inverse,
                                         Activation output_activation, std::optional<Tensor> grad_x,
                                         const Tensor& grad_weight, std::optional<Tensor> grad_bias) {
  const int64_t in_values = 2 * mlp.net.branches * mlp.net.samples * mlp.net.in;
  const int64_t out_values = 2 * mlp.net.branches * mlp.net.samples * mlp.net.out;
  const auto network = [&](int64_t width, const T* from, T* to) {
    Network<T> net{};
    net.samples = mlp.net.samples;
    net.branches = mlp.net.branches;
    net.in = net.out = net.widest = width;
    net.x = from;
    net.y = to;
    return net;
  };
  const T* grad = in<T>(grad_y);
  const bool complex_y = is_complex(grad_y);
  std::unique_ptr<T[]> before, memory, grads(new T[out_values]), grad_branches;
  if (output_activation != Activation::none) {
    const int64_t values = grad_y.numel() * (complex_y ? 2 : 1);
    before.reset(new T[values]);
    parallel_for(0, values, 1 << 15, [&](int64_t begin, int64_t end) {
      through(output_activation, grad, in<T>(y), before.get(), begin, end);
    });
    grad = before.get();
  }
  const ComplexAdjoint<T> analysis(inverse, 1);
  run(ComplexNetwork<T>{network(mlp.net.out, grad, grads.get()), &analysis.tube.matrix, nullptr, complex_y, true}, 0);
  Gradients<T> net = mlp.gradients(memory);
  net.grad_y = grads.get();
  if (grad_x) grad_branches.reset(new T[in_values]);
  net.grad_x = grad_branches.get();
  descend<T>(net, mlp.chain, {grad_weight}, grad_bias ? Tensors{*grad_bias} : Tensors{}, nullptr, 0);
  if (!grad_x) return;
  const ComplexAdjoint<T> synthesis(transform, is_complex(x) ? 1 : -1);
  run(ComplexNetwork<T>{network(mlp.net.in, grad_branches.get(), out<T>(grad_x)), nullptr, &synthesis.tube.matrix, true,
                        is_complex(x)},
      0);
}

}  // namespace

// grad_y (N, O, Q), x (N, I, Q), y (N, O, Q) -> grad_x (N, I, Q) or none, grad_weight (Q', O, I), grad_bias (Q', O) or
// none
void spectral_linear_backward(const Tensor& grad_y, const Tensor& x, const Tensor& y, const Tensor& transform,
                              const Tensor& weight, std::optional<Tensor> bias, int64_t activation, double offset,
                              const Tensor& inverse, int64_t output_activation, std::optional<Tensor> grad_x,
                              const Tensor& grad_weight, std::optional<Tensor> grad_bias) {
  visit_number(x.scalar_type(), "spectral_linear_backward", [&](auto zero) {
    using T = decltype(zero);
    if (is_complex(weight)) {
      const Mlp<T> mlp(x, transform, {weight}, {bias}, {activation}, {offset});
      return complex_branches<T>(grad_y, x, y, transform, mlp, inverse, Activation(output_activation), grad_x,
                                 grad_weight, grad_bias);
    }
    const Chain<T> chain({weight}, {bias}, {activation});
    const PackedTube<T> forward(transform), forward_adjoint = adjoint<T>(transform), backward = adjoint<T>(inverse);
    TubeGradients<T> net{};
    net.samples = x.size(0);
    net.branches = transform.size(0);
    net.x = in<T>(x);
    net.y = in<T>(y);
    net.grad_y = in<T>(grad_y);
    net.transform = &forward;
    net.transform_adjoint = &forward_adjoint;
    net.inverse_adjoint = &backward;
    net.layer = chain.layers[0];
    net.output_activation = Activation(output_activation);
    net.grad_x = out<T>(grad_x);
    // blocks depend on the sizes alone: the same bits for any number of threads; 32 keep a machine busy
    constexpr int64_t kBlocks = 32, kShortest = 32;
    net.block = std::max(kShortest, ceil_div(ceil_div(net.samples, kBlocks), kShortest) * kShortest);
    const int64_t blocks = std::max<int64_t>(ceil_div(net.samples, net.block), 1);
    const int64_t weights = weight.numel(), biases = net.branches * net.layer.out;
    CallMemory memory(CallMemory::bytes_for<T>(blocks * weights) + CallMemory::bytes_for<T>(blocks * biases));
    net.weight_sums = memory.take<T>(blocks * weights);
    net.bias_sums = bias ? memory.take<T>(blocks * biases) : nullptr;
    parallel_for(0, blocks, 1, [&](int64_t begin, int64_t end) { kernels<T>().tube_gradients(net, begin, end); });
    parallel_for(0, weights, 1 << 15, [&](int64_t begin, int64_t end) {
      add_blocks(net.weight_sums, blocks, weights, out<T>(grad_weight), begin, end);
    });
    if (bias) add_blocks(net.bias_sums, blocks, biases, out<T>(grad_bias), 0, biases);
  });
}

STABLE_TORCH_LIBRARY_IMPL(spectral_native, CPU, m) {
  SPECTRAL_OP(m, spectral_linear_backward, &spectral_linear_backward);
}

}  // namespace spectral
