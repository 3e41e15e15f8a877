"""tucker_conv2d_backward on the GPU: two kernels, and the sums of their parts.

The first is that of tucker_conv2d run from y's gradient to x's, with the gradient of u_in beside it. The second goes
over tiles of y as the forward pass does: rank channels of x with their halo, the core, and then the sums over the
tile's pixels for u_out, for the core and the bias. Every program adds its sums, tile by tile, to a part of its own
that the caches hold; the parts are added in order: the same bits every time, no atomics.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from spectral_ops.ops import tucker_conv2d_backward as rule
from spectral_ops.ops.branch_conv2d import layout_of

from . import sums
from .launch import Launch
from .tucker_conv2d import (
    Stages,
    add_outer_products,
    at_pixels,
    fill_halo,
    limits,
    rank_channels,
    stages_plan,
    tap_rows,
    through_core,
    tile_start,
    walk,
)
from .vocabulary import add_to, dot

READS_STRIDES = True  # channels_last stays
PROGRAMS = 132  # about so many, one for each multiprocessor of an H200: a constant, for the sums' order hangs on it


@triton.jit
def tucker_factors_kernel(
    grad_ptr, x_ptr, core_out_ptr, u_out_ptr, u_in_ptr, halo_ptr, parts_ptr, total, items, splits, tall, wide,
    height, width, y_height, y_width,
    CHANNELS: tl.constexpr, RANKS: tl.constexpr, GROUPS: tl.constexpr, GEOMETRY: tl.constexpr, HALO: tl.constexpr,
    STEPS: tl.constexpr, HALO_VALUES: tl.constexpr, CHANNELS_LAST: tl.constexpr, PRECISION: tl.constexpr,
    TILE_H: tl.constexpr, TILE_W: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_C: tl.constexpr,
    BLOCK_FROM: tl.constexpr, BLOCK_TO: tl.constexpr,
):  # fmt: skip
    """parts (splits, groups, total): a group's gradients of the core, u_out and the bias. The rest: as forward."""
    C: tl.constexpr = CHANNELS[0]
    O: tl.constexpr = CHANNELS[1]
    A: tl.constexpr = RANKS[0]
    B: tl.constexpr = RANKS[1]
    TAPS: tl.constexpr = GEOMETRY[0] * GEOMETRY[4]
    PIXELS: tl.constexpr = TILE_H * TILE_W
    pid = tl.program_id(0).to(tl.int64)
    group, split = (pid % GROUPS).to(tl.int32), pid // GROUPS
    halo_ptr += pid * HALO_VALUES
    part_ptr = parts_ptr + pid * total
    factor_ptr = part_ptr + TAPS * A * B
    bias_ptr = factor_ptr + O * A
    p, a, b = tl.arange(0, PIXELS), tl.arange(0, BLOCK_TO), tl.arange(0, BLOCK_FROM)
    for item in range(split, items, splits):
        n, low, right, row, column = tile_start(item, tall, wide, GEOMETRY, False, TILE_H, TILE_W)
        low, right, row, column = low.to(tl.int32), right.to(tl.int32), row.to(tl.int32), column.to(tl.int32)
        fill_halo(
            x_ptr + n * (C * GROUPS) * height * width, u_in_ptr, halo_ptr,
            row * GEOMETRY[1] - GEOMETRY[2], column * GEOMETRY[5] - GEOMETRY[6], group, height, width,
            C, GROUPS, B, HALO, STEPS, CHANNELS_LAST, PRECISION, BLOCK_H, BLOCK_C, BLOCK_FROM,
        )  # fmt: skip
        z = through_core(
            halo_ptr, core_out_ptr, group, low, right,
            GEOMETRY, RANKS, HALO, STEPS, False, PRECISION, TILE_H, TILE_W, BLOCK_FROM, BLOCK_TO,
        )  # fmt: skip
        y, x = row + p // TILE_W, column + p % TILE_W
        there = (y < y_height) & (x < y_width)
        pixels, plane = y * y_width + x, y_height * y_width
        image_ptr = grad_ptr + n * (O * GROUPS) * y_height * y_width
        add_outer_products(
            image_ptr, z, factor_ptr, pixels, there, plane, group,
            O, GROUPS, A, CHANNELS_LAST, PRECISION, PIXELS, BLOCK_C, BLOCK_TO,
        )  # fmt: skip
        for start in range(0, O, BLOCK_C):
            o = start + tl.arange(0, BLOCK_C)
            at = at_pixels(pixels, group * O + o, plane, O * GROUPS, CHANNELS_LAST)
            g = tl.load(image_ptr + at, mask=there[:, None] & (o < O)[None, :], other=0.0)
            add_to(bias_ptr + o, tl.sum(g.to(tl.float32), 0), o < O)
        d = rank_channels(
            image_ptr, u_out_ptr, pixels, there, plane, group,
            O, GROUPS, A, CHANNELS_LAST, PRECISION, PIXELS, BLOCK_C, BLOCK_TO,
        )  # fmt: skip
        for tap in range(TAPS):
            h, _ = tap_rows(halo_ptr, tap, low, right, GEOMETRY, HALO, STEPS, False, TILE_H, TILE_W, BLOCK_FROM)
            h = tl.where(there[:, None], h, 0.0).to(h.dtype)
            found = dot(tl.trans(d), h, tl.zeros((BLOCK_TO, BLOCK_FROM), tl.float32), PRECISION)
            at = (tap * A + a)[:, None] * B + b[None, :]
            add_to(part_ptr + at, found, (a < A)[:, None] & (b < B)[None, :])
        tl.debug_barrier()  # the next tile writes where this one reads


def why_not(*args: Any) -> str | None:
    _, x, _, u_out, u_in, *_ = args
    return limits("tucker_conv2d_backward", x, u_out, u_in)


slower = rule.fused_slower


def plan(args: list[Any], out: tuple[Tensor, ...], arch: int) -> list[Launch]:
    grad_y, x, core, u_out, u_in, stride, padding, dilation, want_grad_x, core_out, core_in = args
    grad_x, grad_core, grad_u_out, grad_u_in, grad_bias = out
    grad_y, x = (t.contiguous(memory_format=layout_of(x)) for t in (grad_y, x))
    core_out, core_in = (None if t is None else t.contiguous() for t in (core_out, core_in))
    stages = Stages.of(core, u_out, u_in, x, stride, padding, dilation)
    core, u_out, u_in, groups = stages.core, stages.u_out, stages.u_in, core.shape[0]
    back = stages_plan(
        grad_y, stages, None, grad_x if want_grad_x else x, True, arch, PROGRAMS,
        kernel="tucker_conv2d_backward", other=x, other_core=core_in, store=want_grad_x,
    )  # fmt: skip
    tile = stages.tile("tucker_conv2d_backward", arch)
    path = walk(grad_y.shape[2:], stages.geometry, False, tile.blocks["P"])
    constants = stages.constants(tile, path, False)
    del constants["BACK"]
    items = x.shape[0] * path.tiles
    splits = min(items, max(1, PROGRAMS // groups))
    total = (core.numel() + u_out.numel() + grad_bias.numel()) // groups
    parts = x.new_zeros(splits, groups, total, dtype=torch.float32)
    arguments = {
        "grad_ptr": grad_y, "x_ptr": x, "core_out_ptr": core if core_out is None else core_out,
        "u_out_ptr": u_out, "u_in_ptr": u_in, "halo_ptr": x.new_empty(splits * groups, constants["HALO_VALUES"]),
        "parts_ptr": parts, "total": total, "items": items, "splits": splits, "tall": path.tall, "wide": path.wide,
        "height": x.shape[2], "width": x.shape[3], "y_height": grad_y.shape[2], "y_width": grad_y.shape[3],
    }  # fmt: skip
    factors = Launch(tucker_factors_kernel, splits * groups, arguments, constants, tile)
    outs = [grad_core, grad_u_out.view(groups, -1), grad_bias.view(groups, -1)]
    return [
        back, sums.plan(back.arguments["parts_ptr"], [grad_u_in.view(groups, -1)], arch),
        factors, sums.plan(parts, outs, arch),
    ]  # fmt: skip
