"""Tiles of generated filters on the chip, for the convolutions that use them at once.

A tile is what one place (ky, kx) of the window has of SO x SI slices: SI K channels by SO F filters. Its slices are a
product, generator rows by codes, whose result is then put in the tile's order: tensor cores do it, up to sixteen slices
at a time. F and K are padded to powers of two, FP and KP, with zeros.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import triton
import triton.language as tl
from torch import Tensor

from spectral_ops.ops.csg_kernels import grid

from .csg_slices import entries
from .launch import padded, precision
from .tiles import Tile
from .vocabulary import dot

WIDE = 64  # channels and filters of a tile
WIDEST = 256  # F K of a padded slice


@triton.jit
def slice_rows(ky, kx, GENERATED: tl.constexpr, PART: tl.constexpr = 0, PARTS: tl.constexpr = 1):
    """Rows of the generator of place (ky, kx), as (FP KP) or a part of it; those that do not exist are negative."""
    F: tl.constexpr = GENERATED[0]
    K: tl.constexpr = GENERATED[1]
    H: tl.constexpr = GENERATED[2]
    W: tl.constexpr = GENERATED[3]
    KP: tl.constexpr = GENERATED[5]
    COUNT: tl.constexpr = GENERATED[4] * KP // PARTS
    q = PART * COUNT + tl.arange(0, COUNT)
    f, k = q // KP, q % KP
    return tl.where((f < F) & (k < K), ((f * K + k) * H + ky % H) * W + kx % W, -1)


@triton.jit
def slice_codes(o_slice, o_end, i_slice, ky, kx, GENERATED: tl.constexpr):
    """Rows of the codes of the tile's slices, as (SO SI) and at least 16; those that do not exist are negative."""
    SO: tl.constexpr = GENERATED[6]
    SI: tl.constexpr = GENERATED[7]
    GI: tl.constexpr = GENERATED[8]
    t = tl.arange(0, 16 if SO * SI < 16 else SO * SI)  # tl.dot wants 16
    o, i = o_slice + t // SI, i_slice + t % SI
    s = ((o * GI + i) * GENERATED[9] + ky // GENERATED[2]) * GENERATED[10] + kx // GENERATED[3]
    return tl.where((t < SO * SI) & (o < o_end) & (i < GI), s, -1)


@triton.jit
def as_tile(slices, FLAT: tl.constexpr, CHANNELS_FIRST: tl.constexpr, GENERATED: tl.constexpr):
    """(FP KP, SO SI) as (SI KP, SO FP), or as (SO FP, SI KP)."""
    FP: tl.constexpr = GENERATED[4]
    KP: tl.constexpr = GENERATED[5]
    SO: tl.constexpr = GENERATED[6]
    SI: tl.constexpr = GENERATED[7]
    if FLAT:  # the slices of SO F filters, one after another
        tile = tl.reshape(tl.trans(slices), (SO * FP, SI * KP))
        if CHANNELS_FIRST:
            tile = tl.trans(tile)
    else:
        tile = tl.reshape(slices, (FP, KP, SO, SI))
        if CHANNELS_FIRST:
            tile = tl.reshape(tl.permute(tile, (3, 1, 2, 0)), (SI * KP, SO * FP))
        else:
            tile = tl.reshape(tl.permute(tile, (2, 0, 3, 1)), (SO * FP, SI * KP))
    return tile


@triton.jit
def as_slices(tile, FLAT: tl.constexpr, GENERATED: tl.constexpr):
    """The inverse: (SO FP, SI KP) as (SO SI, FP KP)."""
    FP: tl.constexpr = GENERATED[4]
    KP: tl.constexpr = GENERATED[5]
    SO: tl.constexpr = GENERATED[6]
    SI: tl.constexpr = GENERATED[7]
    if FLAT:
        slices = tl.reshape(tile, (SO * SI, FP * KP))
    else:
        slices = tl.reshape(tile, (SO, FP, SI, KP))
        slices = tl.reshape(tl.permute(slices, (0, 2, 1, 3)), (SO * SI, FP * KP))
    return slices


@triton.jit
def generated(
    codes_ptr, generator_ptr, o_slice, o_end, i_slice, ky, kx,
    CHANNELS_FIRST: tl.constexpr, FLAT: tl.constexpr, GENERATED: tl.constexpr, CODE: tl.constexpr,
    PRECISION: tl.constexpr, BLOCK_J: tl.constexpr,
):  # fmt: skip
    """The tile of filters in float32, (channels, filters) or (filters, channels)."""
    row = slice_rows(ky, kx, GENERATED)
    s = slice_codes(o_slice, o_end, i_slice, ky, kx, GENERATED)
    MANY: tl.constexpr = GENERATED[6] * GENERATED[7]
    ROWS: tl.constexpr = GENERATED[4] * GENERATED[5]
    slices = tl.zeros((ROWS, 16 if MANY < 16 else MANY), tl.float32)
    for start in range(0, CODE, BLOCK_J):
        j = start + tl.arange(0, BLOCK_J)
        there = (row >= 0)[:, None] & (j < CODE)[None, :]
        a = tl.load(generator_ptr + row[:, None] * CODE + j[None, :], mask=there, other=0)
        there = (s >= 0)[None, :] & (j < CODE)[:, None]
        code = tl.load(codes_ptr + s.to(tl.int64)[None, :] * CODE + j[:, None], mask=there, other=0.0)
        slices = dot(entries(a, code), code, slices, PRECISION)
    if MANY < 16:  # the others are zero
        slices = tl.sum(tl.reshape(slices, (ROWS, 16 // MANY, MANY)), 1)
    return as_tile(slices, FLAT, CHANNELS_FIRST, GENERATED)


@triton.jit
def tile_channels(slice, PADDED: tl.constexpr, SIZE: tl.constexpr, MANY: tl.constexpr, end):
    """Of each row of a tile its place from the first of SIZE values of slice 0 on; -1 for padding and from `end` on."""
    t = tl.arange(0, PADDED * MANY)
    place = (slice + t // PADDED) * SIZE + t % PADDED
    return tl.where((t % PADDED < SIZE) & (place < end), place, -1)


class Shape(NamedTuple):
    """A convolution's generated filter as the kernels see it."""

    kernel: Sequence[int]
    slice: Sequence[int]
    groups: int
    flat: bool

    @property
    def grid(self) -> list[int]:
        return grid(self.kernel, self.slice)

    @property
    def padded(self) -> tuple[int, int]:
        """FP, KP: of at least 16 values together."""
        f = padded(self.slice[0], 1)
        return f, max(padded(self.slice[1], 1), 16 // f)

    @property
    def together(self) -> tuple[int, int]:
        """SO, SI: slices of a tile along filters and channels, for 16 to about 64 of both."""

        def along(size: int, slices: int) -> int:
            return max(min(padded(slices, 1), WIDE // size), -(-16 // size))

        (f, k), gi = self.padded, self.grid[1]
        return along(f, self.o_slices), gi if self.flat and gi > 1 else along(k, gi)

    @property
    def o_slices(self) -> int:
        """Slices along the filters of one group."""
        return self.grid[0] // self.groups if self.groups > 1 else self.grid[0]

    def why_not(self) -> str | None:
        o, f = self.kernel[0], self.slice[0]
        if self.groups > 1 and o // self.groups % f:
            return f"groups of {o // self.groups} filters share slices of {f}: the filter is generated first"
        if math.prod(self.padded) > WIDEST:
            return f"slices of {f} x {self.slice[1]} channels are past {WIDEST} values, which fit the registers"
        if self.flat and not self.flat_fits():
            return "this flat filter has slices that cross tiles: it is generated first"
        return None

    def flat_fits(self) -> bool:
        """Whether a flat filter is in blocks, or its slices lie in whole tiles of at most 64 channels."""
        _, i, kh, kw = self.grid
        if i == kh == kw == 1:
            return True
        whole = self.padded == tuple(self.slice[:2]) and i & (i - 1) == 0
        return whole and kh == kw == 1 and 16 <= self.slice[1] * i <= WIDE

    def constants(self, code_size: int, tile: Tile) -> dict[str, Any]:
        """What the kernels are compiled for."""
        _, gi, gh, gw = self.grid
        flat = self.flat and gi > 1
        return {
            "GENERATED": (*self.slice, *self.padded, *self.together, gi, gh, gw), "FLAT": flat, "CODE": code_size,
            "PRECISION": precision(), **tile.constants(),
        }  # fmt: skip


def dense(t: Tensor | None) -> Tensor | None:
    """Codes, generator and bias as the kernels read them."""
    return None if t is None else t.contiguous()
