"""The rank of a noisy matrix: the global analytic solution against numbers computed apart from it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from spectral_ops.compress import evbmf, evbmf_rank


def noisy(seed: int, length: int, width: int, rank: int, noise: float) -> Tensor:
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((length, rank)), rng.standard_normal((rank, width))
    e = rng.standard_normal((length, width))
    return torch.from_numpy((a @ b / np.sqrt(rank) if rank else 0) + noise * e)


# seed, L, M, rank, noise; then the rank found, sigma^2, threshold and the largest shrunk singular value
VECTORS = [
    (0, 50, 100, 5, 0.1, 5, 0.0099370029, 1.88038912, 39.56916599),
    (1, 64, 576, 8, 1.0, 8, 0.9878999955, 34.41476518, 76.03390579),
    (2, 64, 576, 0, 1.0, 0, 1.0002571542, 34.62933502, None),
    (4, 256, 64, 6, 0.5, 6, 0.2516450820, 13.20175957, 54.91979990),
    (1001, 64, 576, 12, 2.0, 7, 4.2130852536, 71.07034808, 61.32107615),
]


@pytest.mark.parametrize("row", VECTORS, ids=lambda row: f"{row[1]}x{row[2]}-rank{row[3]}")
@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e8])
@pytest.mark.parametrize("way", ["as_is", "transposed"])
def test_vectors(row: tuple, scale: float, way: str) -> None:
    seed, length, width, true, noise, rank, sigma2, threshold, first = row
    y = noisy(seed, length, width, true, noise) * scale
    found = evbmf(y if way == "as_is" else y.mT)
    assert found.rank == len(found.values) == rank
    assert found.sigma2 == pytest.approx(sigma2 * scale**2, rel=1e-7)
    assert found.threshold == pytest.approx(threshold * scale, rel=1e-7)
    if first is not None:
        assert float(found.values[0]) == pytest.approx(first * scale, rel=1e-7)


def test_the_search_is_global() -> None:
    """Of the free energy on a fine grid none is less than at the sigma^2 found; one minimum of several is taken."""
    y = noisy(1001, 64, 576, 12, 2.0)
    found = evbmf(y)
    g, m, a = torch.linalg.svdvals(y), 576, 64 / 576

    def energy(s: Tensor) -> Tensor:
        x = g**2 / (m * s.unsqueeze(1))
        tau = 2.5129 * a**0.5
        t = (x - (1 + a) + ((x - (1 + a)) ** 2 - 4 * a).clamp(min=0).sqrt()) / 2
        more = torch.log(t + 1) + a * torch.log(t / a + 1) - t
        return (x - x.log() + torch.where(x > (1 + tau) * (1 + a / tau), more, 0.0)).sum(1)

    grid = energy(torch.logspace(-1, 1.3, 5000, dtype=torch.float64))
    assert float(energy(torch.tensor([found.sigma2], dtype=torch.float64))) <= float(grid.min()) + 1e-9
    minima = (grid[1:-1] < grid[:-2]) & (grid[1:-1] < grid[2:])
    assert int(minima.sum()) > 1, "this matrix no longer has several minima: take another"


def test_given_noise_and_exact_threshold() -> None:
    y = noisy(0, 50, 100, 5, 0.1)
    assert evbmf(y, sigma2=0.01).sigma2 == 0.01 and evbmf_rank(y, sigma2=0.01) == 5
    assert evbmf_rank(y, sigma2=1e3) == 0
    exact, approximate = evbmf(y, sigma2=0.01, exact=True), evbmf(y, sigma2=0.01)
    tau, a = 2.5129 * 0.5**0.5, 0.5
    assert approximate.threshold == pytest.approx((100 * 0.01 * (1 + tau) * (1 + a / tau)) ** 0.5)
    # tau_bar of the equation, Phi(t) + Phi(t/a) = 0, from the threshold: x = (1 + t)(1 + a / t)
    x = exact.threshold**2 / (100 * 0.01)
    t = (x - 1 - a + ((x - 1 - a) ** 2 - 4 * a) ** 0.5) / 2
    assert np.log1p(t) / t + np.log1p(t / a) * a / t == pytest.approx(1, abs=1e-9)
    assert t != pytest.approx(tau, rel=1e-4)
    square = noisy(3, 40, 40, 2, 0.1)  # where the two agree
    assert evbmf(square, exact=True).threshold == pytest.approx(evbmf(square).threshold, rel=1e-4)


def test_extremes() -> None:
    assert evbmf_rank(torch.zeros(3, 4)) == 0
    assert evbmf_rank(torch.ones(1, 7)) == 0  # one row says nothing of the noise
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(*size, generator=generator) for size in ((20, 3), (3, 30)))
    assert evbmf_rank(a @ b + 1e-6 * torch.randn(20, 30, generator=generator)) == 3
    assert evbmf_rank(a @ b) == evbmf_rank((a @ b).bfloat16()) == 3  # noise of rounding only
    for seed in range(3):  # weights as torch initialises them are noise
        torch.manual_seed(seed)
        assert evbmf_rank(torch.nn.Conv2d(64, 64, 3).weight.flatten(1)) == 0
