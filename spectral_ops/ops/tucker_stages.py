"""The stages of a convolution in Tucker form, as the library's products and convolutions: to rank channels and back."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from .. import native
from ..autograd import differentiate_reference, ordinary, transforming, want_grad
from ..forced import forced
from . import checks
from .branch_conv2d import Pair, layout_of

NATIVE = "tucker_stages"
FEW = 16  # pixels up to which converting an image takes less than a product of its own
MANY = 1 << 20  # values from which on adding a bias by itself takes longer than what a convolution costs at least
TALL = 2048  # pixels of a batch from which on a transposed factor costs less than it saves
SEVERAL = 8  # images from which on the core as one matrix is worth being made
NARROW = 64  # channels up to which a convolution of many pixels is faster than a product


def run(*args: Any) -> Tensor:
    """`reference`; of ordinary tensors on the CPU by one native call, and one for all gradients."""
    x, groups = args[0], args[8]
    tensors = [t for t in args[:5] if t is not None]
    if groups > 1 or not _natively(tensors):
        return reference(*args)
    last = layout_of(x) is torch.channels_last
    if want_grad(tensors):
        return _Stages.apply(*args[:8], last)
    return torch.ops.spectral_native.tucker_stages(*args[:8], last)[0]


def gradient_of_x(x: Tensor, weight: Tensor, grad: Tensor, stride: Pair, padding: Pair, dilation: Pair) -> Tensor:
    """From that of `run` without factors, bias and groups; all images in channels_last."""
    if _natively([x, weight, grad]):
        wanted, geometry = (True, False, False, False, False), (stride, padding, dilation, True)
        return torch.ops.spectral_native.tucker_stages_backward(
            grad, x, weight, None, None, x, grad, *wanted, *geometry
        )[0]
    # not torch.nn.grad.conv2d_input, which knows nothing of x's memory format and answers in NCHW
    more = (None, list(stride), list(padding), list(dilation), False, [0, 0], 1, (True, False, False))
    return torch.ops.aten.convolution_backward(grad, x, weight, *more)[0]


def _natively(tensors: Sequence[Tensor]) -> bool:
    """Whether the native stages take them; the first are the images."""
    x = tensors[0]
    if not x.is_cpu or not x.numel() or transforming() or not ordinary(tensors):
        return False
    return forced() is None and native.why_not(x.device, NATIVE) is None


def reference(
    x: Tensor,
    weight: Tensor,
    u_in: Tensor | None,
    u_out: Tensor | None,
    bias: Tensor | None,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
) -> Tensor:
    """x (N, C, H, W) through u_in (C, r_in), weight (groups r_out, r_in, kh, kw), u_out (O, r_out); None: no factor."""
    h = x if u_in is None else to_ranks(x, u_in, groups)
    b = bias if u_out is None else None
    y = functional.conv2d(h, weight, b, list(stride), list(padding), list(dilation), groups)
    return y if u_out is None else from_ranks(y, u_out, bias, groups, layout_of(x))


class _Stages(torch.autograd.Function):
    """Autograd itself takes the gradient of a tall factor as a tall product of long sums, at half the speed of a wide
    one, and writes the gradient of planes pixel by pixel."""

    @staticmethod
    def forward(ctx: Any, *args: Any) -> Tensor:
        y, h, z = torch.ops.spectral_native.tucker_stages(*args)
        *tensors, stride, padding, dilation, last = args
        ctx.options = (stride, padding, dilation, last)
        ctx.save_for_backward(*tensors, h, None if z is y else z)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, u_in, u_out, bias, h, z = ctx.saved_tensors
        if torch.is_grad_enabled() or not ordinary([grad]):
            args = [x, weight, u_in, u_out, bias, *ctx.options[:3], 1]
            return (*differentiate_reference(sys.modules[__name__], args, [grad])[:5], None, None, None, None)
        grad = grad.contiguous(memory_format=torch.channels_last if ctx.options[3] else torch.contiguous_format)
        found = torch.ops.spectral_native.tucker_stages_backward(
            grad, x, weight, u_in, u_out, h, grad if z is None else z, *ctx.needs_input_grad[:5], *ctx.options
        )
        return (*(g if n else None for g, n in zip(found, ctx.needs_input_grad, strict=False)), None, None, None, None)


def as_one_matrix(
    x: Sequence[int], window: Sequence[int], stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> bool:
    """Whether the native stages multiply by the core as one matrix, from all pixels of an image to all.

    So where every pixel of y sees every pixel of x and these are at most half as many as the window has taps, most of
    which meet padding only.
    """
    if groups > 1 or x[0] < SEVERAL or 2 * math.prod(x[2:]) > math.prod(window) or tuple(dilation) != (1, 1):
        return False
    made = checks.convolved(x[2:], window, stride, padding, dilation)
    return all(
        p >= (m - 1) * s and n - 1 + p < k for n, m, k, s, p in zip(x[2:], made, window, stride, padding, strict=True)
    )


def to_ranks(x: Tensor, u_in: Tensor, groups: int = 1) -> Tensor:
    """x (N, C, H, W) in its rank channels, (N, groups r_in, H, W) in channels_last.

    Of NCHW one product an image reads planes and writes channels_last, at the cost of no conversion.
    """
    n, _, h, w = x.shape
    rank = u_in.shape[1]
    if groups > 1:
        weight = u_in.view(groups, -1, rank).mT.reshape(groups * rank, -1, 1, 1)
        h = functional.conv2d(x, weight, groups=groups)
        return h if transforming() else h.contiguous(memory_format=torch.channels_last)
    if layout_of(x) is torch.contiguous_format and h * w > FEW:
        rows = torch.bmm(x.flatten(2).mT, u_in.expand(n, *u_in.shape))
    else:
        # of many pixels and a factor with long rows the product takes up to a quarter less
        rows = pixels(x) @ (u_in.mT.contiguous().mT if n * h * w >= TALL else u_in)
    return rows.view(n, h, w, rank).permute(0, 3, 1, 2)


def from_ranks(h: Tensor, u_out: Tensor, bias: Tensor | None, groups: int, layout: torch.memory_format) -> Tensor:
    """y (N, O, H', W') from its rank channels h (N, groups r_out, H', W'); in `layout` unless it has few pixels."""
    n, _, height, width = h.shape
    o = u_out.shape[0]
    if groups > 1:
        return functional.conv2d(h, u_out.view(*u_out.shape, 1, 1), bias, groups=groups)
    if layout is torch.contiguous_format and height * width > FEW:
        planes, factor = h.flatten(2), u_out.expand(n, *u_out.shape)
        y = torch.bmm(factor, planes) if bias is None else torch.baddbmm(bias.view(1, -1, 1), factor, planes)
        return y.view(n, o, height, width)
    if (bias is not None or o <= NARROW) and n * o * height * width >= MANY and not h.is_cuda:
        return functional.conv2d(h, u_out[:, :, None, None], bias)  # which adds the bias on the way
    return functional.linear(pixels(h), u_out, bias).view(n, height, width, o).permute(0, 3, 1, 2)


def pixels(x: Tensor) -> Tensor:
    """(N, C, H, W) -> (N H W, C), for nothing in channels_last."""
    return x.permute(0, 2, 3, 1).flatten(0, 2)


def outer(x: Tensor, h: Tensor) -> Tensor:
    """(C, r): the sum over all pixels of x's channels times h's; h in channels_last."""
    if layout_of(x) is torch.contiguous_format:
        return torch.bmm(x.flatten(2), h.permute(0, 2, 3, 1).flatten(1, 2)).sum(0)
    rows, ranks = pixels(x), pixels(h)
    return (ranks.mT @ rows).mT if len(rows) >= TALL else rows.mT @ ranks  # a wide product takes down to half of a tall
