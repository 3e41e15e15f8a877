// Registration of the CUDA kernels. No op has one yet: the library proves that the toolchain works and that it loads on
// a torch with CUDA and on one without.
#include "../torch.h"

STABLE_TORCH_LIBRARY_IMPL(spectral_native, CUDA, m) { (void)m; }
