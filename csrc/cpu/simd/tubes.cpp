// The DCT of short tubes along one dimension of a dense tensor, x (outer, n, inner), or along two, x (outer, n1,
// middle, n2, inner), where what the first pass gives stays in cache for the second.
#include "tube_pass.h"

namespace spectral::SPECTRAL_LEVEL {

template <class T> int64_t tube_items(const Tubes<T>& t) {
  if (t.inner == 1) return ceil_div(t.outer, TubePass<T>::tubes_an_item(*t.matrix));
  return TubePass<T>::takes_blocks(t) ? ceil_div(t.outer, kTile<T>) : t.outer * ceil_div(t.inner, kTile<T>);
}

template <class T> void tubes(const Tubes<T>& t, int64_t begin, int64_t end) {
  using Pass = TubePass<T>;
  const TubeMatrix<T>& m = *t.matrix;
  const bool blocks = Pass::takes_blocks(t);
  const int64_t width = m.columns * t.inner, inner = blocks ? t.inner : 1;
  const bool stream = streams<T>(t.outer * width);
  const Pass pass(m, static_cast<T*>(scratch(Slot::item, Pass::space(m, inner) * sizeof(T))), inner);
  if (t.inner == 1 || blocks) {
    const int64_t item = blocks ? kTile<T> : Pass::tubes_an_item(m), first = begin * item;
    const int64_t count = min(t.outer, end * item) - first;
    if (blocks)
      pass.blocks(t.x + first * width, t.y + first * width, inner, count, stream);
    else
      pass.last(t.x + first * width, t.y + first * width, count, streams(t.y, t.outer * width, 0));
  } else {
    pass.columns(t, begin, end, stream && Pass::has_long_rows(t));
  }
  finish_streams();
}

// How the planes of an item lie: what is transformed along n1 first, and kept in cache, and along n2 then.
template <class T> struct PlanePass {
  static constexpr int64_t kWidth = 32 * kLanes<T>;  // of a row in cache, where planes lie side by side in it

  const Planes<T>& p;
  int64_t n1 = p.first->columns, n2 = p.second->columns;
  int64_t line = p.middle * n2 * p.inner;                                     // from one row of a plane to the next
  bool gathers = p.middle == 1 && p.inner == 1 && n2 < kTile<T>;              // narrow planes, one after the other
  int64_t together = max(1, min(gathers ? p.outer : p.middle, kWidth / n2));  // planes of an item, where inner == 1
  int64_t width = p.inner == 1 ? together * n2 : TubePass<T>::kStrip;
  bool dense = gathers || width == line;  // rows in cache without gaps: their tubes follow each other
  int64_t ld = dense ? width : round_up(width, kTile<T>);
  T *memory = nullptr, *spare = nullptr;

  int64_t items() const {
    if (gathers) return ceil_div(p.outer, together);
    return p.inner == 1 ? p.outer * ceil_div(line, width) : p.outer * p.middle * ceil_div(p.inner, width);
  }
  int64_t space() const { return round_up(ld * n1 * (p.inner == 1 ? 1 : n2), kTile<T>); }

  // One row of a narrow plane, at most two vectors.
  void copy(const T* from, T* to) const {
    store_part(to, load_part(from, n2), n2);
    if (n2 > kLanes<T>) store_part(to + kLanes<T>, load_part(from + kLanes<T>, n2 - kLanes<T>), n2 - kLanes<T>);
  }
  // Narrow planes side by side, and back.
  void gathered(const TubePass<T>& one, const TubePass<T>& two, int64_t item) const {
    const int64_t first = item * together, count = min(together, p.outer - first), offset = first * n1 * n2;
    for (int64_t c = 0; c < count; ++c)
      for (int64_t q = 0; q < n1; ++q) copy(p.x + offset + (c * n1 + q) * n2, memory + q * ld + c * n2);
    one.columns(memory, ld, spare, ld, count * n2);
    if (count == together)
      two.last(spare, memory, n1 * count);
    else
      for (int64_t q = 0; q < n1; ++q) two.last(spare + q * ld, memory + q * ld, count);
    for (int64_t c = 0; c < count; ++c)
      for (int64_t q = 0; q < n1; ++q) copy(memory + q * ld + c * n2, p.y + offset + (c * n1 + q) * n2);
  }
  void rows(const TubePass<T>& one, const TubePass<T>& two, int64_t item) const {
    const int64_t blocks = ceil_div(line, width), first = item % blocks * width, count = min(width, line - first);
    const int64_t offset = at(item), next = item + 1 < items() ? at(item + 1) : offset;
    one.columns(p.x + offset, line, memory, ld, count);
    if (dense && together < kTile<T>) return two.last(memory, p.y + offset, n1 * together);  // a row has too few tubes
    for (int64_t q = 0; q < n1; ++q) {
      fetch<T, 0>(p.x + next + q * line, min(width, line - (item + 1) % blocks * width));  // this pass reads the cache
      two.last(memory + q * ld, p.y + offset + q * line, count / n2);
    }
  }
  // Planes of 8 x 8, those of the items [begin, end).
  template <TubeMatrix<float>::Kind kKind, bool kStream>
  void octets(const T* second_coefficients, int64_t begin, int64_t end) const {
    if (gathers) {
      const int64_t first = begin * together, count = min(p.outer, end * together) - first;
      return transform_planes<kKind, kStream>(*p.first, second_coefficients, p.x + first * 64, p.y + first * 64, count);
    }
    const Octets<kKind> row(second_coefficients);
    for (int64_t item = begin; item < end; ++item) {
      const int64_t offset = at(item), next = item + 1 < end ? at(item + 1) - offset : 0;
      const int64_t count = min(width, line - item % ceil_div(line, width) * width);
      transform_planes<kKind, kStream, 8>(*p.first, p.x + offset, line, p.y + offset, line, count, next, row);
    }
  }
  // Where planes lie side by side: the first value of an item.
  int64_t at(int64_t item) const {
    const int64_t strips = ceil_div(line, width);
    return item / strips * n1 * line + item % strips * width;
  }
  void columns(const TubePass<T>& one, const TubePass<T>& two, int64_t item) const {
    const int64_t blocks = ceil_div(p.inner, width), first = item % blocks * width, count = min(width, p.inner - first);
    const int64_t plane = item / blocks;
    const int64_t offset = plane / p.middle * n1 * line + plane % p.middle * n2 * p.inner + first;
    for (int64_t q = 0; q < n2; ++q) one.columns(p.x + offset + q * p.inner, line, memory + q * ld, n2 * ld, count);
    for (int64_t q = 0; q < n1; ++q) two.columns(memory + q * n2 * ld, ld, p.y + offset + q * line, p.inner, count);
  }
};

template <class T> int64_t plane_items(const Planes<T>& p) { return PlanePass<T>{p}.items(); }

template <class T> void planes(const Planes<T>& p, int64_t begin, int64_t end) {
  PlanePass<T> pass{p};
  const int64_t between = pass.space() * (pass.gathers ? 2 : 1);
  const int64_t first_space = round_up(TubePass<T>::space(*p.first), kTile<T>);
  const int64_t second_space = round_up(TubePass<T>::space(*p.second), kTile<T>);
  pass.memory = static_cast<T*>(scratch(Slot::item, (between + first_space + second_space) * sizeof(T)));
  pass.spare = pass.memory + pass.space();
  const TubePass<T> one(*p.first, pass.memory + between), two(*p.second, pass.memory + between + first_space);
  if constexpr (sizeof(T) == sizeof(float))
    if (takes_octets(p)) {
      const bool stream = streams(p.y, p.outer * pass.n1 * pass.line, pass.gathers ? 0 : pass.line);
      visit_kind(p.first->kind, stream, [&]<auto kKind, bool kStream>() {
        pass.template octets<kKind, kStream>(two.coefficients(), begin, end);
      });
      return finish_streams();
    }
  for (int64_t item = begin; item < end; ++item)
    pass.gathers   ? pass.gathered(one, two, item)
    : p.inner == 1 ? pass.rows(one, two, item)
                   : pass.columns(one, two, item);
}

template int64_t tube_items<float>(const Tubes<float>&);
template int64_t tube_items<double>(const Tubes<double>&);
template void tubes<float>(const Tubes<float>&, int64_t, int64_t);
template void tubes<double>(const Tubes<double>&, int64_t, int64_t);
template int64_t plane_items<float>(const Planes<float>&);
template int64_t plane_items<double>(const Planes<double>&);
template void planes<float>(const Planes<float>&, int64_t, int64_t);
template void planes<double>(const Planes<double>&, int64_t, int64_t);

}  // namespace spectral::SPECTRAL_LEVEL
