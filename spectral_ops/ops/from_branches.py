"""from_branches: out of branch-major layout, with the inverse transform, in one pass."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import checks
from .activations import gradient_of, narrow, together
from .to_branches import transform_gradient


def check(y: Tensor, inverse: Tensor) -> torch.dtype:
    """Checks the arguments; returns the dtype of the result."""
    if y.dim() != 3:
        raise checks.wrong_shape("from_branches", "y", y, "(Q', N, I)")
    if inverse.dim() != 2 or inverse.shape[1] != y.shape[0]:
        raise checks.wrong_shape("from_branches", "inverse", inverse, f"(Q, Q') with Q' = {y.shape[0]} as in y")
    dtype = checks.numbers("from_branches", y=y, inverse=inverse)
    return dtype.to_real() if checks.half_spectrum(inverse) else dtype


def empty(y: Tensor, inverse: Tensor) -> Tensor:
    dtype = check(y, inverse)
    return y.new_empty(y.shape[1], y.shape[2], inverse.shape[0], dtype=dtype)


def reference(y: Tensor, inverse: Tensor) -> Tensor:
    """x[n, i, q] = sum_p inverse[q, p] y[p, n, i] (eq. 10, the outer inverse transform).

    A complex inverse with Q' < Q belongs to the half spectrum of real data: then x is the real part of that sum.

    Args:
        y: (Q', N, I), floating point or complex; p counts frequencies.
        inverse: (Q, Q'), real or complex.

    Returns: (N, I, Q), contiguous, dtype of y (half accumulates in float32); complex where an argument is, unless it is
        that real part.
    Raises: ValueError for shapes, TypeError for dtypes and devices.
    Accuracy: |error| <= 4 eps sqrt(Q') (|inverse| @ |y|), of complex numbers sqrt(2Q'), `tests/test_backends.py` and
        `tests/test_complex.py`.
    Gradient: to both arguments, any order. Deterministic: bitwise, for any number of threads.
    Source: Liu et al., Highly Parallel Deep Ensemble Learning, eq. (10).
    """
    branches, matrix = together(y, inverse)
    x = branches.permute(1, 2, 0) @ matrix.mT
    return narrow(x.real if checks.half_spectrum(inverse) else x, y).contiguous()


def cpp_why_not(y: Tensor, inverse: Tensor) -> str | None:
    return checks.too_large(y.shape[2] * (y.shape[0] + inverse.shape[0]))


def cuda_why_not(y: Tensor, inverse: Tensor) -> str | None:
    return checks.too_wide_for_gpu(inverse.shape, y, inverse)


def cpp(args: list[Any], out: Tensor) -> None:
    torch.ops.spectral_native.from_branches(*args, out)


def backward(args: list[Any], grads: Any, needs: list[Any]) -> list[Any]:
    (y, inverse), (grad,) = args, grads
    return [
        y_gradient(grad, inverse, y) if needs[0] else None,
        inverse_gradient(grad, y, inverse) if needs[1] else None,
    ]


def y_gradient(grad: Tensor, inverse: Tensor, y: Tensor) -> Tensor:
    """The gradient of the branches y, (Q', N, I), in their dtype, from that of x."""
    return gradient_of(y, torch.ops.spectral.to_branches(grad, inverse.mH)).contiguous()


def inverse_gradient(grad: Tensor, y: Tensor, inverse: Tensor) -> Tensor:
    """The gradient of the inverse matrix, (Q, Q'): sum over n, i of grad[n, i, q] conj(y[p, n, i])."""
    return transform_gradient(y, grad, inverse).mH.resolve_conj()
