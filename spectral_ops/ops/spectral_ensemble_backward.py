"""spectral_ensemble_backward: the gradients of a network and of its ensemble, from the ensemble's output gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..op import lower
from . import branch_ensemble_backward, branch_mlp_backward, checks, spectral_ensemble, spectral_mlp
from .activations import code, dense_like, narrow, offsets, wide

OP = "spectral_ensemble_backward"


def check(
    grad_y: Tensor,
    x: Tensor,
    transform: Tensor | None,
    weights: list[Tensor],
    biases: list[Tensor | None],
    activations: list[str],
    branch_weights: Tensor,
    space: str = "probabilities",
    want_grad_x: bool = True,
) -> tuple[int, int, int]:
    """Checks the arguments; returns the shape of the branches' input, (Q', N, I)."""
    (n, c), dtype = spectral_ensemble.check(x, transform, weights, biases, activations, branch_weights, space, OP)
    if grad_y.dim() != 2 or grad_y.shape[0] != n or grad_y.shape[1] != c:
        raise checks.wrong_shape(OP, "grad_y", grad_y, f"(N, C) with N = {n} and C = {c} as in the output")
    checks.exactly(OP, dtype, x, grad_y=grad_y)
    return weights[0].shape[0], n, weights[0].shape[2]


def empty(*args: Any) -> tuple[Tensor, list[Tensor], list[Tensor], Tensor]:
    _, x, transform, weights, biases, _, branch_weights, _, want_grad_x = args
    shape = check(*args)
    return (
        x.new_empty(shape if want_grad_x else (0,), dtype=spectral_mlp.input_dtype(x, transform)),
        [dense_like(w) for w in weights],
        [dense_like(b) for b in biases if b is not None],
        dense_like(branch_weights),
    )


def reference(
    grad_y: Tensor,
    x: Tensor,
    transform: Tensor | None,
    weights: list[Tensor],
    biases: list[Tensor | None],
    activations: list[str],
    branch_weights: Tensor,
    space: str = "probabilities",
    want_grad_x: bool = True,
) -> tuple[Tensor, list[Tensor], list[Tensor], Tensor]:
    """The vector-Jacobian product of `spectral_ensemble(x, ...)`: branch_ensemble_backward, then branch_mlp_backward.

    The logits and their gradients stay in the kernel's tiles: neither is written.

    Args:
        grad_y: (N, C). want_grad_x: when False the first result is empty, and its GEMM is saved.
        The rest: as `spectral_ensemble`.

    Returns: the gradient of the branches' input (Q', N, I), those of the weights, of the biases that are not None, and
        of branch_weights (Q',).
    Raises: ValueError for shapes and names, TypeError for dtypes and devices.
    Accuracy: `tests/test_backends.py`. Gradient: to every tensor, by differentiating this form.
    Deterministic: bitwise, for any number of threads (sums over fixed blocks of samples).
    """
    branches = spectral_mlp.branches_of(x, transform)
    logits = spectral_mlp.network(branches, None, weights, biases, activations)
    grad_logits, grad_branch_weights = branch_ensemble_backward.reference(
        wide(grad_y), logits, wide(branch_weights), space
    )
    wide_weights, wide_biases = [wide(w) for w in weights], [None if b is None else wide(b) for b in biases]
    grad_x, grad_weights, grad_biases = branch_mlp_backward.reference(
        grad_logits, branches, wide_weights, wide_biases, activations, want_grad_x
    )
    return (
        narrow(grad_x, x),
        [narrow(g, x) for g in grad_weights],
        [narrow(g, x) for g in grad_biases],
        narrow(grad_branch_weights, x),
    )


def cpp_why_not(
    grad_y: Tensor, x: Tensor, transform: Tensor | None, weights: Any, biases: Any, activations: Any, *_: Any
) -> str | None:
    return spectral_mlp.cpp_why_not(x, transform, weights, biases, activations)


def cuda_why_not(grad_y: Tensor, x: Tensor, transform: Tensor | None, weights: list[Tensor], *_: Any) -> str | None:
    return checks.network_on_gpu(x, transform, weights)


def cpp(args: list[Any], out: list[Any]) -> None:
    grad_y, x, transform, weights, biases, activations, branch_weights, space, want_grad_x = args
    grad_branches, grad_weights, grad_biases, grad_branch_weights = out
    torch.ops.spectral_native.spectral_ensemble_backward(
        grad_y, x, transform, weights, biases, [code(a) for a in activations], offsets(activations),
        branch_weights, space == "probabilities",
        grad_branches if want_grad_x else None, grad_weights, grad_biases, grad_branch_weights,
    )  # fmt: skip


def autocast(args: list[Any], dtype: torch.dtype) -> Any:
    grad_y, x, transform, weights, biases, activations, branch_weights, *rest = args
    net = [*spectral_mlp.lowered_branches(x, transform, dtype), *lower([weights, biases], dtype), activations]
    return torch.ops.spectral.spectral_ensemble_backward(
        lower(grad_y, dtype), *net, lower(branch_weights, dtype), *rest
    )
