"""A network of branches in one kernel: the samples of a tile stay on the chip from the transform to the logits.

A program takes a tile of samples and a group of branches. The transform of the tile, for all branches of the group at
once, goes through a buffer that the second-level cache holds; a branch then runs all its layers in registers, each
layer's result the next one's operand. Layers are a loop, their blocks those of the widest: neither the code nor its
registers grow with the depth. What comes out of the last layer is stored, or becomes a loss, or is mixed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import sums, tiles
from .launch import Launch, blocks, named, padded, planar, precision
from .tubes import tile_to_branches
from .vocabulary import activate, load, product, store

LONGEST = 256  # values of a tube, whose transform is a product
DEEPEST = 64  # layers of one kernel: a power of two; each costs two pointers of its arguments


@triton.jit
def entry(values, j, COUNT: tl.constexpr, FIRST: tl.constexpr = 0, SPAN: tl.constexpr = DEEPEST):
    """values[j], for a j that a loop counts, bit by bit: a predicate for each of the values would spill."""
    if SPAN == 0:
        found = values[FIRST]
    elif FIRST + SPAN >= COUNT:
        found = entry(values, j, COUNT, FIRST, SPAN // 2)
    else:
        low, high = entry(values, j, COUNT, FIRST, SPAN // 2), entry(values, j, COUNT, FIRST + SPAN, SPAN // 2)
        found = tl.where((j & SPAN) == 0, low, high)
    return found


@triton.jit
def layer_of(weights, biases, j, INS: tl.constexpr, OUTS: tl.constexpr, BIASED: tl.constexpr, LAYERS: tl.constexpr):
    """Layer j: its weight, its bias, features in and out, and values of its bias, 0 where it has none."""
    return (
        entry(weights, j, LAYERS), entry(biases, j, LAYERS), entry(INS, j, LAYERS), entry(OUTS, j, LAYERS),
        entry(BIASED, j, LAYERS),
    )  # fmt: skip


@triton.jit
def affine(
    h_re, h_im, weight_ptr, bias_ptr, q, I, O, biased,
    BLOCK_N: tl.constexpr, BLOCK_F: tl.constexpr, COMPLEX: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """z = h w^T + b of branch q, in float32."""
    i, o = tl.arange(0, BLOCK_F), tl.arange(0, BLOCK_F)
    there = (i[:, None] < I) & (o[None, :] < O)
    w_re, w_im = load(weight_ptr, (q * O + o)[None, :] * I + i[:, None], there, COMPLEX)
    z_re = tl.zeros((BLOCK_N, BLOCK_F), tl.float32)
    z_im = tl.zeros((BLOCK_N, BLOCK_F), tl.float32)
    h_re, h_im = h_re.to(w_re.dtype), h_im.to(w_re.dtype)
    z_re, z_im = product(h_re, h_im, w_re, w_im, z_re, z_im, PRECISION, COMPLEX)
    b_re, b_im = load(bias_ptr, q * O + o, o < biased, COMPLEX)
    return z_re + b_re[None, :], z_im + b_im[None, :]


@triton.jit
def activate_as(re, im, j, KINDS: tl.constexpr, NAMES: tl.constexpr, OFFSETS: tl.constexpr, COMPLEX: tl.constexpr):
    """The activation of number `j` among KINDS different ones."""
    y_re, y_im = activate(re, im, NAMES[0], OFFSETS[0], COMPLEX)
    for k in tl.static_range(1, KINDS):
        other_re, other_im = activate(re, im, NAMES[k], OFFSETS[k], COMPLEX)
        y_re, y_im = tl.where(j == k, other_re, y_re), tl.where(j == k, other_im, y_im)
    return y_re, y_im


@triton.jit
def within(re, im, valid, O, BLOCK_F: tl.constexpr):
    """0 beyond the valid rows and O columns: an infinite value that met a padded zero is NaN there."""
    there = valid[:, None] & (tl.arange(0, BLOCK_F) < O)[None, :]
    return tl.where(there, re, 0.0), tl.where(there, im, 0.0)


@triton.jit
def softmax(z, C: tl.constexpr, BLOCK_C: tl.constexpr):
    """Of the first C columns; and the logarithm of the sum that divides."""
    z = tl.where((tl.arange(0, BLOCK_C) < C)[None, :], z, -float("inf"))
    most = tl.max(z, 1)
    e = tl.exp(z - most[:, None])
    sum = tl.sum(e, 1)
    return e / sum[:, None], most + tl.log(sum)


@triton.jit
def logits_gradient(
    h, q, rows, valid, grad_ptr, target_ptr, shares_ptr, C: tl.constexpr, BLOCK_C: tl.constexpr, SOFTMAX: tl.constexpr
):
    """The gradient of a branch's logits h, and what each row adds to its loss or to the gradient of its share.

    With target that of the summed cross-entropy; with shares what grad (n, C) of the mixture gives the branch.
    """
    c = tl.arange(0, BLOCK_C)
    if target_ptr is not None:
        target = tl.load(target_ptr + rows, mask=valid, other=0)
        share, log_sum = softmax(h, C, BLOCK_C)
        hot = c[None, :] == target[:, None]
        row_sums = tl.where(valid, log_sum - tl.sum(tl.where(hot, h, 0.0), 1), 0.0)
        g = share - hot.to(tl.float32)
    else:
        there = valid[:, None] & (c < C)[None, :]
        above = tl.load(grad_ptr + rows[:, None] * C + c[None, :], mask=there, other=0.0).to(tl.float32)
        weight = tl.load(shares_ptr + q).to(tl.float32)
        if SOFTMAX:
            share, _ = softmax(h, C, BLOCK_C)
            row_sums = tl.sum(tl.where(there, share * above, 0.0), 1)
            g = weight * share * (above - row_sums[:, None])
        else:
            row_sums = tl.sum(tl.where(there, h * above, 0.0), 1)
            g = weight * above
    return g, row_sums


@triton.jit
def network_kernel(
    x_ptr, transform_ptr, branches_ptr, weights, biases, logits_ptr, target_ptr, shares_ptr, parts_ptr, n, branches,
    Q: tl.constexpr, INS: tl.constexpr, OUTS: tl.constexpr, BIASED: tl.constexpr, LAYERS: tl.constexpr,
    KIND: tl.constexpr, KINDS: tl.constexpr, NAMES: tl.constexpr, OFFSETS: tl.constexpr, SOFTMAX: tl.constexpr,
    X_COMPLEX: tl.constexpr, COMPLEX: tl.constexpr, PRECISION: tl.constexpr, BLOCK_F: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_Q: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """logits_ptr, target_ptr, shares_ptr: None where there is no such argument.

    parts_ptr: with a target each tile's sum of losses, (tiles, branches); with shares each group's mixture,
    (groups, n, C).
    """
    I: tl.constexpr = INS[0]
    C: tl.constexpr = OUTS[LAYERS - 1]
    pid = tl.program_id(0).to(tl.int64)
    n = tl.cast(n, tl.int64)
    groups = tl.cdiv(branches, GROUP)
    tile, group = pid // groups, pid % groups
    rows = tile * BLOCK_N + tl.arange(0, BLOCK_N)
    valid = rows < n
    end = tl.minimum(branches, (group + 1) * GROUP)
    if transform_ptr is not None:
        tile_to_branches(
            x_ptr, transform_ptr, branches_ptr, tile, group * GROUP, end, n,
            I, Q, X_COMPLEX, COMPLEX, PRECISION, BLOCK_N, BLOCK_R, BLOCK_P, BLOCK_Q,
        )  # fmt: skip
        tl.debug_barrier()  # one thread's stores are another one's loads
    c = tl.arange(0, BLOCK_F)
    mixture = tl.zeros((BLOCK_N, BLOCK_F), tl.float32)
    there = valid[:, None] & (c < C)[None, :]
    for q in range(group * GROUP, end):
        h_re, h_im = load(
            branches_ptr, (q * n + rows)[:, None] * I + c[None, :], valid[:, None] & (c < I)[None, :], COMPLEX
        )
        h_re, h_im = h_re.to(tl.float32), h_im.to(tl.float32)
        for j in range(LAYERS):
            w_ptr, b_ptr, i, o, biased = layer_of(weights, biases, j, INS, OUTS, BIASED, LAYERS)
            z_re, z_im = affine(
                h_re, h_im, w_ptr, b_ptr, q, i, o, biased, BLOCK_N, BLOCK_F, COMPLEX, PRECISION
            )  # fmt: skip
            h_re, h_im = activate_as(z_re, z_im, entry(KIND, j, LAYERS), KINDS, NAMES, OFFSETS, COMPLEX)
            h_re, h_im = within(h_re, h_im, valid, o, BLOCK_F)
        if logits_ptr is not None:
            store(logits_ptr, (q * n + rows)[:, None] * C + c[None, :], h_re, h_im, there, COMPLEX)
        if target_ptr is not None:
            target = tl.load(target_ptr + rows, mask=valid, other=0)
            _, log_sum = softmax(h_re, C, BLOCK_F)
            hit = tl.sum(tl.where(c[None, :] == target[:, None], h_re, 0.0), 1)
            tl.store(parts_ptr + tile * branches + q, tl.sum(tl.where(valid, log_sum - hit, 0.0), 0))
        if shares_ptr is not None:
            if SOFTMAX:
                h_re, _ = softmax(h_re, C, BLOCK_F)
            mixture += h_re * tl.load(shares_ptr + q).to(tl.float32)
    if shares_ptr is not None:
        tl.store(parts_ptr + (group * n + rows)[:, None] * C + c[None, :], mixture, mask=there)


class Network(NamedTuple):
    """The layers of a call as the kernels take them."""

    weights: Sequence[Tensor]
    biases: Sequence[Tensor | None]
    activations: Sequence[str]

    @property
    def widths(self) -> tuple[int, ...]:
        return (self.weights[0].shape[2], *(w.shape[1] for w in self.weights))

    def arguments(self) -> dict[str, Any]:
        biases = (w if b is None else b for w, b in zip(self.weights, self.biases, strict=True))
        return {"weights": tuple(map(planar, self.weights)), "biases": tuple(map(planar, biases))}

    def constants(self) -> dict[str, Any]:
        every = list(map(named, self.activations))
        kinds = list(dict.fromkeys(every))
        names, offsets = zip(*kinds, strict=True)
        widths, is_complex = self.widths, self.weights[0].is_complex()
        biased = tuple(0 if b is None else b.shape[1] for b in self.biases)
        return {
            "INS": widths[:-1], "OUTS": widths[1:], "BIASED": biased,
            "LAYERS": len(self.weights), "KIND": tuple(map(kinds.index, every)), "KINDS": len(kinds), "NAMES": names,
            "OFFSETS": offsets, "COMPLEX": is_complex, "PRECISION": precision(), "BLOCK_F": padded(max(widths)),
        }  # fmt: skip

    def tile(self, kernel: str, arch: int) -> tiles.Tile:
        return tiles.pick(kernel, self.weights[0].dtype, max(self.widths), arch)

    def too_large(self, kernel: str, is_complex: bool = False) -> str | None:
        """Why `kernel` cannot take all layers at once, or None; is_complex: they will be made complex."""
        if len(self.weights) > DEEPEST:
            return f"{len(self.weights)} layers are past {DEEPEST}, the arguments of one kernel"
        dtype = torch.complex64 if is_complex else self.weights[0].dtype
        return tiles.too_wide(kernel, dtype, *self.widths)


def layer_by_layer(kernel: str, weights: Sequence[Tensor], is_complex: bool) -> str | None:
    """What `explain` says of a network that `layers` takes instead of the kernel."""
    reason = Network(weights, [], []).too_large(kernel, is_complex)
    return f"layer by layer: {reason}" if reason else None


def note(x: Tensor, transform: Tensor | None, weights: Sequence[Tensor], *_: Any, is_complex: bool) -> str | None:
    return layer_by_layer("network", weights, is_complex)


def why_not(x: Tensor, transform: Tensor | None, weights: Sequence[Tensor], *_: Any) -> str | None:
    """The reason against the kernels for a network of these sizes: past one kernel, `layers` takes it."""
    reason = tiles.too_wide("layer", weights[0].dtype, *Network(weights, [], []).widths)
    if reason:
        return reason
    if transform is not None and max(transform.shape) > LONGEST:
        return f"tubes of {max(transform.shape)} values are past {LONGEST}, which a tile's transform takes"
    if not all(t.numel() for t in (x, *weights)):
        return "a network with an empty tensor is left to the reference"
    return None


def plan(
    x: Tensor,
    transform: Tensor | None,
    net: Network,
    arch: int,
    logits: Tensor | None = None,
    target: Tensor | None = None,
    losses: Tensor | None = None,
    shares: Tensor | None = None,
    space: str = "",
    mixture: Tensor | None = None,
) -> list[Launch]:
    """Fills logits; with a target losses; with shares mixture."""
    p, (n, i) = net.weights[0].shape[0], x.shape[:2] if transform is not None else x.shape[1:]
    tile = net.tile("network", arch)
    group = tile.blocks["G"] if transform is not None or shares is not None else 1
    tile_count, group_count = blocks(n, tile.blocks["N"]), blocks(p, group)
    branches = x if transform is None else x.new_empty(p, n, i, dtype=net.weights[0].dtype)
    parts, tail = None, []
    if target is not None and losses is not None:
        parts = x.new_empty(tile_count, p, 1, dtype=torch.float32)
        tail = [sums.plan(parts, [losses], arch, 1 / n)]
    elif mixture is not None:
        parts = x.new_empty(group_count, 1, n * net.widths[-1], dtype=torch.float32)
        tail = [sums.plan(parts, [mixture.view(1, -1)], arch)]
    arguments = {
        "x_ptr": planar(x), "transform_ptr": planar(transform), "branches_ptr": planar(branches), **net.arguments(),
        "logits_ptr": planar(logits), "target_ptr": target, "shares_ptr": shares, "parts_ptr": parts,
        "n": n, "branches": p,
    }  # fmt: skip
    q = 1 if transform is None else transform.shape[1]
    constants = net.constants() | {
        "Q": q, "SOFTMAX": space == "probabilities", "X_COMPLEX": x.is_complex(), "GROUP": group,
        "BLOCK_N": tile.blocks["N"], "BLOCK_R": tile.blocks["R"], "BLOCK_P": padded(group),
        "BLOCK_Q": min(padded(q), tile.blocks["Q"]),
    }  # fmt: skip
    return [Launch(network_kernel, tile_count * group_count, arguments, constants, tile), *tail]
