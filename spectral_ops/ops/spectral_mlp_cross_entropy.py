"""spectral_mlp_cross_entropy: a network of branches that learn alone, and each branch's own loss."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..autograd import graph_is_kept, ordinary
from ..op import lower, run_below_autograd
from . import checks, spectral_mlp
from .activations import code, narrow, offsets, wide

OP = "spectral_mlp_cross_entropy"


def check(
    x: Tensor,
    transform: Tensor | None,
    weights: list[Tensor],
    biases: list[Tensor | None],
    activations: list[str],
    target: Tensor,
    op: str = OP,
) -> tuple[tuple[int, int, int], torch.dtype]:
    """Checks the arguments for `op`; returns the shape (Q', N, C) and the dtype of the logits."""
    (q, n, c), dtype = spectral_mlp.check(x, transform, weights, biases, activations, op)
    if target.dtype != torch.int64:
        raise TypeError(f"{op}: target must be int64, got {target.dtype}")
    if target.device != x.device:
        raise TypeError(f"{op}: target must be on {x.device} as x, got {target.device}")
    if target.dim() != 1 or target.shape[0] != n:
        raise checks.wrong_shape(op, "target", target, f"(N,) with N = {n} as in x")
    return (q, n, c), dtype


def empty(*args: Any) -> tuple[Tensor, Tensor]:
    x = args[0]
    shape, dtype = check(*args)
    return x.new_empty(shape[0], dtype=loss_dtype(x)), x.new_empty(shape, dtype=dtype)


def loss_dtype(x: Tensor) -> torch.dtype:
    """A mean loss is not rounded to half: float32, or float64 for float64 and complex128."""
    return torch.float64 if x.dtype in (torch.float64, torch.complex128) else torch.float32


def reference(
    x: Tensor,
    transform: Tensor | None,
    weights: list[Tensor],
    biases: list[Tensor | None],
    activations: list[str],
    target: Tensor,
) -> tuple[Tensor, Tensor]:
    """losses[q] = mean_n -log softmax(Re logits[q, n])[target[n]] of logits = spectral_mlp(x, ...).

    When a gradient is wanted, the kernel computes it in the same pass (`spectral_mlp_cross_entropy_with_grads`).

    Args: as in `spectral_mlp`; target: (N,) int64, classes 0 .. C - 1.
    Returns: losses (Q',), real, float32 for half inputs; logits (Q', N, C), dtype of x, or complex.
    Raises: ValueError for shapes and names, TypeError for dtypes and devices, RuntimeError for a class out of range.
    Accuracy: `tests/test_backends.py`. Gradient: to every floating tensor, through losses and logits, any order.
    Deterministic: bitwise, for any number of threads (losses are summed over fixed blocks of samples).
    Source: Liu et al., Highly Parallel Deep Ensemble Learning, eq. (11)-(17); each branch's own loss: MATHS, Ensembles.
    """
    logits = spectral_mlp.network(x, transform, weights, biases, activations)
    return branch_losses(logits, target).to(loss_dtype(x)), narrow(logits, x).contiguous()


def branch_losses(logits: Tensor, target: Tensor) -> Tensor:
    """Mean cross-entropy of each branch's real part, (Q,). A class out of range raises, nothing is ignored."""
    index = target.view(1, -1, 1).expand(logits.shape[0], -1, 1)
    return -torch.log_softmax(spectral_mlp.real_part(logits), -1).gather(-1, index).squeeze(-1).mean(-1)


def cpp_why_not(
    x: Tensor, transform: Tensor | None, weights: Any, biases: Any, activations: Any, *_: Any
) -> str | None:
    return spectral_mlp.cpp_why_not(x, transform, weights, biases, activations)


def cuda_why_not(x: Tensor, transform: Tensor | None, weights: list[Tensor], *_: Any) -> str | None:
    return checks.network_on_gpu(x, transform, weights)


def cpp(args: list[Any], out: list[Tensor]) -> None:
    x, transform, weights, biases, activations, target = args
    codes = [code(a) for a in activations]
    torch.ops.spectral_native.spectral_mlp_cross_entropy(
        x, transform, weights, biases, codes, offsets(activations), target, *out
    )


def forward_for_grad(args: list[Any], needs: list[Any], direct: bool) -> tuple[tuple[Tensor, Tensor], list[Any]]:
    want_grad_x = bool(needs[0] or needs[1])
    fused = run_below_autograd("spectral_mlp_cross_entropy_with_grads", direct, *args, want_grad_x)
    return fused[:2], list(fused[2:])


def backward(args: list[Any], grads: Any, needs: list[Any], kept: list[Any]) -> list[Any]:
    *net, target = args
    x, transform, _, biases, _ = net
    grad_losses, grad_logits = grads
    if grad_logits is None and not torch.is_grad_enabled():
        grad_branches, grad_weights, grad_biases = kept
        # a graph that is kept may run again: its gradients are not given away, where they could be changed in place
        if graph_is_kept() or not all_ones(grad_losses):
            scale = grad_losses.to(x.dtype.to_real())[:, None, None]
            grad_branches = grad_branches * scale if needs[0] or needs[1] else grad_branches
            grad_weights = [g * scale for g in grad_weights]
            grad_biases = [g * scale[:, 0] for g in grad_biases]
        grad_inputs = spectral_mlp.input_gradients(x, transform, grad_branches, needs)
        return [*grad_inputs, grad_weights, spectral_mlp.spread(grad_biases, biases), None, None]
    # the logits' own gradient, or a second derivative: the fused gradients do not serve, compute again
    if grad_losses is not None:
        logits = torch.ops.spectral.spectral_mlp(*net)
        p = torch.softmax(wide(spectral_mlp.real_part(logits)), -1)
        hot = torch.nn.functional.one_hot(target, logits.shape[-1]).to(p.dtype)
        from_losses = ((p - hot) * (grad_losses / max(logits.shape[1], 1))[:, None, None]).to(logits.dtype)
        grad_logits = from_losses if grad_logits is None else grad_logits + from_losses
    return [*spectral_mlp.network_gradients(net, grad_logits, needs), None]


def all_ones(grad_losses: Tensor) -> bool:
    """Whether each branch's gradient is 1, as from `losses.sum()`: the fused gradients then stand as they are.

    Only looked up where looking is free: for an ordinary tensor on the CPU.
    """
    return ordinary([grad_losses]) and grad_losses.is_cpu and all(g == 1 for g in grad_losses.tolist())


def autocast(args: list[Any], dtype: torch.dtype) -> Any:
    x, transform, weights, biases, activations, target = args
    net = [*spectral_mlp.lowered_branches(x, transform, dtype), *lower([weights, biases], dtype), activations]
    return torch.ops.spectral.spectral_mlp_cross_entropy(*net, target)
