// A convolution in Tucker form on the CPU is the library's products and convolutions. Called from here one after the
// other they leave no gaps in which threads go to sleep, as calls from Python do.
#include "convolution.h"
#include "small_images.h"

namespace spectral {

namespace {

using Sizes = std::vector<int64_t>;
using Three = std::tuple<Tensor, Tensor, Tensor>;
using Five = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;

// As in spectral_ops/ops/tucker_stages.py, which says why.
constexpr int64_t kFew = 16, kTall = 2048, kNarrow = 64, kMany = int64_t{1} << 20;

int64_t area(const Tensor& t) { return t.size(2) * t.size(3); }

// Images with channels last as a matrix, (pixels, channels).
Tensor pixels(const Tensor& t) { return seen(t, {t.size(0) * area(t), t.size(1)}, {t.size(1), 1}); }

// Images as a batch of matrices (pixels, channels), in whichever order they lie.
Tensor pixels_of_each(const Tensor& t, Order order) {
  const int64_t p = area(t), c = t.size(1);
  return seen(t, {t.size(0), p, c}, {p * c, order.last ? c : 1, order.last ? 1 : p});
}

Tensor turned(const Tensor& matrix) { return torch::stable::transpose(matrix, -2, -1); }

Tensor repeated(const Tensor& matrix, int64_t n) {
  return seen(matrix, {n, matrix.size(0), matrix.size(1)}, {0, matrix.stride(0), matrix.stride(1)});
}

void multiply(const Tensor& out, const Tensor& a, const Tensor& b) {
  const auto product = a.dim() == 2 ? aoti_torch_cpu_mm_out : aoti_torch_cpu_bmm_out;
  SPECTRAL_CHECK(product(out.get(), a.get(), b.get()) == AOTI_TORCH_SUCCESS, "the library's product failed");
}

// out = start + a b, start expanded to out's sizes
void multiply_and_add(const Tensor& out, const Tensor& start, const Tensor& a, const Tensor& b) {
  const auto product = a.dim() == 2 ? aoti_torch_cpu_addmm_out : aoti_torch_cpu_baddbmm_out;
  SPECTRAL_CHECK(product(out.get(), start.get(), a.get(), b.get(), 1, 1) == AOTI_TORCH_SUCCESS,
                 "the library's product failed");
}

// x (N, C, H, W) times u (C, r): its rank channels (N, r, H, W), last.
Tensor to_ranks(Order order, const Tensor& x, const Tensor& u) {
  const Order last{true};
  const Tensor h = last.empty(x, u.size(1));
  if (!order.last && area(x) > kFew) {
    multiply(pixels_of_each(h, last), pixels_of_each(x, order), repeated(u, x.size(0)));
  } else {
    const Tensor rows = pixels(last.of(x));
    multiply(pixels(h), rows, rows.size(0) >= kTall ? turned(torch::stable::contiguous(turned(u))) : u);
  }
  return h;
}

// Rank channels h (N, r, H, W), last, times u (O, r)^T, and bias: (N, O, H, W) in this order.
Tensor from_ranks(Order order, const Tensor& h, const Tensor& u, const std::optional<Tensor>& bias) {
  const int64_t n = h.size(0), o = u.size(0), values = n * o * area(h);
  if (!order.last && area(h) > kFew) {
    const Tensor y = order.empty(h, o);
    const Tensor planes = turned(pixels_of_each(y, order)), ranks = turned(pixels_of_each(h, Order{true}));
    if (bias)
      multiply_and_add(planes, seen(*bias, {n, o, area(h)}, {0, bias->stride(0), 0}), repeated(u, n), ranks);
    else
      multiply(planes, repeated(u, n), ranks);
    return y;
  }
  if ((bias || o <= kNarrow) && values >= kMany) {
    const Tensor weight = seen(u, {o, u.size(1), 1, 1}, {u.stride(0), u.stride(1), 1, 1});
    return order.of(Convolution{{1, 1}, {0, 0}, {1, 1}, 1}.forward(h, weight, bias));
  }
  const Tensor y = Order{true}.empty(h, o);
  if (bias)
    multiply_and_add(pixels(y), *bias, pixels(h), turned(u));
  else
    multiply(pixels(y), pixels(h), turned(u));
  return order.of(y);
}

// The sum over all pixels of the channels of x times those of h, which lie last: (C, r).
Tensor outer(Order order, const Tensor& x, const Tensor& h) {
  const int64_t c = x.size(1), r = h.size(1);
  if (!order.last) {
    const Tensor each = torch::stable::new_empty(x, {x.size(0), c, r});
    multiply(each, turned(pixels_of_each(x, order)), pixels_of_each(h, Order{true}));
    const int64_t images[] = {0};
    return torch::stable::sum(each, images);
  }
  const Tensor rows = pixels(x), ranks = pixels(h);
  const bool tall = rows.size(0) >= kTall;
  const Tensor product = torch::stable::new_empty(x, {tall ? r : c, tall ? c : r});
  multiply(product, turned(tall ? ranks : rows), tall ? rows : ranks);
  return tall ? turned(product) : product;
}

// The middle stage: h, the rank channels or x, through weight.
Tensor through(const Convolution& by, const Tensor& h, const Tensor& weight, const std::optional<Tensor>& bias) {
  if (bias || !SmallImages::fit(h, weight, by)) return by.forward(h, weight, bias);
  const SmallImages small(h, weight, by);
  const Tensor z = small.like_y(h);
  multiply(small.rows_of(z), small.rows_of(Order{true}.of(h)), turned(small.matrix(weight)));
  return z;
}

// The gradients of h and weight, each where it is wanted, from that of z.
std::array<Tensor, 2> back_through(const Convolution& by, const Tensor& grad_z, const Tensor& h, const Tensor& weight,
                                   bool want_h, bool want_weight) {
  if (!SmallImages::fit(h, weight, by)) {
    const auto [grad_h, grad_weight, none] = by.backward(grad_z, h, weight, {want_h, want_weight, false});
    return {grad_h, grad_weight};
  }
  const SmallImages small(h, weight, by);
  const Tensor rows = small.rows_of(Order{true}.of(grad_z));
  std::array<Tensor, 2> grads;
  if (want_h) {
    grads[0] = Order{true}.empty(h, h.size(1));
    multiply(small.rows_of(grads[0]), rows, small.matrix(weight));
  }
  if (want_weight) {
    const Tensor from = small.rows_of(Order{true}.of(h));
    const Tensor all = torch::stable::new_empty(h, {rows.size(1), from.size(1)});
    multiply(all, turned(rows), from);
    grads[1] = small.gradient(weight, all);
  }
  return grads;
}

}  // namespace

// x (N, C, H, W), in the order that channels_last says, through u_in (C, r_in), weight (r_out, r_in, kh, kw) and u_out
// (O, r_out): y in the same order, the rank channels before weight and those after it. Without a factor x or y stands
// for them.
Three tucker_stages(const Tensor& x, const Tensor& weight, std::optional<Tensor> u_in, std::optional<Tensor> u_out,
                    std::optional<Tensor> bias, Sizes stride, Sizes padding, Sizes dilation, bool channels_last) {
  const Order order{channels_last};
  const Tensor h = u_in ? to_ranks(order, x, *u_in) : x;
  const Tensor z = through({stride, padding, dilation, 1}, h, weight, u_out ? std::nullopt : bias);
  if (!u_out) return {order.of(z), h, z};
  const Tensor ranks = Order{true}.of(z);
  return {from_ranks(order, ranks, *u_out, bias), h, ranks};
}

// The gradients of x, weight, u_in, u_out and bias, each where it is wanted, from that of y, in the same order.
Five tucker_stages_backward(const Tensor& grad, const Tensor& x, const Tensor& weight, std::optional<Tensor> u_in,
                            std::optional<Tensor> u_out, const Tensor& h, const Tensor& z, bool want_x,
                            bool want_weight, bool want_in, bool want_out, bool want_bias, Sizes stride, Sizes padding,
                            Sizes dilation, bool channels_last) {
  const Order order{channels_last};
  const int64_t all[] = {0, 2, 3};
  const Tensor grad_z = u_out ? to_ranks(order, grad, *u_out) : grad;
  const bool into_ranks = want_x || want_in;
  const auto [grad_h, grad_weight] =
      back_through({stride, padding, dilation, 1}, grad_z, h, weight, into_ranks, want_weight);
  const Tensor none, back = !into_ranks ? none : u_in ? Order{true}.of(grad_h) : order.of(grad_h);
  return {want_x && u_in ? from_ranks(order, back, *u_in, std::nullopt) : back, grad_weight,
          want_in ? outer(order, x, back) : none, want_out ? outer(order, grad, z) : none,
          want_bias ? torch::stable::sum(grad, all) : none};
}

STABLE_TORCH_LIBRARY_IMPL(spectral_native, CPU, m) {
  SPECTRAL_OP(m, tucker_stages, &tucker_stages);
  SPECTRAL_OP(m, tucker_stages_backward, &tucker_stages_backward);
}

}  // namespace spectral
