"""branch_rnn_backward on the GPU: only what waits for the step after runs step by step.

That is g_t = from above + conj(W_h)^T d_(t+1) and d_t = g_t act_h'(z_t), one product a step; a program takes a tile of
samples of a branch back through all steps. The arguments z_t, where the states do not tell the slope, what comes from
above, conj(W_y)^T e_t, and afterwards the gradients of x and of the weights are products over all steps at once.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import layers, sums, tiles
from .launch import Launch, blocks, named, padded, planar, precision
from .vocabulary import descend, load, product, store

TOLD = ("none", "relu", "tanh", "sigmoid", "crelu", "zrelu")  # activations whose slope the result tells


@triton.jit
def slope(g_re, g_im, h_re, h_im, NAME: tl.constexpr, OFFSET: tl.constexpr, COMPLEX: tl.constexpr):
    """g times the derivative of an activation whose result h tells it."""
    if NAME == "tanh":
        g_re = g_re * (1 - h_re * h_re)
        g_im = g_re
    elif NAME == "sigmoid":
        g_re = g_re * (h_re * (1 - h_re))
        g_im = g_re
    else:
        g_re, g_im = descend(g_re, g_im, h_re, h_im, NAME, OFFSET, COMPLEX)
    return g_re, g_im


@triton.jit
def branch_rnn_backward_kernel(
    above_ptr, grad_h_ptr, grad_states_ptr, z_ptr, weight_ptr, lengths_ptr, d_ptr, grad_h0_ptr, steps, branches, n,
    P: tl.constexpr, NAME: tl.constexpr, OFFSET: tl.constexpr, RESULTS: tl.constexpr, COMPLEX: tl.constexpr,
    PRECISION: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    """d_t of all steps. RESULTS: z are not arguments but states, which tell the slope."""
    pid = tl.program_id(0).to(tl.int64)
    q = pid % branches
    rows = pid // branches * BLOCK_N + tl.arange(0, BLOCK_N)
    valid, p = rows < n, tl.arange(0, BLOCK_P)
    there = valid[:, None] & (p < P)[None, :]
    inside = (p < P)[:, None] & (p < P)[None, :]
    w_re, w_im = load(weight_ptr, (q * P + p)[:, None] * P + p[None, :], inside, COMPLEX)
    w_im = -w_im
    at = rows[:, None] * P + p[None, :]
    lengths = tl.zeros((BLOCK_N,), tl.int64) + steps
    if lengths_ptr is not None:
        lengths = tl.load(lengths_ptr + rows, mask=valid, other=0)
    g_re = tl.zeros((BLOCK_N, BLOCK_P), tl.float32)
    g_im = tl.zeros((BLOCK_N, BLOCK_P), tl.float32)
    if grad_h_ptr is not None:
        g_re, g_im = load(grad_h_ptr, q * n * P + at, there, COMPLEX)
        g_re, g_im = g_re.to(tl.float32), g_im.to(tl.float32)
    for back in range(steps):
        t = steps - 1 - back
        step_at = (q + branches * t) * n * P + at  # 64 bits, as q
        running = there & (lengths > t)[:, None]
        if grad_states_ptr is not None:
            here_re, here_im = load(grad_states_ptr, step_at, there, COMPLEX)
            g_re, g_im = g_re + here_re, g_im + here_im
        if above_ptr is not None:
            above_re, above_im = load(above_ptr, step_at, there, COMPLEX)
            g_re, g_im = g_re + above_re, g_im + above_im
        z_re, z_im = load(z_ptr, step_at, there, COMPLEX)
        z_re, z_im = z_re.to(tl.float32), z_im.to(tl.float32)
        if RESULTS:
            d_re, d_im = slope(g_re, g_im, z_re, z_im, NAME, OFFSET, COMPLEX)
        else:
            d_re, d_im = descend(g_re, g_im, z_re, z_im, NAME, OFFSET, COMPLEX)
        d_re, d_im = tl.where(running, d_re, 0.0), tl.where(running, d_im, 0.0)
        store(d_ptr, step_at, d_re, d_im, there, COMPLEX)
        d_re, d_im = d_re.to(w_re.dtype), d_im.to(w_re.dtype)
        below_re = tl.zeros((BLOCK_N, BLOCK_P), tl.float32)
        below_im = tl.zeros((BLOCK_N, BLOCK_P), tl.float32)
        below_re, below_im = product(d_re, d_im, w_re, w_im, below_re, below_im, PRECISION, COMPLEX)
        g_re, g_im = tl.where(running, below_re, g_re), tl.where(running, below_im, g_im)
    store(grad_h0_ptr, q * n * P + at, g_re, g_im, there, COMPLEX)


def why_not(
    grad_y: Any, grad_h: Any, grad_states: Any, x: Tensor, weight_x: Tensor, weight_h: Tensor, weight_y: Tensor, *_: Any
) -> str | None:
    if not x.shape[2] or not weight_h.numel():
        return "no samples, or states of no features, are left to the reference"
    reason = tiles.too_wide("branch_rnn_backward", weight_x.dtype, weight_x.shape[1])
    return reason or tiles.too_wide("layer", weight_x.dtype, x.shape[3], weight_y.shape[1])


def plan(args: list[Any], out: tuple[Tensor, ...], arch: int) -> list[Launch]:
    (grad_y, grad_h, grad_states, x, weight_x, weight_h, weight_y, bias, h0, states, *options) = args
    activation_h, activation_y, lengths, want = options
    grad_x, grad_weight_x, grad_weight_h, grad_weight_y, grad_bias, grad_h0 = out
    steps, q, n, _ = x.shape
    p, o = weight_x.shape[1], weight_y.shape[1]
    wide = torch.complex64 if x.is_complex() else torch.float32

    def buffer(width: int) -> Tensor:
        return x.new_empty(steps, q, n, width, dtype=wide)

    launches, z = [], states
    if activation_h not in TOLD:
        z = buffer(p)
        launches += [
            layers.layer(x, "none", weight_x, bias, z, arch, lengths=lengths),
            layers.layer(states, "none", weight_h, None, z, arch, x0=h0, add=True, lengths=lengths),
        ]
    above, d, results = None, buffer(p), None
    if grad_y is not None and o:
        above = buffer(p)
        if activation_y != "none":
            results = buffer(o)
            launches.append(layers.layer(states, "none", weight_y, None, results, arch, lengths=lengths))
        launches.append(layers.back(grad_y, results, activation_y, weight_y, above, arch, lengths=lengths))
    launches.append(_steps(above, grad_h, grad_states, z, weight_h, activation_h, lengths, d, grad_h0, arch))
    if want:
        launches.append(layers.back(d, None, "none", weight_x, grad_x, arch, lengths=lengths))
    outs = [grad_weight_x, grad_weight_h, *([] if bias is None else [grad_bias])]
    factors = [(d, None, "none", x, None, grad_weight_x), (d, None, "none", states, h0, grad_weight_h)]
    if above is None:
        grad_weight_y.zero_()
    else:
        outs.append(grad_weight_y)
        factors.append((grad_y, results, activation_y, states, None, grad_weight_y))
    parts, start = layers.parts_of(d, outs, arch), 0
    for g, at, activation, h, first, grad in factors:
        has_bias = grad is grad_weight_h and bias is not None
        launches.append(
            layers.weights(g, at, activation, h, "none", grad, has_bias, parts, start, arch, x0=first, lengths=lengths)
        )
        start += (planar(grad).numel() + (planar(grad_bias).numel() if has_bias else 0)) // q
    return [*launches, sums.plan(parts, outs, arch)]


def _steps(
    above: Tensor | None, grad_h: Tensor | None, grad_states: Tensor | None, z: Tensor, weight: Tensor,
    activation: str, lengths: Tensor | None, d: Tensor, grad_h0: Tensor, arch: int,
) -> Launch:  # fmt: skip
    steps, q, n, p = d.shape
    tile, (name, offset) = tiles.pick("branch_rnn_backward", weight.dtype, p, arch), named(activation)
    arguments = {
        "above_ptr": planar(above), "grad_h_ptr": planar(grad_h), "grad_states_ptr": planar(grad_states),
        "z_ptr": planar(z), "weight_ptr": planar(weight), "lengths_ptr": lengths, "d_ptr": planar(d),
        "grad_h0_ptr": planar(grad_h0), "steps": steps, "branches": q, "n": n,
    }  # fmt: skip
    constants = {
        "P": p, "NAME": name, "OFFSET": offset, "RESULTS": activation in TOLD, "COMPLEX": weight.is_complex(),
        "PRECISION": precision(), "BLOCK_N": tile.blocks["N"], "BLOCK_P": padded(p),
    }  # fmt: skip
    return Launch(branch_rnn_backward_kernel, q * blocks(n, tile.blocks["N"]), arguments, constants, tile)
