"""branch_linear: one layer of every branch, activation included."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import checks
from .activations import apply, code, offset, wide


def check(x: Tensor, weight: Tensor, bias: Tensor | None = None, activation: str = "none") -> None:
    op = "branch_linear"
    if x.dim() != 3:
        raise checks.wrong_shape(op, "x", x, "(Q, N, I)")
    q, _, i = x.shape
    if weight.dim() != 3 or weight.shape[0] != q or weight.shape[2] != i:
        raise checks.wrong_shape(op, "weight", weight, f"(Q, O, I) with Q = {q} and I = {i} as in x")
    if bias is not None and (bias.dim() != 2 or bias.shape[0] != q or bias.shape[1] != weight.shape[1]):
        raise checks.wrong_shape(op, "bias", bias, f"(Q, O) with Q = {q} and O = {weight.shape[1]} as in weight")
    checks.activation(op, "activation", activation)
    checks.real(op, x=x, weight=weight, bias=bias)


def empty(x: Tensor, weight: Tensor, bias: Tensor | None = None, activation: str = "none") -> Tensor:
    check(x, weight, bias, activation)
    return x.new_empty(x.shape[0], x.shape[1], weight.shape[1])


def reference(x: Tensor, weight: Tensor, bias: Tensor | None = None, activation: str = "none") -> Tensor:
    """y[q] = activation(x[q] weight[q]^T + bias[q]) (eq. 11).

    Args:
        x: (Q, N, I), real floating point.
        weight: (Q, O, I). bias: (Q, O) or None.
        activation: none, relu, gelu (exact, with erf), silu, tanh or sigmoid.

    Returns: (Q, N, O), contiguous, dtype of x (half accumulates in float32).
    Raises: ValueError for shapes and names, TypeError for dtypes and devices.
    Accuracy: |error| <= 4 eps sqrt(I) (|x| @ |weight|^T + |bias|), `tests/test_backends.py`.
    Gradient: to x, weight and bias, any order. Deterministic: bitwise, for any number of threads.
    Source: Liu et al., Highly Parallel Deep Ensemble Learning, eq. (11).
    """
    return layer(wide(x), weight, bias, activation).to(x.dtype).contiguous()


def layer(x: Tensor, weight: Tensor, bias: Tensor | None, activation: str) -> Tensor:
    """The layer without the final rounding: x (Q, N, I) stays in the accumulation dtype."""
    y = x @ wide(weight).mT
    return apply(activation, y if bias is None else y + wide(bias).unsqueeze(1))


def cpp_why_not(x: Tensor, weight: Tensor, bias: Tensor | None, activation: str) -> str | None:
    return checks.too_wide(x.shape[2], weight.shape[1])


def cpp(args: list[Any], out: Tensor) -> None:
    x, weight, bias, activation = args
    torch.ops.spectral_native.branch_linear(x, weight, bias, code(activation), offset(activation), out)


def backward(args: list[Any], grads: Any, needs: list[Any]) -> list[Any]:
    (x, weight, bias, activation), (grad,) = args, grads
    grad_x, grad_weights, grad_biases = torch.ops.spectral.branch_mlp_backward(
        grad, x, [weight], [bias], [activation], needs[0]
    )
    return [grad_x if needs[0] else None, grad_weights[0], grad_biases[0] if grad_biases else None, None]
