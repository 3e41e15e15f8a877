"""tucker_conv2d on the GPU: the three stages of a tile of pixels in one kernel, rank channels and their halo on chip.

A program takes tiles of output pixels, one after another. It multiplies all pixels under a tile's window, the tile with
its halo, by u_in, into a buffer of its own that the caches hold and no other program reads; each tap of the core reads
its rows of it, and what comes out is multiplied by u_out from registers. The same kernel runs the other way, from y's
gradient to x's: there a tile has the pixels of x of one residue by the stride, which the same taps reach.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from spectral_ops.ops import tucker_conv2d as rule
from spectral_ops.ops import tucker_cost
from spectral_ops.ops.activations import wide as accumulated
from spectral_ops.ops.branch_conv2d import layout_of

from . import tiles
from .launch import Launch, blocks, convolution_precision, padded
from .vocabulary import add_to, dot

READS_STRIDES = True  # channels_last stays
PROGRAMS = 528  # about so many, four for each multiprocessor of an H200: their buffers stay in its caches


# ---- geometry: a tile's pixels in one image, and the pixels under its window in the other ---------------------------
@triton.jit
def first_offset(residue, K: tl.constexpr, S: tl.constexpr, P: tl.constexpr, D: tl.constexpr):
    """floor((residue + P - D (K - 1)) / S), from where on pixels of the residue have taps in the other image."""
    return (residue + P + D * (K - 1) * (S - 1)) // S - D * (K - 1)


@triton.jit
def tap_offset(
    tap, residue, K: tl.constexpr, S: tl.constexpr, P: tl.constexpr, D: tl.constexpr, STEP: tl.constexpr,
    BACK: tl.constexpr,
):  # fmt: skip
    """How far a tap is from the first one in the halo, and whether pixels of the residue have it at all."""
    if BACK:
        lifted = residue + P + D * (K - 1) * S - D * tap
        offset = lifted // S - D * (K - 1) - first_offset(residue, K, S, P, D)
        there = lifted % S == 0
    else:
        offset = tap * (D // STEP)
        there = tap >= 0
    return offset, there


@triton.jit
def halo_start(q, residue, K: tl.constexpr, S: tl.constexpr, P: tl.constexpr, D: tl.constexpr, BACK: tl.constexpr):
    """The first row (or column) under the window of a tile that starts at q."""
    return q + first_offset(residue, K, S, P, D) if BACK else q * S - P


@triton.jit
def tile_start(
    item, tall, wide, GEOMETRY: tl.constexpr, BACK: tl.constexpr, TILE_H: tl.constexpr, TILE_W: tl.constexpr
):
    """Of a tile: its image, its residues, its first row and column; tall x wide tiles an image and residue."""
    SH: tl.constexpr = GEOMETRY[1] if BACK else 1
    SW: tl.constexpr = GEOMETRY[5] if BACK else 1
    column, item = (item % wide) * TILE_W, item // wide
    row, item = (item % tall) * TILE_H, item // tall
    right, item = item % SW, item // SW
    return item // SH, item % SH, right, row, column


@triton.jit
def at_pixels(pixels, channels, plane, TOTAL: tl.constexpr, CHANNELS_LAST: tl.constexpr):
    """Where the channels of some pixels of an image are. plane: pixels of an image. TOTAL: its channels."""
    if CHANNELS_LAST:
        return pixels[:, None] * TOTAL + channels[None, :]
    else:
        return pixels[:, None] + channels[None, :] * plane


# ---- the stages ----------------------------------------------------------------------------------------------------
@triton.jit
def rank_channels(
    x_ptr, factor_ptr, pixels, there, plane, group,
    C: tl.constexpr, GROUPS: tl.constexpr, R: tl.constexpr, CHANNELS_LAST: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_R: tl.constexpr,
):  # fmt: skip
    """x u for some pixels of an image, 0 where no pixel is there."""
    h = tl.zeros((BLOCK_P, BLOCK_R), tl.float32)
    r = tl.arange(0, BLOCK_R)
    for start in range(0, C, BLOCK_C):
        c = start + tl.arange(0, BLOCK_C)
        channels = group * C + c
        at = at_pixels(pixels, channels, plane, C * GROUPS, CHANNELS_LAST)
        x = tl.load(x_ptr + at, mask=there[:, None] & (c < C)[None, :], other=0.0)
        u = tl.load(
            factor_ptr + channels[:, None] * R + r[None, :], mask=(c < C)[:, None] & (r < R)[None, :], other=0.0
        )
        h = dot(x, u, h, PRECISION)
    return tl.where(there[:, None] & (r < R)[None, :], h, 0.0).to(x_ptr.dtype.element_ty)


@triton.jit
def fill_halo(
    x_ptr, factor_ptr, halo_ptr, top, left, group, height, width,
    C: tl.constexpr, GROUPS: tl.constexpr, R: tl.constexpr, HALO: tl.constexpr, STEPS: tl.constexpr,
    CHANNELS_LAST: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_H: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_R: tl.constexpr,
):  # fmt: skip
    """The rank channels of HALO[0] x HALO[1] pixels of an image, STEPS apart, into the buffer: (pixels, BLOCK_R)."""
    r = tl.arange(0, BLOCK_R)
    for start in range(0, HALO[0] * HALO[1], BLOCK_H):
        inside = start + tl.arange(0, BLOCK_H)
        y, x = top + inside // HALO[1] * STEPS[0], left + inside % HALO[1] * STEPS[1]
        there = (inside < HALO[0] * HALO[1]) & (y >= 0) & (y < height) & (x >= 0) & (x < width)
        h = rank_channels(
            x_ptr, factor_ptr, y * width + x, there, height * width, group,
            C, GROUPS, R, CHANNELS_LAST, PRECISION, BLOCK_H, BLOCK_C, BLOCK_R,
        )  # fmt: skip
        tl.store(halo_ptr + inside[:, None] * BLOCK_R + r[None, :], h)
    tl.debug_barrier()  # one thread's stores are another one's loads


@triton.jit
def tap_rows(
    halo_ptr, tap, low, right, GEOMETRY: tl.constexpr, HALO: tl.constexpr, STEPS: tl.constexpr, BACK: tl.constexpr,
    TILE_H: tl.constexpr, TILE_W: tl.constexpr, BLOCK_R: tl.constexpr,
):  # fmt: skip
    """The rank channels that a tap of the core meets at the tile's pixels, and whether it is one of theirs."""
    KH: tl.constexpr = GEOMETRY[0]
    SH: tl.constexpr = GEOMETRY[1]
    KW: tl.constexpr = GEOMETRY[4]
    SW: tl.constexpr = GEOMETRY[5]
    APART_H: tl.constexpr = 1 if BACK else SH // STEPS[0]
    APART_W: tl.constexpr = 1 if BACK else SW // STEPS[1]
    down, there_h = tap_offset(tap // KW, low, KH, SH, GEOMETRY[2], GEOMETRY[3], STEPS[0], BACK)
    along, there_w = tap_offset(tap % KW, right, KW, SW, GEOMETRY[6], GEOMETRY[7], STEPS[1], BACK)
    p, r = tl.arange(0, TILE_H * TILE_W), tl.arange(0, BLOCK_R)
    rows = (p // TILE_W * APART_H + down) * HALO[1] + p % TILE_W * APART_W + along
    return tl.load(halo_ptr + rows[:, None] * BLOCK_R + r[None, :]), there_h & there_w


@triton.jit
def through_core(
    halo_ptr, core_ptr, group, low, right,
    GEOMETRY: tl.constexpr, RANKS: tl.constexpr, HALO: tl.constexpr, STEPS: tl.constexpr, BACK: tl.constexpr,
    PRECISION: tl.constexpr, TILE_H: tl.constexpr, TILE_W: tl.constexpr, BLOCK_FROM: tl.constexpr,
    BLOCK_TO: tl.constexpr,
):  # fmt: skip
    """The core's convolution at the tile's pixels, or its adjoint. RANKS: r_out, r_in."""
    A: tl.constexpr = RANKS[1 if BACK else 0]
    B: tl.constexpr = RANKS[0 if BACK else 1]
    TAPS: tl.constexpr = GEOMETRY[0] * GEOMETRY[4]
    SPARSE: tl.constexpr = BACK and GEOMETRY[1] * GEOMETRY[5] > 1
    a, b = tl.arange(0, BLOCK_TO), tl.arange(0, BLOCK_FROM)
    z = tl.zeros((TILE_H * TILE_W, BLOCK_TO), tl.float32)
    for tap in range(TAPS):
        h, there = tap_rows(halo_ptr, tap, low, right, GEOMETRY, HALO, STEPS, BACK, TILE_H, TILE_W, BLOCK_FROM)
        block_ptr = core_ptr + (group * TAPS + tap) * (A * B)
        at = a[None, :] + b[:, None] * A if BACK else a[None, :] * B + b[:, None]
        w = tl.load(block_ptr + at, mask=(a < A)[None, :] & (b < B)[:, None], other=0.0)
        if SPARSE:
            if there:
                z = dot(h, w, z, PRECISION)
        else:
            z = dot(h, w, z, PRECISION)
    return tl.where((a < A)[None, :], z, 0.0).to(core_ptr.dtype.element_ty)


@triton.jit
def add_outer_products(
    x_ptr, h, sums_ptr, pixels, there, plane, group,
    C: tl.constexpr, GROUPS: tl.constexpr, R: tl.constexpr, CHANNELS_LAST: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_R: tl.constexpr,
):  # fmt: skip
    """Adds to the sums (C, R) those over some pixels of an image of its channels times the rank channels h."""
    r = tl.arange(0, BLOCK_R)
    h = tl.where(there[:, None], h, 0.0).to(h.dtype)
    for start in range(0, C, BLOCK_C):
        c = start + tl.arange(0, BLOCK_C)
        at = at_pixels(pixels, group * C + c, plane, C * GROUPS, CHANNELS_LAST)
        x = tl.load(x_ptr + at, mask=there[:, None] & (c < C)[None, :], other=0.0)
        found = dot(tl.trans(x), h, tl.zeros((BLOCK_C, BLOCK_R), tl.float32), PRECISION)
        add_to(sums_ptr + c[:, None] * R + r[None, :], found, (c < C)[:, None] & (r < R)[None, :])


@triton.jit
def tucker_conv2d_kernel(
    x_ptr, first_ptr, core_ptr, last_ptr, bias_ptr, y_ptr, halo_ptr, other_ptr, other_core_ptr, parts_ptr,
    items, splits, tall, wide, height, width, y_height, y_width,
    CHANNELS: tl.constexpr, RANKS: tl.constexpr, GROUPS: tl.constexpr, GEOMETRY: tl.constexpr, HALO: tl.constexpr,
    STEPS: tl.constexpr, HALO_VALUES: tl.constexpr, BACK: tl.constexpr, CHANNELS_LAST: tl.constexpr,
    PRECISION: tl.constexpr, TILE_H: tl.constexpr, TILE_W: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_C: tl.constexpr,
    BLOCK_FROM: tl.constexpr, BLOCK_TO: tl.constexpr,
):  # fmt: skip
    """x (height x width) to y, if there is a y_ptr; BACK: y's gradient to x's, with the factors exchanged.

    other_ptr: where not None, an image like y; parts (splits, groups, O r) take the sum over its pixels times the rank
    channels that the core, or the one at other_core_ptr, gives there: the gradient of a factor.

    CHANNELS: of a group, of x and of y. RANKS: r_out, r_in of the core (groups, taps, r_out, r_in), whichever way it is
    read. GEOMETRY: window, stride, padding, dilation of rows, then of columns.
    """
    C: tl.constexpr = CHANNELS[0]
    O: tl.constexpr = CHANNELS[1]
    FROM: tl.constexpr = RANKS[0 if BACK else 1]
    TO: tl.constexpr = RANKS[1 if BACK else 0]
    pid = tl.program_id(0).to(tl.int64)
    group, split = (pid % GROUPS).to(tl.int32), pid // GROUPS
    halo_ptr += pid * HALO_VALUES
    p, a = tl.arange(0, TILE_H * TILE_W), tl.arange(0, BLOCK_TO)
    for item in range(split, items, splits):
        n, low, right, row, column = tile_start(item, tall, wide, GEOMETRY, BACK, TILE_H, TILE_W)
        low, right, row, column = low.to(tl.int32), right.to(tl.int32), row.to(tl.int32), column.to(tl.int32)
        top = halo_start(row, low, GEOMETRY[0], GEOMETRY[1], GEOMETRY[2], GEOMETRY[3], BACK)
        left = halo_start(column, right, GEOMETRY[4], GEOMETRY[5], GEOMETRY[6], GEOMETRY[7], BACK)
        fill_halo(
            x_ptr + n * (C * GROUPS) * height * width, first_ptr, halo_ptr, top, left, group, height, width,
            C, GROUPS, FROM, HALO, STEPS, CHANNELS_LAST, PRECISION, BLOCK_H, BLOCK_C, BLOCK_FROM,
        )  # fmt: skip
        z = through_core(
            halo_ptr, core_ptr, group, low, right,
            GEOMETRY, RANKS, HALO, STEPS, BACK, PRECISION, TILE_H, TILE_W, BLOCK_FROM, BLOCK_TO,
        )  # fmt: skip
        y, x = row + p // TILE_W, column + p % TILE_W
        if BACK:
            y, x = y * GEOMETRY[1] + low, x * GEOMETRY[5] + right
        there = (y < y_height) & (x < y_width)
        if other_ptr is not None:
            h = z
            if other_core_ptr is not None:
                h = through_core(
                    halo_ptr, other_core_ptr, group, low, right,
                    GEOMETRY, RANKS, HALO, STEPS, BACK, PRECISION, TILE_H, TILE_W, BLOCK_FROM, BLOCK_TO,
                )  # fmt: skip
            add_outer_products(
                other_ptr + n * (O * GROUPS) * y_height * y_width, h, parts_ptr + pid * (O * TO),
                y * y_width + x, there, y_height * y_width, group, O, GROUPS, TO, CHANNELS_LAST, PRECISION,
                TILE_H * TILE_W, BLOCK_C, BLOCK_TO,
            )  # fmt: skip
        if y_ptr is not None:
            out_ptr = y_ptr + n * (O * GROUPS) * y_height * y_width
            for start in range(0, O, BLOCK_C):
                o = start + tl.arange(0, BLOCK_C)
                channels = group * O + o
                u = tl.load(
                    last_ptr + channels[None, :] * TO + a[:, None], mask=(o < O)[None, :] & (a < TO)[:, None], other=0.0
                )
                out = dot(z, u, tl.zeros((TILE_H * TILE_W, BLOCK_C), tl.float32), PRECISION)
                if bias_ptr is not None:
                    out += tl.load(bias_ptr + channels, mask=o < O, other=0.0).to(tl.float32)[None, :]
                at = at_pixels(y * y_width + x, channels, y_height * y_width, O * GROUPS, CHANNELS_LAST)
                tl.store(out_ptr + at, out.to(y_ptr.dtype.element_ty), mask=there[:, None] & (o < O)[None, :])
        tl.debug_barrier()  # the next tile writes where this one reads


# ---- plans ---------------------------------------------------------------------------------------------------------
class Walk(NamedTuple):
    """How tiles go over an image of `height` x `width`, and what lies under them in the other image."""

    tile: tuple[int, int]
    halo: tuple[int, int]
    steps: tuple[int, int]
    tall: int
    wide: int
    residues: int

    @property
    def tiles(self) -> int:
        """Tiles of an image."""
        return self.tall * self.wide * self.residues


def walk(size: Sequence[int], geometry: Sequence[int], back: bool, pixels: int) -> Walk:
    """geometry: window, stride, padding, dilation of rows, then of columns. size: of the image that tiles are of."""
    windows, strides, dilations = geometry[::4], geometry[1::4], geometry[3::4]
    steps = [
        1 if back else s if k == 1 else math.gcd(s, d) for k, s, d in zip(windows, strides, dilations, strict=True)
    ]
    count = [blocks(n, s) if back else n for n, s in zip(size, strides, strict=True)]
    tile = tucker_cost.tile_of(count, pixels)
    halo = [
        t + -(-d * (k - 1) // s) if back else (t - 1) * (s // step) + (k - 1) * d // step + 1
        for t, k, s, d, step in zip(tile, windows, strides, dilations, steps, strict=True)
    ]
    residues = math.prod(strides) if back else 1
    tall, wide = (blocks(n, t) for n, t in zip(count, tile, strict=True))
    return Walk(tile, (halo[0], halo[1]), (steps[0], steps[1]), tall, wide, residues)


class Stages(NamedTuple):
    """A convolution in Tucker form as the kernels take it: core (groups, kh, kw, r_out, r_in)."""

    core: Tensor
    u_out: Tensor
    u_in: Tensor
    geometry: tuple[int, ...]
    channels_last: bool

    @classmethod
    def of(cls, core: Tensor, u_out: Tensor, u_in: Tensor, x: Tensor, *geometry: Sequence[int]) -> Stages:
        """geometry: stride, padding, dilation."""
        rows, columns = zip(core.shape[1:3], *geometry, strict=True)
        axes, last = (*rows, *columns), layout_of(x) is torch.channels_last
        return cls(core.contiguous(), u_out.contiguous(), u_in.contiguous(), axes, last)

    @property
    def ranks(self) -> tuple[int, int]:
        return (self.core.shape[3], self.core.shape[4])

    def tile(self, kernel: str, arch: int) -> tiles.Tile:
        return tiles.pick(kernel, self.core.dtype, max(self.ranks), arch)

    def constants(self, tile: tiles.Tile, path: Walk, back: bool) -> dict[str, Any]:
        groups = self.core.shape[0]
        sides = [u.shape[0] // groups for u in (self.u_in, self.u_out)]
        ranks = [padded(r) for r in self.ranks]
        rows = tile.blocks["H"]
        return {
            "CHANNELS": tuple(sides[::-1] if back else sides), "RANKS": self.ranks, "GROUPS": groups,
            "GEOMETRY": self.geometry, "HALO": path.halo, "STEPS": path.steps,
            "HALO_VALUES": blocks(math.prod(path.halo), rows) * rows * ranks[0 if back else 1],
            "BACK": back, "CHANNELS_LAST": self.channels_last, "PRECISION": convolution_precision(),
            "TILE_H": path.tile[0], "TILE_W": path.tile[1], "BLOCK_H": rows, "BLOCK_C": tile.blocks["C"],
            "BLOCK_FROM": ranks[0 if back else 1], "BLOCK_TO": ranks[1 if back else 0],
        }  # fmt: skip


def why_not(*args: Any) -> str | None:
    x, _, u_out, u_in, *_ = args
    return limits("tucker_conv2d", x, u_out, u_in)


slower = rule.fused_slower


def limits(kernel: str, x: Tensor, u_out: Tensor, u_in: Tensor) -> str | None:
    """The reason against a kernel for images and factors of these sizes."""
    most = max(u_out.shape[0], u_in.shape[0]) * x.shape[2] * x.shape[3]
    if most >= 1 << 31:
        return f"an image of {most} values is past 2^31, where offsets inside an image are of 32 bits"
    if not x.numel():
        return "images without values are left to the reference"
    return tiles.too_wide(kernel, x.dtype, u_out.shape[1], u_in.shape[1])


def plan(args: list[Any], out: Tensor, arch: int) -> list[Launch]:
    x, core, u_out, u_in, bias, stride, padding, dilation, u_h, u_w, groups = args
    whole = rule.whole_core(accumulated(core), u_out.shape[1], u_h, u_w, groups).to(x.dtype)
    stages = Stages.of(rule.taps_first(whole, groups), u_out, u_in, x, stride, padding, dilation)
    bias = None if bias is None else bias.contiguous()
    return [stages_plan(x.contiguous(memory_format=layout_of(x)), stages, bias, out, False, arch, PROGRAMS)]


def stages_plan(
    x: Tensor,
    stages: Stages,
    bias: Tensor | None,
    y: Tensor,
    back: bool,
    arch: int,
    programs: int,
    kernel: str = "tucker_conv2d",
    other: Tensor | None = None,
    other_core: Tensor | None = None,
    store: bool = True,
) -> Launch:
    """The launch that fills y, or with `back` (x: y's gradient) x's gradient, unless `store` is False: then y only says
    how large it is. other: an image like y, whose products with the rank channels there the parts take."""
    tile = stages.tile(kernel, arch)
    path = walk(y.shape[2:], stages.geometry, back, tile.blocks["P"])
    constants = stages.constants(tile, path, back)
    groups, items = stages.core.shape[0], x.shape[0] * path.tiles
    splits = min(items, max(1, programs // groups))
    first, last = (stages.u_out, stages.u_in) if back else (stages.u_in, stages.u_out)
    parts = None if other is None else x.new_zeros(splits, groups, last.numel() // groups, dtype=torch.float32)
    arguments = {
        "x_ptr": x, "first_ptr": first, "core_ptr": stages.core, "last_ptr": last, "bias_ptr": bias,
        "y_ptr": y if store else None, "halo_ptr": x.new_empty(splits * groups, constants["HALO_VALUES"]),
        "other_ptr": other, "other_core_ptr": other_core, "parts_ptr": parts, "items": items, "splits": splits,
        "tall": path.tall, "wide": path.wide, "height": x.shape[2], "width": x.shape[3],
        "y_height": y.shape[2], "y_width": y.shape[3],
    }  # fmt: skip
    return Launch(tucker_conv2d_kernel, splits * groups, arguments, constants, tile)
