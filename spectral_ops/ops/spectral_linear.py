"""spectral_linear: transform, one layer of every branch, inverse transform, in one kernel."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..op import lower, run_below_autograd
from . import checks
from .activations import apply, code, narrow, offset, through, together
from .branch_linear import layer
from .from_branches import inverse_gradient, y_gradient
from .spectral_mlp import input_gradients

TOLD = ("none", "relu", "tanh", "sigmoid", "crelu", "zrelu")  # output activations whose derivative the result y tells


def check(
    x: Tensor,
    transform: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    activation: str,
    inverse: Tensor,
    output_activation: str = "none",
    op: str = "spectral_linear",
) -> torch.dtype:
    """Checks the arguments for `op`; returns the dtype of the result."""
    q, _, i = checks.branches(op, x, transform)
    if weight.dim() != 3 or weight.shape[0] != q or weight.shape[2] != i:
        must = f"(Q', O, I) with Q' = {q} as in transform and I = {i} as in x"
        raise checks.wrong_shape(op, "weight", weight, must)
    if bias is not None and (bias.dim() != 2 or bias.shape[0] != q or bias.shape[1] != weight.shape[1]):
        raise checks.wrong_shape(op, "bias", bias, f"(Q', O) with Q' = {q} and O = {weight.shape[1]} as in weight")
    if inverse.dim() != 2 or inverse.shape[0] != x.shape[2] or inverse.shape[1] != q:
        must = f"(Q, Q') with Q = {x.shape[2]} as in x and Q' = {q} as in transform"
        raise checks.wrong_shape(op, "inverse", inverse, must)
    dtype = checks.numbers(op, x=x, transform=transform, weight=weight, bias=bias, inverse=inverse)
    checks.activation(op, "activation", activation, dtype.is_complex)
    dtype = dtype.to_real() if checks.half_spectrum(inverse) else dtype
    checks.activation(op, "output_activation", output_activation, dtype.is_complex)
    return dtype


def empty(*args: Any) -> Tensor:
    x, _, weight, _, _, inverse, _ = args
    dtype = check(*args)
    return x.new_empty(x.shape[0], weight.shape[1], inverse.shape[0], dtype=dtype)


def reference(
    x: Tensor,
    transform: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    activation: str,
    inverse: Tensor,
    output_activation: str = "none",
) -> Tensor:
    """y = output_activation(inverse . activation(weight . (transform . x) + bias)): eq. (8) with (10).

    The products with transform and inverse run along the tube dimension; weight and bias act in each branch. With
    activation "none" and an output activation it is the layer of the tNN (Newman et al. 2018).
    A complex inverse with Q' < Q belongs to the half spectrum of real data: the real part of its product is taken.

    Args:
        x: (N, I, Q), floating point or complex. transform: (Q', Q). weight: (Q', O, I). bias: (Q', O) or None.
        activation: in the spectral domain. inverse: (Q, Q'). output_activation: in the original domain.
        With float32 and float64 any tensor may be complex; then the branches are. Each activation is one for what it
        acts on, see `branch_linear`.

    Returns: (N, O, Q), contiguous, dtype of x (half accumulates in float32); complex where an argument is, unless the
        real part was taken.
    Raises: ValueError for shapes and names, TypeError for dtypes and devices.
    Accuracy: no worse than twice the composition of its three stages, `tests/test_backends.py` and
        `tests/test_complex.py`.
    Gradient: to every tensor, any order. Deterministic: bitwise, for any number of threads.
    Source: Liu et al., Highly Parallel Deep Ensemble Learning, eq. (8), (10).
    """
    wide_x, matrix, wide_weight, wide_bias, back = together(x, transform, weight, bias, inverse)
    h = layer((wide_x @ matrix.mT).permute(2, 0, 1), wide_weight, wide_bias, activation)
    z = h.permute(1, 2, 0) @ back.mT
    y = apply(output_activation, z.real if checks.half_spectrum(inverse) else z)
    return narrow(y, x).contiguous()


def cpp_why_not(
    x: Tensor,
    transform: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    activation: str,
    inverse: Tensor,
    output_activation: str = "none",
) -> str | None:
    i, o = x.shape[1], weight.shape[1]
    return checks.too_wide(i, o) or checks.too_large((i + o) * (x.shape[2] + transform.shape[0]))


def cuda_why_not(x: Tensor, transform: Tensor, weight: Tensor, *_: Any) -> str | None:
    return checks.network_on_gpu(x, transform, [weight])


def cpp(args: list[Any], out: Tensor) -> None:
    x, transform, weight, bias, activation, inverse, output_activation = args
    torch.ops.spectral_native.spectral_linear(
        x, transform, weight, bias, code(activation), offset(activation), inverse, code(output_activation),
        offset(output_activation), out,
    )  # fmt: skip


def forward_for_grad(args: list[Any], needs: list[Any], direct: bool) -> tuple[Tensor, list[Tensor]]:
    y = run_below_autograd("spectral_linear", direct, *args)
    return y, [y]


def backward(args: list[Any], grads: Any, needs: list[Any], kept: list[Tensor]) -> list[Any]:
    x, transform, weight, bias, activation, inverse, output_activation = args
    (grad,), (y,) = grads, kept
    ops = torch.ops.spectral
    is_complex = y.is_complex() or inverse.is_complex()
    fused = not is_complex or x.is_cpu  # CUDA C++ has it for real numbers only
    if fused and not (needs[1] or needs[5]) and output_activation in TOLD:
        grad_x, grad_weight, grad_bias = ops.spectral_linear_backward(
            grad, x, y, transform, weight, bias, activation, inverse, output_activation, needs[0]
        )
        return [grad_x if needs[0] else None, None, grad_weight, grad_bias, None, None, None]
    # gradients of the matrices, of an output activation that y does not tell, complex ones on a GPU: stage by stage
    branches = ops.to_branches(x, transform)
    if y.is_complex() or inverse.is_complex():  # then so are the branches, if only because of the inverse
        branches = branches.to(branches.dtype.to_complex())
    h = ops.branch_linear(branches, weight, bias, activation)
    if output_activation != "none":
        z = ops.from_branches(h, inverse)
        grad = through(output_activation, grad, z, apply(output_activation, z))
    grad_branches, (grad_weight,), grad_biases = ops.branch_mlp_backward(
        y_gradient(grad, inverse, h), branches, [weight], [bias], [activation], needs[0] or needs[1]
    )
    return [
        *input_gradients(x, transform, grad_branches, needs),
        grad_weight,
        grad_biases[0] if grad_biases else None,
        None,
        inverse_gradient(grad, h, inverse) if needs[5] else None,
        None,
    ]


def autocast(args: list[Any], dtype: torch.dtype) -> Tensor:
    x, transform, weight, bias, activation, inverse, output_activation = args
    ops = torch.ops.spectral
    branches = ops.to_branches(lower(x, torch.float32), lower(transform, torch.float32))
    h = ops.branch_linear(lower(branches, dtype), lower(weight, dtype), lower(bias, dtype), activation)
    return apply(output_activation, ops.from_branches(lower(h, torch.float32), lower(inverse, torch.float32)))
