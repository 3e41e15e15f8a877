"""A network and its gradients layer by layer: where one kernel cannot keep all of it, as of wide ones.

Forward again, z_j = act(z_(j-1)) w_j^T + b_j, with every z_j in memory; then back with two kernels a layer: the
gradient of what it was applied to, g_(j-1) = d conj(w_j) with d = g_j act'(z_j), and that of its weights,
d^T conj(act(z_(j-1))). Activations and slopes are taken as a block is read: no pass over memory is theirs alone.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import branch_ensemble, branch_linear, networks, sums, tiles, tubes
from .launch import Launch, blocks, named, padded, planar, precision
from .networks import Network, logits_gradient
from .vocabulary import activate, descend, load, product, product_conj, store

PROGRAMS = 264  # about so many: two for each multiprocessor of an H200; a constant, for the sums' order hangs on it
TYPES = {
    torch.float32: tl.float32, torch.complex64: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16
}  # fmt: skip


@triton.jit
def places(r, q, n, branches, steps, lengths_ptr, TIMED: tl.constexpr):
    """Where rows r lie in (branches, n); TIMED, r = t n + k in (steps, branches, n). And which there are to read."""
    valid = r < steps * n
    if TIMED:
        t, k = r // n, r % n
        if lengths_ptr is not None:
            valid = valid & (tl.load(lengths_ptr + k, mask=valid, other=0) > t)
        row = (t * branches + q) * n + k
    else:
        row = q * n + r
    return row, valid


@triton.jit
def gradient_block(
    g_ptr, z_ptr, at, there, NAME: tl.constexpr, OFFSET: tl.constexpr, COMPLEX: tl.constexpr
):  # fmt: skip
    """A block of d = g act'(z); of g alone where there is no z."""
    re, im = load(g_ptr, at, there, COMPLEX)
    if z_ptr is not None:
        z_re, z_im = load(z_ptr, at, there, COMPLEX)
        re, im = descend(re.to(tl.float32), im.to(tl.float32), z_re, z_im, NAME, OFFSET, COMPLEX)
    return re, im


@triton.jit
def input_block(
    x_ptr, x0_ptr, row, r, valid, n, branches, i, I: tl.constexpr,
    NAME: tl.constexpr, OFFSET: tl.constexpr, COMPLEX: tl.constexpr,
):  # fmt: skip
    """Features i of act(x), 0 where there are none; with x0 of the x a step before, where x0 comes before the first."""
    there = valid[:, None] & (i < I)[None, :]
    if x0_ptr is not None:
        first = (r < n)[:, None]
        before = (row - branches * n)[:, None] * I + i[None, :]
        re, im = load(x_ptr, before, there & (r >= n)[:, None], COMPLEX)
        x0_re, x0_im = load(x0_ptr, row[:, None] * I + i[None, :], there & first, COMPLEX)
        re, im = tl.where(first, x0_re, re), tl.where(first, x0_im, im)
    else:
        re, im = load(x_ptr, row[:, None] * I + i[None, :], there, COMPLEX)
    if NAME != "none":
        re, im = activate(re.to(tl.float32), im.to(tl.float32), NAME, OFFSET, COMPLEX)
        re, im = tl.where(there, re, 0.0), tl.where(there, im, 0.0)
    return re, im


@triton.jit
def layer_kernel(
    x_ptr, x0_ptr, z_ptr, weight_ptr, bias_ptr, y_ptr, lengths_ptr, n, branches, steps, scale,
    K: tl.constexpr, J: tl.constexpr, BACK: tl.constexpr, NAME: tl.constexpr, OFFSET: tl.constexpr,
    TIMED: tl.constexpr, COMPLEX: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_J: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """y = act(x) w^T + b + z with w (J, K); or BACK, y = scale (x act'(z)) conj(w) with w (K, J). Rows: `places`.

    x0: as in `input_block`. z may be None, and in the first form be y.
    """
    j_blocks: tl.constexpr = (J + BLOCK_J - 1) // BLOCK_J
    pid = tl.program_id(0).to(tl.int64)
    n = tl.cast(n, tl.int64)
    row_blocks = tl.cdiv(n * steps, BLOCK_N)
    j = (pid % j_blocks) * BLOCK_J + tl.arange(0, BLOCK_J)
    q = pid // j_blocks // row_blocks
    r = (pid // j_blocks % row_blocks) * BLOCK_N + tl.arange(0, BLOCK_N)
    row, valid = places(r, q, n, branches, steps, lengths_ptr, TIMED)
    re = tl.zeros((BLOCK_N, BLOCK_J), tl.float32)
    im = tl.zeros((BLOCK_N, BLOCK_J), tl.float32)
    for start in range(0, K, BLOCK_K):
        k = start + tl.arange(0, BLOCK_K)
        inside = (k < K)[:, None] & (j < J)[None, :]
        if BACK:
            at, there = row[:, None] * K + k[None, :], valid[:, None] & (k < K)[None, :]
            x_re, x_im = gradient_block(x_ptr, z_ptr, at, there, NAME, OFFSET, COMPLEX)
            w_re, w_im = load(weight_ptr, (q * K + k)[:, None] * J + j[None, :], inside, COMPLEX)
            w_im = -w_im
        else:
            x_re, x_im = input_block(x_ptr, x0_ptr, row, r, valid, n, branches, k, K, NAME, OFFSET, COMPLEX)
            w_re, w_im = load(weight_ptr, (q * J + j)[None, :] * K + k[:, None], inside, COMPLEX)
        re, im = product(x_re.to(w_re.dtype), x_im.to(w_re.dtype), w_re, w_im, re, im, PRECISION, COMPLEX)
    if bias_ptr is not None:
        b_re, b_im = load(bias_ptr, q * J + j, j < J, COMPLEX)
        re, im = re + b_re[None, :], im + b_im[None, :]
    at, there = row[:, None] * J + j[None, :], (r < n * steps)[:, None] & (j < J)[None, :]
    if not BACK and z_ptr is not None:
        z_re, z_im = load(z_ptr, at, there, COMPLEX)
        re, im = re + z_re, im + z_im
    re, im = tl.where(valid[:, None], re * scale, 0.0), tl.where(valid[:, None], im * scale, 0.0)
    store(y_ptr, at, re, im, there, COMPLEX)


@triton.jit
def weights_kernel(
    g_ptr, z_ptr, x_ptr, x0_ptr, parts_ptr, lengths_ptr, n, branches, steps, splits, total, start,
    I: tl.constexpr, O: tl.constexpr, BIAS: tl.constexpr, NAME: tl.constexpr, OFFSET: tl.constexpr,
    X_NAME: tl.constexpr, X_OFFSET: tl.constexpr, TIMED: tl.constexpr, COMPLEX: tl.constexpr,
    PRECISION: tl.constexpr, TYPE: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_O: tl.constexpr, BLOCK_I: tl.constexpr,
):  # fmt: skip
    """parts (splits, branches, total): from `start` on d^T conj(act(x)) of every S-th block of rows, with BIAS the sum
    of d after it. With x0 the x of a step is that of the step before, and of the first one x0. TYPE multiplies.
    """
    PARTS: tl.constexpr = 2 if COMPLEX else 1
    i_blocks: tl.constexpr = (I + BLOCK_I - 1) // BLOCK_I
    o_blocks: tl.constexpr = (O + BLOCK_O - 1) // BLOCK_O
    pid = tl.program_id(0).to(tl.int64)
    n = tl.cast(n, tl.int64)
    i_block, o_block = pid % i_blocks, pid // i_blocks % o_blocks
    i, o = i_block * BLOCK_I + tl.arange(0, BLOCK_I), o_block * BLOCK_O + tl.arange(0, BLOCK_O)
    q, split = pid // (i_blocks * o_blocks) % branches, pid // (i_blocks * o_blocks) // branches
    re = tl.zeros((BLOCK_O, BLOCK_I), tl.float32)
    im = tl.zeros((BLOCK_O, BLOCK_I), tl.float32)
    sum_re = tl.zeros((BLOCK_O,), tl.float32)
    sum_im = tl.zeros((BLOCK_O,), tl.float32)
    for tile in range(split, tl.cdiv(n * steps, BLOCK_N), splits):
        r = tile * BLOCK_N + tl.arange(0, BLOCK_N)
        row, valid = places(r, q, n, branches, steps, lengths_ptr, TIMED)
        there = valid[:, None] & (o < O)[None, :]
        d_re, d_im = gradient_block(g_ptr, z_ptr, row[:, None] * O + o[None, :], there, NAME, OFFSET, COMPLEX)
        # where a padded z is infinite the slope is no number
        d_re, d_im = tl.where(there, d_re, 0.0), tl.where(there, d_im, 0.0)
        if BIAS:
            sum_re, sum_im = sum_re + tl.sum(d_re.to(tl.float32), 0), sum_im + tl.sum(d_im.to(tl.float32), 0)
        x_re, x_im = input_block(x_ptr, x0_ptr, row, r, valid, n, branches, i, I, X_NAME, X_OFFSET, COMPLEX)
        d_re, d_im = tl.trans(d_re.to(TYPE)), tl.trans(d_im.to(TYPE))
        re, im = product_conj(d_re, d_im, x_re.to(TYPE), x_im.to(TYPE), re, im, PRECISION, COMPLEX)
    part_ptr = parts_ptr + (split * branches + q) * total + start
    store(part_ptr, o[:, None] * I + i[None, :], re, im, (o < O)[:, None] & (i < I)[None, :], COMPLEX)
    if BIAS:
        store(part_ptr + O * I * PARTS, o, sum_re, sum_im, o < tl.where(i_block == 0, O, 0), COMPLEX)


@triton.jit
def logits_kernel(
    z_ptr, grad_ptr, target_ptr, shares_ptr, logits_ptr, g_ptr, parts_ptr, n, branches,
    C: tl.constexpr, NAME: tl.constexpr, OFFSET: tl.constexpr, SOFTMAX: tl.constexpr, COMPLEX: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """g: the gradient of logits = act(z), as in `logits_gradient`; parts (blocks, branches): a block's sums."""
    pid = tl.program_id(0).to(tl.int64)
    n = tl.cast(n, tl.int64)
    q, block = pid % branches, pid // branches
    rows = block * BLOCK_N + tl.arange(0, BLOCK_N)
    valid, c = rows < n, tl.arange(0, BLOCK_C)
    there = valid[:, None] & (c < C)[None, :]
    at = (q * n + rows)[:, None] * C + c[None, :]
    re, im = load(z_ptr, at, there, COMPLEX)
    re, im = activate(re.to(tl.float32), im.to(tl.float32), NAME, OFFSET, COMPLEX)
    if logits_ptr is not None:
        store(logits_ptr, at, re, im, there, COMPLEX)
    g, sums = logits_gradient(re, q, rows, valid, grad_ptr, target_ptr, shares_ptr, C, BLOCK_C, SOFTMAX)
    store(g_ptr, at, g, tl.zeros((BLOCK_N, BLOCK_C), tl.float32), there, COMPLEX)
    tl.store(parts_ptr + block * branches + q, tl.sum(sums, 0))


def layer(
    x: Tensor, before: str, weight: Tensor, bias: Tensor | None, y: Tensor, arch: int,
    x0: Tensor | None = None, add: bool = False, lengths: Tensor | None = None,
) -> Launch:  # fmt: skip
    """y = before(x) weight^T + bias, or that added to y; of x a step before and x0, where there is x0."""
    return _product(x, x0, y if add else None, before, weight, bias, y, lengths, 1.0, False, arch)


def back(
    g: Tensor, z: Tensor | None, activation: str, weight: Tensor, y: Tensor, arch: int,
    scale: float = 1.0, lengths: Tensor | None = None,
) -> Launch:  # fmt: skip
    """y = scale (g activation'(z)) conj(weight); of tensors (T, Q, N, .) where y has a dimension of time."""
    return _product(g, None, z, activation, weight, None, y, lengths, scale, True, arch)


def _product(
    x: Tensor, x0: Tensor | None, z: Tensor | None, activation: str, weight: Tensor, bias: Tensor | None, y: Tensor,
    lengths: Tensor | None, scale: float, backward: bool, arch: int,
) -> Launch:  # fmt: skip
    steps, (q, n, j), k = (y.shape[0] if y.dim() == 4 else 1), y.shape[-3:], x.shape[-1]
    tile = tiles.pick("layer", weight.dtype, max(weight.shape[1:]), arch)
    name, offset = named(activation)
    arguments = {
        "x_ptr": planar(x), "x0_ptr": planar(x0), "z_ptr": planar(z), "weight_ptr": planar(weight),
        "bias_ptr": planar(bias), "y_ptr": planar(y), "lengths_ptr": lengths,
        "n": n, "branches": q, "steps": steps, "scale": scale,
    }  # fmt: skip
    constants = {
        "K": k, "J": j, "BACK": backward, "NAME": name, "OFFSET": offset, "TIMED": y.dim() == 4,
        "COMPLEX": weight.is_complex(), "PRECISION": precision(), **tile.constants(),
    }  # fmt: skip
    programs = q * blocks(n * steps, tile.blocks["N"]) * blocks(j, tile.blocks["J"])
    return Launch(layer_kernel, programs, arguments, constants, tile)


def parts_of(g: Tensor, outs: list[Tensor], arch: int) -> Tensor:
    """The buffer where `weights` leaves the gradients of outs, in their order; g is (..., Q, N, O)."""
    tile = tiles.pick("weights", outs[0].dtype, 1, arch)
    q, rows = g.shape[-3], g.numel() // (g.shape[-3] * g.shape[-1])
    splits = min(blocks(rows, tile.blocks["N"]), blocks(PROGRAMS, q))
    return g.new_empty(splits, q, sum(planar(out).numel() // q for out in outs), dtype=torch.float32)


def weights(
    g: Tensor, z: Tensor | None, activation: str, x: Tensor, before: str, weight: Tensor, bias: bool, parts: Tensor,
    start: int, arch: int, x0: Tensor | None = None, lengths: Tensor | None = None,
) -> Launch:  # fmt: skip
    """(g activation'(z))^T conj(before(x)) to parts from `start` on, and with bias the sums of the first factor."""
    steps, (q, n, o), i = (g.shape[0] if g.dim() == 4 else 1), g.shape[-3:], x.shape[-1]
    tile = tiles.pick("weights", weight.dtype, max(i, o), arch)
    (name, offset), (x_name, x_offset) = named(activation), named(before)
    arguments = {
        "g_ptr": planar(g), "z_ptr": planar(z), "x_ptr": planar(x), "x0_ptr": planar(x0), "parts_ptr": parts,
        "lengths_ptr": lengths, "n": n, "branches": q, "steps": steps, "splits": parts.shape[0],
        "total": parts.shape[2], "start": start,
    }  # fmt: skip
    constants = {
        "I": i, "O": o, "BIAS": bias, "NAME": name, "OFFSET": offset, "X_NAME": x_name, "X_OFFSET": x_offset,
        "TIMED": g.dim() == 4, "COMPLEX": weight.is_complex(), "PRECISION": precision(),
        "TYPE": TYPES[weight.dtype], **tile.constants(),
    }  # fmt: skip
    programs = parts.shape[0] * q * blocks(i, tile.blocks["I"]) * blocks(o, tile.blocks["O"])
    return Launch(weights_kernel, programs, arguments, constants, tile)


def transformed(x: Tensor, transform: Tensor | None, net: Network, arch: int) -> tuple[Tensor, list[Launch]]:
    """The branches' input, and the launch that makes it."""
    if transform is None:
        return x, []
    (n, i, _), p = x.shape, transform.shape[0]
    branches = x.new_empty(p, n, i, dtype=net.weights[0].dtype)
    return branches, tubes.plan(x, transform, branches, 1, n * i, (True, False), arch)


def forward(
    x: Tensor, transform: Tensor | None, net: Network, arch: int, logits: Tensor | None = None,
    target: Tensor | None = None, losses: Tensor | None = None, shares: Tensor | None = None, space: str = "",
    mixture: Tensor | None = None,
) -> list[Launch]:  # fmt: skip
    """As `networks.plan`, which it is where one kernel takes all layers; else a launch a layer."""
    if net.too_large("network") is None:
        return networks.plan(x, transform, net, arch, logits, target, losses, shares, space, mixture)
    h, launches = transformed(x, transform, net, arch)
    for j, (w, b, activation) in enumerate(zip(net.weights, net.biases, net.activations, strict=True)):
        last = j == len(net.weights) - 1 and logits is not None
        y = logits if last else h.new_empty(*h.shape[:2], w.shape[1], dtype=w.dtype)
        launches += branch_linear.plan([h, w, b, activation], y, arch)
        h = y
    if losses is not None:
        wide = torch.complex64 if h.is_complex() else torch.float32
        unused = torch.empty_like(h, dtype=wide)  # the gradient that comes with the losses
        launches += _logits(h, "none", None, target, None, "", None, unused, losses, 1 / h.shape[1], arch)
    if mixture is not None:
        launches += branch_ensemble.plan([h, shares, space], mixture, arch)
    return launches


def plan(
    branches: Tensor, net: Network, arch: int, grad_x: Tensor | None, outs: list[Tensor], starts: list[int],
    grad: Tensor | None, target: Tensor | None, logits: Tensor | None, shares: Tensor | None, space: str,
    last: Tensor | None, scale: float,
) -> list[Launch]:  # fmt: skip
    """As `network_gradients.plan`: outs lie at starts of the parts; last is losses or grad_shares, and not in outs."""
    q, n, _ = branches.shape
    wide = torch.complex64 if branches.is_complex() else torch.float32

    def buffer(width: int) -> Tensor:
        return branches.new_empty(q, n, width, dtype=wide)

    inputs = [(branches, "none")]
    launches = []
    for w, b, activation in zip(net.weights, net.biases, net.activations, strict=True):
        z = buffer(w.shape[1])
        launches.append(layer(*inputs[-1], w, b, z, arch))
        inputs.append((z, activation))
    if last is None:
        assert grad is not None
        g = grad
        if net.activations[-1] == "none":
            launches.pop()  # nothing asks for the last z
    else:
        g = buffer(net.widths[-1])
        launches += _logits(*inputs[-1], grad, target, shares, space, logits, g, last, scale, arch)
    parts = parts_of(g, outs, arch)
    for j in reversed(range(len(net.weights))):
        w, (z, activation) = net.weights[j], inputs[j + 1]
        slope = None if activation == "none" else z
        bias = net.biases[j] is not None
        launches.append(weights(g, slope, activation, *inputs[j], w, bias, parts, starts[j], arch))
        if j or grad_x is not None:
            below = buffer(w.shape[2]) if j or grad_x is None else grad_x
            launches.append(back(g, slope, activation, w, below, arch, 1.0 if j else scale))
            g = below
    return [*launches, sums.plan(parts, outs, arch, scale)]


def _logits(
    z: Tensor, activation: str, grad: Tensor | None, target: Tensor | None, shares: Tensor | None, space: str,
    logits: Tensor | None, g: Tensor, last: Tensor, scale: float, arch: int,
) -> list[Launch]:  # fmt: skip
    q, n, c = z.shape
    tile = tiles.pick("branch_ensemble", z.dtype, c, arch)
    count, (name, offset) = blocks(n, tile.blocks["N"]), named(activation)
    parts = z.new_empty(count, q, 1, dtype=torch.float32)
    arguments = {
        "z_ptr": planar(z), "grad_ptr": grad, "target_ptr": target, "shares_ptr": shares, "logits_ptr": planar(logits),
        "g_ptr": planar(g), "parts_ptr": parts, "n": n, "branches": q,
    }  # fmt: skip
    constants = {
        "C": c, "NAME": name, "OFFSET": offset, "SOFTMAX": space == "probabilities", "COMPLEX": z.is_complex(),
        "BLOCK_N": tile.blocks["N"], "BLOCK_C": padded(c),
    }  # fmt: skip
    return [Launch(logits_kernel, q * count, arguments, constants, tile), sums.plan(parts, [last], arch, scale)]
