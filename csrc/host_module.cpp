// spectral_ops._host: what was built and what this processor can do, for `spectral doctor` and the tests of the tile
// rows. Takes no tensors, and no op needs it.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <map>
#include <string>
#include <vector>

#include "tiles.h"

namespace py = pybind11;

namespace {

const char* level_name(spectral::Level level) {
  switch (level) {
    case spectral::Level::avx512: return "avx512";
    case spectral::Level::avx2: return "avx2";
    case spectral::Level::portable: return "portable";
  }
  return "unknown";
}

std::map<std::string, std::string> build_facts() {
  return {{"compiler", SPECTRAL_COMPILER}, {"levels", SPECTRAL_LEVELS}, {"built", __DATE__}};
}

// Instruction sets that the level choice depends on, as the processor and the operating system offer them.
std::map<std::string, bool> cpu_features() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  return {{"avx2", __builtin_cpu_supports("avx2") != 0},         {"fma", __builtin_cpu_supports("fma") != 0},
          {"avx512f", __builtin_cpu_supports("avx512f") != 0},   {"avx512dq", __builtin_cpu_supports("avx512dq") != 0},
          {"avx512bw", __builtin_cpu_supports("avx512bw") != 0}, {"avx512vl", __builtin_cpu_supports("avx512vl") != 0}};
#else
  return {};
#endif
}

std::vector<py::dict> cpu_tiles() {
  std::vector<py::dict> rows;
  for (const spectral::CpuTile& t : spectral::kCpuTiles) {
    py::dict row;
    row["level"] = level_name(t.level);
    row["scalar_bytes"] = t.scalar_bytes;
    row["registers"] = t.registers;
    row["registers_used"] = t.registers_used();
    row["lanes"] = t.lanes;
    row["vectors"] = t.vectors;
    row["rows"] = t.rows;
    rows.push_back(row);
  }
  return rows;
}

}  // namespace

PYBIND11_MODULE(_host, m) {
  m.doc() = "Build facts, processor features and tile rows of spectral_ops.";
  m.def("build_facts", &build_facts, "Compiler, SIMD levels and date of this build.");
  m.def("cpu_features", &cpu_features, "Instruction sets of this processor; empty on other architectures than x86-64.");
  m.def("cpu_tiles", &cpu_tiles, "The rows of csrc/tiles.h, one dict each.");
}
