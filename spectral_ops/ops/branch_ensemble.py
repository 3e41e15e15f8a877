"""branch_ensemble: the weighted sum of the branches' outputs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import checks
from .activations import narrow, wide


def check(logits: Tensor, weights: Tensor, space: str = "probabilities", op: str = "branch_ensemble") -> torch.dtype:
    """Checks the arguments for `op`; returns the dtype of the output."""
    if logits.dim() != 3:
        raise checks.wrong_shape(op, "logits", logits, "(Q, N, C)")
    if weights.dim() != 1 or weights.shape[0] != logits.shape[0]:
        raise checks.wrong_shape(op, "weights", weights, f"(Q,) with Q = {logits.shape[0]} as in logits")
    checks.space(op, space)
    dtype = checks.numbers(op, logits=logits).to_real()
    checks.exactly(op, dtype, logits, weights=weights)
    return dtype


def empty(logits: Tensor, weights: Tensor, space: str = "probabilities") -> Tensor:
    dtype = check(logits, weights, space)
    return logits.new_empty(logits.shape[1], logits.shape[2], dtype=dtype)


def reference(logits: Tensor, weights: Tensor, space: str = "probabilities") -> Tensor:
    """y[n] = sum_q weights[q] softmax(logits[q, n]) (eq. 18), or sum_q weights[q] logits[q, n] in space "logits".

    Args:
        logits: (Q, N, C), floating point or complex: of complex logits the real part is taken.
        weights: (Q,), real; eq. (18) wants them >= 0 with sum 1, the op does not.
        space: "probabilities" or "logits".

    Returns: (N, C), contiguous, real, dtype of logits (half accumulates in float32).
    Raises: ValueError for shapes and names, TypeError for dtypes and devices.
    Accuracy: |error| <= 8 eps sum_q |weights[q]| in probabilities, `tests/test_backends.py`.
    Gradient: to both arguments, any order. Deterministic: bitwise, for any number of threads.
    Source: Liu et al., Highly Parallel Deep Ensemble Learning, eq. (18).
    """
    return narrow(mixture(wide(logits), weights, space), logits).contiguous()


def mixture(logits: Tensor, weights: Tensor, space: str) -> Tensor:
    """The weighted sum without the final rounding."""
    logits = logits.real if logits.is_complex() else logits
    branches = torch.softmax(logits, -1) if space == "probabilities" else logits
    return (branches * wide(weights)[:, None, None]).sum(0)


def cpp(args: list[Any], out: Tensor) -> None:
    logits, weights, space = args
    torch.ops.spectral_native.branch_ensemble(logits, weights, space == "probabilities", out)


def backward(args: list[Any], grads: Any, needs: list[Any]) -> list[Any]:
    logits, weights, space = args
    return [*torch.ops.spectral.branch_ensemble_backward(grads[0], logits, weights, space), None]
