"""Which ranks a layer gets: by noise (EVBMF), energy, a fixed fraction, or a budget over all layers.

A rule is a function of a dense weight (O, C, ...) that gives (r_out, r_in), the ranks of its two channel unfoldings. A
rank of 0 says that nothing in the weight rises above noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .evbmf import evbmf_rank
from .tucker import kept, unfold_mode


@dataclass(frozen=True)
class Evbmf:
    """The rank of each channel unfolding that `evbmf_rank` gives: the rule of paper 4. exact: as there."""

    exact: bool = False

    def __call__(self, weight: Tensor) -> tuple[int, int]:
        found = [evbmf_rank(unfold_mode(weight, mode), exact=self.exact) for mode in (0, 1)]
        return found[0], found[1]


@dataclass(frozen=True)
class Energy:
    """The least ranks whose singular values hold at least this share of ||W||^2, in each of the two unfoldings."""

    share: float

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"Energy: share must be above 0 and at most 1, got {self.share}")

    def __call__(self, weight: Tensor) -> tuple[int, int]:
        size = float(weight.detach().double().norm())
        dropped = math.sqrt(max(1 - self.share, 0.0)) * size
        first, second = (kept(s, dropped) if size else 0 for s in _spectra(weight))
        return first, second


@dataclass(frozen=True)
class Fraction:
    """ceil(kappa r_max) in both modes, r_max the largest rank that the mode can have: the fixed ranks of paper 3."""

    kappa: float

    def __post_init__(self) -> None:
        if not 0 < self.kappa <= 1:
            raise ValueError(f"Fraction: kappa must be above 0 and at most 1, got {self.kappa}")

    def __call__(self, weight: Tensor) -> tuple[int, int]:
        first, second = (
            math.ceil(self.kappa * min(n, weight.numel() // n) - 1e-9) if n else 0 for n in weight.shape[:2]
        )
        return first, second


@dataclass(frozen=True)
class Budget:
    """The ranks of all layers together that meet a budget with the least total error; `allocate` chooses them.

    share: of the parameters, or of the operations, that the model has before; what is not decomposed counts too.
    of: "parameters" or "operations".
    """

    share: float
    of: str = "parameters"

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"Budget: share must be above 0 and at most 1, got {self.share}")
        if self.of not in ("parameters", "operations"):
            raise ValueError(f"Budget: of must be parameters or operations, got {self.of!r}")


def tucker_cost(shape: Sequence[int], r_out: int | Tensor, r_in: int | Tensor, before: int = 1, after: int = 1) -> int:
    """C r_in p + h w r_in r_out p' + O r_out p' for a weight (O, C, h, w): eq. (10), and (11) with the pixels p, p'."""
    o, c, *window = shape
    return c * r_in * before + (math.prod(window) * r_in + o) * r_out * after  # type: ignore[return-value]


def allocate(
    weights: Sequence[Tensor], budget: float, pixels: Sequence[tuple[int, int]] | None = None
) -> list[tuple[int, int] | None]:
    """Ranks for each weight, None where it stays dense, whose costs add up to at most `budget`.

    The error of a layer is bounded by its tails, e = (sum of the squared singular values dropped in both unfoldings) /
    ||W||^2; the sum of these over the layers is minimised. For a price of a unit of cost each layer's best choice is
    independent of the others; the price is found by bisection. So no other choice of that cost or less has a smaller
    sum; between two prices some of the budget may be left.

    Args:
        weights: (O, C, ...), each its own layer. budget: parameters, or multiply-adds with `pixels`.
        pixels: (p, p') of each layer's input and output; None: 1, which counts parameters.

    Raises: ValueError where rank 1 everywhere exceeds the budget.
    """
    tables = [_table(w, *(pixels[i] if pixels else (1, 1))) for i, w in enumerate(weights)]
    low, high = -60.0, 60.0  # of log(price), which is relative to the largest cost
    unit = max((float(cost.max()) for cost, _ in tables), default=1.0)

    def choose(log_price: float) -> tuple[list[int], float]:
        picked = [int((error + math.exp(log_price) / unit * cost).argmin()) for cost, error in tables]
        return picked, sum(float(cost[i]) for (cost, _), i in zip(tables, picked, strict=True))

    if choose(high)[1] > budget:
        raise ValueError(
            f"allocate: budget must be at least {choose(high)[1]:.0f}, rank 1 everywhere, got {budget:.0f}"
        )
    if choose(low)[1] > budget:
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if choose(middle)[1] > budget else (low, middle)
    else:
        high = low
    picked, _ = choose(high)
    found: list[tuple[int, int] | None] = []
    for w, i in zip(weights, picked, strict=True):
        columns = min(w.shape[1], w.numel() // w.shape[1])
        dense = i == len(tables[len(found)][0]) - 1
        found.append(None if dense else (i // columns + 1, i % columns + 1))
    return found


def _spectra(weight: Tensor) -> list[Tensor]:
    exact = weight.detach().double()
    return [torch.linalg.svdvals(unfold_mode(exact, mode)).cpu() for mode in (0, 1)]


def _table(weight: Tensor, before: int, after: int) -> tuple[Tensor, Tensor]:
    """Cost and error of every pair of ranks, r_out outermost, and last of the dense weight."""
    tails = []
    for s in _spectra(weight):
        squares = s.square()
        tails.append((squares.sum() - squares.cumsum(0)).clamp(min=0) / (squares.sum() if s[0] else 1))
    r_out, r_in = (torch.arange(1, len(t) + 1, dtype=torch.float64) for t in tails)
    cost: Tensor = tucker_cost(weight.shape, r_out.unsqueeze(1), r_in, before, after)  # type: ignore[assignment, arg-type]
    error = tails[0].unsqueeze(1) + tails[1]
    dense = torch.tensor([float(weight.numel() * after)], dtype=torch.float64)
    return torch.cat([cost.flatten(), dense]), torch.cat([error.flatten(), dense.new_zeros(1)])
