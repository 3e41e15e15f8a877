"""The gradients of a network of branches: one kernel, and the sum of its parts.

A program takes a branch and every S-th tile of its samples. It runs the layers forward, leaving their arguments z_j in
a buffer of its own that the second-level cache holds, then back: d = g act'(z_j), and from it the weight gradient
d^T h_(j-1), the bias gradient, and g = d w_j. Gradients of parameters are added up in the program's part of a buffer,
tile by tile, and the parts in order: the same bits every time, no atomics.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import layers, sums
from .launch import Launch, blocks, padded, planar
from .layers import PROGRAMS
from .networks import Network, affine, logits_gradient, within
from .vocabulary import activate, descend, load, product, store


@triton.jit
def add(ptr, offsets, re, im, mask, COMPLEX: tl.constexpr):
    """Add to what the tiles before have left."""
    old_re, old_im = load(ptr, offsets, mask, COMPLEX)
    store(ptr, offsets, old_re + re, old_im + im, mask, COMPLEX)


@triton.jit
def kept(ptr, START: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_O: tl.constexpr, COMPLEX: tl.constexpr):
    """A layer's arguments from the buffer, where they stand with their padding."""
    at = BLOCK_N * START + tl.arange(0, BLOCK_N)[:, None] * BLOCK_O + tl.arange(0, BLOCK_O)[None, :]
    return load(ptr, at, at >= 0, COMPLEX)


@triton.jit
def layer_gradients(
    d_re, d_im, h_re, h_im, weight_ptr, bias_ptr, part_ptr, q,
    I: tl.constexpr, O: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_I: tl.constexpr, BLOCK_O: tl.constexpr,
    COMPLEX: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Adds d^T conj(h) and the sum of d to the part; returns d conj(w)."""
    i, o = tl.arange(0, BLOCK_I), tl.arange(0, BLOCK_O)
    if bias_ptr is not None:
        PARTS: tl.constexpr = 2 if COMPLEX else 1
        add(part_ptr + O * I * PARTS, o, tl.sum(d_re, 0), tl.sum(d_im, 0), o < O, COMPLEX)
    there = (o < O)[:, None] & (i < I)[None, :]
    w_re, w_im = load(weight_ptr, (q * O + o)[:, None] * I + i[None, :], there, COMPLEX)
    d_re, d_im = d_re.to(w_re.dtype), d_im.to(w_re.dtype)
    h_re, h_im = h_re.to(w_re.dtype), h_im.to(w_re.dtype)
    re = tl.zeros((BLOCK_O, BLOCK_I), tl.float32)
    im = tl.zeros((BLOCK_O, BLOCK_I), tl.float32)
    re, im = product(tl.trans(d_re), tl.trans(d_im), h_re, -h_im, re, im, PRECISION, COMPLEX)
    add(part_ptr, o[:, None] * I + i[None, :], re, im, there, COMPLEX)
    g_re = tl.zeros((BLOCK_N, BLOCK_I), tl.float32)
    g_im = tl.zeros((BLOCK_N, BLOCK_I), tl.float32)
    return product(d_re, d_im, w_re, -w_im, g_re, g_im, PRECISION, COMPLEX)


@triton.jit
def network_gradients_kernel(
    x_ptr, weights, biases, grad_ptr, target_ptr, shares_ptr, logits_ptr, grad_x_ptr, parts_ptr, buffer_ptr,
    n, branches, splits, total, scale,
    WIDTHS: tl.constexpr, PADDED: tl.constexpr, STARTS: tl.constexpr, BUFFERED: tl.constexpr,
    NAMES: tl.constexpr, OFFSETS: tl.constexpr, LAYERS: tl.constexpr, SOFTMAX: tl.constexpr,
    COMPLEX: tl.constexpr, PRECISION: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """The gradient of the logits is grad (branches, n, C); or that of the cross-entropy with target; or, with shares,
    what grad (n, C) of their mixture gives each branch.

    parts (splits, branches, total): weight and bias of each layer at STARTS[j], pairs where complex; last the loss, or
    the gradient of the share. buffer: z_j of a program's tile, at BUFFERED[j] values a row.
    """
    I: tl.constexpr = WIDTHS[0]
    C: tl.constexpr = WIDTHS[LAYERS]
    BLOCK_I: tl.constexpr = PADDED[0]
    BLOCK_C: tl.constexpr = PADDED[LAYERS]
    PARTS: tl.constexpr = 2 if COMPLEX else 1
    pid = tl.program_id(0).to(tl.int64)
    n = tl.cast(n, tl.int64)
    q, split = pid % branches, pid // branches
    part_ptr = parts_ptr + (split * branches + q) * total
    z_ptr = buffer_ptr + pid * (BLOCK_N * BUFFERED[LAYERS] * PARTS)
    within_block = tl.arange(0, BLOCK_N)
    i, c = tl.arange(0, BLOCK_I), tl.arange(0, BLOCK_C)
    for tile in range(split, tl.cdiv(n, BLOCK_N), splits):
        rows = tile * BLOCK_N + within_block
        valid = rows < n
        x_at = (q * n + rows)[:, None] * I + i[None, :]
        x_there = valid[:, None] & (i < I)[None, :]
        h_re, h_im = load(x_ptr, x_at, x_there, COMPLEX)
        for j in tl.static_range(LAYERS):
            z_re, z_im = affine(
                h_re, h_im, weights[j], biases[j], q,
                WIDTHS[j], WIDTHS[j + 1], BLOCK_N, PADDED[j], PADDED[j + 1], COMPLEX, PRECISION,
            )  # fmt: skip
            at = BLOCK_N * BUFFERED[j] + within_block[:, None] * PADDED[j + 1] + tl.arange(0, PADDED[j + 1])[None, :]
            store(z_ptr, at, z_re, z_im, at >= 0, COMPLEX)
            h_re, h_im = activate(z_re, z_im, NAMES[j], OFFSETS[j], COMPLEX)
            h_re, h_im = within(h_re, h_im, valid, WIDTHS[j + 1], PADDED[j + 1])
        # the gradient of the last layer's result
        y_at = (q * n + rows)[:, None] * C + c[None, :]
        there = valid[:, None] & (c < C)[None, :]
        if target_ptr is not None or shares_ptr is not None:
            if logits_ptr is not None:
                store(logits_ptr, y_at, h_re, h_im, there, COMPLEX)
            g_re, row_sums = logits_gradient(
                h_re, q, rows, valid, grad_ptr, target_ptr, shares_ptr, C, BLOCK_C, SOFTMAX
            )
            g_im = tl.zeros((BLOCK_N, BLOCK_C), tl.float32)
            old = tl.load(part_ptr + total - 1)
            tl.store(part_ptr + total - 1, old + tl.sum(row_sums, 0))
        else:
            g_re, g_im = load(grad_ptr, y_at, there, COMPLEX)
            g_re, g_im = g_re.to(tl.float32), g_im.to(tl.float32)
        tl.debug_barrier()  # one thread's z are another one's
        for j in tl.static_range(LAYERS - 1, -1, -1):
            z_re, z_im = kept(z_ptr, BUFFERED[j], BLOCK_N, PADDED[j + 1], COMPLEX)
            d_re, d_im = descend(g_re, g_im, z_re, z_im, NAMES[j], OFFSETS[j], COMPLEX)
            d_re, d_im = within(d_re, d_im, valid, WIDTHS[j + 1], PADDED[j + 1])
            if j > 0:
                z_re, z_im = kept(z_ptr, BUFFERED[j - 1], BLOCK_N, PADDED[j], COMPLEX)
                h_re, h_im = activate(z_re, z_im, NAMES[j - 1], OFFSETS[j - 1], COMPLEX)
                h_re, h_im = within(h_re, h_im, valid, WIDTHS[j], PADDED[j])
            else:
                h_re, h_im = load(x_ptr, x_at, x_there, COMPLEX)
            g_re, g_im = layer_gradients(
                d_re, d_im, h_re, h_im, weights[j], biases[j], part_ptr + STARTS[j], q,
                WIDTHS[j], WIDTHS[j + 1], BLOCK_N, PADDED[j], PADDED[j + 1], COMPLEX, PRECISION,
            )  # fmt: skip
        if grad_x_ptr is not None:
            store(grad_x_ptr, x_at, g_re * scale, g_im * scale, x_there, COMPLEX)
        tl.debug_barrier()  # before the next tile writes to the buffer


def plan(
    branches: Tensor,
    net: Network,
    arch: int,
    grad_x: Tensor | None,
    grad_weights: list[Tensor],
    grad_biases: list[Tensor],
    grad: Tensor | None = None,
    target: Tensor | None = None,
    losses: Tensor | None = None,
    logits: Tensor | None = None,
    shares: Tensor | None = None,
    space: str = "",
    grad_shares: Tensor | None = None,
) -> list[Launch]:
    """Of branches (Q', N, I): either grad; or target, losses and logits; or grad (N, C), shares and grad_shares."""
    q, n, _ = branches.shape
    pieces = 2 if branches.is_complex() else 1
    widths = net.widths
    scale = 1.0 if target is None else 1 / n
    outs, starts, total, rest = [], [], 0, iter(grad_biases)
    for w, b, grad_w in zip(net.weights, net.biases, grad_weights, strict=True):
        starts.append(total)
        outs += [grad_w] if b is None else [grad_w, next(rest)]
        total += pieces * (w.shape[1] * w.shape[2] + (0 if b is None else w.shape[1]))
    last = losses if losses is not None else grad_shares
    if not net.fits("network_gradients", arch):
        return layers.plan(
            branches, net, arch, grad_x, outs, starts, grad, target, logits, shares, space, last, scale
        )  # fmt: skip
    tile = net.tile("network_gradients", arch)
    block = tile.blocks["N"]
    splits = min(blocks(n, block), blocks(PROGRAMS, q))
    if last is not None:
        outs, total = [*outs, last], total + 1
    buffered = [sum(map(padded, widths[1 : j + 1])) for j in range(len(widths))]
    parts = branches.new_zeros(splits, q, total, dtype=torch.float32)
    buffer = branches.new_empty(splits * q * block * buffered[-1] * pieces, dtype=torch.float32)
    arguments = {
        "x_ptr": planar(branches), **net.arguments(), "grad_ptr": planar(grad), "target_ptr": target,
        "shares_ptr": shares, "logits_ptr": planar(logits), "grad_x_ptr": planar(grad_x), "parts_ptr": parts,
        "buffer_ptr": buffer, "n": n, "branches": q, "splits": splits, "total": total, "scale": scale,
    }  # fmt: skip
    constants = net.constants() | {
        "STARTS": tuple(starts), "BUFFERED": tuple(buffered), "SOFTMAX": space == "probabilities", "BLOCK_N": block
    }  # fmt: skip
    return [
        Launch(network_gradients_kernel, splits * q, arguments, constants, tile),
        sums.plan(parts, outs, arch, scale),
    ]
