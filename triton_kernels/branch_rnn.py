"""branch_rnn on the GPU: a program runs all steps of a branch for a tile of samples, weights and state on the chip."""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from . import tiles
from .launch import Launch, blocks, named, padded, planar, precision
from .vocabulary import activate, load, product, store


@triton.jit
def branch_rnn_kernel(
    x_ptr, weight_x_ptr, weight_h_ptr, weight_y_ptr, bias_ptr, h0_ptr, lengths_ptr, y_ptr, h_ptr, states_ptr,
    steps, branches, n,
    I: tl.constexpr, P: tl.constexpr, O: tl.constexpr, NAME_H: tl.constexpr, OFFSET_H: tl.constexpr,
    NAME_Y: tl.constexpr, OFFSET_Y: tl.constexpr, COMPLEX: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_I: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_O: tl.constexpr,
):  # fmt: skip
    """states_ptr: None where they are not wanted. The state stays in float32 for all steps."""
    pid = tl.program_id(0).to(tl.int64)
    q = pid % branches
    rows = pid // branches * BLOCK_N + tl.arange(0, BLOCK_N)
    valid = rows < n
    i, p, o = tl.arange(0, BLOCK_I), tl.arange(0, BLOCK_P), tl.arange(0, BLOCK_O)
    x_inside, h_inside = (p < P)[None, :] & (i < I)[:, None], (p < P)[None, :] & (p < P)[:, None]
    y_inside = (o < O)[None, :] & (p < P)[:, None]
    x_re, x_im = load(weight_x_ptr, (q * P + p)[None, :] * I + i[:, None], x_inside, COMPLEX)
    h_re, h_im = load(weight_h_ptr, (q * P + p)[None, :] * P + p[:, None], h_inside, COMPLEX)
    y_re, y_im = load(weight_y_ptr, (q * O + o)[None, :] * P + p[:, None], y_inside, COMPLEX)
    there = valid[:, None] & (p < P)[None, :]
    at = rows[:, None] * P + p[None, :]
    re, im = load(h0_ptr, q * n * P + at, there, COMPLEX)
    re, im = re.to(tl.float32), im.to(tl.float32)
    lengths = tl.zeros((BLOCK_N,), tl.int64) + steps
    if lengths_ptr is not None:
        lengths = tl.load(lengths_ptr + rows, mask=valid, other=0)
    for t in range(steps):
        running = valid & (lengths > t)
        step = q + branches * t  # 64 bits, as q
        in_re, in_im = load(
            x_ptr, (step * n + rows)[:, None] * I + i[None, :], running[:, None] & (i < I)[None, :], COMPLEX
        )
        z_re = tl.zeros((BLOCK_N, BLOCK_P), tl.float32)
        z_im = tl.zeros((BLOCK_N, BLOCK_P), tl.float32)
        z_re, z_im = product(in_re, in_im, x_re, x_im, z_re, z_im, PRECISION, COMPLEX)
        if bias_ptr is not None:
            b_re, b_im = load(bias_ptr, q * P + p, p < P, COMPLEX)
            z_re, z_im = z_re + b_re[None, :], z_im + b_im[None, :]
        z_re, z_im = product(re.to(h_re.dtype), im.to(h_re.dtype), h_re, h_im, z_re, z_im, PRECISION, COMPLEX)
        z_re, z_im = activate(z_re, z_im, NAME_H, OFFSET_H, COMPLEX)
        goes_on = running[:, None] & (p < P)[None, :]
        re, im = tl.where(goes_on, z_re, re), tl.where(goes_on, z_im, im)
        if states_ptr is not None:
            store(states_ptr, step * n * P + at, re, im, there, COMPLEX)
        if O > 0:
            out_re = tl.zeros((BLOCK_N, BLOCK_O), tl.float32)
            out_im = tl.zeros((BLOCK_N, BLOCK_O), tl.float32)
            out_re, out_im = product(
                re.to(y_re.dtype), im.to(y_re.dtype), y_re, y_im, out_re, out_im, PRECISION, COMPLEX
            )
            out_re, out_im = activate(out_re, out_im, NAME_Y, OFFSET_Y, COMPLEX)
            out_re, out_im = tl.where(running[:, None], out_re, 0.0), tl.where(running[:, None], out_im, 0.0)
            mask = valid[:, None] & (o < O)[None, :]
            store(y_ptr, (step * n + rows)[:, None] * O + o[None, :], out_re, out_im, mask, COMPLEX)
    store(h_ptr, q * n * P + at, re, im, there, COMPLEX)


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
    tensors = {"x": x, "weight_x": weight_x, "weight_h": weight_h, "weight_y": weight_y, "bias": bias, "h0": h0}
    tensors |= {"y": out[0], "h": out[1], "states": out[2] if len(out) == 3 else None}
    arguments = {f"{name}_ptr": planar(t) for name, t in tensors.items()}
    arguments |= {"lengths_ptr": lengths, "steps": steps, "branches": q, "n": n}
    constants = sizes(i, p, o, activation_h, activation_y, tile) | {"COMPLEX": x.is_complex()}
    return [Launch(branch_rnn_kernel, q * blocks(n, tile.blocks["N"]), arguments, constants, tile)]


def sizes(i: int, p: int, o: int, activation_h: str, activation_y: str, tile: tiles.Tile) -> dict[str, Any]:
    """What the recurrent kernels are compiled for."""
    (name_h, offset_h), (name_y, offset_y) = named(activation_h), named(activation_y)
    return {
        "I": i, "P": p, "O": o, "NAME_H": name_h, "OFFSET_H": offset_h, "NAME_Y": name_y, "OFFSET_Y": offset_y,
        "PRECISION": precision(),
        "BLOCK_N": tile.blocks["N"], "BLOCK_I": padded(i), "BLOCK_P": padded(p), "BLOCK_O": padded(o),
    }  # fmt: skip
