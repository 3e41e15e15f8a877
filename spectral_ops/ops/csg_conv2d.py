"""csg_conv2d: a convolution whose filter is generated from codes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from . import checks
from .activations import wide
from .branch_conv2d import Pair, layout_of
from .csg_kernel import check_filter

FEW_PIXELS = 256  # of a result or an image: a slice costs n_c of them to generate; beyond, the library (unmeasured)
LARGEST_WINDOW = 256


def check(
    x: Tensor,
    codes: Tensor,
    generator: Tensor,
    kernel_shape: Sequence[int],
    slice_shape: Sequence[int],
    bias: Tensor | None = None,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    layout: str = "block",
    groups: int = 1,
) -> None:
    op = "csg_conv2d"
    if x.dim() != 4:
        raise checks.wrong_shape(op, "x", x, "(N, C, H, W)")
    check_filter(op, codes, generator, kernel_shape, slice_shape, layout)
    o, i, *window = kernel_shape
    if groups < 1 or o % groups:
        raise ValueError(f"{op}: groups must be a divisor of O = {o} as in kernel_shape, got {groups}")
    if x.shape[1] != i * groups:
        raise checks.wrong_shape(op, "x", x, f"(N, C, H, W) with C = {i * groups} = groups I as in kernel_shape")
    if bias is not None and (bias.dim() != 1 or bias.shape[0] != o):
        raise checks.wrong_shape(op, "bias", bias, f"(O,) with O = {o} as in kernel_shape")
    checks.geometry(op, x.shape[2:], window, "kernel_shape", stride, padding, dilation)
    checks.real(op, x=x, codes=codes, bias=bias)


def empty(*args: Any) -> Tensor:
    x, _, _, kernel_shape, _, _, *geometry, _, _ = args
    check(*args)
    sizes = checks.convolved(x.shape[2:], kernel_shape[2:], *geometry)
    shape = (x.shape[0], kernel_shape[0], *sizes)
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=layout_of(x))


def reference(
    x: Tensor,
    codes: Tensor,
    generator: Tensor,
    kernel_shape: Sequence[int],
    slice_shape: Sequence[int],
    bias: Tensor | None = None,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    layout: str = "block",
    groups: int = 1,
) -> Tensor:
    """y = csg_kernel(codes, generator, kernel_shape, slice_shape, layout) * x + bias, * the cross-correlation.

    Args:
        x: (N, C, H, W), real floating point, contiguous or channels_last.
        codes: (S, n_c). generator: (F K h w, n_c), of the dtype of codes, or int8 signs.
        kernel_shape: O, C / groups, kh, kw. slice_shape: F, K, h, w.
        bias: (O,) or None.
        stride, padding (with zeros), dilation: of rows and columns, in pixels.
        layout: of the slices in the filter, as in `csg_kernels`.
        groups: of channels; the filter of all groups is generated at once, so that with O / groups a multiple of F
            each group has slices of its own.

    Returns: (N, O, H', W') in x's memory format, dtype of x (half computes in float32).
    Raises: ValueError for shapes, sizes and names, TypeError for dtypes and devices.
    Accuracy: |error| <= 4 eps (sqrt(n_c) + sqrt(C/groups kh kw)) of the sizes of all terms, `tests/test_backends.py`.
    Gradient: to x, codes, a floating-point generator and bias, any order.
    Deterministic: as the convolution of torch.
    Source: Omidvar et al., Associative Convolutional Layers, eq. (1), Figure 1.
    """
    order = layout_of(x)
    channels_last = order is torch.channels_last
    kernel = torch.ops.spectral.csg_kernel(
        wide(codes), generator if generator.dtype == torch.int8 else wide(generator), kernel_shape, slice_shape,
        layout, channels_last,
    )  # fmt: skip
    vector = None if bias is None else wide(bias)
    y = functional.conv2d(wide(x), kernel, vector, list(stride), list(padding), list(dilation), groups)
    return y.to(x.dtype).contiguous(memory_format=order)


def cuda_why_not(
    x: Tensor, codes: Tensor, generator: Tensor, kernel_shape: Sequence[int], slice_shape: Sequence[int],
    bias: Any, *geometry: Any,
) -> str | None:  # fmt: skip
    sizes = checks.convolved(x.shape[2:], kernel_shape[2:], *geometry[:3])
    return few_pixels(kernel_shape, max(math.prod(sizes), math.prod(x.shape[2:])) * x.shape[0])


def few_pixels(kernel_shape: Sequence[int], pixels: int) -> str | None:
    """The reason against the CUDA C++ kernels, each of whose blocks convolves all pixels with a part of the filter."""
    if math.prod(kernel_shape[2:]) > LARGEST_WINDOW:
        return f"a window of {kernel_shape[2]} x {kernel_shape[3]} is past the {LARGEST_WINDOW} places that fit a block"
    if pixels > FEW_PIXELS:
        return (
            f"{pixels} pixels are past the {FEW_PIXELS} up to which generating inside the convolution is meant to pay"
        )
    return None


def cpp(args: list[Any], out: Tensor) -> None:
    *tensors, stride, padding, dilation, layout, groups = args
    torch.ops.spectral_native.csg_conv2d(*tensors, stride, padding, dilation, layout == "flat", groups, out)


def backward(args: list[Any], grads: Any, needs: list[Any]) -> list[Any]:
    """Of the fused form; the composition's parts have their own."""
    x, codes, generator, kernel_shape, slice_shape, _, *geometry = args
    (grad,) = grads
    wanted: list[Any] = [None] * len(args)
    if any(needs[:3]):
        found = torch.ops.spectral.csg_conv2d_backward(
            grad, x, codes, generator, kernel_shape, slice_shape, *geometry, *needs[:3]
        )
        wanted[:3] = [g if need else None for g, need in zip(found, needs[:3], strict=True)]
    if needs[5]:
        wanted[5] = wide(grad).sum((0, 2, 3)).to(grad.dtype)
    return wanted
