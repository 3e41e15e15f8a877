"""csg_kernels on the GPU: one launch for all slices of all layers, whose values go straight to their filters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from . import csg_slices, tiles
from .csg_slices import entries, generator_row, places
from .launch import Launch, blocks, precision
from .vocabulary import dot


@triton.jit
def csg_kernels_kernel(
    codes_ptr, generator_ptr, table_ptr, filters, slices,
    POSITIONS: tl.constexpr, CODE: tl.constexpr, K: tl.constexpr, H: tl.constexpr, W: tl.constexpr,
    FLAT: tl.constexpr, REORDERED: tl.constexpr, LAYERS: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_P: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """A program: a block of positions of a block of slices. Neighbouring positions lie side by side in the filters."""
    p_blocks: tl.constexpr = (POSITIONS + BLOCK_P - 1) // BLOCK_P
    pid = tl.program_id(0)
    row = generator_row(pid % p_blocks * BLOCK_P + tl.arange(0, BLOCK_P), K, H, W, REORDERED)
    s = pid // p_blocks * BLOCK_S + tl.arange(0, BLOCK_S)
    sum = tl.zeros((BLOCK_P, BLOCK_S), tl.float32)
    for start in range(0, CODE, BLOCK_C):
        c = start + tl.arange(0, BLOCK_C)
        there = (row < POSITIONS)[:, None] & (c < CODE)[None, :]
        a = tl.load(generator_ptr + row[:, None] * CODE + c[None, :], mask=there, other=0)
        at = s.to(tl.int64)[None, :] * CODE + c[:, None]
        code = tl.load(codes_ptr + at, mask=(s < slices)[None, :] & (c < CODE)[:, None], other=0.0)
        sum = dot(entries(a, code), code, sum, PRECISION)
    at, there = places(
        table_ptr, filters, s[None, :], slices, row[:, None], POSITIONS, K, H, W, FLAT, LAYERS, codes_ptr.dtype
    )
    tl.store(at, sum.to(codes_ptr.dtype.element_ty), mask=there)


def why_not(
    codes: Tensor,
    generator: Tensor,
    kernel_shapes: Sequence[int],
    slice_shape: Sequence[int],
    layout: str,
    channels_last: bool,
) -> str | None:
    return csg_slices.too_many(kernel_shapes)


def constants(codes: Tensor, generator: Tensor, slice_shape: Sequence[int], flat: bool, layers: int) -> dict[str, Any]:
    """What the kernels of forward and backward are both compiled for."""
    _, k, h, w = slice_shape
    return {
        "POSITIONS": generator.shape[0], "CODE": codes.shape[1], "K": k, "H": h, "W": w, "FLAT": flat,
        "LAYERS": layers, "PRECISION": precision(),
    }  # fmt: skip


def plan(args: Sequence[Any], out: list[Tensor], arch: int) -> list[Launch]:
    codes, generator, kernel_shapes, slice_shape, layout, channels_last = args
    tile = tiles.pick("csg_kernels", codes.dtype, codes.shape[1], arch)
    arguments = {
        "codes_ptr": codes, "generator_ptr": generator,
        "table_ptr": csg_slices.table(kernel_shapes, slice_shape, channels_last, codes.device),
        "filters": tuple(out), "slices": codes.shape[0],
    }  # fmt: skip
    flat = layout == "flat"
    compiled = constants(codes, generator, slice_shape, flat, len(out)) | tile.constants()
    compiled["REORDERED"] = channels_last and not flat
    programs = blocks(generator.shape[0], tile.blocks["P"]) * blocks(codes.shape[0], tile.blocks["S"])
    return [Launch(csg_kernels_kernel, programs, arguments, compiled, tile)]
