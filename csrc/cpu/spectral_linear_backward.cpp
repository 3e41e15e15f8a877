#include "drive.h"

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

}  // namespace

// grad_y (N, O, Q), x (N, I, Q), y (N, O, Q) -> grad_x (N, I, Q) or none, grad_weight (Q', O, I), grad_bias (Q', O) or
// none
void spectral_linear_backward(const Tensor& grad_y, const Tensor& x, const Tensor& y, const Tensor& transform,
                              const Tensor& weight, std::optional<Tensor> bias, int64_t activation,
                              const Tensor& inverse, int64_t output_activation, std::optional<Tensor> grad_x,
                              const Tensor& grad_weight, std::optional<Tensor> grad_bias) {
  visit_real(x.scalar_type(), "spectral_linear_backward", [&](auto zero) {
    using T = decltype(zero);
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
