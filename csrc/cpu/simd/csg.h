// The kernels of generated filters, and how much of the work is one item.
#pragma once
#include "tile.h"

namespace spectral::SPECTRAL_LEVEL {

inline constexpr int64_t kCodeBlock = 2 * 14;       // slices whose code gradients share a chunk of the generator in L1
inline constexpr int64_t kGeneratorBlock = 3 * 16;  // positions whose gradients share a chunk of the codes in L1
template <class T> inline constexpr CsgItems kCsgItems = {kTile<T>, kCodeBlock, kGeneratorBlock};

template <class T> void csg(const Csg<T>& g, int64_t begin, int64_t end);
template <class T> void csg_pack(const Csg<T>& g, int64_t begin, int64_t end);
template <class T> void csg_code_gradients(const Csg<T>& g, int64_t begin, int64_t end);
template <class T> void csg_generator_gradients(const Csg<T>& g, int64_t begin, int64_t end);

}  // namespace spectral::SPECTRAL_LEVEL
