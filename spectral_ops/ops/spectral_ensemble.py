"""spectral_ensemble: transform, every branch, softmax and weighting in one kernel: the inference of a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..op import allocated, lower, run_below_autograd
from . import branch_ensemble, checks, spectral_mlp
from .activations import dense_like, narrow


def check(
    x: Tensor,
    transform: Tensor | None,
    weights: list[Tensor],
    biases: list[Tensor | None],
    activations: list[str],
    branch_weights: Tensor,
    space: str = "probabilities",
    op: str = "spectral_ensemble",
) -> tuple[tuple[int, int], torch.dtype]:
    """Checks the arguments for `op`; returns the shape (N, C) and the dtype of the output."""
    (q, n, o), dtype = spectral_mlp.check(x, transform, weights, biases, activations, op)
    if branch_weights.dim() != 1 or branch_weights.shape[0] != q:
        raise checks.wrong_shape(op, "branch_weights", branch_weights, f"(Q',) with Q' = {q} as in weights")
    checks.space(op, space)
    dtype = dtype.to_real()
    checks.exactly(op, dtype, x, branch_weights=branch_weights)
    return (n, o), dtype


def empty(*args: Any) -> Tensor:
    shape, dtype = check(*args)
    return args[0].new_empty(shape, dtype=dtype)


def reference(
    x: Tensor,
    transform: Tensor | None,
    weights: list[Tensor],
    biases: list[Tensor | None],
    activations: list[str],
    branch_weights: Tensor,
    space: str = "probabilities",
) -> Tensor:
    """`branch_ensemble(spectral_mlp(x, ...), branch_weights, space)` without the logits in memory (eq. 11-18).

    Args: as in `spectral_mlp` and `branch_ensemble`; branch_weights: (Q',), real.
    Returns: (N, C), contiguous, real, dtype of x (half accumulates in float32); of complex logits the real part counts.
    Raises: ValueError for shapes and names, TypeError for dtypes and devices.
    Accuracy: as the composition, `tests/test_backends.py`.
    Gradient: to every tensor, any order; small batches keep the results of all layers, see `spectral_mlp`, others
        compute them again. Deterministic: bitwise.
    Source: Liu et al., Highly Parallel Deep Ensemble Learning, eq. (11)-(18).
    """
    logits = spectral_mlp.network(x, transform, weights, biases, activations)
    output = branch_ensemble.mixture(logits, branch_weights, space)
    return narrow(output, x).contiguous()


def cpp_why_not(
    x: Tensor, transform: Tensor | None, weights: Any, biases: Any, activations: Any, *_: Any
) -> str | None:
    return spectral_mlp.cpp_why_not(x, transform, weights, biases, activations)


def cuda_why_not(x: Tensor, transform: Tensor | None, weights: list[Tensor], *_: Any) -> str | None:
    return checks.network_on_gpu(x, transform, weights)


def cpp(args: list[Any], out: Tensor) -> None:
    torch.ops.spectral_native.spectral_ensemble(*native(args), out)


def native(args: Sequence[Any]) -> list[Any]:
    """The arguments as the native entry points take them."""
    *network, branch_weights, space = args
    return [*spectral_mlp.native(network), branch_weights, space == "probabilities"]


def forward_for_grad(args: list[Any], needs: list[Any], direct: bool) -> tuple[Tensor, list[Tensor]]:
    out = allocated("spectral_ensemble", direct, args)
    if out is None:
        return run_below_autograd("spectral_ensemble", direct, *args), []
    if spectral_mlp.keeps_states(*args[:3]):
        return out, [torch.ops.spectral_native.spectral_ensemble_with_states(*native(args), out)]
    cpp(args, out)
    return out, []


def backward(args: list[Any], grads: Any, needs: list[Any], kept: Sequence[Tensor] = ()) -> list[Any]:
    x, transform, _, biases, _, branch_weights, _ = args
    grad = grads[0]
    if spectral_mlp.from_states(grad, kept):
        results = (*spectral_mlp.unfilled_gradients(args, needs), dense_like(branch_weights))
        torch.ops.spectral_native.spectral_ensemble_from_states(
            spectral_mlp.dense(grad), kept[0], *native(args)[2:], *results
        )
    else:
        want_grad_x = bool(needs[0] or needs[1])
        results = torch.ops.spectral.spectral_ensemble_backward(grad, *args, want_grad_x)
    grad_branches, grad_weights, grad_biases, grad_branch_weights = results
    grad_inputs = spectral_mlp.input_gradients(x, transform, grad_branches, needs)
    return [*grad_inputs, grad_weights, spectral_mlp.spread(grad_biases, biases), None, grad_branch_weights, None]


def autocast(args: list[Any], dtype: torch.dtype) -> Tensor:
    x, transform, weights, biases, activations, branch_weights, space = args
    net = [*spectral_mlp.lowered_branches(x, transform, dtype), *lower([weights, biases], dtype), activations]
    return torch.ops.spectral.spectral_ensemble(*net, lower(branch_weights, dtype), space)
