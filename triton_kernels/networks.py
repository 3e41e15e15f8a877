"""A network of branches in one kernel: the samples of a tile stay on the chip from the transform to the logits.

A program takes a tile of samples and a group of branches. The transform of the tile, for all branches of the group at
once, goes through a buffer that the second-level cache holds; a branch then runs all its layers in registers, each
layer's result the next one's operand. What comes out of the last layer is stored, or becomes a loss, or is mixed.
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


@triton.jit
def affine(
    h_re, h_im, weight_ptr, bias_ptr, q,
    I: tl.constexpr, O: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_I: tl.constexpr, BLOCK_O: tl.constexpr,
    COMPLEX: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """z = h w^T + b of branch q, in float32."""
    i, o = tl.arange(0, BLOCK_I), tl.arange(0, BLOCK_O)
    there = (i[:, None] < I) & (o[None, :] < O)
    w_re, w_im = load(weight_ptr, (q * O + o)[None, :] * I + i[:, None], there, COMPLEX)
    z_re = tl.zeros((BLOCK_N, BLOCK_O), tl.float32)
    z_im = tl.zeros((BLOCK_N, BLOCK_O), tl.float32)
    h_re, h_im = h_re.to(w_re.dtype), h_im.to(w_re.dtype)
    z_re, z_im = product(h_re, h_im, w_re, w_im, z_re, z_im, PRECISION, COMPLEX)
    if bias_ptr is not None:
        b_re, b_im = load(bias_ptr, q * O + o, o < O, COMPLEX)
        z_re, z_im = z_re + b_re[None, :], z_im + b_im[None, :]
    return z_re, z_im


@triton.jit
def within(re, im, valid, O: tl.constexpr, BLOCK_O: tl.constexpr):
    """0 beyond the valid rows and O columns: an infinite value that met a padded zero is NaN there."""
    there = valid[:, None] & (tl.arange(0, BLOCK_O) < O)[None, :]
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
    Q: tl.constexpr, WIDTHS: tl.constexpr, PADDED: tl.constexpr, NAMES: tl.constexpr, OFFSETS: tl.constexpr,
    LAYERS: tl.constexpr, SOFTMAX: tl.constexpr, X_COMPLEX: tl.constexpr, COMPLEX: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_Q: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """logits_ptr, target_ptr, shares_ptr: None where there is no such argument.

    parts_ptr: with a target each tile's sum of losses, (tiles, branches); with shares each group's mixture,
    (groups, n, C).
    """
    I: tl.constexpr = WIDTHS[0]
    C: tl.constexpr = WIDTHS[LAYERS]
    BLOCK_I: tl.constexpr = PADDED[0]
    BLOCK_C: tl.constexpr = PADDED[LAYERS]
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
    i, c = tl.arange(0, BLOCK_I), tl.arange(0, BLOCK_C)
    mixture = tl.zeros((BLOCK_N, BLOCK_C), tl.float32)
    there = valid[:, None] & (c < C)[None, :]
    for q in range(group * GROUP, end):
        h_re, h_im = load(
            branches_ptr, (q * n + rows)[:, None] * I + i[None, :], valid[:, None] & (i < I)[None, :], COMPLEX
        )
        for j in tl.static_range(LAYERS):
            z_re, z_im = affine(
                h_re, h_im, weights[j], biases[j], q,
                WIDTHS[j], WIDTHS[j + 1], BLOCK_N, PADDED[j], PADDED[j + 1], COMPLEX, PRECISION,
            )  # fmt: skip
            h_re, h_im = activate(z_re, z_im, NAMES[j], OFFSETS[j], COMPLEX)
            h_re, h_im = within(h_re, h_im, valid, WIDTHS[j + 1], PADDED[j + 1])
        if logits_ptr is not None:
            store(logits_ptr, (q * n + rows)[:, None] * C + c[None, :], h_re, h_im, there, COMPLEX)
        if target_ptr is not None:
            target = tl.load(target_ptr + rows, mask=valid, other=0)
            _, log_sum = softmax(h_re, C, BLOCK_C)
            hit = tl.sum(tl.where(c[None, :] == target[:, None], h_re, 0.0), 1)
            tl.store(parts_ptr + tile * branches + q, tl.sum(tl.where(valid, log_sum - hit, 0.0), 0))
        if shares_ptr is not None:
            if SOFTMAX:
                h_re, _ = softmax(h_re, C, BLOCK_C)
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
        return {"weights": tuple(map(planar, self.weights)), "biases": tuple(map(planar, self.biases))}

    def constants(self) -> dict[str, Any]:
        names, offsets = zip(*map(named, self.activations), strict=True)
        widths, is_complex = self.widths, self.weights[0].is_complex()
        return {
            "WIDTHS": widths, "PADDED": tuple(map(padded, widths)), "NAMES": names, "OFFSETS": offsets,
            "LAYERS": len(self.weights), "COMPLEX": is_complex, "PRECISION": precision(),
        }  # fmt: skip

    def tile(self, kernel: str, arch: int) -> tiles.Tile:
        return tiles.pick(kernel, self.weights[0].dtype, max(self.widths), arch)

    def fits(self, kernel: str, arch: int) -> bool:
        """Whether one kernel takes all layers, which it unrolls; a tile's L says how many of them."""
        if tiles.too_wide(kernel, self.weights[0].dtype, *self.widths):
            return False
        return len(self.weights) <= self.tile(kernel, arch).blocks["L"]


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
