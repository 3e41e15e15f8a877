"""Where the values of slices lie in the filters of many layers, on the GPU.

A table has a row of int32 for each slice: its layer, its origin in the filter, the filter's sizes and strides. It
depends on shapes alone, and stays on the device for the next call. Filters are given as one pointer a layer.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from spectral_ops.ops.csg_kernels import grid, slices_of

MOST_LAYERS = 256  # pointers of one launch: the parameters of a kernel are at most 4 KB
COLUMNS = tl.constexpr(17)  # layer, first value (flat), origin, sizes, rounded sizes but the first, strides


def too_many(kernel_shapes: Sequence[int]) -> str | None:
    """The reason against one launch for these filters."""
    layers = len(kernel_shapes) // 4
    if layers > MOST_LAYERS:
        return f"{layers} layers are past {MOST_LAYERS}, the pointers of one launch"
    if max(math.prod(kernel_shapes[i : i + 4]) for i in range(0, 4 * layers, 4)) >= 2**30:
        return "a filter of 2^30 values is past what the kernel counts in 32 bits"
    return None


def table(
    kernel_shapes: Sequence[int], slice_shape: Sequence[int], channels_last: bool, device: torch.device
) -> Tensor:
    """(S, COLUMNS) of all slices."""
    return _table(tuple(kernel_shapes), tuple(slice_shape), channels_last, device)


@functools.lru_cache(64)
def _table(shapes: tuple[int, ...], step: tuple[int, ...], channels_last: bool, device: torch.device) -> Tensor:
    rows = []
    for layer, ((o, i, kh, kw), count) in enumerate(slices_of(shapes, step)):
        blocks = grid((o, i, kh, kw), step)
        rounded = [b * s for b, s in zip(blocks, step, strict=True)]
        strides = (kh * kw * i, 1, kw * i, i) if channels_last else (i * kh * kw, kh * kw, kw, 1)
        for index in range(count):
            rest, origin = index, list[int]()
            for b, s in zip(blocks[::-1], step[::-1], strict=True):
                rest, at = divmod(rest, b)
                origin.insert(0, at * s)
            rows.append([layer, index * math.prod(step), *origin, o, i, kh, kw, *rounded[1:], *strides])
    return torch.tensor(rows, dtype=torch.int32, device=device)


@triton.jit
def generator_row(p, K: tl.constexpr, H: tl.constexpr, W: tl.constexpr, REORDERED: tl.constexpr):
    """Row of the generator in which position p stands: positions are (F, K, h, w), or reordered (F, h, w, K)."""
    if REORDERED:
        return (p // (K * H * W) * K + p % K) * (H * W) + p // K % (H * W)
    return p


@triton.jit
def entries(a, like):
    """Entries of the generator as what they are multiplied with; signs, whose bits are integers, by way of float32."""
    if a.dtype == tl.int8:
        a = a.to(tl.float32)
    return a.to(like.dtype)


@triton.jit
def bases(filters, layer, LAYERS: tl.constexpr):
    """The address of each slice's filter, 0 where there is none."""
    base = tl.zeros_like(layer).to(tl.int64)
    for j in tl.static_range(LAYERS):
        if filters[j] is not None:
            base = tl.where(layer == j, filters[j].to(tl.int64, bitcast=True), base)
    return base


@triton.jit
def places(
    table_ptr, filters, s, slices, row, POSITIONS: tl.constexpr, K: tl.constexpr, H: tl.constexpr, W: tl.constexpr,
    FLAT: tl.constexpr, LAYERS: tl.constexpr, type: tl.constexpr,
):  # fmt: skip
    """Pointers to the values of rows `row` of the generator in the filters of slices s, and which of them exist.

    s and row: broadcastable to the shape of the result.
    """
    valid = s < slices
    at = table_ptr + s * COLUMNS
    layer = tl.load(at, mask=valid, other=0)
    O, I = tl.load(at + 6, mask=valid, other=0), tl.load(at + 7, mask=valid, other=0)
    KH, KW = tl.load(at + 8, mask=valid, other=0), tl.load(at + 9, mask=valid, other=0)
    if FLAT:
        value = tl.load(at + 1, mask=valid, other=0) + row
        wide_i, wide_h = tl.load(at + 10, mask=valid, other=1), tl.load(at + 11, mask=valid, other=1)
        wide_w = tl.load(at + 12, mask=valid, other=1)
        x, rest = value % wide_w, value // wide_w
        y, rest = rest % wide_h, rest // wide_h
        i, o = rest % wide_i, rest // wide_i
    else:
        o = tl.load(at + 2, mask=valid, other=0) + row // (K * H * W)
        i = tl.load(at + 3, mask=valid, other=0) + row // (H * W) % K
        y = tl.load(at + 4, mask=valid, other=0) + row // W % H
        x = tl.load(at + 5, mask=valid, other=0) + row % W
    base = bases(filters, layer, LAYERS)
    there = valid & (row < POSITIONS) & (o < O) & (i < I) & (y < KH) & (x < KW) & (base != 0)
    offset = o * tl.load(at + 13, mask=valid, other=0) + i * tl.load(at + 14, mask=valid, other=0)
    offset += y * tl.load(at + 15, mask=valid, other=0) + x * tl.load(at + 16, mask=valid, other=0)
    return base.to(type, bitcast=True) + offset, there
