"""spectral_linear_backward: the gradients of `spectral_linear` to its input, weight and bias, in one kernel."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import checks, spectral_linear
from .activations import code, conj, dense_like, gradient_of, offset, through, together, wide
from .branch_mlp_backward import reference as branch_gradients

OP = "spectral_linear_backward"


def check(
    grad_y: Tensor,
    x: Tensor,
    y: Tensor,
    transform: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    activation: str,
    inverse: Tensor,
    output_activation: str = "none",
    want_grad_x: bool = True,
) -> None:
    dtype = spectral_linear.check(x, transform, weight, bias, activation, inverse, output_activation, OP)
    n, o, q = x.shape[0], weight.shape[1], x.shape[2]
    for name, t in (("grad_y", grad_y), ("y", y)):
        if t.dim() != 3 or t.shape[0] != n or t.shape[1] != o or t.shape[2] != q:
            raise checks.wrong_shape(OP, name, t, f"(N, O, Q) with N = {n}, O = {o} and Q = {q}")
    if output_activation not in spectral_linear.TOLD:
        must = f"one of {', '.join(spectral_linear.TOLD)}, whose derivatives y tells"
        raise ValueError(f"{OP}: output_activation must be {must}, got {output_activation!r}")
    checks.exactly(OP, dtype, x, grad_y=grad_y, y=y)


def empty(*args: Any) -> tuple[Tensor, Tensor, Tensor]:
    _, x, _, _, weight, bias, *_, want_grad_x = args
    check(*args)
    grad_x = dense_like(x) if want_grad_x else x.new_empty(0)
    return grad_x, dense_like(weight), x.new_empty(0) if bias is None else dense_like(bias)


def reference(
    grad_y: Tensor,
    x: Tensor,
    y: Tensor,
    transform: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    activation: str,
    inverse: Tensor,
    output_activation: str = "none",
    want_grad_x: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    """The vector-Jacobian product of `y = spectral_linear(x, ...)`, through the adjoints of both transforms.

    Args:
        grad_y, y: (N, O, Q); y is the result of the forward pass, which tells the derivative of output_activation.
        want_grad_x: when False the first result is empty, and its transform is saved. The rest: as `spectral_linear`.

    Returns: grad x (N, I, Q), grad weight (Q', O, I), grad bias (Q', O) (empty where bias is None), each in the dtype
        of its argument.
    Raises: ValueError for shapes and names (output_activation gelu, silu, modrelu and cardioid too), TypeError for
        dtypes and devices.
    Accuracy: `tests/test_backends.py`. Gradient: to every tensor, by differentiating this form.
    Deterministic: bitwise, for any number of threads (sums over fixed blocks of samples).
    """
    h = wide(y)
    grad = through(output_activation, wide(grad_y), h, h)
    grad, wide_x, matrix, wide_weight, wide_bias, back = together(grad, x, transform, weight, bias, inverse)
    branches = (wide_x @ matrix.mT).permute(2, 0, 1)
    grad_branches, (grad_weight,), grad_biases = branch_gradients(
        (grad @ conj(back)).permute(2, 0, 1), branches, [wide_weight], [wide_bias], [activation], want_grad_x
    )
    grad_x = grad_branches.permute(1, 2, 0) @ conj(matrix) if want_grad_x else grad_branches
    return (
        gradient_of(x, grad_x).contiguous(),
        gradient_of(weight, grad_weight).contiguous(),
        x.new_empty(0) if bias is None else gradient_of(bias, grad_biases[0]).contiguous(),
    )


def cpp_why_not(
    grad_y: Tensor,
    x: Tensor,
    y: Tensor,
    transform: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    activation: str,
    inverse: Tensor,
    output_activation: str = "none",
    want_grad_x: bool = True,
) -> str | None:
    return spectral_linear.cpp_why_not(x, transform, weight, bias, activation, inverse, output_activation)


def cuda_why_not(grad_y: Tensor, x: Tensor, y: Tensor, transform: Tensor, weight: Tensor, *rest: Any) -> str | None:
    if any(t.is_complex() for t in (grad_y, x, transform, weight, *rest) if isinstance(t, Tensor)):
        return "the CUDA kernel is for real numbers"
    return checks.network_on_gpu(x, transform, [weight])


def cpp(args: list[Any], out: list[Tensor]) -> None:
    grad_y, x, y, transform, weight, bias, activation, inverse, output_activation, want_grad_x = args
    grad_x, grad_weight, grad_bias = out
    torch.ops.spectral_native.spectral_linear_backward(
        grad_y, x, y, transform, weight, bias, code(activation), offset(activation), inverse, code(output_activation),
        grad_x if want_grad_x else None, grad_weight, None if bias is None else grad_bias,
    )  # fmt: skip
