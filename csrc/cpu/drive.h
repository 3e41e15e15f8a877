// From tensors to the arguments of the kernels in kernels.h: packed weights, tube matrices, work items.
#pragma once
#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <optional>
#include <vector>

#include "../torch.h"
#include "kernels.h"

namespace spectral {

using Tensors = std::vector<Tensor>;
using OptionalTensors = std::vector<std::optional<Tensor>>;

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Work memory of one call: from the thread's arena when small, and given back when large.
class CallMemory {
 public:
  explicit CallMemory(int64_t bytes) {
    constexpr int64_t kKeep = 32 << 20;
    if (bytes > kKeep) {
      large_.reset(std::aligned_alloc(64, ceil_div(bytes, 64) * 64));
      if (!large_) throw std::bad_alloc();
    }
    next_ = static_cast<char*>(large_ ? large_.get() : scratch(Slot::call, bytes));
  }
  // `bytes_for` says what `take` will need in all.
  template <class T> static int64_t bytes_for(int64_t values) { return ceil_div(values * int64_t(sizeof(T)), 64) * 64; }
  template <class T> T* take(int64_t values) {
    T* taken = reinterpret_cast<T*>(next_);
    next_ += bytes_for<T>(values);
    return taken;
  }

 private:
  struct Free {
    void operator()(void* p) const { std::free(p); }
  };
  std::unique_ptr<void, Free> large_;
  char* next_;
};

// A tube matrix packed for the kernels. The symmetry of a DCT is found in the numbers: nobody has to declare it.
template <class T> struct PackedTube {
  std::vector<T> values;
  TubeMatrix<T> matrix;

  explicit PackedTube(const Tensor& t) : PackedTube(in<T>(t), t.size(0), t.size(1)) {}
  PackedTube(const T* m, int64_t rows, int64_t columns) { pack(m, rows, columns); }

  // Of a transform of length n, by its table: a square matrix; or (n / 2 + 2, n): a, b, and the rows of U and V side by
  // side; or, in rows of a fraction of n, the square matrix of that length, and behind it tables of (n / 2 + 2, n) for
  // that length, twice that and so on up to n / 2, with which it grows.
  static PackedTube of_transform(const Tensor& t, int64_t n) {
    const int64_t least = t.size(1);
    if (t.size(0) == least) return PackedTube(t);
    if (least == n) return rotated(in<T>(t), n);
    const T* next = in<T>(t);
    PackedTube tube(next, least, least);
    next += least * least;
    for (int64_t length = least; length < n; length *= 2) {
      tube = split(std::move(tube), rotated(next, length));
      next += (length / 2 + 2) * length;
    }
    return tube;
  }

  const TubeMatrix<T>* operator&() const { return &matrix; }

 private:
  using Kind = typename TubeMatrix<T>::Kind;

  T* next = nullptr;               // where `take` writes
  std::vector<PackedTube> halves;  // of a split matrix, whose `halves` they are

  PackedTube() = default;
  static PackedTube rotated(const T* t, int64_t n) {
    PackedTube tube;
    tube.pack_rotated(t, n);
    return tube;
  }
  static PackedTube split(PackedTube same, PackedTube fourth) {
    PackedTube tube;
    const int64_t n = same.matrix.rows + fourth.matrix.rows;
    const bool swapped = fourth.matrix.sign < 0;
    tube.halves.push_back(std::move(swapped ? fourth : same));
    tube.halves.push_back(std::move(swapped ? same : fourth));
    tube.matrix = {Kind::split, n, n, nullptr, nullptr, nullptr};
    for (int i = 0; i < 2; ++i) tube.matrix.halves[i] = &tube.halves[i];
    return tube;
  }
  void reserve(int64_t count) {
    values.resize(std::max<int64_t>(count, 1));
    next = values.data();
  }

  // The rows first, first + step, ... below `row_end` and columns likewise of m, whose rows are ld apart, column by
  // column behind what is packed already.
  const T* take(const T* m, int64_t ld, int64_t row, int64_t row_end, int64_t row_step, int64_t column,
                int64_t column_end, int64_t column_step) {
    const T* start = next;
    for (int64_t q = column; q < column_end; q += column_step)
      for (int64_t p = row; p < row_end; p += row_step) *next++ = m[p * ld + q];
    return start;
  }

  void pack_rotated(const T* t, int64_t n) {
    const int64_t half = n / 2, terms = (half + 1) / 2;
    reserve(2 * n + 2 * half * terms);
    matrix = {Kind::rotated, n, n, nullptr, nullptr, nullptr};
    matrix.rotation = take(t, n, 0, 1, 1, 0, 2 * n, 1);
    matrix.sign = t[0] > t[n] ? T(1) : T(-1);  // the first angle is small: its cosine meets x_0, or x_(n-1)
    const T *u = t + 2 * n, *v = u + half;
    matrix.even = take(u, n, 0, half, 2, 0, terms, 1);
    matrix.odd = take(u, n, 1, half, 2, 0, terms, 1);
    take(v, n, 0, half, 2, 0, terms, 1);
    take(v, n, 1, half, 2, 0, terms, 1);
  }

  void pack(const T* m, int64_t rows, int64_t columns) {
    const auto at = [&](int64_t p, int64_t q) { return m[p * columns + q]; };
    const auto analysis = [&] {
      for (int64_t p = 0; p < rows; ++p)
        for (int64_t q = 0; q < columns / 2; ++q)
          if (at(p, columns - 1 - q) != (p % 2 ? -at(p, q) : at(p, q))) return false;
      for (int64_t p = 1; columns % 2 && p < rows; p += 2)
        if (at(p, columns / 2) != 0) return false;
      return columns > 3;
    };
    const auto synthesis = [&] {
      for (int64_t p = 0; p < rows / 2; ++p)
        for (int64_t q = 0; q < columns; ++q)
          if (at(rows - 1 - p, q) != (q % 2 ? -at(p, q) : at(p, q))) return false;
      for (int64_t q = 1; rows % 2 && q < columns; q += 2)
        if (at(rows / 2, q) != 0) return false;
      return rows > 3;
    };
    reserve((rows + 1) * (columns + 1));  // odd lengths keep their zero middle
    const auto part = [&](int64_t row, int64_t row_end, int64_t row_step, int64_t column, int64_t column_end,
                          int64_t step) { return take(m, columns, row, row_end, row_step, column, column_end, step); };
    if (analysis()) {
      const T* even = part(0, rows, 2, 0, ceil_div(columns, 2), 1);
      matrix = {Kind::analysis, rows, columns, nullptr, even, part(1, rows, 2, 0, ceil_div(columns, 2), 1)};
    } else if (synthesis()) {
      const T* even = part(0, ceil_div(rows, 2), 1, 0, columns, 2);
      matrix = {Kind::synthesis, rows, columns, nullptr, even, part(0, ceil_div(rows, 2), 1, 1, columns, 2)};
    } else {
      matrix = {Kind::dense, rows, columns, part(0, rows, 1, 0, columns, 1), nullptr, nullptr};
    }
  }
};

// The packed tube of `table`: of a transform of length n, or of a matrix as it is (n = 0). A thread keeps those of its
// last few small tables, and finds them again by their numbers: to compare takes a tenth of the time of packing, which
// is a fifth of a small call.
template <class T> std::shared_ptr<const PackedTube<T>> packed(const Tensor& table, int64_t n = 0) {
  struct Kept {
    int64_t n = 0, columns = 0;
    std::vector<T> values;
    std::shared_ptr<const PackedTube<T>> tube;
  };
  constexpr int64_t kLargest = 1 << 14;
  static thread_local std::array<Kept, 4> kept;  // a transform along two dimensions, and its gradient
  static thread_local size_t calls = 0;
  const T* values = in<T>(table);
  const int64_t columns = table.size(1), count = table.numel();
  for (const Kept& k : kept)
    if (k.tube && k.n == n && k.columns == columns && std::ssize(k.values) == count &&
        std::memcmp(values, k.values.data(), count * sizeof(T)) == 0)
      return k.tube;
  auto tube = std::make_shared<const PackedTube<T>>(n ? PackedTube<T>::of_transform(table, n) : PackedTube<T>(table));
  if (count <= kLargest) kept[calls++ % kept.size()] = {n, columns, {values, values + count}, tube};
  return tube;
}

// A complex tube matrix with its parts packed; sign: of the imaginary part, -1 for an inverse that gives real tubes.
template <class T> struct PackedComplexTube {
  std::vector<T> parts;
  ComplexTube<T> matrix;

  explicit PackedComplexTube(const Tensor& t, T sign = 1) : PackedComplexTube(in<T>(t), t.size(0), t.size(1), sign) {}
  PackedComplexTube(const T* m, int64_t rows, int64_t columns, T sign) {
    parts.reserve(2 * rows * columns + 1);
    for (int part = 0; part < 2; ++part)
      for (int64_t q = 0; q < columns; ++q)
        for (int64_t p = 0; p < rows; ++p) parts.push_back(m[2 * (p * columns + q) + part] * (part ? sign : T(1)));
    matrix = {rows, columns, m, parts.data(), parts.data() + rows * columns};
  }
};

// The layers of a network.
template <class T> struct Chain {
  std::vector<Layer<T>> layers;
  int64_t widest = 0, operations = 0;  // operations: of one sample in one branch

  // offsets: of modrelu; none where no layer has one.
  Chain(const Tensors& weights, const OptionalTensors& biases, const std::vector<int64_t>& activations,
        const std::vector<double>& offsets = {}) {
    for (size_t j = 0; j < weights.size(); ++j) {
      const int64_t out = weights[j].size(1), in = weights[j].size(2);
      layers.push_back({spectral::in<T>(weights[j]), spectral::in<T>(biases[j]), in, out, Activation(activations[j]),
                        offsets.empty() ? T(0) : T(offsets[j])});
      widest = std::max({widest, in, out});
      operations += 2 * in * out;
    }
  }
  int64_t depth() const { return layers.size(); }
};

// How many items a thread should take at least, so that a thread's share is worth waking it (about 2 us of arithmetic).
inline int64_t grain(int64_t operations_of_item) {
  return std::max<int64_t>(1, 200000 / std::max<int64_t>(operations_of_item, 1));
}

// total[i] = sums[0][i] + sums[1][i] + ..., in this order, for i in [begin, end); a block has `values` values.
template <class T>
void add_blocks(const T* sums, int64_t blocks, int64_t values, T* total, int64_t begin, int64_t end) {
  std::copy(sums + begin, sums + end, total + begin);
  for (int64_t block = 1; block < blocks; ++block)
    for (int64_t i = begin; i < end; ++i) total[i] += sums[block * values + i];
}

// Into how many ranges the branches are shared out, where each writes its own output. Without a transform each is one:
// its weights stay near while its tiles pass. A transform gives all branches of a tile, so that ranges repeat its
// input; few tiles share the branches between threads.
inline int64_t branch_ranges(int64_t tiles, int64_t branches, bool transforms) {
  const int64_t threads = num_threads(), wanted = !transforms ? branches : tiles <= 2 * threads ? threads : 1;
  return std::clamp<int64_t>(wanted, 1, std::max<int64_t>(branches, 1));
}

// Runs the network kernel.
template <class T> void run(Network<T> net, int64_t layer_operations) {
  const int64_t tiles = ceil_div(net.samples, kernels<T>().tile);
  int64_t operations = net.branches * layer_operations;
  if (net.transform) operations += 2 * net.in * net.transform->rows * net.transform->columns;
  if (net.inverse) operations += 2 * net.out * net.inverse->rows * net.inverse->columns;
  // a synthesis matrix gives all its rows at once, and an inverse or a mixture wants all branches of a tile
  const bool whole =
      net.inverse || net.branch_weights || (net.transform && net.transform->kind == TubeMatrix<T>::Kind::synthesis);
  net.ranges = whole ? 1 : branch_ranges(tiles, net.branches, net.transform);
  parallel_for(0, tiles * net.ranges, grain(kernels<T>().tile * operations / net.ranges),
               [&](int64_t begin, int64_t end) { kernels<T>().network(net, begin, end); });
}

template <class T> void run(ComplexNetwork<T> c, int64_t layer_operations) {
  Network<T>& net = c.net;
  const int64_t tiles = ceil_div(net.samples, kernels<T>().complex_tile);
  int64_t operations = 4 * net.branches * layer_operations;
  if (c.transform) operations += 8 * net.in * c.transform->rows * c.transform->columns;
  if (c.inverse) operations += 8 * net.out * c.inverse->rows * c.inverse->columns;
  net.ranges = c.inverse || net.branch_weights ? 1 : branch_ranges(tiles, net.branches, c.transform);
  parallel_for(0, tiles * net.ranges, grain(kernels<T>().complex_tile * operations / net.ranges),
               [&](int64_t begin, int64_t end) { kernels<T>().complex_network(c, begin, end); });
}

}  // namespace spectral
