"""to_branches: the transform along the tube dimension, and the step into branch-major layout, in one pass."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import checks
from .activations import wide


def check(x: Tensor, transform: Tensor) -> None:
    checks.branches("to_branches", x, transform)
    checks.real("to_branches", x=x, transform=transform)


def empty(x: Tensor, transform: Tensor) -> Tensor:
    check(x, transform)
    return x.new_empty(transform.shape[0], x.shape[0], x.shape[1])


def reference(x: Tensor, transform: Tensor) -> Tensor:
    """y[p, n, i] = sum_q transform[p, q] x[n, i, q] (eq. 11, the left side's tilde).

    Args:
        x: (N, I, Q), real floating point; q counts samples along the tube.
        transform: (Q', Q); p counts frequencies.

    Returns: (Q', N, I), contiguous, dtype of x (half accumulates in float32).
    Raises: ValueError for shapes, TypeError for dtypes and devices.
    Accuracy: |error| <= 4 eps sqrt(Q) (|transform| @ |x|), `tests/test_reference.py` and `test_backends.py`.
    Gradient: to both arguments, any order. Deterministic: bitwise, for any number of threads.
    Source: Liu et al., Highly Parallel Deep Ensemble Learning, eq. (11).
    """
    return (wide(x) @ wide(transform).mT).permute(2, 0, 1).to(x.dtype).contiguous()


def cpp_why_not(x: Tensor, transform: Tensor) -> str | None:
    return checks.too_large(x.shape[1] * (x.shape[2] + transform.shape[0]))


def cpp(args: list[Any], out: Tensor) -> None:
    torch.ops.spectral_native.to_branches(*args, out)


def backward(args: list[Any], grads: Any, needs: list[Any]) -> list[Any]:
    (x, transform), (grad,) = args, grads
    return [
        torch.ops.spectral.from_branches(grad, transform.mT) if needs[0] else None,
        transform_gradient(grad, x) if needs[1] else None,
    ]


def transform_gradient(grad_branches: Tensor, x: Tensor) -> Tensor:
    """The gradient of the transform matrix, (Q', Q): sum over n, i of grad[p, n, i] x[n, i, q].

    That is the weight gradient of one linear layer over N * I samples, and is taken from the op that sums in an order
    of its own, for the same bits with any number of threads; the weight of that layer does not enter.
    """
    p, q = grad_branches.shape[0], x.shape[-1]
    grad = grad_branches.permute(1, 2, 0).reshape(1, -1, p)
    _, (gradient,), _ = torch.ops.spectral.branch_mlp_backward(
        grad, x.reshape(1, -1, q), [x.new_zeros(1, p, q)], [None], ["none"], False
    )
    return gradient[0]
