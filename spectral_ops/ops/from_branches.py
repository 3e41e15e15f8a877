"""from_branches: out of branch-major layout, with the inverse transform, in one pass."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import checks
from .activations import wide
from .to_branches import transform_gradient


def check(y: Tensor, inverse: Tensor) -> None:
    if y.dim() != 3:
        raise checks.wrong_shape("from_branches", "y", y, "(Q', N, I)")
    if inverse.dim() != 2 or inverse.shape[1] != y.shape[0]:
        raise checks.wrong_shape("from_branches", "inverse", inverse, f"(Q, Q') with Q' = {y.shape[0]} as in y")
    checks.real("from_branches", y=y, inverse=inverse)


def empty(y: Tensor, inverse: Tensor) -> Tensor:
    check(y, inverse)
    return y.new_empty(y.shape[1], y.shape[2], inverse.shape[0])


def reference(y: Tensor, inverse: Tensor) -> Tensor:
    """x[n, i, q] = sum_p inverse[q, p] y[p, n, i] (eq. 10, the outer inverse transform).

    Args:
        y: (Q', N, I), real floating point; p counts frequencies.
        inverse: (Q, Q').

    Returns: (N, I, Q), contiguous, dtype of y (half accumulates in float32).
    Raises: ValueError for shapes, TypeError for dtypes and devices.
    Accuracy: |error| <= 4 eps sqrt(Q') (|inverse| @ |y|), `tests/test_backends.py`.
    Gradient: to both arguments, any order. Deterministic: bitwise, for any number of threads.
    Source: Liu et al., Highly Parallel Deep Ensemble Learning, eq. (10).
    """
    return (wide(y).permute(1, 2, 0) @ wide(inverse).mT).to(y.dtype).contiguous()


def cpp_why_not(y: Tensor, inverse: Tensor) -> str | None:
    return checks.too_large(y.shape[2] * (y.shape[0] + inverse.shape[0]))


def cpp(args: list[Any], out: Tensor) -> None:
    torch.ops.spectral_native.from_branches(*args, out)


def backward(args: list[Any], grads: Any, needs: list[Any]) -> list[Any]:
    (y, inverse), (grad,) = args, grads
    return [
        torch.ops.spectral.to_branches(grad, inverse.mT) if needs[0] else None,
        transform_gradient(y, grad).mT if needs[1] else None,
    ]
