"""branch_linear: one layer of every branch, activation included."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import checks
from .activations import apply, code, narrow, offset, together

TRACED_BEYOND = checks.WIDEST  # features, where a gradient is wanted: see `op.py`


def check(x: Tensor, weight: Tensor, bias: Tensor | None = None, activation: str = "none") -> torch.dtype:
    """Checks the arguments; returns the dtype of the branches."""
    op = "branch_linear"
    if x.dim() != 3:
        raise checks.wrong_shape(op, "x", x, "(Q, N, I)")
    q, _, i = x.shape
    if weight.dim() != 3 or weight.shape[0] != q or weight.shape[2] != i:
        raise checks.wrong_shape(op, "weight", weight, f"(Q, O, I) with Q = {q} and I = {i} as in x")
    if bias is not None and (bias.dim() != 2 or bias.shape[0] != q or bias.shape[1] != weight.shape[1]):
        raise checks.wrong_shape(op, "bias", bias, f"(Q, O) with Q = {q} and O = {weight.shape[1]} as in weight")
    dtype = checks.numbers(op, x=x, weight=weight, bias=bias)
    checks.activation(op, "activation", activation, dtype.is_complex)
    return dtype


def empty(x: Tensor, weight: Tensor, bias: Tensor | None = None, activation: str = "none") -> Tensor:
    dtype = check(x, weight, bias, activation)
    return x.new_empty(x.shape[0], x.shape[1], weight.shape[1], dtype=dtype)


def reference(x: Tensor, weight: Tensor, bias: Tensor | None = None, activation: str = "none") -> Tensor:
    """y[q] = activation(x[q] weight[q]^T + bias[q]) (eq. 11).

    Args:
        x: (Q, N, I), floating point or complex; with float32 and float64, any of the arguments may be complex.
        weight: (Q, O, I). bias: (Q, O) or None.
        activation: none, relu, gelu (exact, with erf), silu, tanh or sigmoid; of complex branches (where an argument is
            complex) none, crelu, modrelu, modrelu:B, zrelu or cardioid, see `spectral_ops/ops/activations.py`.

    Returns: (Q, N, O), contiguous, dtype of x (half accumulates in float32), complex where an argument is.
    Raises: ValueError for shapes and names, TypeError for dtypes and devices.
    Accuracy: |error| <= 4 eps sqrt(I) (|x| @ |weight|^T + |bias|), `tests/test_backends.py`; of complex
        numbers sqrt(2 I), before the activation, `tests/test_complex.py`.
    Gradient: to x, weight and bias, any order. Deterministic: bitwise, for any number of threads.
    Source: Liu et al., Highly Parallel Deep Ensemble Learning, eq. (11).
    """
    wide_x, wide_weight, wide_bias = together(x, weight, bias)
    return narrow(layer(wide_x, wide_weight, wide_bias, activation), x).contiguous()


def layer(x: Tensor, weight: Tensor, bias: Tensor | None, activation: str) -> Tensor:
    """The layer without the final rounding, of tensors that are in one dtype, that of accumulation."""
    y = x @ weight.mT
    return apply(activation, y if bias is None else y + bias.unsqueeze(1))


def cpp_why_not(x: Tensor, weight: Tensor, bias: Tensor | None, activation: str) -> str | None:
    return checks.too_wide(x.shape[2], weight.shape[1])


def cuda_why_not(x: Tensor, weight: Tensor, bias: Tensor | None, activation: str) -> str | None:
    return checks.network_on_gpu(x, None, [weight])


def cpp(args: list[Any], out: Tensor) -> None:
    x, weight, bias, activation = args
    torch.ops.spectral_native.branch_linear(x, weight, bias, code(activation), offset(activation), out)


def backward(args: list[Any], grads: Any, needs: list[Any]) -> list[Any]:
    (x, weight, bias, activation), (grad,) = args, grads
    grad_x, grad_weights, grad_biases = torch.ops.spectral.branch_mlp_backward(
        grad, x, [weight], [bias], [activation], needs[0]
    )
    return [grad_x if needs[0] else None, grad_weights[0], grad_biases[0] if grad_biases else None, None]
