// Which device launches go to. The CUDA run time is linked statically, apart from torch's: what torch's device guard
// makes current there has to be said here, too.
#include "../kernels.h"
#include "../tile.cuh"

namespace spectral::cuda {

#ifdef SPECTRAL_EMULATE
void set_device(int) {}
#else
void set_device(int device) { check(cudaSetDevice(device)); }
#endif

}  // namespace spectral::cuda
