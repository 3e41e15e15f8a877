"""Sums over blocks of samples, in order: what the gradient kernels leave in parts, so that no atomics are needed.

parts (splits, P, total) are float32; segment j of the last dimension becomes outs[j], summed over the splits.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from . import tiles
from .launch import Launch, blocks, planar


@triton.jit
def sums_kernel(
    parts_ptr, outs, starts, sizes, splits, branches, total, scale, COUNT: tl.constexpr, BLOCK_S: tl.constexpr
):
    """A program: one block of every segment, of one branch."""
    pid = tl.program_id(0).to(tl.int64)
    p = pid % branches
    at = pid // branches * BLOCK_S + tl.arange(0, BLOCK_S)
    for j in tl.static_range(COUNT):
        there = at < sizes[j]
        sum = tl.zeros((BLOCK_S,), tl.float32)
        for s in range(splits):
            sum += tl.load(parts_ptr + (s * branches + p) * total + starts[j] + at, mask=there, other=0.0)
        tl.store(outs[j] + p * sizes[j] + at, (sum * scale).to(outs[j].dtype.element_ty), mask=there)


def plan(parts: Tensor, outs: list[Tensor], arch: int, scale: float = 1.0) -> Launch:
    """outs: (P, ...) each, in the order of their segments; complex ones as pairs."""
    splits, branches, total = parts.shape
    flat = [planar(out) for out in outs]
    sizes = [out.numel() // branches for out in flat]
    starts = [sum(sizes[:j]) for j in range(len(sizes))]
    tile = tiles.pick("sums", parts.dtype, 1, arch)
    arguments = {
        "parts_ptr": parts, "outs": tuple(flat), "starts": tuple(starts), "sizes": tuple(sizes),
        "splits": splits, "branches": branches, "total": total, "scale": scale,
    }  # fmt: skip
    programs = branches * blocks(max(sizes), tile.blocks["S"])
    return Launch(sums_kernel, programs, arguments, {"COUNT": len(outs), **tile.constants()}, tile)
