#include "recurrent.h"

namespace spectral {

// grad_y (T, Q, N, O), grad_h (Q, N, P) and grad_states (T, Q, N, P), or none, and the layer with its states
// -> grad_x (T, Q, N, I) or none, and the gradients of weights, bias and h0. Blocks of samples depend on the sizes
// alone: the same bits for any number of threads. About 32 items are enough to keep a machine busy.
void branch_rnn_backward(std::optional<Tensor> grad_y, std::optional<Tensor> grad_h, std::optional<Tensor> grad_states,
                         const Tensor& x, const Tensor& weight_x, const Tensor& weight_h, const Tensor& weight_y,
                         std::optional<Tensor> bias, const Tensor& h0, const Tensor& states, int64_t activation_h,
                         double offset_h, int64_t activation_y, double offset_y, std::optional<Tensor> lengths,
                         std::optional<Tensor> grad_x, const Tensor& grad_weight_x, const Tensor& grad_weight_h,
                         const Tensor& grad_weight_y, std::optional<Tensor> grad_bias, const Tensor& grad_h0) {
  visit_number(x.scalar_type(), "branch_rnn_backward", [&](auto zero) {
    using T = decltype(zero);
    RecurrentGradients<T> net{};
    net.layer = recurrent_layer<T>(x, weight_x, weight_h, weight_y, bias, h0, activation_h, offset_h, activation_y,
                                   offset_y, lengths);
    net.layer.tile = kernels<T>().recurrent_tile;
    net.states = in<T>(states);
    net.grad_y = in<T>(grad_y);
    net.grad_last = in<T>(grad_h);
    net.grad_states = in<T>(grad_states);
    net.grad_x = out<T>(grad_x);
    net.grad_h0 = out<T>(grad_h0);

    constexpr int64_t kItems = 32, kShortest = 64;
    const int64_t branches = net.layer.branches, samples = net.layer.samples;
    const int64_t wanted = ceil_div(kItems, std::max<int64_t>(branches, 1));
    int64_t blocks = std::max<int64_t>(ceil_div(samples, std::max(kShortest, ceil_div(samples, wanted))), 1);
    net.block = ceil_div(samples, blocks);
    blocks = net.block ? ceil_div(samples, net.block) : 1;  // without samples one empty block writes zeros

    const int64_t parts = net.layer.complex ? 2 : 1;
    struct Sum {
      T* total;
      int64_t values;  // of all branches
      T** partial;
    };
    const Sum sums[] = {{out<T>(grad_weight_x), parts * weight_x.numel(), &net.sums_x},
                        {out<T>(grad_weight_h), parts * weight_h.numel(), &net.sums_h},
                        {out<T>(grad_weight_y), parts * weight_y.numel(), &net.sums_y},
                        {out<T>(grad_bias), bias ? parts * bias->numel() : 0, &net.sums_bias}};
    int64_t bytes = 0;
    for (const Sum& sum : sums) bytes += blocks > 1 ? CallMemory::bytes_for<T>(blocks * sum.values) : 0;
    CallMemory memory(bytes);
    for (const Sum& sum : sums)
      if (sum.total) *sum.partial = blocks > 1 ? memory.take<T>(blocks * sum.values) : sum.total;
    parallel_for(0, blocks * branches, grain(2 * net.layer.steps * net.block * operations_of_a_step(net.layer)),
                 [&](int64_t begin, int64_t end) { kernels<T>().recurrent_gradients(net, begin, end); });
    for (const Sum& sum : sums)
      if (sum.total && blocks > 1)
        parallel_for(0, sum.values, 1 << 15, [&](int64_t begin, int64_t end) {
          add_blocks(*sum.partial, blocks, sum.values, sum.total, begin, end);
        });
  });
}

STABLE_TORCH_LIBRARY_IMPL(spectral_native, CPU, m) { SPECTRAL_OP(m, branch_rnn_backward, &branch_rnn_backward); }

}  // namespace spectral
