"""csg_kernels_backward on the GPU: the gradients of codes and generator, read from the filters' gradients in place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import csg_slices, sums, tiles
from .csg_kernels import constants
from .csg_slices import entries, generator_row, places
from .launch import Launch, blocks
from .vocabulary import dot

SPLITS = 6  # parts of the sum over positions, for more programs: a constant, for the sums' order hangs on it


@triton.jit
def csg_codes_kernel(
    codes_ptr, generator_ptr, table_ptr, grads, parts_ptr, slices, step,
    POSITIONS: tl.constexpr, CODE: tl.constexpr, K: tl.constexpr, H: tl.constexpr, W: tl.constexpr,
    FLAT: tl.constexpr, REORDERED: tl.constexpr, LAYERS: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_P: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """parts (splits, S, n_c): a program sums over `step` positions, for a block of slices and code entries."""
    c_blocks: tl.constexpr = (CODE + BLOCK_C - 1) // BLOCK_C
    pid = tl.program_id(0)
    s_blocks = tl.cdiv(slices, BLOCK_S)
    c = pid % c_blocks * BLOCK_C + tl.arange(0, BLOCK_C)
    s = pid // c_blocks % s_blocks * BLOCK_S + tl.arange(0, BLOCK_S)
    split = pid // c_blocks // s_blocks
    sum = tl.zeros((BLOCK_S, BLOCK_C), tl.float32)
    for start in range(split * step, tl.minimum(split * step + step, POSITIONS), BLOCK_P):
        row = generator_row(start + tl.arange(0, BLOCK_P), K, H, W, REORDERED)
        at, there = places(
            table_ptr, grads, s[:, None], slices, row[None, :], POSITIONS, K, H, W, FLAT, LAYERS, codes_ptr.dtype
        )
        g = tl.load(at, mask=there, other=0.0)
        there = (row < POSITIONS)[:, None] & (c < CODE)[None, :]
        a = tl.load(generator_ptr + row[:, None] * CODE + c[None, :], mask=there, other=0)
        sum = dot(g, entries(a, g), sum, PRECISION)
    at = (split.to(tl.int64) * slices + s)[:, None] * CODE + c[None, :]
    tl.store(parts_ptr + at, sum, mask=(s < slices)[:, None] & (c < CODE)[None, :])


@triton.jit
def csg_generator_kernel(
    codes_ptr, grad_ptr, table_ptr, grads, slices,
    POSITIONS: tl.constexpr, CODE: tl.constexpr, K: tl.constexpr, H: tl.constexpr, W: tl.constexpr,
    FLAT: tl.constexpr, REORDERED: tl.constexpr, LAYERS: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_P: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """A program sums over all slices, for a block of positions and code entries."""
    c_blocks: tl.constexpr = (CODE + BLOCK_C - 1) // BLOCK_C
    pid = tl.program_id(0)
    c = pid % c_blocks * BLOCK_C + tl.arange(0, BLOCK_C)
    row = generator_row(pid // c_blocks * BLOCK_P + tl.arange(0, BLOCK_P), K, H, W, REORDERED)
    sum = tl.zeros((BLOCK_P, BLOCK_C), tl.float32)
    for start in range(0, slices, BLOCK_S):
        s = start + tl.arange(0, BLOCK_S)
        at, there = places(
            table_ptr, grads, s[None, :], slices, row[:, None], POSITIONS, K, H, W, FLAT, LAYERS, codes_ptr.dtype
        )
        g = tl.load(at, mask=there, other=0.0)
        at = s.to(tl.int64)[:, None] * CODE + c[None, :]
        code = tl.load(codes_ptr + at, mask=(s < slices)[:, None] & (c < CODE)[None, :], other=0.0)
        sum = dot(g, code, sum, PRECISION)
    there = (row < POSITIONS)[:, None] & (c < CODE)[None, :]
    tl.store(grad_ptr + row[:, None] * CODE + c[None, :], sum.to(grad_ptr.dtype.element_ty), mask=there)


def why_not(
    grads: Sequence[Tensor | None], codes: Tensor, generator: Tensor, shapes: Sequence[int], *_: Any
) -> str | None:
    return csg_slices.too_many(shapes)


def plan(args: Sequence[Any], out: tuple[Tensor, Tensor], arch: int) -> list[Launch]:
    grads, codes, generator, kernel_shapes, slice_shape, layout, channels_last, want_codes, want_generator = args
    (positions, size), slices, flat = generator.shape, codes.shape[0], layout == "flat"
    common: dict[str, Any] = {
        "codes_ptr": codes, "table_ptr": csg_slices.table(kernel_shapes, slice_shape, channels_last, codes.device),
        "grads": tuple(grads), "slices": slices,
    }  # fmt: skip
    compiled = constants(codes, generator, slice_shape, flat, len(grads))
    compiled["REORDERED"] = channels_last and not flat
    launches = []
    if want_codes:
        tile = tiles.pick("csg_codes", codes.dtype, size, arch)
        step = blocks(blocks(positions, SPLITS), tile.blocks["P"]) * tile.blocks["P"]
        splits = blocks(positions, step)
        parts = codes.new_empty(splits, 1, slices * size, dtype=torch.float32)
        arguments = common | {"generator_ptr": generator, "parts_ptr": parts, "step": step}
        programs = splits * blocks(slices, tile.blocks["S"]) * blocks(size, tile.blocks["C"])
        launches.append(Launch(csg_codes_kernel, programs, arguments, compiled | tile.constants(), tile))
        launches.append(sums.plan(parts, [out[0].view(1, -1)], arch))
    if want_generator:
        tile = tiles.pick("csg_generator", codes.dtype, size, arch)
        programs = blocks(positions, tile.blocks["P"]) * blocks(size, tile.blocks["C"])
        arguments = common | {"grad_ptr": out[1]}
        launches.append(Launch(csg_generator_kernel, programs, arguments, compiled | tile.constants(), tile))
    return launches
