"""branch_ensemble_backward: the gradients of `branch_ensemble`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import branch_ensemble, checks
from .activations import gradient_of, wide


def check(grad_y: Tensor, logits: Tensor, weights: Tensor, space: str = "probabilities") -> None:
    op = "branch_ensemble_backward"
    dtype = branch_ensemble.check(logits, weights, space, op)
    n, c = logits.shape[1:]
    if grad_y.dim() != 2 or grad_y.shape[0] != n or grad_y.shape[1] != c:
        raise checks.wrong_shape(op, "grad_y", grad_y, f"(N, C) with N = {n} and C = {c} as in logits")
    checks.exactly(op, dtype, logits, grad_y=grad_y)


def empty(grad_y: Tensor, logits: Tensor, weights: Tensor, space: str = "probabilities") -> tuple[Tensor, Tensor]:
    check(grad_y, logits, weights, space)
    return logits.new_empty(logits.shape), weights.new_empty(weights.shape)


def reference(grad_y: Tensor, logits: Tensor, weights: Tensor, space: str = "probabilities") -> tuple[Tensor, Tensor]:
    """With p_q = softmax(logits[q]) and s_q = <grad_y, p_q> per sample:

    grad logits[q] = weights[q] p_q (grad_y - s_q), grad weights[q] = sum_n s_q[n]
    (space "logits": weights[q] grad_y, and sum_n <grad_y, logits[q]>). Of complex logits all that is real, as the
    output is.

    Args:
        grad_y: (N, C). logits: (Q, N, C). weights: (Q,).

    Returns: (Q, N, C) and (Q,). Raises: ValueError for shapes and names, TypeError for dtypes and devices.
    Accuracy: `tests/test_backends.py`. Gradient: to every tensor, by differentiating this form. Deterministic.
    """
    grad, z, w = wide(grad_y), wide(logits.real if logits.is_complex() else logits), wide(weights)[:, None, None]
    if space == "probabilities":
        p = torch.softmax(z, -1)
        scores = (p * grad).sum(-1, keepdim=True)
        grad_logits = w * p * (grad - scores)
    else:
        scores = (z * grad).sum(-1, keepdim=True)
        grad_logits = (w * grad).expand_as(z)
    return gradient_of(logits, grad_logits).contiguous(), scores.sum((1, 2)).to(weights.dtype)


def cpp(args: list[Any], out: list[Tensor]) -> None:
    grad_y, logits, weights, space = args
    torch.ops.spectral_native.branch_ensemble_backward(grad_y, logits, weights, space == "probabilities", *out)
