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
from .networks import Network, activate_as, affine, entry, layer_of, logits_gradient, within
from .vocabulary import descend, load, product_conj, store


@triton.jit
def add(ptr, offsets, re, im, mask, COMPLEX: tl.constexpr):
    """Add to what the tiles before have left."""
    old_re, old_im = load(ptr, offsets, mask, COMPLEX)
    store(ptr, offsets, old_re + re, old_im + im, mask, COMPLEX)


@triton.jit
def places(slot, BLOCK_N: tl.constexpr, BLOCK_F: tl.constexpr):
    """Where the buffer has z_slot, padding and all."""
    return (slot * BLOCK_N + tl.arange(0, BLOCK_N)[:, None]) * BLOCK_F + tl.arange(0, BLOCK_F)[None, :]


@triton.jit
def keep(ptr, slot, re, im, BLOCK_N: tl.constexpr, BLOCK_F: tl.constexpr, COMPLEX: tl.constexpr):
    at = places(slot, BLOCK_N, BLOCK_F)
    store(ptr, at, re, im, at >= 0, COMPLEX)


@triton.jit
def kept(ptr, slot, BLOCK_N: tl.constexpr, BLOCK_F: tl.constexpr, COMPLEX: tl.constexpr):
    at = places(slot, BLOCK_N, BLOCK_F)
    return load(ptr, at, at >= 0, COMPLEX)


@triton.jit
def descend_as(
    g_re, g_im, re, im, j, KINDS: tl.constexpr, NAMES: tl.constexpr, OFFSETS: tl.constexpr, COMPLEX: tl.constexpr
):  # fmt: skip
    """g times the slope of the activation of number `j`, as in `activate_as`."""
    d_re, d_im = descend(g_re, g_im, re, im, NAMES[0], OFFSETS[0], COMPLEX)
    for k in tl.static_range(1, KINDS):
        other_re, other_im = descend(g_re, g_im, re, im, NAMES[k], OFFSETS[k], COMPLEX)
        d_re, d_im = tl.where(j == k, other_re, d_re), tl.where(j == k, other_im, d_im)
    return d_re, d_im


@triton.jit
def layer_gradients(
    d_re, d_im, h_re, h_im, weight_ptr, part_ptr, q, I, O, biased,
    BLOCK_N: tl.constexpr, BLOCK_F: tl.constexpr, COMPLEX: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Adds d^T conj(h) and the sum of d to the part; returns d conj(w)."""
    PARTS: tl.constexpr = 2 if COMPLEX else 1
    i, o = tl.arange(0, BLOCK_F), tl.arange(0, BLOCK_F)
    add(part_ptr + O * I * PARTS, o, tl.sum(d_re, 0), tl.sum(d_im, 0), o < biased, COMPLEX)
    there = (o < O)[:, None] & (i < I)[None, :]
    w_re, w_im = load(weight_ptr, (q * O + o)[:, None] * I + i[None, :], there, COMPLEX)
    d_re, d_im = d_re.to(w_re.dtype), d_im.to(w_re.dtype)
    h_re, h_im = h_re.to(w_re.dtype), h_im.to(w_re.dtype)
    re = tl.zeros((BLOCK_F, BLOCK_F), tl.float32)
    im = tl.zeros((BLOCK_F, BLOCK_F), tl.float32)
    re, im = product_conj(tl.trans(d_re), tl.trans(d_im), h_re, h_im, re, im, PRECISION, COMPLEX)
    add(part_ptr, o[:, None] * I + i[None, :], re, im, there, COMPLEX)
    g_re = tl.zeros((BLOCK_N, BLOCK_F), tl.float32)
    g_im = tl.zeros((BLOCK_N, BLOCK_F), tl.float32)
    return product_conj(d_re, d_im, w_re, w_im, g_re, g_im, PRECISION, COMPLEX)


@triton.jit
def network_gradients_kernel(
    x_ptr, weights, biases, grad_ptr, target_ptr, shares_ptr, logits_ptr, grad_x_ptr, parts_ptr, buffer_ptr,
    n, branches, splits, total, scale,
    INS: tl.constexpr, OUTS: tl.constexpr, BIASED: tl.constexpr, STARTS: tl.constexpr, LAYERS: tl.constexpr,
    KIND: tl.constexpr, KINDS: tl.constexpr, NAMES: tl.constexpr, OFFSETS: tl.constexpr, SOFTMAX: tl.constexpr,
    COMPLEX: tl.constexpr, PRECISION: tl.constexpr, BLOCK_F: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """The gradient of the logits is grad (branches, n, C); or that of the cross-entropy with target; or, with shares,
    what grad (n, C) of their mixture gives each branch.

    parts (splits, branches, total): weight and bias of each layer at STARTS[j], pairs where complex; last the loss, or
    the gradient of the share. buffer: z_0 = x, z_1, ... of a program's tile.
    """
    I: tl.constexpr = INS[0]
    C: tl.constexpr = OUTS[LAYERS - 1]
    PARTS: tl.constexpr = 2 if COMPLEX else 1
    pid = tl.program_id(0).to(tl.int64)
    n = tl.cast(n, tl.int64)
    q, split = pid % branches, pid // branches
    part_ptr = parts_ptr + (split * branches + q) * total
    z_ptr = buffer_ptr + pid * ((LAYERS + 1) * BLOCK_N * BLOCK_F * PARTS)
    c = tl.arange(0, BLOCK_F)
    for tile in range(split, tl.cdiv(n, BLOCK_N), splits):
        rows = tile * BLOCK_N + tl.arange(0, BLOCK_N)
        valid = rows < n
        x_at = (q * n + rows)[:, None] * I + c[None, :]
        x_there = valid[:, None] & (c < I)[None, :]
        h_re, h_im = load(x_ptr, x_at, x_there, COMPLEX)
        h_re, h_im = h_re.to(tl.float32), h_im.to(tl.float32)
        keep(z_ptr, 0, h_re, h_im, BLOCK_N, BLOCK_F, COMPLEX)
        for j in range(LAYERS):
            w_ptr, b_ptr, i, o, biased = layer_of(weights, biases, j, INS, OUTS, BIASED, LAYERS)
            z_re, z_im = affine(h_re, h_im, w_ptr, b_ptr, q, i, o, biased, BLOCK_N, BLOCK_F, COMPLEX, PRECISION)
            keep(z_ptr, j + 1, z_re, z_im, BLOCK_N, BLOCK_F, COMPLEX)
            h_re, h_im = activate_as(z_re, z_im, entry(KIND, j, LAYERS), KINDS, NAMES, OFFSETS, COMPLEX)
            h_re, h_im = within(h_re, h_im, valid, o, BLOCK_F)
        # the gradient of the last layer's result
        y_at = (q * n + rows)[:, None] * C + c[None, :]
        there = valid[:, None] & (c < C)[None, :]
        if target_ptr is not None or shares_ptr is not None:
            if logits_ptr is not None:
                store(logits_ptr, y_at, h_re, h_im, there, COMPLEX)
            g_re, row_sums = logits_gradient(
                h_re, q, rows, valid, grad_ptr, target_ptr, shares_ptr, C, BLOCK_F, SOFTMAX
            )
            g_im = tl.zeros((BLOCK_N, BLOCK_F), tl.float32)
            old = tl.load(part_ptr + total - 1)
            tl.store(part_ptr + total - 1, old + tl.sum(row_sums, 0))
        else:
            g_re, g_im = load(grad_ptr, y_at, there, COMPLEX)
            g_re, g_im = g_re.to(tl.float32), g_im.to(tl.float32)
        tl.debug_barrier()  # one thread's z are another one's
        for back in range(LAYERS):
            j = LAYERS - 1 - back
            w_ptr, _, i, o, biased = layer_of(weights, biases, j, INS, OUTS, BIASED, LAYERS)
            z_re, z_im = kept(z_ptr, j + 1, BLOCK_N, BLOCK_F, COMPLEX)
            d_re, d_im = descend_as(g_re, g_im, z_re, z_im, entry(KIND, j, LAYERS), KINDS, NAMES, OFFSETS, COMPLEX)
            d_re, d_im = within(d_re, d_im, valid, o, BLOCK_F)
            z_re, z_im = kept(z_ptr, j, BLOCK_N, BLOCK_F, COMPLEX)
            h_re, h_im = activate_as(z_re, z_im, entry(KIND, j - 1, LAYERS), KINDS, NAMES, OFFSETS, COMPLEX)
            h_re, h_im = tl.where(j == 0, z_re, h_re), tl.where(j == 0, z_im, h_im)
            h_re, h_im = within(h_re, h_im, valid, i, BLOCK_F)
            g_re, g_im = layer_gradients(
                d_re, d_im, h_re, h_im, w_ptr, part_ptr + entry(STARTS, j, LAYERS), q, i, o, biased,
                BLOCK_N, BLOCK_F, COMPLEX, PRECISION,
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
    if net.too_large("network_gradients"):
        return layers.plan(
            branches, net, arch, grad_x, outs, starts, grad, target, logits, shares, space, last, scale
        )  # fmt: skip
    tile = net.tile("network_gradients", arch)
    block = tile.blocks["N"]
    splits = min(blocks(n, block), blocks(PROGRAMS, q))
    if last is not None:
        outs, total = [*outs, last], total + 1
    parts = branches.new_zeros(splits, q, total, dtype=torch.float32)
    buffer = branches.new_empty(splits * q, len(widths) * block * padded(max(widths)) * pieces, dtype=torch.float32)
    arguments = {
        "x_ptr": planar(branches), **net.arguments(), "grad_ptr": planar(grad), "target_ptr": target,
        "shares_ptr": shares, "logits_ptr": planar(logits), "grad_x_ptr": planar(grad_x), "parts_ptr": parts,
        "buffer_ptr": buffer, "n": n, "branches": q, "splits": splits, "total": total, "scale": scale,
    }  # fmt: skip
    constants = net.constants() | {"STARTS": tuple(starts), "SOFTMAX": space == "probabilities", "BLOCK_N": block}
    return [
        Launch(network_gradients_kernel, splits * q, arguments, constants, tile),
        sums.plan(parts, outs, arch, scale),
    ]
