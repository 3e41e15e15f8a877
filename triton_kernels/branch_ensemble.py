"""branch_ensemble on the GPU: a program mixes all branches of its samples."""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from . import tiles
from .launch import Launch, blocks, padded, planar
from .networks import softmax
from .vocabulary import load

WIDEST = 1024  # classes: a row of them stays in registers


@triton.jit
def branch_ensemble_kernel(
    logits_ptr, weights_ptr, y_ptr, branches, n,
    C: tl.constexpr, SOFTMAX: tl.constexpr, COMPLEX: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    n = tl.cast(n, tl.int64)
    rows = tl.program_id(0).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    c = tl.arange(0, BLOCK_C)
    there = (rows < n)[:, None] & (c < C)[None, :]
    sum = tl.zeros((BLOCK_N, BLOCK_C), tl.float32)
    for q in range(branches):
        z, _ = load(logits_ptr, (q * n + rows)[:, None] * C + c[None, :], there, COMPLEX)
        z = z.to(tl.float32)
        if SOFTMAX:
            z, _ = softmax(z, C, BLOCK_C)
        sum += z * tl.load(weights_ptr + q).to(tl.float32)
    tl.store(y_ptr + rows[:, None] * C + c[None, :], sum.to(y_ptr.dtype.element_ty), mask=there)


def why_not(logits: Tensor, weights: Tensor, space: str) -> str | None:
    return too_many(logits)


def too_many(logits: Tensor) -> str | None:
    """The reason against a kernel for these logits."""
    if not logits.numel():
        return "an ensemble of nothing is left to the reference"
    classes = logits.shape[2]
    return None if classes <= WIDEST else f"{classes} classes are past {WIDEST}, of which a row fits the registers"


def plan(args: list[Any], out: Tensor, arch: int) -> list[Launch]:
    logits, weights, space = args
    q, n, c = logits.shape
    tile = tiles.pick("branch_ensemble", logits.dtype, c, arch)
    arguments = {
        "logits_ptr": planar(logits), "weights_ptr": weights, "y_ptr": out, "branches": q, "n": n
    }  # fmt: skip
    constants = {"C": c, "SOFTMAX": space == "probabilities", "COMPLEX": logits.is_complex()}
    constants |= {"BLOCK_N": tile.blocks["N"], "BLOCK_C": padded(c)}
    return [Launch(branch_ensemble_kernel, blocks(n, tile.blocks["N"]), arguments, constants, tile)]
