// Complex numbers in tiles. An element is kTile values, the real parts of kLanes samples and then the imaginary ones:
// as long as a row of the real tile, so that whatever treats both parts alike (real factors, sums, crelu) is the real
// code.
#pragma once
#include "elementary.h"
#include "tile.h"

namespace spectral::SPECTRAL_LEVEL {

enum class Conjugate { none, factor, tile };  // which side of a product is conjugated

// y[j] = finish(start[j] + sum_k w(k, j) x[k]), j < J: `block` with pairs as factors. Strides are in values, but for
// ldw, which is in factors; `extra` is the bias (J pairs) or the tile h.
template <class T, int J, Factor factor, Start start, Finish finish, Conjugate conjugate>
void complex_block(const T* x, int64_t ldx, int64_t depth, const T* w, int64_t ldw, const T* extra, T* y, int64_t ldy) {
  constexpr int n = kLanes<T>;
  Vec<T> re[J], im[J];
#pragma GCC unroll 16
  for (int j = 0; j < J; ++j) {
    if constexpr (start == Start::zero) re[j] = im[j] = Vec<T>{};
    if constexpr (start == Start::bias) {
      re[j] = broadcast<T>(extra[2 * j]);
      im[j] = broadcast<T>(extra[2 * j + 1]);
    }
    if constexpr (start == Start::accumulate) {
      re[j] = load(y + j * ldy);
      im[j] = load(y + j * ldy + n);
    }
  }
  for (int64_t k = 0; k < depth; ++k) {
    const Vec<T> x_re = load(x + k * ldx), x_im = load(x + k * ldx + n);
#pragma GCC unroll 16
    for (int j = 0; j < J; ++j) {
      const T* at = factor == Factor::rows      ? w + 2 * (k * ldw + j)
                    : factor == Factor::columns ? w + 2 * (j * ldw + k)
                                                : w + j * kTile<T> + k;
      const T w_re = at[0], w_im = at[factor == Factor::tile ? n : 1];
      re[j] += w_re * x_re;
      im[j] += conjugate == Conjugate::tile ? w_im * x_re : w_re * x_im;
      if constexpr (conjugate == Conjugate::none) {
        re[j] -= w_im * x_im;
        im[j] += w_im * x_re;
      } else {
        re[j] += w_im * x_im;
        im[j] -= conjugate == Conjugate::tile ? w_re * x_im : w_im * x_re;
      }
    }
  }
#pragma GCC unroll 16
  for (int j = 0; j < J; ++j) {
    if constexpr (finish == Finish::relu) {  // NaN stays NaN
      re[j] = Vec<T>{} > re[j] ? Vec<T>{} : re[j];
      im[j] = Vec<T>{} > im[j] ? Vec<T>{} : im[j];
    }
    if constexpr (finish == Finish::relu_slope) {
      re[j] = load(extra + j * kTile<T>) <= Vec<T>{} ? Vec<T>{} : re[j];
      im[j] = load(extra + j * kTile<T> + n) <= Vec<T>{} ? Vec<T>{} : im[j];
    }
    store(y + j * ldy, re[j]);
    store(y + j * ldy + n, im[j]);
  }
}

template <class T, Factor factor, Start start, Finish finish, Conjugate conjugate> struct ComplexBlocks {
  template <int J> static constexpr BlockFn<T> at() {
    if constexpr (J <= kRows<T>) return &complex_block<T, J, factor, start, finish, conjugate>;
    return nullptr;
  }
  static constexpr BlockFn<T> table[17] = {nullptr,  at<1>(),  at<2>(),  at<3>(),  at<4>(),  at<5>(),
                                           at<6>(),  at<7>(),  at<8>(),  at<9>(),  at<10>(), at<11>(),
                                           at<12>(), at<13>(), at<14>(), at<15>(), at<16>()};
};

// `product` with complex factors.
template <class T, Factor factor, Start start, Finish finish, Conjugate conjugate>
SPECTRAL_INLINE void complex_product(const T* x, int64_t ldx, int64_t depth, const T* w, int64_t ldw, const T* extra,
                                     T* y, int64_t ldy, int64_t rows) {
  constexpr int64_t extra_step = finish == Finish::relu_slope ? kTile<T> : start == Start::bias ? 2 : 0;
  const int64_t w_step = factor == Factor::rows ? 2 : factor == Factor::columns ? 2 * ldw : kTile<T>;
  const int64_t blocks = ceil_div(rows, kRows<T>);
  for (int64_t b = 0, row = 0; b < blocks; ++b) {
    const int64_t height = (rows - row) / (blocks - b);
    ComplexBlocks<T, factor, start, finish, conjugate>::table[height](x, ldx, depth, w + row * w_step, ldw,
                                                                      extra + row * extra_step, y + row * ldy, ldy);
    row += height;
  }
}

// rows (count <= kLanes samples, `width` values each, `stride` apart) -> lanes [width][kLanes]: of pairs, a complex
// tile.
template <class T>
SPECTRAL_INLINE void load_lanes(const T* rows, int64_t stride, int64_t count, int64_t width, T* lanes) {
  constexpr int n = kLanes<T>;
  for (int64_t column = 0; column < width; column += n) {
    const int64_t part = min(n, width - column);
    Vec<T> v[n];
#pragma GCC unroll 16
    for (int r = 0; r < n; ++r) v[r] = r < count ? load_part(rows + r * stride + column, part) : Vec<T>{};
    transpose<T>(v);
#pragma GCC unroll 16
    for (int r = 0; r < n; ++r)
      if (r < part) store(lanes + (column + r) * n, v[r]);
  }
}

template <class T>
SPECTRAL_INLINE void store_lanes(const T* lanes, int64_t width, int64_t count, T* rows, int64_t stride) {
  constexpr int n = kLanes<T>;
  for (int64_t column = 0; column < width; column += n) {
    const int64_t part = min(n, width - column);
    Vec<T> v[n];
#pragma GCC unroll 16
    for (int r = 0; r < n; ++r) v[r] = r < part ? load(lanes + (column + r) * n) : Vec<T>{};
    transpose<T>(v);
#pragma GCC unroll 16
    for (int r = 0; r < n; ++r)
      if (r < count) store_part(rows + r * stride + column, v[r], part);
  }
}

template <class T> struct Pair {
  Vec<T> re, im;
};

// 1 / sqrt(x), x neither 0 nor NaN nor inf.
template <class T> SPECTRAL_INLINE Vec<T> inverse_root(Vec<T> x) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) {  // 14 bits and one step of Newton's (maskz: GCC 12 warns about the plain form)
    const Vec<T> y = (Vec<T>)_mm512_maskz_rsqrt14_ps(0xffff, (__m512)x);
    return y + y * (T(0.5) - T(0.5) * x * y * y);
  }
#endif
  Vec<T> y;
  for (int i = 0; i < kLanes<T>; ++i) y[i] = sizeof(T) == 4 ? T(__builtin_sqrtf(float(x[i]))) : T(__builtin_sqrt(x[i]));
  return T(1) / y;
}

// |z|, 1 / |z| (0 at 0), and z / |z| (0 at 0).
template <class T> struct Polar {
  Vec<T> size, inverse;
  Pair<T> direction;
  SPECTRAL_INLINE explicit Polar(Pair<T> z) {
    const Vec<T> square = z.re * z.re + z.im * z.im;
    inverse = select<T>(square == T(0), Vec<T>{}, inverse_root<T>(square));
    const Vec<T> root = square * inverse;
    size = root + T(0.5) * inverse * (square - root * root);
    direction = {z.re * inverse, z.im * inverse};
  }
};

// act(z) of complex branches. crelu: relu of both parts. zrelu: z where both are positive. cardioid: (1 + cos arg z) z
// / 2. modrelu: relu(|z| + b) z / |z|.
template <class T, Activation kind> SPECTRAL_INLINE Pair<T> activation(Pair<T> z, T offset) {
  if constexpr (kind == Activation::crelu)
    return {activation<T, Activation::relu>(z.re), activation<T, Activation::relu>(z.im)};
  if constexpr (kind == Activation::zrelu) {
    const auto open = (z.re > T(0)) & (z.im > T(0));
    return {select<T>(open, z.re, Vec<T>{}), select<T>(open, z.im, Vec<T>{})};
  }
  if constexpr (kind == Activation::cardioid) {
    const Vec<T> share = T(0.5) * (T(1) + Polar<T>(z).direction.re);
    return {share * z.re, share * z.im};
  }
  if constexpr (kind == Activation::modrelu) {
    const Polar<T> p(z);
    const Vec<T> moved = p.size + offset, size = moved < T(0) ? Vec<T>{} : moved;
    return {size * p.direction.re, size * p.direction.im};
  }
  return z;
}

// The gradient of z from that of h = act(z): the transpose of the real 2 x 2 derivative, applied to (g.re, g.im).
template <class T, Activation kind> SPECTRAL_INLINE Pair<T> through(Pair<T> g, Pair<T> z, Pair<T> h, T offset) {
  if constexpr (kind == Activation::crelu)
    return {through<T, Activation::relu>(g.re, z.re, h.re), through<T, Activation::relu>(g.im, z.im, h.im)};
  if constexpr (kind == Activation::zrelu) {
    const auto open = (h.re > T(0)) & (h.im > T(0));
    return {select<T>(open, g.re, Vec<T>{}), select<T>(open, g.im, Vec<T>{})};
  }
  if constexpr (kind ==
                Activation::cardioid) {  // with u = z / |z|: (1 + u.re) g / 2 + Re(conj(u) g) u.im (u.im, -u.re) / 2
    const Pair<T> u = Polar<T>(z).direction;
    const Vec<T> share = T(0.5) * (T(1) + u.re), turn = T(0.5) * (u.re * g.re + u.im * g.im) * u.im;
    return {share * g.re + turn * u.im, share * g.im - turn * u.re};
  }
  if constexpr (kind == Activation::modrelu) {  // along u unchanged, across it times (|z| + b) / |z|; 0 where closed
    const Polar<T> p(z);
    const Vec<T> moved = p.size + offset, across = moved * p.inverse;
    const Vec<T> along = (p.direction.re * g.re + p.direction.im * g.im) * (T(1) - across);
    const auto closed = (moved <= T(0)) | (p.size == T(0));
    return {select<T>(closed, Vec<T>{}, across * g.re + along * p.direction.re),
            select<T>(closed, Vec<T>{}, across * g.im + along * p.direction.im)};
  }
  return g;
}

template <class F> SPECTRAL_INLINE void visit_complex(Activation kind, F f) {
  switch (kind) {
    case Activation::crelu: return f.template operator()<Activation::crelu>();
    case Activation::zrelu: return f.template operator()<Activation::zrelu>();
    case Activation::cardioid: return f.template operator()<Activation::cardioid>();
    case Activation::modrelu: return f.template operator()<Activation::modrelu>();
    default: return f.template operator()<Activation::none>();
  }
}

// h = act(z) on `rows` elements; z and h may be the same.
template <class T> void activate_complex(Activation kind, T offset, const T* z, T* h, int64_t rows) {
  constexpr int n = kLanes<T>;
  visit_complex(kind, [&]<Activation kKind>() {
    for (int64_t i = 0; i < rows * kTile<T>; i += kTile<T>) {
      const Pair<T> value = activation<T, kKind>(Pair<T>{load(z + i), load(z + i + n)}, offset);
      store(h + i, value.re);
      store(h + i + n, value.im);
    }
  });
}

// grad becomes the gradient before the activation.
template <class T> void descend_complex(Activation kind, T offset, T* grad, const T* z, const T* h, int64_t rows) {
  constexpr int n = kLanes<T>;
  visit_complex(kind, [&]<Activation kKind>() {
    for (int64_t i = 0; i < rows * kTile<T>; i += kTile<T>) {
      const Pair<T> value =
          through<T, kKind>(Pair<T>{load(grad + i), load(grad + i + n)}, Pair<T>{load(z + i), load(z + i + n)},
                            Pair<T>{load(h + i), load(h + i + n)}, offset);
      store(grad + i, value.re);
      store(grad + i + n, value.im);
    }
  });
}

}  // namespace spectral::SPECTRAL_LEVEL
