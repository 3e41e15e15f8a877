"""csg_conv2d_backward: the gradients of a generated convolution, to the image and to what its filter is made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from . import checks
from .activations import wide
from .branch_conv2d import Pair, layout_of
from .csg_conv2d import check as check_convolution
from .csg_conv2d import few_pixels


def check(
    grad_y: Tensor,
    x: Tensor,
    codes: Tensor,
    generator: Tensor,
    kernel_shape: Sequence[int],
    slice_shape: Sequence[int],
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    layout: str = "block",
    groups: int = 1,
    want_x: bool = True,
    want_codes: bool = True,
    want_generator: bool = True,
) -> None:
    op = "csg_conv2d_backward"
    check_convolution(
        x, codes, generator, kernel_shape, slice_shape, None, stride, padding, dilation, layout, groups
    )  # fmt: skip
    sizes = checks.convolved(x.shape[2:], kernel_shape[2:], stride, padding, dilation)
    shape = (x.shape[0], kernel_shape[0], *sizes)
    if grad_y.shape != shape:
        raise checks.wrong_shape(op, "grad_y", grad_y, f"(N, O, H', W') = {shape} as the convolution's result")
    checks.real(op, x=x, grad_y=grad_y)
    if want_generator and generator.dtype == torch.int8:
        raise TypeError(f"{op}: generator must be {codes.dtype} where its gradient is wanted, got {generator.dtype}")


def empty(*args: Any) -> tuple[Tensor, Tensor, Tensor]:
    check(*args)
    _, x, codes, generator, *_, want_x, want_codes, want_generator = args
    grad_x = torch.empty_like(x, memory_format=layout_of(x)) if want_x else x.new_empty(0)
    return (
        grad_x,
        codes.new_empty(codes.shape if want_codes else (0,)),
        codes.new_empty(generator.shape if want_generator else (0,)),
    )


def reference(
    grad_y: Tensor,
    x: Tensor,
    codes: Tensor,
    generator: Tensor,
    kernel_shape: Sequence[int],
    slice_shape: Sequence[int],
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    layout: str = "block",
    groups: int = 1,
    want_x: bool = True,
    want_codes: bool = True,
    want_generator: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    """The vector-Jacobian product of `csg_conv2d`, its filter generated again; that of bias is the sum of grad_y.

    Args:
        grad_y: the gradient (N, O, H', W') of the result.
        x, codes, generator, kernel_shape, slice_shape, stride, padding, dilation, layout, groups: as in `csg_conv2d`.
        want_x, want_codes, want_generator: when False, the result is empty, and its work is saved.

    Returns: grad x in x's memory format, grad codes, grad generator; dtype of x (half computes in float32).
    Raises: ValueError for shapes, TypeError for dtypes, devices, and a wanted gradient of an int8 generator.
    Accuracy: as the convolutions and products, `tests/test_backends.py`.
    Gradient: to every floating tensor, any order. Deterministic: as the convolutions of torch.
    """
    order = layout_of(x)
    last = order is torch.channels_last
    entries = generator if generator.dtype == torch.int8 else wide(generator)
    filter = torch.ops.spectral.csg_kernel(wide(codes), entries, kernel_shape, slice_shape, layout, last)
    want_filter = want_codes or want_generator
    grad_x, grad_filter, _ = torch.ops.aten.convolution_backward(
        wide(grad_y), wide(x), filter, None, list(stride), list(padding), list(dilation), False, [0, 0], groups,
        [want_x, want_filter, False],
    )  # fmt: skip
    results = [codes.new_empty(0), codes.new_empty(0)]
    if want_filter:
        placed = grad_filter.permute(0, 2, 3, 1) if last else grad_filter
        results = torch.ops.spectral.csg_kernels_backward(
            [placed], wide(codes), entries, kernel_shape, slice_shape, layout, last, want_codes, want_generator
        )
    image = grad_x.to(x.dtype).contiguous(memory_format=order) if want_x else x.new_empty(0)
    return image, results[0].to(codes.dtype), results[1].to(codes.dtype)


def cuda_why_not(grad_y: Tensor, x: Tensor, codes: Tensor, generator: Tensor, kernel_shape: Any, *_: Any) -> str | None:
    pixels = max(math.prod(grad_y.shape[2:]), math.prod(x.shape[2:])) * x.shape[0]
    return few_pixels(kernel_shape, pixels)


def cpp(args: list[Any], out: tuple[Tensor, ...]) -> None:
    *rest, layout, groups, want_x, want_codes, want_generator = args
    wanted = (t if want else None for t, want in zip(out, (want_x, want_codes, want_generator), strict=True))
    torch.ops.spectral_native.csg_conv2d_backward(*rest, layout == "flat", groups, *wanted)
