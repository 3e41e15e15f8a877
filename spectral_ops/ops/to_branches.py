"""to_branches: the transform along the tube dimension, and the step into branch-major layout, in one pass."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import checks
from .activations import gradient_of, narrow, together


def check(x: Tensor, transform: Tensor) -> torch.dtype:
    """Checks the arguments; returns the dtype of the result."""
    checks.branches("to_branches", x, transform)
    return checks.numbers("to_branches", x=x, transform=transform)


def empty(x: Tensor, transform: Tensor) -> Tensor:
    dtype = check(x, transform)
    return x.new_empty(transform.shape[0], x.shape[0], x.shape[1], dtype=dtype)


def reference(x: Tensor, transform: Tensor) -> Tensor:
    """y[p, n, i] = sum_q transform[p, q] x[n, i, q] (eq. 11, the left side's tilde).

    Args:
        x: (N, I, Q), floating point or complex; q counts samples along the tube.
        transform: (Q', Q), real or complex; p counts frequencies.

    Returns: (Q', N, I), contiguous, dtype of x (half accumulates in float32), complex where an argument is.
    Raises: ValueError for shapes, TypeError for dtypes and devices.
    Accuracy: |error| <= 4 eps sqrt(Q) (|transform| @ |x|), of complex numbers sqrt(2Q), `tests/test_backends.py`
        and `tests/test_complex.py`.
    Gradient: to both arguments, any order. Deterministic: bitwise, for any number of threads.
    Source: Liu et al., Highly Parallel Deep Ensemble Learning, eq. (11).
    """
    wide_x, matrix = together(x, transform)
    return narrow((wide_x @ matrix.mT).permute(2, 0, 1), x).contiguous()


def cpp_why_not(x: Tensor, transform: Tensor) -> str | None:
    return checks.too_large(x.shape[1] * (x.shape[2] + transform.shape[0]))


def cuda_why_not(x: Tensor, transform: Tensor) -> str | None:
    return checks.too_wide_for_gpu(transform.shape, x, transform)


def cpp(args: list[Any], out: Tensor) -> None:
    torch.ops.spectral_native.to_branches(*args, out)


def backward(args: list[Any], grads: Any, needs: list[Any]) -> list[Any]:
    (x, transform), (grad,) = args, grads
    return [
        x_gradient(grad, transform, x) if needs[0] else None,
        transform_gradient(grad, x, transform) if needs[1] else None,
    ]


def x_gradient(grad_branches: Tensor, transform: Tensor, x: Tensor) -> Tensor:
    """The gradient of x, (N, I, Q), in its dtype: conj(transform)^T . grad, and of a real x the real part."""
    adjoint = transform.mH
    grad = torch.ops.spectral.from_branches(grad_branches, adjoint)
    if x.is_complex() and not grad.is_complex():  # the adjoint was taken for the inverse of a half spectrum
        grad = torch.complex(grad, torch.ops.spectral.from_branches(-1j * grad_branches, adjoint))
    return gradient_of(x, grad).contiguous()


def transform_gradient(grad_branches: Tensor, x: Tensor, matrix: Tensor) -> Tensor:
    """The gradient of the transform `matrix`, (Q', Q): sum over n, i of grad[p, n, i] conj(x[n, i, q]).

    That is the weight gradient of one linear layer over N * I samples, and is taken from the op that sums in an order
    of its own, for the same bits with any number of threads; the weight of that layer does not enter.
    """
    p, q = grad_branches.shape[0], x.shape[-1]
    grad = grad_branches.permute(1, 2, 0).reshape(1, -1, p)
    weight = torch.zeros(1, p, q, dtype=matrix.dtype, device=x.device)  # its dtype is that of the gradient
    _, (gradient,), _ = torch.ops.spectral.branch_mlp_backward(
        grad, x.reshape(1, -1, q), [weight], [None], ["none"], False
    )
    return gradient[0]
