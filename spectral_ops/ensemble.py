"""Weights for the branches of a spectral network, and the losses by which branches and ensembles learn.

The output of a network is y = sum_q w_q y_q with w_q >= 0 and sum_q w_q = 1 (eq. 18); the functions here choose w from
the branches' training losses. All return (Q,), in the dtype and on the device of the losses.
Source: Liu et al., Highly Parallel Deep Ensemble Learning, eq. (18), (19) and Table 3.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .ops import checks

__all__ = [
    "average",
    "branch_cross_entropy",
    "ensemble_cross_entropy",
    "geometric",
    "learned",
    "select_best",
    "weighted_sum",
]


def average(branches: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Tensor:
    """w_q = 1 / Q for Q = `branches`.

    Raises: ValueError for branches < 1.
    """
    if branches < 1:
        raise ValueError(f"average: branches must be at least 1, got {branches}")
    return torch.full((branches,), 1 / branches, device=device, dtype=dtype)


def weighted_sum(losses: Tensor) -> Tensor:
    """w_q proportional to 1 / losses_q.

    Args: losses (Q,), >= 0; a branch with infinite loss has weight 0, branches with loss 0 share all of it.
    Raises: ValueError for another shape, NaN, a negative loss, or no finite loss; TypeError for integers.
    """
    exact = _losses("weighted_sum", losses)
    if bool((exact < 0).any()):
        raise ValueError(f"weighted_sum: losses must not be negative, got {exact.min().item():g}")
    perfect = exact == 0
    return _normalised(perfect.double() if bool(perfect.any()) else 1 / exact, losses)


def geometric(losses: Tensor, p: float = 0.3) -> Tensor:
    """w_q proportional to p (1 - p)^i, i = 0 for the branch with the smallest loss, 1 for the next, ...

    A geometric distribution over the branches, best first; of equal losses the lower branch comes first.

    Args: losses (Q,). p: in (0, 1]; at 1 only the best branch counts.
    Raises: ValueError for another shape, NaN, no finite loss, or p outside (0, 1]; TypeError for integers.
    """
    exact = _losses("geometric", losses)
    probability("geometric", p)
    place = torch.empty_like(exact)
    place[torch.sort(exact, stable=True).indices] = torch.arange(len(exact), dtype=exact.dtype, device=exact.device)
    return _normalised(p * (1 - p) ** place, losses)


def select_best(losses: Tensor) -> Tensor:
    """1 for the branch with the smallest loss (of equal ones the first), 0 for the others: one branch is deployed.

    Raises: ValueError for another shape, NaN, or no finite loss; TypeError for integers.
    """
    exact = _losses("select_best", losses)
    return _normalised(functional.one_hot(torch.sort(exact, stable=True).indices[0], len(exact)), losses)


def learned(logits: Tensor, target: Tensor, space: str = "probabilities", steps: int = 100) -> Tensor:
    """The weights with the smallest joint loss (19) on the given data: w = softmax(v), v by L-BFGS from equal weights.

    In space "probabilities" the loss is convex in w. Give it data that the branches have not trained on: on their own
    training data the most overfitted branch would win. No paper has this weighting.

    Args:
        logits: (Q, N, C), of held-out samples; of complex ones the real part counts.
        target: (N,) int64. space: as in `BranchEnsemble`.
        steps: iterations at most.

    Raises: ValueError, TypeError for other shapes, dtypes or names.
    """
    _check_target("learned", logits, target)
    checks.space("learned", space)
    with torch.inference_mode(False), torch.enable_grad():
        # clones, as autograd cannot save tensors of inference mode
        real = logits.real if logits.is_complex() else logits
        exact, target = real.detach().double().clone(), target.clone()
        scores = exact.new_zeros(exact.shape[0], requires_grad=True)
        optimizer = torch.optim.LBFGS([scores], max_iter=steps, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            optimizer.zero_grad()
            output = torch.ops.spectral.branch_ensemble(exact, torch.softmax(scores, 0), space)
            loss = ensemble_cross_entropy(output, target, space)
            loss.backward()
            return loss

        optimizer.step(closure)
    return torch.softmax(scores.detach(), 0).to(logits.dtype.to_real())


def branch_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Each branch's own mean cross-entropy: -mean_n log softmax(Re logits[q, n])[target[n]], (Q,).

    The composition that `torch.ops.spectral.spectral_mlp_cross_entropy` fuses with the network.

    Args: logits (Q, N, C), real or complex. target (N,) int64.
    Raises: ValueError for shapes, TypeError for dtypes.
    """
    _check_target("branch_cross_entropy", logits, target)
    q, n, _ = logits.shape
    logits = logits.real if logits.is_complex() else logits
    losses = functional.cross_entropy(logits.flatten(0, 1), target.repeat(q), reduction="none")
    return losses.view(q, n).mean(1)


def ensemble_cross_entropy(output: Tensor, target: Tensor, space: str = "probabilities") -> Tensor:
    """The joint loss (19) of an ensemble's output, -mean_n log y[n, target[n]]; the paper has the sum over n.

    Args:
        output: (N, C): in space "probabilities" a distribution over C, of which the log is taken no lower than that of
            the dtype's smallest normal number; in "logits" unnormalised, and softmax comes first.
        target: (N,) int64.

    Raises: ValueError for shapes and names, TypeError for dtypes.
    """
    op = "ensemble_cross_entropy"
    checks.space(op, space)
    if output.dim() != 2:
        raise checks.wrong_shape(op, "output", output, "(N, C)")
    _check_target(op, output[None], target)
    if space == "logits":
        return functional.cross_entropy(output, target)
    return functional.nll_loss(output.clamp_min(torch.finfo(output.dtype).tiny).log(), target)


def probability(name: str, p: float) -> float:
    """`p` if it is in (0, 1], else ValueError from `name`."""
    if not 0 < p <= 1:
        raise ValueError(f"{name}: p must be in (0, 1], got {p}")
    return p


def _losses(name: str, losses: Tensor) -> Tensor:
    """The losses in float64, or why they cannot rank branches."""
    if losses.dim() != 1 or losses.numel() == 0:
        raise checks.wrong_shape(name, "losses", losses, "(Q,) with Q at least 1")
    if not losses.is_floating_point():
        raise TypeError(f"{name}: losses must be floating point, got {losses.dtype}")
    exact = losses.detach().double()
    if bool(exact.isnan().any()) or not bool(exact.isfinite().any()):
        raise ValueError(f"{name}: losses must have no NaN and at least one finite value, got {exact.tolist()}")
    return exact


def _check_target(name: str, logits: Tensor, target: Tensor) -> None:
    if logits.dim() != 3:
        raise checks.wrong_shape(name, "logits", logits, "(Q, N, C)")
    if target.dtype != torch.int64:
        raise TypeError(f"{name}: target must be int64, got {target.dtype}")
    n = logits.shape[1]
    if tuple(target.shape) != (n,):
        raise checks.wrong_shape(name, "target", target, f"(N,) with N = {n} as in the logits")


def _normalised(weights: Tensor, losses: Tensor) -> Tensor:
    weights = weights.double()
    return (weights / weights.sum()).to(losses.dtype)
