"""branch_ensemble_backward on the GPU: a program takes the rows of one branch; the shares' gradients in parts."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import sums, tiles
from .branch_ensemble import too_many
from .launch import Launch, blocks, padded, planar
from .networks import softmax
from .vocabulary import load, store


@triton.jit
def branch_ensemble_backward_kernel(
    grad_ptr, logits_ptr, weights_ptr, grad_logits_ptr, parts_ptr, branches, n,
    C: tl.constexpr, SOFTMAX: tl.constexpr, COMPLEX: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """parts: (blocks, branches), the sums of a block's scores."""
    pid = tl.program_id(0).to(tl.int64)
    q, block = pid % branches, pid // branches
    rows = block * BLOCK_N + tl.arange(0, BLOCK_N)
    c = tl.arange(0, BLOCK_C)
    there = (rows < n)[:, None] & (c < C)[None, :]
    at = (q * n + rows)[:, None] * C + c[None, :]
    z, _ = load(logits_ptr, at, there, COMPLEX)
    z = z.to(tl.float32)
    grad = tl.load(grad_ptr + rows[:, None] * C + c[None, :], mask=there, other=0.0).to(tl.float32)
    weight = tl.load(weights_ptr + q).to(tl.float32)
    if SOFTMAX:
        z, _ = softmax(z, C, BLOCK_C)
    score = tl.sum(tl.where(there, z * grad, 0.0), 1)
    g = weight * grad
    if SOFTMAX:
        g = weight * z * (grad - score[:, None])
    store(grad_logits_ptr, at, g, tl.zeros((BLOCK_N, BLOCK_C), tl.float32), there, COMPLEX)
    tl.store(parts_ptr + block * branches + q, tl.sum(score, 0))


def why_not(grad_y: Tensor, logits: Tensor, weights: Tensor, space: str) -> str | None:
    return too_many(logits)


def plan(args: list[Any], out: tuple[Tensor, Tensor], arch: int) -> list[Launch]:
    (grad, logits, weights, space), (grad_logits, grad_weights) = args, out
    q, n, c = logits.shape
    tile = tiles.pick("branch_ensemble", logits.dtype, c, arch)
    count = blocks(n, tile.blocks["N"])
    parts = logits.new_empty(count, q, 1, dtype=torch.float32)
    arguments = {
        "grad_ptr": grad, "logits_ptr": planar(logits), "weights_ptr": weights,
        "grad_logits_ptr": planar(grad_logits), "parts_ptr": parts, "branches": q, "n": n,
    }  # fmt: skip
    constants = {"C": c, "SOFTMAX": space == "probabilities", "COMPLEX": logits.is_complex()}
    constants |= {"BLOCK_N": tile.blocks["N"], "BLOCK_C": padded(c)}
    launch = Launch(branch_ensemble_backward_kernel, q * count, arguments, constants, tile)
    return [launch, sums.plan(parts, [grad_weights], arch)]
