"""dctn on the GPU: two short dimensions in one pass over memory, each other one as `tubes` does it.

A program takes whole planes: their rows are multiplied by the second matrix, turned within the chip, and multiplied by
the first. What passes from one launch to the next is float32, so half is rounded once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from spectral_ops.ops.trigonometric import factors, matrix

from . import tiles, tubes
from .launch import Launch, blocks, padded, precision
from .vocabulary import dot


@triton.jit
def planes_kernel(
    x_ptr, first_ptr, second_ptr, y_ptr, planes, middle, inner, A: tl.constexpr, B: tl.constexpr,
    PRECISION: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_A: tl.constexpr, BLOCK_B: tl.constexpr,
):  # fmt: skip
    """y[o, a', m, b', i] = sum_(a, b) first[a', a] second[b', b] x[o, a, m, b, i]."""
    start = tl.program_id(0).to(tl.int64) * BLOCK_R
    middle, inner = tl.cast(middle, tl.int64), tl.cast(inner, tl.int64)
    a, b = tl.arange(0, BLOCK_A), tl.arange(0, BLOCK_B)
    step_a, step_b = middle * B * inner, inner
    # the rows of all planes one under the other: (r, a), then (r, b)
    row = tl.arange(0, BLOCK_R * BLOCK_A)
    r, row_a = start + row // BLOCK_A, row % BLOCK_A
    at = r // (middle * inner) * (A * step_a) + r // inner % middle * (B * inner) + r % inner + row_a * step_a
    there = ((r < planes) & (row_a < A))[:, None] & (b < B)[None, :]
    x = tl.load(x_ptr + at[:, None] + b[None, :] * step_b, mask=there, other=0.0).to(tl.float32)
    m = tl.load(second_ptr + b[None, :] * B + b[:, None], mask=(b < B)[None, :] & (b < B)[:, None], other=0.0)
    h = dot(x, m, tl.zeros((BLOCK_R * BLOCK_A, BLOCK_B), tl.float32), PRECISION)
    h = tl.permute(tl.reshape(h, (BLOCK_R, BLOCK_A, BLOCK_B)), (0, 2, 1))
    h = tl.reshape(h, (BLOCK_R * BLOCK_B, BLOCK_A))
    m = tl.load(first_ptr + a[None, :] * A + a[:, None], mask=(a < A)[None, :] & (a < A)[:, None], other=0.0)
    y = dot(h, m, tl.zeros((BLOCK_R * BLOCK_B, BLOCK_A), tl.float32), PRECISION)
    row = tl.arange(0, BLOCK_R * BLOCK_B)
    r, row_b = start + row // BLOCK_B, row % BLOCK_B
    at = r // (middle * inner) * (A * step_a) + r // inner % middle * (B * inner) + r % inner + row_b * step_b
    there = ((r < planes) & (row_b < B))[:, None] & (a < A)[None, :]
    tl.store(y_ptr + at[:, None] + a[None, :] * step_a, y.to(y_ptr.dtype.element_ty), mask=there)


SHORT = 32  # values of a dimension that shares a pass with another: planes of 64 x 64 spill on sm_80


def why_not(x: Tensor, dim: Sequence[int], *_: Any) -> str | None:
    return next((reason for reason in (tubes.too_long(x, d) for d in dim) if reason), None)


def plan(args: list[Any], out: Tensor, arch: int) -> list[Launch]:
    x, dim, type, norm, inverse, orthogonalize, sine, adjoint = args
    n, left = x.shape, sorted(d % x.dim() for d in dim)
    passes: list[tuple[int, ...]] = []
    while left:
        second = left.pop()
        passes.append((left.pop(), second) if left and max(n[left[-1]], n[second]) <= SHORT else (second,))

    def table(d: int) -> Tensor:
        return matrix(n[d], factors(n[d], type, norm, inverse, orthogonalize, adjoint, sine), x.dtype, x.device)

    launches = []
    for number, dims in enumerate(passes):
        y = out if number == len(passes) - 1 else x.new_empty(n, dtype=torch.float32)
        if len(dims) == 2:
            launches.append(_planes(x, table(dims[0]), table(dims[1]), y, *dims, arch))
        else:
            launches += tubes.along(x, table(*dims), dims[0], y, arch)
        x = y
    return launches


def _planes(x: Tensor, first: Tensor, second: Tensor, y: Tensor, dim_a: int, dim_b: int, arch: int) -> Launch:
    n = x.shape
    a, b = n[dim_a], n[dim_b]
    middle, inner = math.prod(n[dim_a + 1 : dim_b]), math.prod(n[dim_b + 1 :])
    count = x.numel() // (a * b)
    tile = tiles.pick("planes", x.dtype, max(a, b), arch)
    arguments = {
        "x_ptr": x, "first_ptr": first, "second_ptr": second, "y_ptr": y, "planes": count, "middle": middle,
        "inner": inner,
    }  # fmt: skip
    constants = {"A": a, "B": b, "BLOCK_A": padded(a), "BLOCK_B": padded(b), "PRECISION": precision()}
    constants |= tile.constants()
    return Launch(planes_kernel, blocks(count, tile.blocks["R"]), arguments, constants, tile)
