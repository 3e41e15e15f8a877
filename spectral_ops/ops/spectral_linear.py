"""spectral_linear: transform, one layer of every branch, inverse transform, in one kernel."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..op import lower, run_below_autograd
from . import checks
from .activations import apply, code, offset, wide
from .branch_linear import layer
from .branch_mlp_backward import through
from .spectral_mlp import input_gradients
from .to_branches import transform_gradient


def check(
    x: Tensor,
    transform: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    activation: str,
    inverse: Tensor,
    output_activation: str = "none",
    op: str = "spectral_linear",
) -> None:
    q, _, i = checks.branches(op, x, transform)
    if weight.dim() != 3 or weight.shape[0] != q or weight.shape[2] != i:
        must = f"(Q', O, I) with Q' = {q} as in transform and I = {i} as in x"
        raise checks.wrong_shape(op, "weight", weight, must)
    if bias is not None and (bias.dim() != 2 or bias.shape[0] != q or bias.shape[1] != weight.shape[1]):
        raise checks.wrong_shape(op, "bias", bias, f"(Q', O) with Q' = {q} and O = {weight.shape[1]} as in weight")
    if inverse.dim() != 2 or inverse.shape[0] != x.shape[2] or inverse.shape[1] != q:
        must = f"(Q, Q') with Q = {x.shape[2]} as in x and Q' = {q} as in transform"
        raise checks.wrong_shape(op, "inverse", inverse, must)
    checks.activation(op, "activation", activation)
    checks.activation(op, "output_activation", output_activation)
    checks.real(op, x=x, transform=transform, weight=weight, bias=bias, inverse=inverse)


def empty(
    x: Tensor,
    transform: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    activation: str,
    inverse: Tensor,
    output_activation: str = "none",
) -> Tensor:
    check(x, transform, weight, bias, activation, inverse, output_activation)
    return x.new_empty(x.shape[0], weight.shape[1], inverse.shape[0])


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

    Args:
        x: (N, I, Q), real floating point. transform: (Q', Q). weight: (Q', O, I). bias: (Q', O) or None.
        activation: in the spectral domain. inverse: (Q, Q'). output_activation: in the original domain.

    Returns: (N, O, Q), contiguous, dtype of x (half accumulates in float32).
    Raises: ValueError for shapes and names, TypeError for dtypes and devices.
    Accuracy: no worse than twice the composition of its three stages, `tests/test_backends.py`.
    Gradient: to every tensor, any order. Deterministic: bitwise, for any number of threads.
    Source: Liu et al., Highly Parallel Deep Ensemble Learning, eq. (8), (10).
    """
    h = layer((wide(x) @ wide(transform).mT).permute(2, 0, 1), weight, bias, activation)
    return apply(output_activation, h.permute(1, 2, 0) @ wide(inverse).mT).to(x.dtype).contiguous()


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
    if not (needs[1] or needs[5] or output_activation in ("gelu", "silu")):
        grad_x, grad_weight, grad_bias = ops.spectral_linear_backward(
            grad, x, y, transform, weight, bias, activation, inverse, output_activation, needs[0]
        )
        return [grad_x if needs[0] else None, None, grad_weight, grad_bias, None, None, None]
    # gradients of the matrices, or of an output activation that y does not tell: stage by stage
    branches = ops.to_branches(x, transform)
    h = ops.branch_linear(branches, weight, bias, activation)
    if output_activation != "none":
        z = ops.from_branches(h, inverse)
        grad = through(output_activation, grad, z, apply(output_activation, z))
    grad_h = ops.to_branches(grad, inverse.mT)
    grad_branches, (grad_weight,), grad_biases = ops.branch_mlp_backward(
        grad_h, branches, [weight], [bias], [activation], needs[0] or needs[1]
    )
    return [
        *input_gradients(x, transform, grad_branches, needs),
        grad_weight,
        grad_biases[0] if grad_biases else None,
        None,
        transform_gradient(h, grad).mT if needs[5] else None,
        None,
    ]


def autocast(args: list[Any], dtype: torch.dtype) -> Tensor:
    x, transform, weight, bias, activation, inverse, output_activation = args
    ops = torch.ops.spectral
    branches = ops.to_branches(lower(x, torch.float32), lower(transform, torch.float32))
    h = ops.branch_linear(lower(branches, dtype), lower(weight, dtype), lower(bias, dtype), activation)
    return apply(output_activation, ops.from_branches(lower(h, torch.float32), lower(inverse, torch.float32)))
