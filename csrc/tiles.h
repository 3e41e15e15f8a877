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

// How one layer of complex branches multiplies, features in lanes: x enters as broadcast scalars, as it lies in memory.
// planar: the parts of the weights in vectors of their own and three multiplications instead of four (Gauss), so three
// accumulators for each vector of outputs. pairs: vectors of (re, im), which the two parts of x multiply.
enum class ComplexForm { pairs, planar };

struct ComplexTile {
  int registers;
  ComplexForm form;
  int vectors;
  int samples;

  constexpr int products() const { return form == ComplexForm::planar ? 3 : 2; }
  // accumulators, the vectors of one feature's weights, and one broadcast value
  constexpr int registers_used() const { return samples * vectors * products() + vectors + 1; }
};

// By the vectors that are multiplied for each feature and sample: up to half a vector of outputs, one vector holds both
// parts and pairs take 2 where planar takes 3; else planar takes 3 for a vector where pairs take 4. Two vectors at a
// time halve the broadcasts. Measured for float32 under AVX-512 with N = 1024, one thread, beside the library's batched
// product: at 28 x 28 planar takes 0.75 of its time, four multiplications in the same place 0.8, and samples in lanes
// (the tile of a network, transposed in and out for one product only) 1.2; at 16 x 16 planar with one vector 0.85, with
// two 1.2; at 8 x 8 pairs 0.85.
inline constexpr ComplexTile kComplexTiles[] = {
    {32, ComplexForm::pairs, 1, 12}, {32, ComplexForm::planar, 1, 8}, {32, ComplexForm::planar, 2, 4},
    {16, ComplexForm::pairs, 1, 6},  {16, ComplexForm::planar, 1, 4}, {16, ComplexForm::planar, 2, 2},
};

consteval ComplexTile complex_tile(int registers, ComplexForm form, int vectors) {
  for (const ComplexTile& tile : kComplexTiles)
    if (tile.registers == registers && tile.form == form && tile.vectors == vectors) return tile;
  throw "no tile row for this form of complex product";
}

consteval bool complex_tiles_fit() {
  for (const ComplexTile& t : kComplexTiles)
    if (t.registers_used() > t.registers) return false;
  return true;
}
static_assert(complex_tiles_fit(), "a tile row of complex products spills registers");

}  // namespace spectral
