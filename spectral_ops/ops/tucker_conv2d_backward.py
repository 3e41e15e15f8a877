"""tucker_conv2d_backward: all gradients of a convolution in Tucker form, and those of K-steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from . import checks, tucker_cost
from .activations import wide
from .branch_conv2d import Pair, layout_of
from .tucker_conv2d import unfit
from .tucker_stages import from_ranks, to_ranks


def check(
    grad_y: Tensor,
    x: Tensor,
    core: Tensor,
    u_out: Tensor,
    u_in: Tensor,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    want_grad_x: bool = True,
    core_out: Tensor | None = None,
    core_in: Tensor | None = None,
) -> None:
    op = "tucker_conv2d_backward"
    if x.dim() != 4:
        raise checks.wrong_shape(op, "x", x, "(N, C, H, W)")
    if core.dim() != 5 or 0 in core.shape or x.shape[1] % core.shape[0]:
        must = f"(groups, kh, kw, r_out, r_in), each at least 1, with groups a divisor of C = {x.shape[1]}"
        raise checks.wrong_shape(op, "core", core, must)
    groups, *window, r_out, r_in = core.shape
    if u_in.dim() != 2 or u_in.shape[0] != x.shape[1] or u_in.shape[1] != r_in:
        must = f"(C, r_in) with C = {x.shape[1]} as in x and r_in = {r_in} as in core"
        raise checks.wrong_shape(op, "u_in", u_in, must)
    if u_out.dim() != 2 or not u_out.shape[0] or u_out.shape[0] % groups or u_out.shape[1] != r_out:
        must = f"(O, r_out) with O a multiple of groups = {groups} and r_out = {r_out} as in core"
        raise checks.wrong_shape(op, "u_out", u_out, must)
    checks.geometry(op, x.shape[2:], window, "core", stride, padding, dilation)
    made = (x.shape[0], u_out.shape[0], *checks.convolved(x.shape[2:], window, stride, padding, dilation))
    if tuple(grad_y.shape) != made:
        raise checks.wrong_shape(op, "grad_y", grad_y, f"{made} as the result of tucker_conv2d")
    for name, other in (("core_out", core_out), ("core_in", core_in)):
        if other is not None and other.shape != core.shape:
            raise checks.wrong_shape(op, name, other, f"{tuple(core.shape)} as core")
    checks.real(op, x=x, grad_y=grad_y, core=core, u_out=u_out, u_in=u_in, core_out=core_out, core_in=core_in)


def empty(*args: Any) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    _, x, core, u_out, u_in, _, _, _, want_grad_x, _, _ = args
    check(*args)
    grad_x = torch.empty_like(x, memory_format=layout_of(x)) if want_grad_x else x.new_empty(0)
    factors = [torch.empty_like(t, memory_format=torch.contiguous_format) for t in (core, u_out, u_in)]
    return grad_x, factors[0], factors[1], factors[2], x.new_empty(u_out.shape[0])


def reference(
    grad_y: Tensor,
    x: Tensor,
    core: Tensor,
    u_out: Tensor,
    u_in: Tensor,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    want_grad_x: bool = True,
    core_out: Tensor | None = None,
    core_in: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The gradients of tucker_conv2d, through its rank channels; the gradient of the kernel W is never made.

    With r = x u_in, b = core * r, d = grad_y u_out and e = the core's adjoint of d, all of them rank channels:
    grad_u_out = sum of grad_y b^T, grad_core = sum of d r^T for each tap, grad_u_in = sum of x e^T, grad_x = e u_in^T.

    Args:
        grad_y: (N, O, H', W'). x: (N, C, H, W), contiguous or channels_last.
        core: (groups, kh, kw, r_out, r_in), the factors of the window multiplied in, its taps outermost.
        u_out: (O, r_out). u_in: (C, r_in).
        stride, padding, dilation: as in tucker_conv2d.
        want_grad_x: otherwise grad_x has no values.
        core_out, core_in: as core, or None: core. In their place b and e of the factors' gradients are made with them.
            With the cores Ten_1(Q_1^T) and Ten_2(Q_2^T) of a K-step, these are the gradients of K_1 and K_2.

    Returns: grad_x as x, grad_core as core, grad_u_out, grad_u_in, grad_bias (O,).
    Raises: ValueError for shapes and sizes, TypeError for dtypes and devices.
    Accuracy: |error| <= 4 eps (sqrt(K_1) + sqrt(K_2) + sqrt(K_3)) of the sizes of all terms, K_i the terms of the three
        sums that a gradient is, `tests/test_backends.py`.
    Gradient: to every tensor, any order. Deterministic: as the convolution's gradients of torch; the kernels are.
    Source: Rank-adaptive spectral pruning of convolutional layers during training, Algorithm 1, Theorem 1.
    """
    groups = core.shape[0]
    v, g = wide(x), wide(grad_y)
    inner, outer = wide(u_in), wide(u_out)
    r, d = to_ranks(v, inner, groups), to_ranks(g, outer, groups)
    spare = [
        size - ((made - 1) * s - 2 * p + d * (k - 1) + 1)
        for size, made, k, s, p, d in zip(
            x.shape[2:], g.shape[2:], core.shape[1:3], stride, padding, dilation, strict=True
        )
    ]

    def through(t: Tensor) -> Tensor:
        return functional.conv2d(r, _filters(t), None, list(stride), list(padding), list(dilation), groups)

    def back(t: Tensor) -> Tensor:
        return functional.conv_transpose2d(
            d, _filters(t), None, list(stride), list(padding), spare, groups, list(dilation)
        )

    e = back(core)
    grad_u_out = outer_sum(g, through(core if core_out is None else core_out), groups)
    grad_u_in = outer_sum(v, e if core_in is None else back(core_in), groups)
    grad_core = core_gradient(r, d, core.shape, stride, padding, dilation)
    layout = layout_of(x)
    grad_x = (
        from_ranks(e, inner, None, groups, layout).contiguous(memory_format=layout) if want_grad_x else v.new_empty(0)
    )
    found = (grad_x, grad_core, grad_u_out, grad_u_in, g.sum((0, 2, 3)))
    return tuple(t.to(x.dtype) for t in found)  # type: ignore[return-value]


def _filters(core: Tensor) -> Tensor:
    """(groups, kh, kw, r_out, r_in) -> (groups r_out, r_in, kh, kw)."""
    return wide(core).permute(0, 3, 4, 1, 2).flatten(0, 1).contiguous()


def core_gradient(r: Tensor, d: Tensor, core: Sequence[int], stride: Pair, padding: Pair, dilation: Pair) -> Tensor:
    """Of each tap of the core, the sum over all pixels of y of d times what the tap meets of r."""
    groups, kh, kw = core[:3]
    (height, width), (sh, sw), (ph, pw) = d.shape[2:], stride, padding
    bordered = functional.pad(r, (pw, pw, ph, ph))
    taps = []
    for i in range(kh):
        for j in range(kw):
            top, left = i * dilation[0], j * dilation[1]
            met = bordered[:, :, top : top + (height - 1) * sh + 1 : sh, left : left + (width - 1) * sw + 1 : sw]
            taps.append(outer_sum(d, met, groups).unflatten(0, (groups, -1)))
    return torch.stack(taps, 1).unflatten(1, (kh, kw))


def outer_sum(x: Tensor, h: Tensor, groups: int) -> Tensor:
    """Over all pixels, of each group, x's channels times h's: (groups c, r)."""
    rows, ranks = (t.unflatten(1, (groups, -1)).transpose(0, 1) for t in (x, h))
    return (rows.transpose(1, 2).flatten(2) @ ranks.movedim(2, -1).flatten(1, 3)).flatten(0, 1)


def fused_slower(*args: Any, tensor_cores: bool = True) -> str | None:
    """The reason against kernels for all stages where the library's are expected to be faster, or None."""
    _, x, core, u_out, _, stride, padding, dilation, *_ = args
    groups, kh, kw, r_out, r_in = core.shape
    weight = (groups * r_out, r_in, kh, kw)
    s = tucker_cost.Sizes.of(x.shape, weight, u_out.shape, stride, padding, dilation, groups)
    ours = tucker_cost.fused_backward(s, x.dtype, tensor_cores)
    return tucker_cost.slower(ours, tucker_cost.library_backward(s, x.dtype))


# ---- CUDA C++ ------------------------------------------------------------------------------------------------------
READS_STRIDES = True  # channels_last stays


def cuda_why_not(*args: Any) -> str | None:
    _, x, core, u_out, _, *geometry = args[:8]
    return unfit(x, u_out, core.shape[1:3], core.shape[4], *geometry)


def cpp_slower(*args: Any) -> str | None:
    return fused_slower(*args, tensor_cores=False)


def cpp(args: Any, out: tuple[Tensor, ...]) -> None:
    grad_y, x, core, u_out, u_in, stride, padding, dilation, want_grad_x, core_out, core_in = args
    tile = tucker_cost.cuda_tile(
        grad_y.shape[2:], core.shape[1:3], stride, dilation, core.shape[3:], x.element_size()
    )  # fmt: skip
    layout = layout_of(x)
    images = [t.contiguous(memory_format=layout) for t in (grad_y, x)]
    core = core.contiguous()
    cores = [core if t is None else t.contiguous() for t in (core_out, core_in)]
    torch.ops.spectral_native.tucker_conv2d_backward(
        *images, core, u_out.contiguous(), u_in.contiguous(), *cores, stride, padding, dilation, tile,
        layout is torch.channels_last, out[0] if want_grad_x else None, *out[1:],
    )  # fmt: skip
