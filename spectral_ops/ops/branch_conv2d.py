"""branch_conv2d: one convolution of every branch, activation included."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..autograd import differentiate_reference, transforming, want_grad
from ..op import run_below_autograd
from . import checks, planes
from .activations import apply, apply_, gradient_of, narrow, through, wide

Pair = Sequence[int]
TOLD = ("relu", "tanh", "sigmoid", "crelu", "zrelu")  # activations whose slope the result tells
NARROW, NARROW_IN_TRAINING = 4, 8  # below so many channels a branch oneDNN's grouped convolution wants channels_last


def check(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: str = "none",
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    op: str = "branch_conv2d",
) -> torch.dtype:
    """Checks the arguments for `op`; returns the dtype of the result."""
    if x.dim() != 5:
        raise checks.wrong_shape(op, "x", x, "(N, Q', C/Q, H, W)")
    q, i = x.shape[1:3]
    if weight.dim() != 5 or weight.shape[0] != q or weight.shape[2] != i:
        must = f"(Q', O/Q, C/Q, kh, kw) with Q' = {q} and C/Q = {i} as in x"
        raise checks.wrong_shape(op, "weight", weight, must)
    checks.convolution(op, x.shape[3:], weight, bias, stride, padding, dilation)
    dtype = checks.numbers(op, x=x, weight=weight, bias=bias)
    checks.activation(op, "activation", activation, dtype.is_complex)
    return dtype


def empty(*args: Any) -> Tensor:
    x, weight, _, _, *geometry = args
    dtype = check(*args)
    return image_like(x, weight.shape[:2], checks.convolved(x.shape[3:], weight.shape[3:], *geometry), dtype)


def image_like(x: Tensor, channels: Pair, sizes: Pair, dtype: torch.dtype) -> Tensor:
    """A tensor (N, *channels, *sizes) in the memory format of x, not filled."""
    shape, layout = (x.shape[0], channels[0] * channels[1], *sizes), layout_of(x.flatten(1, 2))
    return torch.empty(shape, dtype=dtype, device=x.device, memory_format=layout).unflatten(1, channels)


def reference(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: str = "none",
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
) -> Tensor:
    """y[n, q, o] = activation(sum_i weight[q, o, i] * x[n, q, i] + bias[q, o]), * the cross-correlation of images.

    Args:
        x: (N, Q', C/Q, H, W), floating point or complex; contiguous, or the (N, C, H, W) behind it in channels_last.
        weight: (Q', O/Q, C/Q, kh, kw). bias: (Q', O/Q) or None. With float32 and float64 any of the three may be
            complex; then the branches are.
        activation: none, relu, gelu (exact, with erf), silu, tanh or sigmoid; of complex branches none, crelu,
            modrelu, modrelu:B, zrelu or cardioid.
        stride, padding (with zeros), dilation: of rows and columns, in pixels.

    Returns: (N, Q', O/Q, H', W') in x's memory format, dtype of x (half computes in float32), complex where an argument
        is. Complex numbers are convolved as pairs of real channels, four products for one.
    Raises: ValueError for shapes, sizes and names, TypeError for dtypes and devices.
    Accuracy: |error| <= 4 eps sqrt(C/Q kh kw) (|weight| * |x| + |bias|), `tests/test_backends.py`.
    Gradient: to x, weight and bias, any order. Deterministic: as the convolution of torch.
    Source: Liu et al., Highly Parallel Deep Ensemble Learning, eq. (26), (27).
    """
    image = x.flatten(1, 2)
    v, w, b, q, layout = wide(image), wide(weight), None if bias is None else wide(bias), len(weight), layout_of(image)
    if x.is_complex() or weight.is_complex() or (bias is not None and bias.is_complex()):
        last = layout is torch.channels_last
        v = planes.split(v, q, last) if x.is_complex() else v
        h = convolve(v, *planes.layer_form(w, b, not x.is_complex()), stride, padding, dilation)
        y = planes.joined(planes.activated(activation, h, q, last), q)
    else:
        y = apply_(activation, convolve(v, w, b, stride, padding, dilation))
    return narrow(y, x).contiguous(memory_format=layout).unflatten(1, weight.shape[:2])


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, padding: Pair, dilation: Pair) -> Tensor:
    """All real branches as one grouped convolution: x (N, Q' C/Q, H, W) -> a new (N, Q' O/Q, H', W')."""
    q, _, i = weight.shape[:3]
    if q > 1 and not transforming():
        limit = NARROW_IN_TRAINING if want_grad([x, weight]) else NARROW
        if i < limit and layout_of(x) is torch.contiguous_format:
            x = x.contiguous(memory_format=torch.channels_last)
    vector = None if bias is None else bias.flatten()
    return functional.conv2d(x, weight.flatten(0, 1), vector, list(stride), list(padding), list(dilation), q)


def layout_of(x: Tensor) -> Any:
    """The memory format of x (N, C, H, W): channels_last where it is that and nothing else."""
    if transforming() or x.is_contiguous() or not x.is_contiguous(memory_format=torch.channels_last):
        return torch.contiguous_format
    return torch.channels_last


def forward_for_grad(args: list[Any], needs: list[Any], direct: bool) -> tuple[Tensor, list[Tensor]]:
    y = run_below_autograd("branch_conv2d", direct, *args)
    return y, [y]


def backward(args: list[Any], grads: Any, needs: list[Any], kept: list[Tensor]) -> list[Any]:
    """Where a Triton kernel takes the call; a composition has the gradients of its parts."""
    if torch.is_grad_enabled():  # the result that was kept knows nothing of the arguments
        return differentiate_reference(sys.modules[__name__], args, grads)
    (x, weight, bias, activation, *geometry), (grad,), (y,) = args, grads, kept
    ops, d = torch.ops.spectral, grad
    if activation != "none":
        # of some activations the result tells the slope
        told = activation in TOLD
        z = wide(y if told else ops.branch_conv2d(x, weight, bias, "none", *geometry))
        d = through(activation, wide(grad), z, z if told else apply(activation, z)).to(grad.dtype)
    grad_x, grad_weight = None, None
    if needs[0] or needs[1]:
        grad_x, grad_weight = ops.branch_conv2d_backward(d, x, weight, *geometry, needs[0], needs[1])
    grad_bias = gradient_of(bias, wide(d).sum((0, 3, 4))) if bias is not None and needs[2] else None
    return [grad_x if needs[0] else None, grad_weight if needs[1] else None, grad_bias, None, None, None, None]
