"""evbmf_rank: how many singular values of a matrix rise above its noise (empirical variational Bayes)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_GRID = 2048  # points of log sigma^2 among which the global minimum is looked for; seven decades have 300 a decade
_TAU = 2.5129  # tau_bar / sqrt(a), exact for a = 1


@dataclass(frozen=True)
class Evbmf:
    """What the global analytic solution says of a matrix.

    rank: how many singular values are signal. sigma2: the variance of the noise. threshold: the least singular value
    that counts. values: (rank,), the singular values of the estimate, shrunk by the noise, float64.
    """

    rank: int
    sigma2: float
    threshold: float
    values: Tensor


def evbmf(matrix: Tensor, sigma2: float | None = None, exact: bool = False) -> Evbmf:
    """The global analytic solution of empirical variational Bayesian matrix factorisation, Y = B A^T + noise.

    With L <= M the sizes of Y, a = L/M, x_h = g_h^2 / (M sigma^2) of its singular values g and tau_bar(a):
        x_bar = (1 + tau_bar)(1 + a / tau_bar),  threshold = sqrt(M sigma^2 x_bar),
    and sigma^2, where it is not given, minimises sum_h psi(x_h) + (L - H) log sigma^2 between its bounds. That
    function has several local minima: log sigma^2 is searched over a grid first. The result does not change with the
    scale of Y, nor when it is transposed.

    Args:
        matrix: (L, M), real floating point, finite. sigma2: the variance of the noise; None: estimated.
        exact: tau_bar from its equation, Phi(t) + Phi(t/a) = 0, instead of 2.5129 sqrt(a).

    Raises: ValueError for another shape, an empty matrix, values that are not finite, and sigma2 <= 0; TypeError.
    Accuracy: float64; sigma^2 to about 1e-8 relative (`tests/test_evbmf.py`).
    Gradient: none. Deterministic.
    Source: Nakajima, Tomioka, Sugiyama, Babacan, Perfect Dimensionality Recovery by Variational Bayesian PCA (2012);
    the rank rule of Elhoushi et al., Accelerating Training using Tensor Decomposition.
    """
    op = "evbmf"
    if not isinstance(matrix, Tensor) or not matrix.is_floating_point():
        raise TypeError(f"{op}: matrix must be a real floating point tensor, got {getattr(matrix, 'dtype', matrix)}")
    if matrix.dim() != 2 or 0 in matrix.shape:
        raise ValueError(f"{op}: matrix must be (L, M), each at least 1, got {tuple(matrix.shape)}")
    if not bool(matrix.isfinite().all()):
        raise ValueError(f"{op}: matrix must be finite, got inf or nan")
    if sigma2 is not None and not sigma2 > 0:
        raise ValueError(f"{op}: sigma2 must be above 0, got {sigma2}")
    g = torch.linalg.svdvals(matrix.detach().double()).cpu()
    scale = float(g[0])
    if scale == 0:
        return Evbmf(0, 0.0 if sigma2 is None else sigma2, 0.0, g[:0])
    # relative to the largest, and not below the rounding of the matrix, whose errors are no Gaussian noise
    g = (g / scale).clamp(min=torch.finfo(matrix.dtype).eps)
    m, a = max(matrix.shape), min(matrix.shape) / max(matrix.shape)
    tau = _exact_tau(a) if exact else _TAU * math.sqrt(a)
    x_bar = (1 + tau) * (1 + a / tau)
    s = _noise(g, m, a, x_bar) if sigma2 is None else sigma2 / scale**2
    threshold = math.sqrt(m * s * x_bar)
    kept = g[g > threshold]
    length = min(matrix.shape)
    rest = 1 - (length + m) * s / kept**2
    shrunk = kept / 2 * (rest + (rest**2 - 4 * length * m * s**2 / kept**4).clamp(min=0).sqrt())
    return Evbmf(len(kept), s * scale**2, threshold * scale, shrunk * scale)


def evbmf_rank(matrix: Tensor, sigma2: float | None = None, exact: bool = False) -> int:
    """`evbmf(matrix, sigma2, exact).rank`: 0 for pure noise, as freshly initialised weights are."""
    return evbmf(matrix, sigma2, exact).rank


def _noise(g: Tensor, m: int, a: float, x_bar: float) -> float:
    """sigma^2 at the global minimum; g: all singular values, descending."""
    length = len(g)
    most = min(math.ceil(length / (1 + a)) - 1, length - 1)  # so many can be signal
    upper = float((g**2).sum()) / (length * m)
    lower = max(float(g[most] ** 2) / (m * x_bar), float((g[most:] ** 2).mean()) / m)
    if lower >= upper:
        return upper
    left, right = math.log(lower), math.log(upper)
    for _ in range(6):  # each round keeps the neighbours of the best point: 7 decades shrink to 1e-15 of themselves
        grid = torch.linspace(left, right, _GRID, dtype=torch.float64)
        best = int(_energy(g, grid, m, a, x_bar).argmin())
        left, right = float(grid[max(best - 1, 0)]), float(grid[min(best + 1, _GRID - 1)])
        if right - left < 1e-9:
            break
    return math.exp((left + right) / 2)


def _energy(g: Tensor, log_sigma2: Tensor, m: int, a: float, x_bar: float) -> Tensor:
    """The free energy at each log sigma^2: sum_h psi(g_h^2 / (M sigma^2)); with all L values the other terms are 0."""
    x = g**2 / (m * log_sigma2.exp().unsqueeze(1))
    rest = x - (1 + a)
    t = (rest + (rest**2 - 4 * a).clamp(min=0).sqrt()) / 2
    signal = torch.log1p(t) + a * torch.log1p(t / a) - t
    return (x - x.log() + torch.where(x > x_bar, signal, 0.0)).sum(1)


def _exact_tau(a: float) -> float:
    """The root of Phi(t) + Phi(t / a), Phi(z) = log(1 + z) / z - 1/2, which falls: it is 0 at 2.5129."""
    low, high = 2.5 * a, 2.6
    for _ in range(60):
        t = (low + high) / 2
        if math.log1p(t) / t + math.log1p(t / a) * a / t > 1:
            low = t
        else:
            high = t
    return (low + high) / 2
