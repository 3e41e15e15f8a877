// A convolution of images so small that each pixel of y sees each pixel of x, through one tap: the other taps meet
// padding only. As one matrix from all pixels to all it takes fewer operations, in a product.
#pragma once
#include <algorithm>

#include "convolution.h"
#include "drive.h"

namespace spectral {

// Of images with channels last: x (N, C, H, W) as rows (N, H W C), y (N, O, H', W') as (N, H' W' O), and between them
// the matrix (H' W' O, H W C), which has the taps of weight (O, C, kh, kw) that lead from pixel to pixel.
class SmallImages {
 public:
  // Whether the matrix is faster: its entries are made anew in each call, for all images together.
  static bool fit(const Tensor& x, const Tensor& weight, const Convolution& by) {
    if (by.groups != 1 || x.size(0) < kSeveral || 2 * x.size(2) * x.size(3) > weight.size(2) * weight.size(3))
      return false;
    for (int d = 0; d < 2; ++d) {
      const int64_t n = x.size(2 + d), k = weight.size(2 + d);
      const bool first = by.padding[d] >= (length(n, k, by, d) - 1) * by.stride[d], last = n - 1 + by.padding[d] < k;
      if (by.dilation[d] != 1 || !first || !last) return false;
    }
    return true;
  }

  SmallImages(const Tensor& x, const Tensor& weight, const Convolution& by)
      : inputs_(weight.size(1)),
        outputs_(weight.size(0)),
        window_(weight.size(2) * weight.size(3)),
        before_(x.size(2) * x.size(3)),
        height_(length(x.size(2), weight.size(2), by, 0)),
        width_(length(x.size(3), weight.size(3), by, 1)) {
    for (int64_t i = 0; i < height_; ++i)
      for (int64_t j = 0; j < width_; ++j)
        for (int64_t p = 0; p < x.size(2); ++p)
          for (int64_t q = 0; q < x.size(3); ++q) {
            const int64_t row = p - i * by.stride[0] + by.padding[0], column = q - j * by.stride[1] + by.padding[1];
            taps_.push_back(row * weight.size(3) + column);
          }
  }

  Tensor rows_of(const Tensor& images) const {
    const int64_t values = images.size(1) * images.size(2) * images.size(3);
    return seen(images, {images.size(0), values}, {values, 1});
  }

  Tensor like_y(const Tensor& x) const { return Order{true}.empty(x, {x.size(0), outputs_, height_, width_}); }

  Tensor matrix(const Tensor& weight) const {
    const Tensor taps = Order{true}.of(weight), made = torch::stable::new_empty(weight, {after() * outputs_, row()});
    visit_real(weight.scalar_type(), "tucker_conv2d", [&](auto zero) {
      using T = decltype(zero);
      const T* from = in<T>(taps);
      T* to = out<T>(made);
      each([&](int64_t tap, int64_t entry) { std::copy_n(from + tap, inputs_, to + entry); });
    });
    return made;
  }

  // The gradient of weight, from that of the matrix.
  Tensor gradient(const Tensor& weight, const Tensor& grad) const {
    const Tensor made = Order{true}.empty(weight, inputs_);
    visit_real(weight.scalar_type(), "tucker_conv2d", [&](auto zero) {
      using T = decltype(zero);
      const T* from = in<T>(grad);
      T* to = out<T>(made);
      std::fill_n(to, made.numel(), T(0));
      each([&](int64_t tap, int64_t entry) {
        for (int64_t c = 0; c < inputs_; ++c) to[tap + c] += from[entry + c];
      });
    });
    return made;
  }

 private:
  static constexpr int64_t kSeveral = 8;  // as in spectral_ops/ops/tucker_stages.py

  int64_t inputs_, outputs_, window_, before_, height_, width_;
  std::vector<int64_t> taps_;  // of each pixel of y and of x

  static int64_t length(int64_t n, int64_t k, const Convolution& by, int d) {
    return (n + 2 * by.padding[d] - by.dilation[d] * (k - 1) - 1) / by.stride[d] + 1;
  }

  int64_t after() const { return height_ * width_; }
  int64_t row() const { return before_ * inputs_; }

  // f(where the inputs of a tap begin in weight, where in the matrix), an output channel on one thread
  template <class F> void each(const F& f) const {
    parallel_for(0, outputs_, grain(after() * row()), [&](int64_t begin, int64_t end) {
      for (int64_t o = begin; o < end; ++o)
        for (int64_t y = 0; y < after(); ++y)
          for (int64_t x = 0; x < before_; ++x)
            f((o * window_ + taps_[y * before_ + x]) * inputs_, (y * outputs_ + o) * row() + x * inputs_);
    });
  }
};

}  // namespace spectral
