"""csg_conv2d_backward on the GPU: neither the filter nor its gradient ever is in main memory.

The gradient of x is a convolution with tiles of the filter, generated again. The gradient of a tile, pixels of x by
pixels of the output's gradient, is made on the chip for each of two kernels: one sums it up with the generator to
gradients of codes, a program a tile of slices; the other with the codes to those of the generator, a program a place of
the window.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import sums, tiles
from .csg_conv2d import PROGRAMS, Schedule, convolution, fused_pays, reason, source
from .csg_filters import Shape, as_slices, dense, slice_codes, slice_rows, tile_channels
from .csg_slices import entries
from .launch import Launch, blocks
from .vocabulary import dot

READS_STRIDES = True


@triton.jit
def filter_gradient(
    x_ptr, grad_ptr, o_slice, i_slice, group, ky, kx, n_rows,
    X_STEPS: tl.constexpr, GRAD_STEPS: tl.constexpr, ROWS: tl.constexpr, SOURCE: tl.constexpr,
    GEOMETRY: tl.constexpr, FILTERS: tl.constexpr, CHANNELS: tl.constexpr,
    GENERATED: tl.constexpr, FLAT: tl.constexpr, PRECISION: tl.constexpr, BLOCK_M: tl.constexpr,
):  # fmt: skip
    """The gradient of place (ky, kx) of a tile of slices of a group, summed over all pixels, as (SO SI, FP KP)."""
    FP: tl.constexpr = GENERATED[4]
    KP: tl.constexpr = GENERATED[5]
    SO: tl.constexpr = GENERATED[6]
    SI: tl.constexpr = GENERATED[7]
    o, i = tile_channels(o_slice, FP, GENERATED[0], SO, FILTERS), tile_channels(i_slice, KP, GENERATED[1], SI, CHANNELS)
    sum = tl.zeros((SO * FP, SI * KP), tl.float32)
    for start in range(0, n_rows, BLOCK_M):
        row = start + tl.arange(0, BLOCK_M).to(tl.int64)
        at, there = source(row, n_rows, ky, kx, x_ptr, X_STEPS, ROWS, SOURCE, GEOMETRY, False)
        channel = (group * CHANNELS + i)[None, :].to(tl.int64) * X_STEPS[1]
        x = tl.load(at[:, None] + channel, mask=there[:, None] & (i >= 0)[None, :], other=0.0)
        n, h, w = row // (ROWS[0] * ROWS[1]), row // ROWS[1] % ROWS[0], row % ROWS[1]
        pixel = n * GRAD_STEPS[0] + h * GRAD_STEPS[2] + w * GRAD_STEPS[3]
        channel = (group * FILTERS + o)[:, None].to(tl.int64) * GRAD_STEPS[1]
        # where x is padding the gradient meets a zero: read 0 then, not infinity
        g = tl.load(grad_ptr + pixel[None, :] + channel, mask=there[None, :] & (o >= 0)[:, None], other=0.0)
        sum = dot(g, x, sum, PRECISION)
    return as_slices(sum, FLAT, GENERATED)


@triton.jit
def csg_conv2d_codes_kernel(
    x_ptr, grad_ptr, generator_ptr, sums_ptr, n_rows,
    X_STEPS: tl.constexpr, GRAD_STEPS: tl.constexpr, ROWS: tl.constexpr, SOURCE: tl.constexpr,
    GEOMETRY: tl.constexpr, WINDOW: tl.constexpr, FILTERS: tl.constexpr, CHANNELS: tl.constexpr,
    O_SLICES: tl.constexpr, GENERATED: tl.constexpr, FLAT: tl.constexpr, CODE: tl.constexpr,
    PRECISION: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_J: tl.constexpr,
):  # fmt: skip
    """A program: a tile of slices. Its sums, zero before, are added to place by place."""
    SO: tl.constexpr = GENERATED[6]
    SI: tl.constexpr = GENERATED[7]
    GH: tl.constexpr = GENERATED[9]
    GW: tl.constexpr = GENERATED[10]
    O_BLOCKS: tl.constexpr = (O_SLICES + SO - 1) // SO
    I_BLOCKS: tl.constexpr = (GENERATED[8] + SI - 1) // SI
    pid = tl.program_id(0)
    gx, gy = pid % GW, pid // GW % GH
    i, o, group = (
        pid // (GW * GH) % I_BLOCKS * SI,
        pid // (GW * GH * I_BLOCKS) % O_BLOCKS * SO,
        pid // (GW * GH * I_BLOCKS * O_BLOCKS),
    )
    for place in range(GENERATED[2] * GENERATED[3]):
        ky, kx = gy * GENERATED[2] + place // GENERATED[3], gx * GENERATED[3] + place % GENERATED[3]
        if (ky < WINDOW[0]) & (kx < WINDOW[1]):
            slices = filter_gradient(
                x_ptr, grad_ptr, o, i, group, ky, kx, n_rows, X_STEPS, GRAD_STEPS, ROWS, SOURCE, GEOMETRY,
                FILTERS, CHANNELS, GENERATED, FLAT, PRECISION, BLOCK_M,
            )  # fmt: skip
            s = slice_codes(group * O_SLICES + o, (group + 1) * O_SLICES, i, ky, kx, GENERATED)
            slices = padded_rows(slices, SO * SI).to(x_ptr.dtype.element_ty)
            if GENERATED[4] * GENERATED[5] >= 64:
                left, right = halves(slices)
                first, second = halves(left)
                third, fourth = halves(right)
                quarters = (first, second, third, fourth)
            else:
                quarters = (slices,)  # type: ignore[assignment]
            PARTS: tl.constexpr = 4 if GENERATED[4] * GENERATED[5] >= 64 else 1
            for part in tl.static_range(PARTS):
                row = slice_rows(ky, kx, GENERATED, part, PARTS)
                for start in range(0, CODE, BLOCK_J):
                    j = start + tl.arange(0, BLOCK_J)
                    there = (row >= 0)[:, None] & (j < CODE)[None, :]
                    a = tl.load(generator_ptr + row[:, None] * CODE + j[None, :], mask=there, other=0)
                    at = sums_ptr + s.to(tl.int64)[:, None] * CODE + j[None, :]
                    there = (s >= 0)[:, None] & (j < CODE)[None, :]
                    old = tl.load(at, mask=there, other=0.0)
                    tl.store(at, dot(quarters[part], entries(a, slices), old, PRECISION), mask=there)
                tl.debug_barrier()  # one thread's sums are the next part's of another


@triton.jit
def halves(t):
    """The left and the right half of its columns: a product as deep as a whole slice spills in tf32x3."""
    HALF: tl.constexpr = t.shape[1] // 2
    return tl.split(tl.permute(tl.reshape(t, (t.shape[0], 2, HALF)), (0, 2, 1)))


@triton.jit
def padded_rows(slices, MANY: tl.constexpr):
    """At least 16 rows, which tl.dot wants: copies, whose results nobody stores."""
    if MANY < 16:
        ROWS: tl.constexpr = slices.shape[1]
        slices = tl.broadcast_to(tl.reshape(slices, (1, MANY, ROWS)), (16 // MANY, MANY, ROWS))
        slices = tl.reshape(slices, (16, ROWS))
    return slices


@triton.jit
def csg_conv2d_generator_kernel(
    x_ptr, grad_ptr, codes_ptr, parts_ptr, n_rows, splits,
    X_STEPS: tl.constexpr, GRAD_STEPS: tl.constexpr, ROWS: tl.constexpr, SOURCE: tl.constexpr,
    GEOMETRY: tl.constexpr, WINDOW: tl.constexpr, FILTERS: tl.constexpr, CHANNELS: tl.constexpr,
    O_SLICES: tl.constexpr, GROUPS: tl.constexpr, GENERATED: tl.constexpr, FLAT: tl.constexpr, CODE: tl.constexpr,
    PRECISION: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_J: tl.constexpr,
):  # fmt: skip
    """parts (splits, F K h w, n_c): a program has a place of a slice, a block of code entries, some of the tiles."""
    SO: tl.constexpr = GENERATED[6]
    SI: tl.constexpr = GENERATED[7]
    GH: tl.constexpr = GENERATED[9]
    GW: tl.constexpr = GENERATED[10]
    PLACES: tl.constexpr = GENERATED[2] * GENERATED[3]
    O_BLOCKS: tl.constexpr = (O_SLICES + SO - 1) // SO
    I_BLOCKS: tl.constexpr = (GENERATED[8] + SI - 1) // SI
    TILES: tl.constexpr = GROUPS * O_BLOCKS * I_BLOCKS * GH * GW
    POSITIONS: tl.constexpr = GENERATED[0] * GENERATED[1] * PLACES
    j_blocks: tl.constexpr = (CODE + BLOCK_J - 1) // BLOCK_J
    pid = tl.program_id(0)
    j = pid % j_blocks * BLOCK_J + tl.arange(0, BLOCK_J)
    place, split = pid // j_blocks % PLACES, pid // j_blocks // PLACES
    y, x = place // GENERATED[3], place % GENERATED[3]
    sum = tl.zeros((GENERATED[4] * GENERATED[5], BLOCK_J), tl.float32)
    for tile in range(split * TILES // splits, (split + 1) * TILES // splits):
        ky, kx = tile // GW % GH * GENERATED[2] + y, tile % GW * GENERATED[3] + x
        if (ky < WINDOW[0]) & (kx < WINDOW[1]):
            i, group = tile // (GW * GH) % I_BLOCKS * SI, tile // (GW * GH * I_BLOCKS * O_BLOCKS)
            o = tile // (GW * GH * I_BLOCKS) % O_BLOCKS * SO
            slices = filter_gradient(
                x_ptr, grad_ptr, o, i, group, ky, kx, n_rows, X_STEPS, GRAD_STEPS, ROWS, SOURCE, GEOMETRY,
                FILTERS, CHANNELS, GENERATED, FLAT, PRECISION, BLOCK_M,
            )  # fmt: skip
            s = slice_codes(group * O_SLICES + o, (group + 1) * O_SLICES, i, ky, kx, GENERATED)
            there = (s >= 0)[:, None] & (j < CODE)[None, :]
            code = tl.load(codes_ptr + s.to(tl.int64)[:, None] * CODE + j[None, :], mask=there, other=0.0)
            slices = tl.where((s >= 0)[:, None], padded_rows(slices, SO * SI), 0.0).to(code.dtype)
            sum = dot(tl.trans(slices), code, sum, PRECISION)
    row = slice_rows(y, x, GENERATED)
    there = (row >= 0)[:, None] & (j < CODE)[None, :]
    tl.store(parts_ptr + (split.to(tl.int64) * POSITIONS + row)[:, None] * CODE + j[None, :], sum, mask=there)


def why_not(grad_y: Tensor, x: Tensor, codes: Tensor, generator: Tensor, *rest: Any) -> str | None:
    return reason(x, _shape(rest))


def _shape(rest: Sequence[Any]) -> Shape:
    kernel, step, _, _, _, layout, groups, *_ = rest
    return Shape(kernel, step, groups, layout == "flat")


def pays(grad_y: Tensor, x: Tensor, codes: Tensor, generator: Tensor, *rest: Any) -> bool:
    """The cost model of the forward pass, for the gradient of x; those of the filter are made where it is."""
    shape = _shape(rest)
    if reason(x, shape):
        return False
    pixels = x.shape[0] * x.shape[2] * x.shape[3]
    return fused_pays(Schedule.of(shape, x.dtype, pixels, True, 90), codes.shape[1], shape)


def plan(args: Sequence[Any], out: tuple[Tensor, Tensor, Tensor], arch: int) -> list[Launch]:
    grad, x, codes, generator, *rest, want_x, want_codes, want_generator = args
    shape, geometry = _shape(rest), rest[2:5]
    o, i, *window = shape.kernel
    _, _, gh, gw = shape.grid
    (so, si), (positions, size) = shape.together, generator.shape
    launches = convolution(grad, out[0], codes, generator, shape, None, geometry, True, arch) if want_x else []
    common: dict[str, Any] = {
        "x_ptr": x, "grad_ptr": grad, "n_rows": grad.shape[0] * grad.shape[2] * grad.shape[3]
    }  # fmt: skip
    sizes = {
        "X_STEPS": tuple(x.stride()), "GRAD_STEPS": tuple(grad.stride()), "ROWS": tuple(grad.shape[2:]),
        "SOURCE": tuple(x.shape[2:]), "GEOMETRY": tuple(n for pair in geometry for n in pair),
        "WINDOW": tuple(window), "FILTERS": o // shape.groups, "CHANNELS": i, "O_SLICES": shape.o_slices,
    }  # fmt: skip
    slices = shape.groups * blocks(shape.o_slices, so) * blocks(shape.grid[1], si) * gh * gw  # tiles of them
    if want_codes:
        tile = tiles.pick("csg_conv2d_codes", x.dtype, 1, arch)
        total = codes.new_zeros(1, 1, codes.numel(), dtype=torch.float32)
        arguments = common | {"generator_ptr": dense(generator), "sums_ptr": total}
        constants = shape.constants(size, tile) | sizes
        launches.append(Launch(csg_conv2d_codes_kernel, slices, arguments, constants, tile))
        launches.append(sums.plan(total, [out[1].view(1, -1)], arch))
    if want_generator:
        tile = tiles.pick("csg_conv2d_generator", x.dtype, 1, arch)
        programs = math.prod(shape.slice[2:]) * blocks(size, tile.blocks["J"])
        splits = max(1, min(slices, PROGRAMS // programs))
        parts = codes.new_empty(splits, 1, positions * size, dtype=torch.float32)
        arguments = common | {"codes_ptr": dense(codes), "parts_ptr": parts, "splits": splits}
        constants = shape.constants(size, tile) | sizes | {"GROUPS": shape.groups}
        launches.append(Launch(csg_conv2d_generator_kernel, programs * splits, arguments, constants, tile))
        launches.append(sums.plan(parts, [out[2].view(1, -1)], arch))
    return launches
