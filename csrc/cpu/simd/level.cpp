// What this level offers to csrc/cpu/level.cpp.
#include "csg.h"
#include "network.h"
#include "rows.h"
#include "states.h"

namespace spectral::SPECTRAL_LEVEL {

template <class T> inline constexpr Kernels<T> kernels_of = {
    kTile<T>,
    kLanes<T>,
    kRecurrentTile<T>,
    network<T>,
    complex_network<T>,
    complex_layer<T>,
    state_rows<T>,
    gradients<T>,
    tube_gradients<T>,
    tube_items<T>,
    tubes<T>,
    plane_items<T>,
    planes<T>,
    slice_items<T>,
    slices<T>,
    long_items<T>,
    long_tubes<T>,
    ensemble<T>,
    ensemble_gradients<T>,
    hadamard_items<T>,
    hadamard<T>,
    recurrent<T>,
    recurrent_gradients<T>,
    kCsgItems<T>,
    csg<T>,
    csg_pack<T>,
    csg_code_gradients<T>,
    csg_generator_gradients<T>,
};
extern const Kernels<float> float_kernels = kernels_of<float>;
extern const Kernels<double> double_kernels = kernels_of<double>;

}  // namespace spectral::SPECTRAL_LEVEL
