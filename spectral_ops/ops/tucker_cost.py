"""What a convolution in Tucker form takes on a GPU by each of its ways: a model, by which tucker_conv2d chooses.

The rates are an H200's, measured or from its data sheet; the model itself is not measured yet. A stage takes the longer
of its bytes and its operations, and a launch. DESIGN.md has the formulas in full.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch

from . import checks

BYTES = 4.3e12  # a second, between the chip and its memory
CACHE_BYTES = 5.5e12  # and between its multiprocessors and its second-level cache
LAUNCH = 4e-6  # seconds
PLAIN = 67e12  # operations a second without tensor cores, and of float64
SHARE = 0.5  # of the rate of tensor cores that products with few ranks reach, here and in the library
TILE = 64  # pixels
SHARED = 72 << 10  # bytes of shared memory: three blocks to a multiprocessor of 227 kB, and every GPU has as much


class Sizes(NamedTuple):
    """Of a convolution: images, groups, channels and ranks of one group, pixels under a window, of x and of y.

    halo: pixels of x under a tile, for each of its pixels. tiled: pixels of tiles, for each one of y.
    """

    n: int
    groups: int
    c: int
    r_in: int
    r_out: int
    o: int
    window: int
    before: int
    after: int
    halo: float
    tiled: float

    @classmethod
    def of(
        cls,
        x: Sequence[int],
        weight: Sequence[int],
        u_out: Sequence[int],
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
        groups: int,
    ) -> Sizes:
        """Of shapes; weight: (groups r_out, r_in, kh, kw)."""
        sizes = checks.convolved(x[2:], weight[2:], stride, padding, dilation)
        tile, after = tile_of(sizes, TILE), math.prod(sizes)
        under = [
            t if k == 1 else (t - 1) * s + (k - 1) * d + 1
            for t, k, s, d in zip(tile, weight[2:], stride, dilation, strict=True)
        ]
        tiles = math.prod(-(-size // t) for size, t in zip(sizes, tile, strict=True))
        pixels = math.prod(tile)
        return cls(
            max(x[0], 1), groups, x[1] // groups, weight[1], u_out[1], u_out[0] // groups, math.prod(weight[2:]),
            math.prod(x[2:]), after, math.prod(under) / pixels, tiles * pixels / after,
        )  # fmt: skip

    @property
    def images(self) -> int:
        """Groups of all images."""
        return self.n * self.groups

    def folding(self, fold_in: bool, fold_out: bool) -> int:
        """Multiply-adds that make the weight of a group with factors multiplied into it, once a call."""
        inputs = self.c if fold_in else self.r_in
        made = self.c * self.r_in * self.r_out * self.window if fold_in else 0
        return made + (self.o * self.r_out * inputs * self.window if fold_out else 0)


def tile_of(size: Sequence[int], pixels: int) -> tuple[int, int]:
    """Rows and columns of a tile of an image: at most `pixels` of them, and 16, the least of a product, at least."""
    wide = min(1 << (size[1] - 1).bit_length(), 16 if pixels >= TILE else 8)
    tall = min(1 << (size[0] - 1).bit_length(), pixels // wide)
    return tall, max(wide, 16 // tall)


def cuda_tile(
    size: Sequence[int],
    window: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    ranks: Sequence[int],
    value: int,
) -> list[int] | None:
    """Rows and columns of the CUDA C++ kernels' tiles of an image, 32 pixels or fewer, so that the rank channels under
    one fit the shared memory, forward and back. value: bytes of one. None: no tile does."""
    wide, most = min(1 << (size[1] - 1).bit_length(), 8), max(ranks)
    tall = min(1 << (size[0] - 1).bit_length(), 32 // wide)
    while True:
        halo = 1
        for t, k, s, d in zip((tall, wide), window, stride, dilation, strict=True):
            step = s if k == 1 else math.gcd(s, d)
            halo *= max((t - 1) * (s // step) + (k - 1) * d // step + 1, t + -(-d * (k - 1) // s))
        channels = 33 * (max(most, 32) + 1) * 2 + most * (halo + 1 + 2 * 33)
        if value * channels + 8 * halo + 512 <= SHARED:
            return [tall, wide]
        if tall * wide == 1:
            return None
        tall, wide = (tall // 2, wide) if tall >= wide else (tall, wide // 2)


# ---- seconds -------------------------------------------------------------------------------------------------------
def library(s: Sizes, dtype: torch.dtype, fold_in: bool, fold_out: bool) -> float:
    """Three convolutions, or fewer: a factor may be multiplied into the core."""
    inputs, outputs = s.c if fold_in else s.r_in, s.o if fold_out else s.r_out
    stages = [(inputs * s.before + outputs * s.after, inputs * outputs * s.window * s.after)]
    if not fold_in:
        stages.append(((s.c + s.r_in) * s.before, s.c * s.r_in * s.before))
    if not fold_out:
        stages.append(((s.r_out + s.o) * s.after, s.r_out * s.o * s.after))
    made = s.folding(fold_in, fold_out) * s.groups
    return sum(_stage(s, dtype, *stage) for stage in stages) + (made and LAUNCH + 2 * made / _rate(dtype))


def library_backward(s: Sizes, dtype: torch.dtype) -> float:
    """Each stage's two gradients, and the first and second stage again."""
    into, core, out = s.c * s.r_in * s.before, s.r_in * s.r_out * s.window * s.after, s.r_out * s.o * s.after
    first, ranks = (s.c + s.r_in) * s.before, s.r_in * s.before + s.r_out * s.after
    last = (s.r_out + s.o) * s.after
    stages = [(first, into)] * 3 + [(ranks, core)] * 3 + [(last, out)] * 2
    return sum(_stage(s, dtype, *stage) for stage in stages)


def fused(s: Sizes, dtype: torch.dtype, tensor_cores: bool = True) -> float:
    """One kernel: x and y once, ranks padded to 16, u_in for the halo too."""
    return LAUNCH + _tiles(s, dtype, _tile_products(s, s.c, s.r_in, s.r_out, s.o), tensor_cores)


def fused_backward(s: Sizes, dtype: torch.dtype, tensor_cores: bool = True) -> float:
    """Two kernels, of x's gradient and of the factors', which add theirs to sums in the cache after every tile."""
    r_in, r_out = _padded(s.r_in), _padded(s.r_out)
    back = _tile_products(s, s.o, s.r_out, s.r_in, 2 * s.c)
    factors = _tile_products(s, s.c, s.r_in, s.r_out, 2 * s.o) + r_in * r_out * s.window
    tiles = s.images * s.tiled * s.after / TILE
    sums = 8 * (s.c * r_in + s.o * r_out + r_in * r_out * s.window) * tiles / CACHE_BYTES
    return 4 * LAUNCH + 1.25 * _tiles(s, dtype, back, tensor_cores) + _tiles(s, dtype, factors, tensor_cores) + sums


def slower(ours: float, theirs: float) -> str | None:
    """The reason against a kernel that is expected to take longer than the library."""
    if ours <= theirs:
        return None
    return f"one kernel for all stages should take {1e6 * ours:.3g} us, where the library takes {1e6 * theirs:.3g}"


def _tile_products(s: Sizes, inputs: int, first: int, second: int, outputs: int) -> float:
    """Multiply-adds of a pixel of a tile."""
    first, second = _padded(first), _padded(second)
    return s.halo * inputs * first + first * second * s.window + second * outputs


def _tiles(s: Sizes, dtype: torch.dtype, products: float, tensor_cores: bool) -> float:
    """x and y once through memory, or the products of all tiles."""
    rate = _rate(dtype, ours=True) if tensor_cores else SHARE * PLAIN
    moved = (s.c * s.before + s.o * s.after) * s.images * dtype.itemsize / BYTES
    return max(moved, 2 * products * s.tiled * s.after * s.images / rate)


def _stage(s: Sizes, dtype: torch.dtype, values: int, products: int) -> float:
    return LAUNCH + s.images * max(values * dtype.itemsize / BYTES, 2 * products / _rate(dtype))


def _rate(dtype: torch.dtype, ours: bool = False) -> float:
    """Operations a second of products; ours are three of tf32 where the library may not use it."""
    if dtype in (torch.bfloat16, torch.float16):
        return SHARE * 790e12
    if torch.backends.cudnn.conv.fp32_precision == "tf32" and dtype == torch.float32:
        return SHARE * 395e12
    return SHARE * (130e12 if ours and dtype == torch.float32 else PLAIN)


def _padded(rank: int) -> int:
    return max(16, 1 << (rank - 1).bit_length())
