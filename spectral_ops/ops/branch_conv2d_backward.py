"""branch_conv2d_backward: the gradients of `branch_conv2d` to its images and weights, without the activation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import grad as gradients

from . import branch_conv2d, checks, planes
from .activations import dense_like, gradient_of, together
from .branch_conv2d import Pair, layout_of

OP = "branch_conv2d_backward"


def check(
    grad_y: Tensor,
    x: Tensor,
    weight: Tensor,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    want_grad_x: bool = True,
    want_grad_weight: bool = True,
) -> None:
    dtype = branch_conv2d.check(x, weight, None, "none", stride, padding, dilation, OP)
    sizes = checks.convolved(x.shape[3:], weight.shape[3:], stride, padding, dilation)
    shape = (x.shape[0], *weight.shape[:2], *sizes)
    if grad_y.dim() != 5 or any(a != b for a, b in zip(grad_y.shape, shape, strict=True)):
        raise checks.wrong_shape(OP, "grad_y", grad_y, f"(N, Q', O/Q, H', W') = ({', '.join(map(str, shape))})")
    checks.exactly(OP, dtype, x, grad_y=grad_y)


def empty(*args: Any) -> tuple[Tensor, Tensor]:
    _, x, weight, *_, want_grad_x, want_grad_weight = args
    check(*args)
    grad_x = branch_conv2d.image_like(x, x.shape[1:3], x.shape[3:], x.dtype) if want_grad_x else x.new_empty(0)
    return grad_x, dense_like(weight) if want_grad_weight else weight.new_empty(0)


def reference(
    grad_y: Tensor,
    x: Tensor,
    weight: Tensor,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    want_grad_x: bool = True,
    want_grad_weight: bool = True,
) -> tuple[Tensor, Tensor]:
    """The vector-Jacobian product of `branch_conv2d(x, weight)` without bias and activation.

    grad x[n, q, i, h] = sum_(o, k) grad_y[n, q, o, h'] conj(weight[q, o, i, k]) and
    grad weight[q, o, i, k] = sum_(n, h') grad_y[n, q, o, h'] conj(x[n, q, i, h]), of pixels h = stride h' - padding +
    dilation k inside the image. The gradient of a real argument is the real part.

    Args:
        grad_y: (N, Q', O/Q, H', W'), times the slope of the activation. x, weight, stride, padding, dilation: as in
            `branch_conv2d`.
        want_grad_x, want_grad_weight: when False that result is empty, and its convolution is saved.

    Returns: grad x in x's memory format, grad weight contiguous; each in the dtype of its argument.
    Raises: ValueError for shapes and sizes, TypeError for dtypes and devices.
    Accuracy: |error| <= 4 eps sqrt(terms) (the sum of their sizes), `tests/test_backends.py`.
    Gradient: to every tensor, by differentiating this form. Deterministic: in Triton bitwise, else as torch's.
    """
    wide_grad, wide_x, wide_weight = together(grad_y, x, weight)
    q, layout = len(weight), layout_of(x.flatten(1, 2))
    images, form, d = wide_x.flatten(1, 2), wide_weight, wide_grad.flatten(1, 2)
    if wide_x.is_complex():
        images, d = (planes.split(t, q, layout is torch.channels_last) for t in (images, d))
        form = planes.weight_form(wide_weight)
    kernel = form.flatten(0, 1)
    geometry = (list(stride), list(padding), list(dilation), q)
    grad_x, grad_weight = x.new_empty(0), weight.new_empty(0)
    if want_grad_x:
        found = gradients.conv2d_input(images.shape, kernel, d, *geometry)
        found = planes.joined(found, q) if wide_x.is_complex() else found
        grad_x = gradient_of(x, found).contiguous(memory_format=layout).unflatten(1, x.shape[1:3])
    if want_grad_weight:
        found = gradients.conv2d_weight(images, kernel.shape, d, *geometry).view(form.shape)
        grad_weight = gradient_of(weight, planes.weight_of(found) if wide_x.is_complex() else found).contiguous()
    return grad_x, grad_weight
