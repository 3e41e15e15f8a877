"""Decompositions and layers against tensorly's: an oracle that shares no code with ours."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from spectral_ops.compress import hooi, hosvd, to_cp, tucker_round
from spectral_ops.compress.tucker import Tucker, unfold_mode
from spectral_ops.nn import TuckerConv2d, TuckerLinear

tensorly = pytest.importorskip("tensorly", reason="tensorly is not installed: pip install 'spectral-ops[test]'")
decomposition = pytest.importorskip("tensorly.decomposition")
pytestmark = pytest.mark.usefixtures("seeded")
D = torch.float64
CASES = [
    ((10, 9, 3, 3), (4, 3, 2, 2), (0, 1, 2, 3)),
    ((10, 9, 3, 3), (4, 3), (0, 1)),
    ((12, 7, 1, 1), (5, 5), (0, 1)),
    ((6, 20), (3, 3), (0, 1)),
    ((7, 8, 5), (2, 4, 2), (0, 1, 2)),
]


@pytest.fixture(autouse=True)
def _backend():
    with tensorly.backend_context("pytorch", local_threadsafe=True):
        yield


def spans(u: Tensor) -> Tensor:
    return u @ u.mT


@pytest.mark.parametrize("mode", range(4))
def test_unfolding(mode: int) -> None:
    x = torch.randn(4, 5, 2, 3)
    assert torch.equal(unfold_mode(x, mode), tensorly.unfold(x, mode))


@pytest.mark.parametrize(("shape", "ranks", "modes"), CASES, ids=str)
def test_hosvd_and_hooi(shape: tuple[int, ...], ranks: tuple[int, ...], modes: tuple[int, ...]) -> None:
    """The same subspaces and errors: of no sweep, and of as many sweeps as either cares to make."""
    x = torch.randn(shape, dtype=D)
    options = {"rank": list(ranks), "modes": list(modes), "init": "svd"}
    for ours, sweeps, close in (
        (hosvd(x, ranks, modes), 0, 1e-10), (hooi(x, ranks, modes, sweeps=500, tolerance=1e-15), 500, 1e-5),
    ):  # fmt: skip
        (core, factors), _ = decomposition.partial_tucker(x, n_iter_max=sweeps, tol=1e-15, **options)
        if not sweeps:  # tensorly's core is of its first sweep
            core = tensorly.tenalg.multi_mode_dot(x, [u.mT for u in factors], list(modes))
        for mode, theirs in zip(modes, factors, strict=True):
            torch.testing.assert_close(spans(ours.factors[mode]), spans(theirs), rtol=0, atol=close)
        full = tensorly.tenalg.multi_mode_dot(core, factors, list(modes))
        torch.testing.assert_close(ours.full(), full, rtol=0, atol=10 * close)
        assert ours.error == pytest.approx(float((full - x).norm() / x.norm()), rel=10 * close)


@pytest.mark.parametrize("tolerance", [0.05, 0.3, 0.6])
def test_rounding_is_a_tucker_decomposition_of_its_ranks(tolerance: float) -> None:
    """tensorly composes ours to the same tensor; at our ranks its own is no further away, and not near one less."""
    x = torch.randn(9, 8, 3, 3, dtype=D)
    for mode, n in enumerate(x.shape):
        x *= (torch.arange(1, n + 1, dtype=D) ** -1.0).view([-1 if m == mode else 1 for m in range(4)])
    ours: Tucker = tucker_round(x, tolerance)
    theirs = tensorly.tucker_to_tensor((ours.core, list(ours.factors)))
    assert float((theirs - x).norm() / x.norm()) == pytest.approx(ours.error, abs=1e-12)
    best = tensorly.tucker_to_tensor(decomposition.tucker(x, rank=list(ours.ranks), n_iter_max=300, tol=1e-14))
    assert float((best - x).norm() / x.norm()) <= ours.error * (1 + 1e-9) <= tolerance * (1 + 1e-9)


def test_the_kernels_of_layers() -> None:
    for layer in (TuckerConv2d(5, 7, (3, 2), ranks=(4, 3, 2, 1)), TuckerLinear(8, 6, ranks=(3, 2))):
        exact = tensorly.tucker_to_tensor((layer.core, list(layer.factors)))
        torch.testing.assert_close(layer.weight(), exact)
    wide = nn.Conv2d(12, 16, 3)
    b, h, w, a = (part.weight.detach().flatten(1) for part in to_cp(nn.Sequential(wide), 0.3)[0])
    kernel = tensorly.cp_to_tensor((None, [a, b.mT, h.mT, w.mT]))
    x = torch.randn(2, 12, 5, 5)
    small = to_cp(nn.Sequential(wide), 0.3)
    for part, values in zip(small[0], (b, h, w, a), strict=True):
        part.weight.data.copy_(values.view_as(part.weight))
    exact = nn.functional.conv2d(x, kernel, wide.bias)
    torch.testing.assert_close(small(x), exact, rtol=1e-4, atol=1e-5)
