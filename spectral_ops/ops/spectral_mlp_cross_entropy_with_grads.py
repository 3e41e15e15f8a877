"""spectral_mlp_cross_entropy_with_grads: losses, logits and each branch's gradients in one pass."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import branch_mlp_backward, checks, spectral_mlp
from . import spectral_mlp_cross_entropy as loss_op
from .activations import code, dense_like, narrow, offsets, wide


def check(
    x: Tensor,
    transform: Tensor | None,
    weights: list[Tensor],
    biases: list[Tensor | None],
    activations: list[str],
    target: Tensor,
    want_grad_x: bool = True,
) -> tuple[tuple[int, int, int], torch.dtype]:
    # errors name spectral_mlp_cross_entropy: that is what the user called
    return loss_op.check(x, transform, weights, biases, activations, target)


def empty(*args: Any) -> tuple[Tensor, Tensor, Tensor, list[Tensor], list[Tensor]]:
    x, transform, weights, biases, *arguments, want_grad_x = args
    (q, n, c), dtype = check(x, transform, weights, biases, *arguments)
    shape = (q, n, weights[0].shape[2]) if want_grad_x else (0,)
    return (
        x.new_empty(q, dtype=loss_op.loss_dtype(x)),
        x.new_empty(q, n, c, dtype=dtype),
        x.new_empty(shape, dtype=spectral_mlp.input_dtype(x, transform)),
        [dense_like(w) for w in weights],
        [dense_like(b) for b in biases if b is not None],
    )


def reference(
    x: Tensor,
    transform: Tensor | None,
    weights: list[Tensor],
    biases: list[Tensor | None],
    activations: list[str],
    target: Tensor,
    want_grad_x: bool = True,
) -> tuple[Tensor, Tensor, Tensor, list[Tensor], list[Tensor]]:
    """`spectral_mlp_cross_entropy` and, for each branch, the gradient of its own loss.

    Returns: losses (Q',), real; logits (Q', N, C); the gradient of the branches' input (Q', N, I) (empty unless
        want_grad_x), complex where x or transform is; the gradients of the weights, and of the biases that are not
        None: entry q is d losses[q] / d weight[q].
    Args, Raises, Accuracy, Source: as `spectral_mlp_cross_entropy`. Gradient: by differentiating this form.
    Deterministic: bitwise, for any number of threads (sums over fixed blocks of samples).
    """
    branches = spectral_mlp.branches_of(x, transform)
    logits = spectral_mlp.network(branches, None, weights, biases, activations)
    losses = loss_op.branch_losses(logits, target)
    p = torch.softmax(spectral_mlp.real_part(logits), -1)
    hot = torch.nn.functional.one_hot(target, logits.shape[-1]).to(p.dtype)
    grad_logits = (p - hot) / max(logits.shape[1], 1)
    wide_weights, wide_biases = [wide(w) for w in weights], [None if b is None else wide(b) for b in biases]
    grad_x, grad_weights, grad_biases = branch_mlp_backward.reference(
        grad_logits, branches, wide_weights, wide_biases, activations, want_grad_x
    )
    return (
        losses.to(loss_op.loss_dtype(x)),
        narrow(logits, x).contiguous(),
        narrow(grad_x, x),
        [narrow(g, x) for g in grad_weights],
        [narrow(g, x) for g in grad_biases],
    )


def cpp_why_not(
    x: Tensor, transform: Tensor | None, weights: Any, biases: Any, activations: Any, *_: Any
) -> str | None:
    return spectral_mlp.cpp_why_not(x, transform, weights, biases, activations)


def cuda_why_not(x: Tensor, transform: Tensor | None, weights: list[Tensor], *_: Any) -> str | None:
    return checks.network_on_gpu(x, transform, weights)


def cpp(args: list[Any], out: list[Any]) -> None:
    x, transform, weights, biases, activations, target, want_grad_x = args
    losses, logits, grad_x, grad_weights, grad_biases = out
    codes = [code(a) for a in activations]
    torch.ops.spectral_native.spectral_mlp_cross_entropy_with_grads(
        x, transform, weights, biases, codes, offsets(activations), target, losses, logits,
        grad_x if want_grad_x else None, grad_weights,
        grad_biases,
    )  # fmt: skip


def autocast(args: list[Any], dtype: torch.dtype) -> Any:
    return torch.ops.spectral.spectral_mlp_cross_entropy_with_grads(*args)
