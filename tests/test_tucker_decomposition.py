"""hosvd, hooi and tucker_round: exact where they must be, optimal where they can be, their errors as promised."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from spectral_ops.compress import Budget, Energy, Fraction, allocate, hooi, hosvd, tucker_round
from spectral_ops.compress.ranks import Evbmf, tucker_cost
from spectral_ops.compress.tucker import multiply, unfold_mode

both = pytest.mark.parametrize("method", [hosvd, hooi])


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def low_rank(shape: tuple[int, ...], ranks: tuple[int, ...]) -> Tensor:
    factors = [torch.randn(n, r, dtype=torch.float64) for n, r in zip(shape, ranks, strict=True)]
    return multiply(torch.randn(ranks, dtype=torch.float64), factors)


@both
@pytest.mark.parametrize("modes", [None, [0, 1], [2], [3, 0]], ids=str)
def test_full_rank_is_exact(method, modes: list[int] | None) -> None:
    x = torch.randn(6, 5, 3, 3)
    found = method(x, [x.shape[m] for m in (modes or range(4))], modes)
    assert found.error < 1e-14 and (found.full() - x).norm() < 1e-6 * x.norm()
    assert [u is None for u in found.factors] == [modes is not None and m not in modes for m in range(4)]
    for u in found.factors:
        if u is not None:
            torch.testing.assert_close(u.mT @ u, torch.eye(u.shape[1]), atol=1e-6, rtol=0)


@both
def test_a_tensor_of_low_rank_is_found(method) -> None:
    x = low_rank((9, 8, 3, 4), (3, 2, 2, 3))
    found = method(x, [3, 2, 2, 3])
    assert found.error < 1e-13 and found.ranks == (3, 2, 2, 3)
    assert found.parameters == 3 * 2 * 2 * 3 + 27 + 16 + 6 + 12
    assert method(x, [3, 2], [0, 1]).error < 1e-13
    assert method(x, [2, 2, 2, 3]).error > 1e-2
    assert method(torch.zeros(3, 4), [1, 2]).error == 0


def test_a_matrix_is_a_truncated_svd() -> None:
    x = torch.randn(7, 11, dtype=torch.float64)
    s = torch.linalg.svdvals(x)
    for method in (hosvd, hooi):
        assert method(x, [4, 4]).error == pytest.approx(float(s[4:].norm() / s.norm()), rel=1e-12)


def test_hooi_is_no_worse_and_a_fixed_point() -> None:
    x = torch.randn(10, 9, 3, 3, dtype=torch.float64)
    first, better = hosvd(x, [4, 3], [0, 1]), hooi(x, [4, 3], [0, 1], sweeps=100, tolerance=1e-15)
    assert better.error < first.error
    tails = sum(float(torch.linalg.svdvals(unfold_mode(x, m))[r:].square().sum()) for m, r in ((0, 4), (1, 3)))
    assert first.error * float(x.norm()) <= math.sqrt(tails)
    u, v = better.factors[:2]
    assert u is not None and v is not None
    # at the optimum U spans the leading directions of X x_1 V^T
    projected = unfold_mode(torch.einsum("ocij,cr->orij", x, v), 0)
    leading = torch.linalg.svd(projected, full_matrices=False)[0][:, :4]
    torch.testing.assert_close(u @ u.mT, leading @ leading.mT, atol=1e-6, rtol=0)
    assert hooi(x, [4, 3], [0, 1], sweeps=0).error == first.error


@pytest.mark.parametrize("tolerance", [0.0, 0.01, 0.1, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("modes", [None, [0, 1]], ids=str)
def test_rounding_keeps_its_promise_in_total(tolerance: float, modes: list[int] | None) -> None:
    for shape in ((8, 8, 3, 3), (20, 4, 1, 1), (5, 40)):
        for decay in (0.0, 1.0, 4.0):
            scale = [torch.arange(1, n + 1, dtype=torch.float64) ** -decay for n in shape]
            x = torch.randn(shape, dtype=torch.float64)
            x = multiply(x, [torch.diag(s) for s in scale])
            found = tucker_round(x, tolerance, modes and [0, 1])
            assert found.error <= tolerance + 1e-14
            assert float((found.full() - x).norm() / x.norm()) == pytest.approx(found.error, abs=1e-14)


def test_rounding_takes_the_least_ranks() -> None:
    x = low_rank((9, 8, 3, 4), (3, 2, 2, 3))
    x = x / x.norm()
    assert tucker_round(x, 1e-10).ranks == (3, 2, 2, 3)
    assert tucker_round(x + 1e-3 * torch.randn_like(x) / x.numel() ** 0.5, 0.01).ranks == (3, 2, 2, 3)
    assert tucker_round(x, 2.0).ranks == (1, 1, 1, 1)  # each of four modes may drop 2 / sqrt(4)
    assert tucker_round(x, 0.3, min_rank=3).ranks == (3, 3, 3, 3)
    assert tucker_round(x, 0.0, max_rank=2).ranks == (2, 2, 2, 2)
    wide = torch.randn(30, 4, 1, 1, dtype=torch.float64)  # more rows than the other modes allow
    assert tucker_round(wide, 0.0).ranks == (4, 4, 1, 1)
    x = torch.zeros(9, 8, 3, dtype=torch.float64)  # a rank that the modes rounded after it leave without use
    x[0, 0, 0], x[1, 1, 0], x[1, 0, 1] = 1.0, 0.25, 0.25
    found = tucker_round(x, 0.49)
    assert found.ranks == (1, 1, 1) and found.error <= 0.49


def test_rules() -> None:
    x = low_rank((24, 20, 3, 3), (4, 3, 3, 3)) + 0.01 * torch.randn(24, 20, 3, 3)
    assert Evbmf()(x) == Evbmf(exact=True)(x) == (4, 3)
    assert Evbmf()(torch.randn(24, 20, 3, 3)) == (0, 0)
    assert Energy(0.9999)(x) == (4, 3) and Energy(1.0)(x) == (24, 20) and Energy(0.5)(torch.zeros(3, 2)) == (0, 0)
    first, second = Energy(0.8)(x)
    for mode, rank in ((0, first), (1, second)):
        squares = torch.linalg.svdvals(unfold_mode(x, mode)).square()
        shares = squares.cumsum(0) / squares.sum()
        assert shares[rank - 1] >= 0.8 and (rank == 1 or shares[rank - 2] < 0.8)
    assert Fraction(0.3)(torch.zeros(10, 7, 3, 3)) == (3, 3)
    assert Fraction(1.0)(torch.zeros(10, 7, 1, 1)) == (7, 7)


def test_a_budget_is_met_with_the_least_error() -> None:
    """Against all choices of three small layers."""
    weights = [low_rank((4, 3, 2, 2), (2, 2, 2, 2)), torch.randn(3, 4, 1, 1), 5 * torch.randn(4, 4, 3, 3)]
    weights = [w.double() + 0.3 * torch.randn(w.shape) for w in weights]
    pixels = [(9, 4), (4, 4), (4, 1)]

    def error(w: Tensor, ranks: tuple[int, int] | None) -> float:
        if ranks is None:
            return 0.0
        tails = [torch.linalg.svdvals(unfold_mode(w, m))[r:].square().sum() for m, r in enumerate(ranks)]
        return float(sum(tails) / w.square().sum())

    def cost(w: Tensor, ranks: tuple[int, int] | None, p: tuple[int, int]) -> int:
        return w.numel() * p[1] if ranks is None else tucker_cost(w.shape, *ranks, *p)

    for given in (None, pixels):
        places = given or [(1, 1)] * 3
        options = [
            [(error(w, r), cost(w, r, p)) for r in [*itertools.product(*(range(1, n + 1) for n in w.shape[:2])), None]]
            for w, p in zip(weights, places, strict=True)
        ]
        least = min(sum(c for _, c in rows) for rows in itertools.product(*options))
        whole = sum(cost(w, None, p) for w, p in zip(weights, places, strict=True))
        for share in (0.0, 0.2, 0.5, 0.8, 1.0):
            budget = least + share * (whole - least)
            ranks = allocate(weights, budget, given)
            spent = sum(cost(w, r, p) for w, r, p in zip(weights, ranks, places, strict=True))
            total = sum(error(w, r) for w, r in zip(weights, ranks, strict=True))
            assert spent <= budget
            best = min(
                sum(e for e, _ in rows) for rows in itertools.product(*options) if sum(c for _, c in rows) <= spent
            )
            assert total <= best + 1e-12
    assert allocate(weights, whole) == [None] * 3


WRONG = [
    (lambda: hosvd(torch.ones(2, 2, dtype=torch.int64), [1, 1]), TypeError, "hosvd: x must be a real floating"),
    (lambda: hosvd(torch.ones(2, 2), [1]), ValueError, "hosvd: ranks must have one entry per mode, 2, got"),
    (lambda: hooi(torch.ones(2, 2), [1, 3]), ValueError, "hooi: the rank of mode 1 must be from 1 to 2, got 3"),
    (lambda: hooi(torch.ones(2, 2), [1], [2]), ValueError, "hooi: modes must be different numbers from 0 to 1"),
    (lambda: hosvd(torch.ones(0, 2), [1, 1]), ValueError, "hosvd: x must not be empty, got"),
    (lambda: tucker_round(torch.ones(2, 2), -1.0), ValueError, "tucker_round: tolerance must be at least 0, got -1"),
    (lambda: tucker_round(torch.ones(2, 2), 0.1, min_rank=0), ValueError, "tucker_round: ranks must have 1 <= min"),
    (lambda: Energy(0.0), ValueError, "Energy: share must be above 0 and at most 1, got 0.0"),
    (lambda: Fraction(1.5), ValueError, "Fraction: kappa must be above 0 and at most 1, got 1.5"),
    (lambda: Budget(2.0), ValueError, "Budget: share must be above 0 and at most 1, got 2.0"),
    (lambda: Budget(0.5, "bytes"), ValueError, "Budget: of must be parameters or operations, got 'bytes'"),
    (lambda: allocate([torch.ones(4, 4)], 8), ValueError, "allocate: budget must be at least 9, rank 1 everywhere"),
]


@pytest.mark.parametrize(("call", "error", "text"), WRONG, ids=[text for *_, text in WRONG])
def test_errors(call, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match="^" + text.replace("(", r"\(")):
        call()
