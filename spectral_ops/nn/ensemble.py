"""BranchEnsemble: the weighted sum of the branches' outputs, with one of five ways to weigh them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .. import ensemble
from ..ops import checks
from . import arguments

WEIGHTINGS = ("average", "weighted_sum", "geometric", "select_best", "learned")


class BranchEnsemble(nn.Module):
    """y[n] = sum_q w_q softmax(logits[q, n]), w_q >= 0, sum_q w_q = 1 (eq. 18).

    Args:
        branches: Q.
        weighting: how w comes about, see `spectral_ops.ensemble`:
            "average" 1/Q; "weighted_sum" proportional to 1/loss; "geometric" p (1-p)^i for the i-th best branch;
            "select_best" one branch: these three by `fit(losses)`, until then 1/Q;
            "learned": w = softmax(scores), scores a Parameter (Q,) to be trained with `ensemble_cross_entropy` on
            data that the branches have not seen.
        p: of "geometric".
        space: "probabilities" as above, or "logits": sum_q w_q logits[q, n].

    State: `weights` (Q,), or for "learned" `scores` (Q,).
    Raises: ValueError for sizes, names and p outside (0, 1]; TypeError for the wrong type.
    Accuracy, gradient: those of `torch.ops.spectral.branch_ensemble`.
    Source: Liu et al., Highly Parallel Deep Ensemble Learning, eq. (18), Table 3; "learned" is in no paper.
    """

    weights: Tensor
    scores: nn.Parameter

    def __init__(
        self,
        branches: int,
        weighting: str = "average",
        p: float = 0.3,
        space: str = "probabilities",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.branches = arguments.size("BranchEnsemble", "branches", branches)
        if weighting not in WEIGHTINGS:
            raise ValueError(f"BranchEnsemble: weighting must be one of {', '.join(WEIGHTINGS)}, got {weighting!r}")
        checks.space("BranchEnsemble", space)
        self.weighting, self.space = weighting, space
        self.p = ensemble.probability("BranchEnsemble", p)
        if weighting == "learned":
            self.scores = nn.Parameter(torch.zeros(branches, device=device, dtype=dtype))
        else:
            self.register_buffer("weights", ensemble.average(branches, device=device, dtype=dtype))

    def reset_parameters(self) -> None:
        """Equal weights again."""
        with torch.no_grad():
            if self.weighting == "learned":
                self.scores.zero_()
            else:
                self.weights.fill_(1 / self.branches)

    def fit(self, losses: Tensor) -> BranchEnsemble:
        """Set the weights from the branches' training losses (Q,); "average" looks at their number only. Returns self.

        Raises: ValueError for another number of losses, NaN, or with "learned", whose scores are trained instead.
        """
        must = f"(Q,) with Q = {self.branches}"
        if tuple(losses.shape) != (self.branches,):
            raise checks.wrong_shape("BranchEnsemble.fit", "losses", losses, must)
        if self.weighting == "learned":
            raise ValueError('BranchEnsemble.fit: weighting must not be "learned": train `scores` on held-out data')
        if self.weighting == "average":
            weights = ensemble.average(self.branches)
        elif self.weighting == "geometric":
            weights = ensemble.geometric(losses, self.p)
        else:
            weights = getattr(ensemble, self.weighting)(losses)
        self.weights.copy_(weights)
        return self

    def branch_weights(self) -> Tensor:
        """w (Q,), as `SpectralMLP.predict` takes it."""
        return torch.softmax(self.scores, 0) if self.weighting == "learned" else self.weights

    def forward(self, logits: Tensor) -> Tensor:
        """(Q, N, C) -> (N, C); of complex logits the real part counts."""
        return torch.ops.spectral.branch_ensemble(logits, self.branch_weights().to(logits.dtype.to_real()), self.space)

    def extra_repr(self) -> str:
        p = f", p={self.p}" if self.weighting == "geometric" else ""
        return f"{self.branches}, {self.weighting!r}{p}, space={self.space!r}"
