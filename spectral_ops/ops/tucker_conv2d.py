"""tucker_conv2d: a convolution whose kernel is in Tucker form, through its rank channels."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..autograd import outside_modes
from . import checks, tucker_cost, tucker_stages
from .activations import wide
from .branch_conv2d import Pair, layout_of

PASS = 24  # multiply-adds that take as long as writing a rank channel's value and reading it again


def check(
    x: Tensor,
    core: Tensor,
    u_out: Tensor,
    u_in: Tensor,
    bias: Tensor | None = None,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    u_h: Tensor | None = None,
    u_w: Tensor | None = None,
    groups: int = 1,
) -> None:
    op = "tucker_conv2d"
    if x.dim() != 4:
        raise checks.wrong_shape(op, "x", x, "(N, C, H, W)")
    if core.dim() != 4 or 0 in core.shape:
        raise checks.wrong_shape(op, "core", core, "(r_out, r_in, r_h, r_w), each at least 1")
    if u_in.dim() != 2 or u_in.shape[0] != x.shape[1] or u_in.shape[1] != core.shape[1]:
        must = f"(C, r_in) with C = {x.shape[1]} as in x and r_in = {core.shape[1]} as in core"
        raise checks.wrong_shape(op, "u_in", u_in, must)
    if u_out.dim() != 2 or 0 in u_out.shape:
        raise checks.wrong_shape(op, "u_out", u_out, "(O, r_out), each at least 1")
    if groups < 1 or x.shape[1] % groups or u_out.shape[0] % groups:
        must = f"a divisor of C = {x.shape[1]} and O = {u_out.shape[0]}"
        raise ValueError(f"{op}: groups must be {must}, got {groups}")
    if core.shape[0] not in (u_out.shape[1], u_out.shape[1] * groups):
        must = f"(r_out, r_in, r_h, r_w) with r_out = {u_out.shape[1]} as in u_out, or groups = {groups} times that"
        raise checks.wrong_shape(op, "core", core, must)
    window = []
    for name, u, rank in (("u_h", u_h, core.shape[2]), ("u_w", u_w, core.shape[3])):
        letter = name[-1]
        if u is not None and (u.dim() != 2 or u.shape[1] != rank or not u.shape[0]):
            must = f"(k{letter}, r_{letter}) with r_{letter} = {rank} as in core"
            raise checks.wrong_shape(op, name, u, must)
        window.append(rank if u is None else u.shape[0])
    if bias is not None and (bias.dim() != 1 or bias.shape[0] != u_out.shape[0]):
        raise checks.wrong_shape(op, "bias", bias, f"(O,) with O = {u_out.shape[0]} as in u_out")
    checks.geometry(op, x.shape[2:], window, "core", stride, padding, dilation)
    checks.real(op, x=x, core=core, u_out=u_out, u_in=u_in, bias=bias, u_h=u_h, u_w=u_w)


def empty(*args: Any) -> Tensor:
    x, core, u_out, _, _, *geometry, u_h, u_w, _ = args
    check(*args)
    window = [core.shape[2] if u_h is None else u_h.shape[0], core.shape[3] if u_w is None else u_w.shape[0]]
    sizes = checks.convolved(x.shape[2:], window, *geometry)
    shape = (x.shape[0], u_out.shape[0], *sizes)
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=layout_of(x))


def reference(
    x: Tensor,
    core: Tensor,
    u_out: Tensor,
    u_in: Tensor,
    bias: Tensor | None = None,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    u_h: Tensor | None = None,
    u_w: Tensor | None = None,
    groups: int = 1,
) -> Tensor:
    """y = W * x + bias with W = core x_1 u_out x_2 u_in x_3 u_h x_4 u_w: eq. (7)-(9), and eq. (2) of the TDLRT paper.

    W[o, c] = sum_{a, b} u_out[o, a] u_in[c, b] core[a, b] is never made unless that is less work: a 1 x 1 convolution
    to r_in channels, the core, a 1 x 1 convolution to O; a factor may be multiplied into the core first. * is the
    cross-correlation. With groups the rows of u_in and u_out belong to the groups in order, as the channels do.

    Args:
        x: (N, C, H, W), real floating point, contiguous or channels_last.
        core: (r_out, r_in, kh, kw), or (groups r_out, r_in, kh, kw), one for each group instead of one for all; with
            u_h or u_w its last sizes are r_h or r_w.
        u_out: (O, r_out). u_in: (C, r_in). bias: (O,) or None.
        stride, padding (with zeros), dilation: of rows and columns, in pixels.
        u_h: (kh, r_h) or None. u_w: (kw, r_w) or None. groups: of channels.

    Returns: (N, O, H', W') in x's memory format, dtype of x (half computes in float32).
    Raises: ValueError for shapes and sizes, TypeError for dtypes and devices.
    Accuracy: |error| as of three convolutions after each other, or of one with a kernel computed in the same precision,
        `tests/test_backends.py`.
    Gradient: to every tensor, any order. Deterministic: as the convolution of torch.
    Source: Elhoushi et al., Accelerating Training using Tensor Decomposition, eq. (7)-(9); Rank-adaptive spectral
    pruning of convolutional layers during training, eq. (2).
    """
    layout = layout_of(x)
    v, inner, outer = wide(x).contiguous(memory_format=layout), wide(u_in), wide(u_out)
    b = None if bias is None else wide(bias)
    weight = whole_core(wide(core), u_out.shape[1], u_h, u_w, groups)
    fold_in, fold_out = plan(x, weight, u_out, stride, padding, dilation, groups)
    if fold_in:
        weight = fold_into(weight, inner, groups)
    if fold_out:
        weight = fold_out_of(weight, outer, groups)
    factors = (None if fold_in else inner, None if fold_out else outer)
    y = tucker_stages.run(v, weight, *factors, b, stride, padding, dilation, groups)
    return y.to(x.dtype).contiguous(memory_format=layout)


def whole_core(core: Tensor, r_out: int, u_h: Tensor | None, u_w: Tensor | None, groups: int) -> Tensor:
    """(groups r_out, r_in, kh, kw): the weight of the middle stage, spatial factors multiplied in."""
    if u_h is not None or u_w is not None:
        # both at once, as one product: the entries of the core are many and the window is small
        sides = [
            torch.eye(n, dtype=core.dtype, device=core.device) if u is None else wide(u)
            for n, u in zip(core.shape[2:], (u_h, u_w), strict=True)
        ]
        pairs = sides[0][:, None, :, None] * sides[1][None, :, None, :]  # (kh, kw, r_h, r_w)
        core = (core.flatten(2) @ pairs.flatten(2).flatten(0, 1).mT).unflatten(2, pairs.shape[:2])
    return core.repeat(groups, 1, 1, 1) if core.shape[0] < groups * r_out else core


def backward(args: Sequence[Any], grads: Sequence[Tensor], needs: Sequence[Any]) -> list[Any]:
    """Where a kernel runs; through the factors of the window, which are small, goes autograd."""
    x, core, u_out, u_in, bias, stride, padding, dilation, u_h, u_w, groups = args
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        own, height, width = aliases = [
            None if t is None else t.view_as(t) if t.requires_grad else t for t in (core, u_h, u_w)
        ]
        whole = taps_first(whole_core(wide(own), u_out.shape[1], height, width, groups), groups).to(x.dtype)
    grad_x, grad_whole, grad_u_out, grad_u_in, grad_bias = torch.ops.spectral.tucker_conv2d_backward(
        grads[0], x, whole if again else whole.detach(), u_out, u_in, stride, padding, dilation, needs[0]
    )
    wanted = [t for t in aliases if t is not None and t.requires_grad]
    found = iter(torch.autograd.grad(whole, wanted, grad_whole, create_graph=again) if wanted else ())
    grad_core, grad_u_h, grad_u_w = (next(found) if t is not None and t.requires_grad else None for t in aliases)
    return [
        grad_x if needs[0] else None, grad_core, grad_u_out, grad_u_in, None if bias is None else grad_bias,
        None, None, None, grad_u_h, grad_u_w, None,
    ]  # fmt: skip


# ---- the choice of a way -------------------------------------------------------------------------------------------
WAYS = ((False, False), (True, False), (False, True), (True, True))  # u_in, and u_out, multiplied into the core


def plan(
    x: Tensor, weight: Tensor, u_out: Tensor, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> tuple[bool, bool]:
    """Whether u_in, and whether u_out, is multiplied into the core: the least work for a batch, in multiply-adds."""
    geometry = (tuple(stride), tuple(padding), tuple(dilation))
    if x.is_cuda:
        s = tucker_cost.Sizes.of(x.shape, weight.shape, u_out.shape, *geometry, groups)
        return min(WAYS, key=lambda way: tucker_cost.library(s, x.dtype, *way))
    planes = layout_of(x) is torch.contiguous_format
    way = _plan if outside_modes() else _plan.__wrapped__  # a tracer's sizes may be symbols
    return way(planes, x.shape, weight.shape, u_out.shape, *geometry, groups)


@functools.lru_cache(1024)
def _plan(planes: bool, *sizes: Any) -> tuple[bool, bool]:
    """The same on a CPU. planes: x is NCHW."""
    s = tucker_cost.Sizes.of(*sizes)
    x, weight, _, *geometry = sizes
    taps = s.before if tucker_stages.as_one_matrix(x, weight[2:], *geometry) else s.window

    def work(fold_in: bool, fold_out: bool) -> float:
        inputs, outputs = s.c if fold_in else s.r_in, s.o if fold_out else s.r_out
        total = inputs * outputs * taps * s.after + s.folding(fold_in, fold_out) / s.n
        total += 0 if fold_in else (s.c + PASS) * s.r_in * s.before
        total += 0 if fold_out else (s.o + PASS) * s.r_out * s.after
        if planes and fold_out and not fold_in:  # the rank channels are channels_last, and so is y
            total += 2 * PASS * s.o * s.after
        return total

    return min(WAYS, key=lambda way: work(*way))


def fused_slower(*args: Any, tensor_cores: bool = True) -> str | None:
    """The reason against one kernel for all stages where the library's are expected to be faster, or None."""
    x, core, u_out, _, _, stride, padding, dilation, _, _, groups = args
    weight = (groups * u_out.shape[1], core.shape[1], *_window(*args))
    s = tucker_cost.Sizes.of(x.shape, weight, u_out.shape, stride, padding, dilation, groups)
    ours = tucker_cost.fused(s, x.dtype, tensor_cores)
    return tucker_cost.slower(ours, min(tucker_cost.library(s, x.dtype, *way) for way in WAYS))


def _window(*args: Any) -> tuple[int, int]:
    core, u_h, u_w = args[1], args[8], args[9]
    return core.shape[2] if u_h is None else u_h.shape[0], core.shape[3] if u_w is None else u_w.shape[0]


# ---- CUDA C++ ------------------------------------------------------------------------------------------------------
READS_STRIDES = True  # channels_last stays


def cuda_why_not(*args: Any) -> str | None:
    x, core, u_out, _, _, stride, padding, dilation, *_ = args
    return unfit(x, u_out, _window(*args), core.shape[1], stride, padding, dilation)


def cpp_slower(*args: Any) -> str | None:
    return fused_slower(*args, tensor_cores=False)


def unfit(
    x: Tensor, u_out: Tensor, window: Sequence[int], r_in: int, stride: Pair, padding: Pair, dilation: Pair
) -> str | None:
    """The reason against the CUDA C++ kernels for sizes that they do not take."""
    if not x.numel():
        return "images without values are left to the reference"
    size = checks.convolved(x.shape[2:], window, stride, padding, dilation)
    ranks, value = (r_in, u_out.shape[1]), max(4, x.element_size())
    if tucker_cost.cuda_tile(size, window, stride, dilation, ranks, value) is None:
        return f"rank channels under one pixel, {ranks} of {value} bytes, are past {tucker_cost.SHARED} bytes"
    largest = max(x.shape[0] * x.shape[2] * x.shape[3], x.shape[0] * size[0] * size[1])
    return f"{largest} pixels are past 2^31" if largest >= 1 << 31 else None


def cpp(args: Any, out: Tensor) -> None:
    x, core, u_out, u_in, bias, stride, padding, dilation, u_h, u_w, groups = args
    taps = taps_first(whole_core(core, u_out.shape[1], u_h, u_w, groups), groups)
    tile = tucker_cost.cuda_tile(
        out.shape[2:], taps.shape[1:3], stride, dilation, taps.shape[3:], x.element_size()
    )  # fmt: skip
    layout = layout_of(x)
    dense = [None if t is None else t.contiguous() for t in (taps, u_out, u_in, bias)]
    torch.ops.spectral_native.tucker_conv2d(
        x.contiguous(memory_format=layout), *dense, stride, padding, dilation, tile, layout is torch.channels_last, out
    )


def taps_first(weight: Tensor, groups: int) -> Tensor:
    """(groups r_out, r_in, kh, kw) -> (groups, kh, kw, r_out, r_in), the kernels' order of a core."""
    return weight.unflatten(0, (groups, -1)).permute(0, 3, 4, 1, 2)


def fold_into(core: Tensor, u_in: Tensor, groups: int) -> Tensor:
    """core x_2 u_in of each group: (groups r_out, r_in, kh, kw) -> (groups r_out, C / groups, kh, kw)."""
    rows = core.view(groups, -1, core.shape[1], core.shape[2] * core.shape[3])
    folded = u_in.view(groups, 1, -1, u_in.shape[1]) @ rows
    return folded.reshape(core.shape[0], -1, *core.shape[2:])


def fold_out_of(core: Tensor, u_out: Tensor, groups: int) -> Tensor:
    """core x_1 u_out of each group: (groups r_out, i, kh, kw) -> (O, i, kh, kw)."""
    folded = u_out.view(groups, -1, u_out.shape[1]) @ core.reshape(groups, u_out.shape[1], -1)
    return folded.view(u_out.shape[0], *core.shape[1:])
