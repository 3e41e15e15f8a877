"""spectral_linear on the GPU: transform, layer, activation and inverse of a tile of samples in one kernel.

A program takes a tile of samples with all branches, since the inverse mixes them. What passes from stage to stage is
the program's own part of two buffers, which the second-level cache holds: no other program reads it.
"""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from . import tiles
from .branch_linear import branch_block
from .launch import Launch, blocks, named, planar, precision
from .networks import LONGEST
from .tubes import tile_to_branches, transformed
from .vocabulary import activate, store


@triton.jit
def spectral_linear_kernel(
    x_ptr, transform_ptr, weight_ptr, bias_ptr, inverse_ptr, y_ptr, branches_ptr, h_ptr, n,
    P: tl.constexpr, Q: tl.constexpr, I: tl.constexpr, O: tl.constexpr, NAME: tl.constexpr, OFFSET: tl.constexpr,
    OUT_NAME: tl.constexpr, OUT_OFFSET: tl.constexpr, X_COMPLEX: tl.constexpr, COMPLEX: tl.constexpr,
    Y_COMPLEX: tl.constexpr, PRECISION: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_R: tl.constexpr,
    BLOCK_P: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_O: tl.constexpr, BLOCK_I: tl.constexpr,
):  # fmt: skip
    """branches (P, n, I) and h (P, n, O) are the buffers."""
    tile = tl.program_id(0).to(tl.int64)
    n = tl.cast(n, tl.int64)
    for first in range(0, P, BLOCK_P):
        tile_to_branches(
            x_ptr, transform_ptr, branches_ptr, tile, first, P, n,
            I, Q, X_COMPLEX, COMPLEX, PRECISION, BLOCK_N, BLOCK_R, BLOCK_P, BLOCK_Q,
        )  # fmt: skip
    tl.debug_barrier()  # one thread's stores are another one's loads
    rows = tile * BLOCK_N + tl.arange(0, BLOCK_N)
    o_blocks: tl.constexpr = (O + BLOCK_O - 1) // BLOCK_O
    for block in range(0, P * o_blocks):
        q = (tile * 0 + block) // o_blocks
        o = (block % o_blocks) * BLOCK_O + tl.arange(0, BLOCK_O)
        re, im = branch_block(
            branches_ptr, weight_ptr, bias_ptr, q, rows, o, n, I, O, COMPLEX, PRECISION, BLOCK_N, BLOCK_O, BLOCK_I
        )
        re, im = activate(re, im, NAME, OFFSET, COMPLEX)
        mask = (rows[:, None] < n) & (o[None, :] < O)
        store(h_ptr, (q * n + rows)[:, None] * O + o[None, :], re, im, mask, COMPLEX)
    tl.debug_barrier()
    for first in range(0, Q, BLOCK_P):
        q = first + tl.arange(0, BLOCK_P)
        for start in range(0, BLOCK_N * O, BLOCK_R):
            inside = start + tl.arange(0, BLOCK_R)
            tubes = tile * (BLOCK_N * O) + inside
            there = (inside < BLOCK_N * O) & (tubes < n * O)
            re, im = transformed(
                h_ptr, tubes, n * O, there, inverse_ptr, q, Q,
                P, COMPLEX, COMPLEX, PRECISION, BLOCK_R, BLOCK_P, BLOCK_Q,
            )  # fmt: skip
            re, im = activate(re, im, OUT_NAME, OUT_OFFSET, Y_COMPLEX)
            mask = there[:, None] & (q < Q)[None, :]
            store(y_ptr, tubes[:, None] * Q + q[None, :], re, im, mask, Y_COMPLEX)


def why_not(x: Tensor, transform: Tensor, weight: Tensor, *_: Any) -> str | None:
    longest = max(transform.shape)
    if longest > LONGEST:
        return f"tubes of {longest} values are past {LONGEST}, which a tile's transform takes"
    return tiles.too_wide("spectral_linear", weight.dtype, x.shape[1], weight.shape[1])


def plan(args: list[Any], out: Tensor, arch: int) -> list[Launch]:
    x, transform, weight, bias, activation, inverse, output_activation = args
    (n, i, q), (p, o, _) = x.shape, weight.shape
    tile = tiles.pick("spectral_linear", weight.dtype, max(i, o), arch)
    (name, offset), (out_name, out_offset) = named(activation), named(output_activation)
    arguments = {
        "x_ptr": planar(x), "transform_ptr": planar(transform), "weight_ptr": planar(weight), "bias_ptr": planar(bias),
        "inverse_ptr": planar(inverse), "y_ptr": planar(out),
        "branches_ptr": planar(weight.new_empty(p, n, i)), "h_ptr": planar(weight.new_empty(p, n, o)), "n": n,
    }  # fmt: skip
    constants = {
        "P": p, "Q": q, "I": i, "O": o, "NAME": name, "OFFSET": offset, "OUT_NAME": out_name, "OUT_OFFSET": out_offset,
        "X_COMPLEX": x.is_complex(), "COMPLEX": weight.is_complex(), "Y_COMPLEX": out.is_complex(),
        "PRECISION": precision(), **tile.constants(),
    }  # fmt: skip
    return [Launch(spectral_linear_kernel, blocks(n, tile.blocks["N"]), arguments, constants, tile)]
