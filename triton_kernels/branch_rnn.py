"""branch_rnn on the GPU: a program runs all steps of a branch for a tile of samples, weights and state on the chip."""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from . import tiles
from .launch import Launch, blocks, padded, precision
from .vocabulary import activate, dot


@triton.jit
def branch_rnn_kernel(
    x_ptr, weight_x_ptr, weight_h_ptr, weight_y_ptr, bias_ptr, h0_ptr, lengths_ptr, y_ptr, h_ptr, states_ptr,
    steps, branches, n,
    I: tl.constexpr, P: tl.constexpr, O: tl.constexpr, NAME_H: tl.constexpr, NAME_Y: tl.constexpr,
    PRECISION: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_I: tl.constexpr, BLOCK_P: tl.constexpr,
    BLOCK_O: tl.constexpr,
):  # fmt: skip
    """states_ptr: None where they are not wanted. The state stays in float32 for all steps."""
    pid = tl.program_id(0).to(tl.int64)
    q = pid % branches
    rows = pid // branches * BLOCK_N + tl.arange(0, BLOCK_N)
    valid = rows < n
    i, p, o = tl.arange(0, BLOCK_I), tl.arange(0, BLOCK_P), tl.arange(0, BLOCK_O)
    weight_x = tl.load(
        weight_x_ptr + (q * P + p)[None, :] * I + i[:, None], mask=(p < P)[None, :] & (i < I)[:, None], other=0.0
    )
    weight_h = tl.load(
        weight_h_ptr + (q * P + p)[None, :] * P + p[:, None], mask=(p < P)[None, :] & (p < P)[:, None], other=0.0
    )
    weight_y = tl.load(
        weight_y_ptr + (q * O + o)[None, :] * P + p[:, None], mask=(o < O)[None, :] & (p < P)[:, None], other=0.0
    )
    there = valid[:, None] & (p < P)[None, :]
    at = rows[:, None] * P + p[None, :]
    h = tl.load(h0_ptr + q * n * P + at, mask=there, other=0.0).to(tl.float32)
    lengths = tl.zeros((BLOCK_N,), tl.int64) + steps
    if lengths_ptr is not None:
        lengths = tl.load(lengths_ptr + rows, mask=valid, other=0)
    for t in range(steps):
        running = valid & (lengths > t)
        step = q + branches * t  # 64 bits, as q
        x = tl.load(
            x_ptr + (step * n + rows)[:, None] * I + i[None, :], mask=running[:, None] & (i < I)[None, :], other=0.0
        )
        z = dot(x, weight_x, tl.zeros((BLOCK_N, BLOCK_P), tl.float32), PRECISION)
        if bias_ptr is not None:
            z += tl.load(bias_ptr + q * P + p, mask=p < P, other=0.0)[None, :]
        z = dot(h.to(weight_h.dtype), weight_h, z, PRECISION)
        z, _ = activate(z, z, NAME_H, 0.0, False)
        h = tl.where(running[:, None] & (p < P)[None, :], z, h)
        if states_ptr is not None:
            tl.store(states_ptr + step * n * P + at, h.to(states_ptr.dtype.element_ty), mask=there)
        if O > 0:
            y = dot(h.to(weight_y.dtype), weight_y, tl.zeros((BLOCK_N, BLOCK_O), tl.float32), PRECISION)
            y, _ = activate(y, y, NAME_Y, 0.0, False)
            y = tl.where(running[:, None], y, 0.0).to(y_ptr.dtype.element_ty)
            mask = valid[:, None] & (o < O)[None, :]
            tl.store(y_ptr + (step * n + rows)[:, None] * O + o[None, :], y, mask=mask)
    tl.store(h_ptr + q * n * P + at, h.to(h_ptr.dtype.element_ty), mask=there)


def why_not(*args: Any) -> str | None:
    return limits("branch_rnn", *args)


def limits(kernel: str, x: Tensor, weight_x: Tensor, weight_h: Tensor, weight_y: Tensor, *_: Any) -> str | None:
    """The reason against a kernel for a layer of these sizes."""
    reason = tiles.too_wide(kernel, x.dtype, x.shape[3], weight_x.shape[1], weight_y.shape[1])
    return reason or (None if weight_h.numel() else "states of no features are left to the reference")


def plan(args: list[Any], out: tuple[Tensor, ...], arch: int) -> list[Launch]:
    """out: Y, the last state, and for branch_rnn_with_states all of them."""
    x, weight_x, weight_h, weight_y, bias, h0, activation_h, activation_y, lengths = args
    steps, q, n, i = x.shape
    p, o = weight_x.shape[1], weight_y.shape[1]
    tile = tiles.pick("branch_rnn", x.dtype, max(i, p, o), arch)
    arguments = {
        "x_ptr": x, "weight_x_ptr": weight_x, "weight_h_ptr": weight_h, "weight_y_ptr": weight_y, "bias_ptr": bias,
        "h0_ptr": h0, "lengths_ptr": lengths, "y_ptr": out[0], "h_ptr": out[1],
        "states_ptr": out[2] if len(out) == 3 else None, "steps": steps, "branches": q, "n": n,
    }  # fmt: skip
    constants = {
        "I": i, "P": p, "O": o, "NAME_H": activation_h, "NAME_Y": activation_y, "PRECISION": precision(),
        "BLOCK_N": tile.blocks["N"], "BLOCK_I": padded(i), "BLOCK_P": padded(p), "BLOCK_O": padded(o),
    }  # fmt: skip
    return [Launch(branch_rnn_kernel, q * blocks(n, tile.blocks["N"]), arguments, constants, tile)]
