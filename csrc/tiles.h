// Tile sizes as data: one row per SIMD level and scalar size. Torch-free, and free of standard library templates:
// kernels that are compiled for several instruction sets include it.
#pragma once

namespace spectral {

enum class Level { portable, avx2, avx512 };

// Register block of the matrix kernels: `rows` outputs times `vectors` SIMD vectors of samples are accumulated.
struct CpuTile {
  Level level;
  int scalar_bytes;
  int registers;  // vector registers of the instruction set
  int lanes;      // scalars in one vector
  int vectors;
  int rows;

  constexpr int samples() const { return lanes * vectors; }
  // accumulators, the vectors of one input feature, and one broadcast weight
  constexpr int registers_used() const { return rows * vectors + vectors + 1; }
};

// AVX-512 keeps 14 x 2 accumulators of 32 registers: two such blocks are the 28 features of an MNIST row, and 28 chains
// of fused multiply-adds hide the latency of 4 cycles on 2 ports (8 would do). 16 registers hold 6 x 2.
inline constexpr CpuTile kCpuTiles[] = {
    {Level::avx512, 4, 32, 16, 2, 14}, {Level::avx512, 8, 32, 8, 2, 14},  {Level::avx2, 4, 16, 8, 2, 6},
    {Level::avx2, 8, 16, 4, 2, 6},     {Level::portable, 4, 16, 4, 2, 6}, {Level::portable, 8, 16, 2, 2, 6},
};

consteval CpuTile cpu_tile(Level level, int scalar_bytes) {
  for (const CpuTile& tile : kCpuTiles)
    if (tile.level == level && tile.scalar_bytes == scalar_bytes) return tile;
  throw "no tile row for this level and scalar size";  // in a consteval function: a compile error
}

consteval bool tiles_fit() {
  for (const CpuTile& t : kCpuTiles) {
    const int vector_bytes = t.level == Level::avx512 ? 64 : t.level == Level::avx2 ? 32 : 16;
    if (t.registers_used() > t.registers || t.lanes * t.scalar_bytes != vector_bytes) return false;
  }
  return true;
}
static_assert(tiles_fit(), "a tile row spills registers or does not fill its vectors");

}  // namespace spectral
