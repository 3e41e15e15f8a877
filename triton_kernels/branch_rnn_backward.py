"""branch_rnn_backward on the GPU: back through all steps in one kernel, the weight gradients in registers.

A program takes a branch and every S-th tile of its samples; its three weight gradients are added up over all steps of
its tiles, and then in order over the programs.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import branch_rnn, sums, tiles
from .launch import Launch, blocks, padded, precision
from .network_gradients import PROGRAMS
from .vocabulary import descend, dot


@triton.jit
def slope(g, h, NAME: tl.constexpr):
    """g times the derivative of an activation whose result h tells it."""
    if NAME == "relu":
        g = tl.where(h <= 0, 0.0, g)
    elif NAME == "tanh":
        g = g * (1 - h * h)
    elif NAME == "sigmoid":
        g = g * (h * (1 - h))
    else:
        tl.static_assert(NAME == "none")
    return g


@triton.jit
def branch_rnn_backward_kernel(
    grad_y_ptr, grad_h_ptr, grad_states_ptr, x_ptr, weight_x_ptr, weight_h_ptr, weight_y_ptr, bias_ptr, h0_ptr,
    states_ptr, lengths_ptr, grad_x_ptr, grad_h0_ptr, parts_ptr, steps, branches, n, splits, total,
    I: tl.constexpr, P: tl.constexpr, O: tl.constexpr, NAME_H: tl.constexpr, NAME_Y: tl.constexpr,
    PRECISION: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_I: tl.constexpr, BLOCK_P: tl.constexpr,
    BLOCK_O: tl.constexpr,
):  # fmt: skip
    """parts (splits, branches, total): the gradients of weight_x, weight_h, weight_y and bias."""
    pid = tl.program_id(0).to(tl.int64)
    q, split = pid % branches, pid // branches
    i, p, o = tl.arange(0, BLOCK_I), tl.arange(0, BLOCK_P), tl.arange(0, BLOCK_O)
    x_there, h_there = (p < P)[:, None] & (i < I)[None, :], (p < P)[:, None] & (p < P)[None, :]
    y_there = (o < O)[:, None] & (p < P)[None, :]
    weight_x = tl.load(weight_x_ptr + (q * P + p)[:, None] * I + i[None, :], mask=x_there, other=0.0)
    weight_h = tl.load(weight_h_ptr + (q * P + p)[:, None] * P + p[None, :], mask=h_there, other=0.0)
    weight_y = tl.load(weight_y_ptr + (q * O + o)[:, None] * P + p[None, :], mask=y_there, other=0.0)
    sum_x = tl.zeros((BLOCK_P, BLOCK_I), tl.float32)
    sum_h = tl.zeros((BLOCK_P, BLOCK_P), tl.float32)
    sum_y = tl.zeros((BLOCK_O, BLOCK_P), tl.float32)
    sum_b = tl.zeros((BLOCK_P,), tl.float32)
    for tile in range(split, tl.cdiv(n, BLOCK_N), splits):
        rows = tile * BLOCK_N + tl.arange(0, BLOCK_N)
        valid = rows < n
        there = valid[:, None] & (p < P)[None, :]
        at = rows[:, None] * P + p[None, :]
        lengths = tl.zeros((BLOCK_N,), tl.int64) + steps
        if lengths_ptr is not None:
            lengths = tl.load(lengths_ptr + rows, mask=valid, other=0)
        g = tl.zeros((BLOCK_N, BLOCK_P), tl.float32)
        if grad_h_ptr is not None:
            g += tl.load(grad_h_ptr + q * n * P + at, mask=there, other=0.0).to(tl.float32)
        for back in range(steps):
            t = steps - 1 - back
            step = q + branches * t
            running = valid & (lengths > t)
            # H_(t-1): the state before, or h0 before the first step
            past = tl.zeros((BLOCK_N, BLOCK_P), tl.int64) + t
            before = tl.load(states_ptr + (step - branches) * n * P + at, mask=there & (past > 0), other=0.0)
            before += tl.load(h0_ptr + q * n * P + at, mask=there & (past == 0), other=0.0)
            h = tl.load(states_ptr + step * n * P + at, mask=there, other=0.0)
            x_mask = running[:, None] & (i < I)[None, :]
            x = tl.load(x_ptr + (step * n + rows)[:, None] * I + i[None, :], mask=x_mask, other=0.0)
            if grad_states_ptr is not None:
                g += tl.load(grad_states_ptr + step * n * P + at, mask=there, other=0.0).to(tl.float32)
            if grad_y_ptr is not None and O > 0:
                e_mask = running[:, None] & (o < O)[None, :]
                e = tl.load(grad_y_ptr + (step * n + rows)[:, None] * O + o[None, :], mask=e_mask, other=0.0)
                e = e.to(tl.float32)
                if NAME_Y != "none":
                    z = dot(h, tl.trans(weight_y), tl.zeros((BLOCK_N, BLOCK_O), tl.float32), PRECISION)
                    e, _ = descend(e, e, z, z, NAME_Y, 0.0, False)
                e = tl.where(e_mask, e, 0.0).to(weight_y.dtype)
                above = dot(e, weight_y, tl.zeros((BLOCK_N, BLOCK_P), tl.float32), PRECISION)
                g += tl.where(running[:, None] & (p < P)[None, :], above, 0.0)
                sum_y = dot(tl.trans(e), h, sum_y, PRECISION)
            if NAME_H == "gelu" or NAME_H == "silu":
                z = dot(x, tl.trans(weight_x), tl.zeros((BLOCK_N, BLOCK_P), tl.float32), PRECISION)
                if bias_ptr is not None:
                    z += tl.load(bias_ptr + q * P + p, mask=p < P, other=0.0)[None, :]
                z = dot(before, tl.trans(weight_h), z, PRECISION)
                d, _ = descend(g, g, z, z, NAME_H, 0.0, False)
            else:
                d = slope(g, h.to(tl.float32), NAME_H)
            d = tl.where(running[:, None] & (p < P)[None, :], d, 0.0)
            sum_b += tl.sum(d, 0)
            d = d.to(weight_h.dtype)
            sum_x = dot(tl.trans(d), x, sum_x, PRECISION)
            sum_h = dot(tl.trans(d), before, sum_h, PRECISION)
            if grad_x_ptr is not None:
                below = dot(d, weight_x, tl.zeros((BLOCK_N, BLOCK_I), tl.float32), PRECISION)
                below = tl.where(running[:, None], below, 0.0).to(grad_x_ptr.dtype.element_ty)
                mask = valid[:, None] & (i < I)[None, :]
                tl.store(grad_x_ptr + (step * n + rows)[:, None] * I + i[None, :], below, mask=mask)
            passed = dot(d, weight_h, tl.zeros((BLOCK_N, BLOCK_P), tl.float32), PRECISION)
            g = tl.where(running[:, None], passed, g)
            g = tl.where(there, g, 0.0)
        tl.store(grad_h0_ptr + q * n * P + at, g.to(grad_h0_ptr.dtype.element_ty), mask=there)
    part_ptr = parts_ptr + (split * branches + q) * total
    tl.store(part_ptr + p[:, None] * I + i[None, :], sum_x, mask=x_there)
    tl.store(part_ptr + P * I + p[:, None] * P + p[None, :], sum_h, mask=h_there)
    tl.store(part_ptr + P * (I + P) + o[:, None] * P + p[None, :], sum_y, mask=y_there)
    if bias_ptr is not None:
        tl.store(part_ptr + P * (I + P + O) + p, sum_b, mask=p < P)


def why_not(grad_y: Any, grad_h: Any, grad_states: Any, *layer: Any) -> str | None:
    if not layer[0].shape[2]:
        return "a batch of no samples is left to the reference"
    return branch_rnn.limits("branch_rnn_backward", *layer)


def plan(args: list[Any], out: tuple[Tensor, ...], arch: int) -> list[Launch]:
    (grad_y, grad_h, grad_states, x, weight_x, weight_h, weight_y, bias, h0, states, *options) = args
    activation_h, activation_y, lengths, want = options
    grad_x, grad_weight_x, grad_weight_h, grad_weight_y, grad_bias, grad_h0 = out
    steps, q, n, i = x.shape
    p, o = weight_x.shape[1], weight_y.shape[1]
    tile = tiles.pick("branch_rnn_backward", x.dtype, max(i, p, o), arch)
    block = tile.blocks["N"]
    splits = min(blocks(n, block), blocks(PROGRAMS, q))
    outs = [grad_weight_x, grad_weight_h, grad_weight_y, *([] if bias is None else [grad_bias])]
    total = sum(t.numel() // q for t in outs)
    parts = x.new_empty(splits, q, total, dtype=torch.float32)
    arguments = {
        "grad_y_ptr": grad_y, "grad_h_ptr": grad_h, "grad_states_ptr": grad_states, "x_ptr": x,
        "weight_x_ptr": weight_x, "weight_h_ptr": weight_h, "weight_y_ptr": weight_y, "bias_ptr": bias, "h0_ptr": h0,
        "states_ptr": states, "lengths_ptr": lengths, "grad_x_ptr": grad_x if want else None, "grad_h0_ptr": grad_h0,
        "parts_ptr": parts, "steps": steps, "branches": q, "n": n, "splits": splits, "total": total,
    }  # fmt: skip
    constants = {
        "I": i, "P": p, "O": o, "NAME_H": activation_h, "NAME_Y": activation_y, "PRECISION": precision(),
        "BLOCK_N": block, "BLOCK_I": padded(i), "BLOCK_P": padded(p), "BLOCK_O": padded(o),
    }  # fmt: skip
    launch = Launch(branch_rnn_backward_kernel, splits * q, arguments, constants, tile)
    return [launch, sums.plan(parts, outs, arch)]
