// Convolutions in Tucker form: from the arguments of the ops to those of the kernel.
#pragma once
#include <numeric>

#include "drive.h"

namespace spectral::cuda {

using Ints = std::vector<int64_t>;

// Windows and tiles; images (N, C, H, W) in channels_last or as they are printed.
struct TuckerGeometry {
  const Tensor& core;
  Ints stride, padding, dilation, tile;
  bool channels_last;

  TuckerImage image(const Tensor& t) const {
    const int64_t channels = t.size(1), plane = t.size(2) * t.size(3);
    return {int(channels / core.size(0)), int(t.size(2)), int(t.size(3)), channels * plane, channels_last ? 1 : plane,
            channels_last ? channels : 1};
  }

  TuckerAxis axis(int k, int size, bool back) const {
    TuckerAxis a{int(core.size(1 + k)), int(stride[k]), int(padding[k]), int(dilation[k]), int(tile[k]), 0, 0, 1};
    const int reach = a.dilation * (a.window - 1), pixels = back ? (size + a.stride - 1) / a.stride : size;
    a.tiles = (pixels + a.tile - 1) / a.tile;
    if (back) {
      a.halo = a.tile + (reach + a.stride - 1) / a.stride;
    } else {
      // no row between those that taps read
      a.step = a.window == 1 ? a.stride : std::gcd(a.stride, a.dilation);
      a.halo = (a.tile - 1) * (a.stride / a.step) + reach / a.step + 1;
    }
    return a;
  }

  // The stages from an image to one like `to`.
  template <class T> Tucker<T> stages(const Tensor& from, const Tensor& to, const Tensor& u_from, const Tensor& u_to,
                                      bool back, int64_t most_blocks) const {
    Tucker<T> t{};
    t.groups = int(core.size(0));
    t.back = back;
    t.from = image(from);
    t.to = image(to);
    t.axes[0] = axis(0, t.to.height, back);
    t.axes[1] = axis(1, t.to.width, back);
    t.source = in<T>(from);
    t.ranks[0] = int(u_from.size(1));
    t.ranks[1] = int(u_to.size(1));
    t.factors[0] = in<T>(u_from);
    t.factors[1] = in<T>(u_to);
    t.core = in<T>(core);
    int64_t items = from.size(0) * t.axes[0].tiles * t.axes[1].tiles;
    if (back) items *= stride[0] * stride[1];
    t.items = unsigned(items);
    t.blocks = int(std::min(items, std::max<int64_t>(1, most_blocks / t.groups)));
    return t;
  }
};

}  // namespace spectral::cuda
