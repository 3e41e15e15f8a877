// What this level offers to csrc/cpu/level.cpp.
#include "network.h"

namespace spectral::SPECTRAL_LEVEL {

extern const Kernels<float> float_kernels = {kTile<float>, network<float>,  gradients<float>,
                                             tubes<float>, ensemble<float>, ensemble_gradients<float>};
extern const Kernels<double> double_kernels = {kTile<double>, network<double>,  gradients<double>,
                                               tubes<double>, ensemble<double>, ensemble_gradients<double>};

}  // namespace spectral::SPECTRAL_LEVEL
