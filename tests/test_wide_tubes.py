"""Tubes of 65 to 128 values by their matrix: values, guards, neighbours, and which transforms take it."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.fft
import torch
from test_native import LARGE, call, check_past_the_caches

from spectral_ops.op import rule_of
from spectral_ops.ops import fourier

pytestmark = pytest.mark.native
LENGTHS = [65, 66, 67, 79, 80, 81, 95, 96, 97, 112, 113, 127, 128]


@pytest.fixture
def matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fourier, "by_matrix", lambda *_: True)


def tubes(count: int, n: int) -> torch.Tensor:
    return torch.randn(count, n, generator=torch.Generator().manual_seed(count + n))


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("type", [2, 3, 4])
def test_every_number_of_tubes(n: int, type: int, level: str, matrix: None) -> None:
    for count in (1, 5, 6, 7, 13, 241):
        for shape, dim in (((count, n), 1), ((n, count), 0)):
            args = [tubes(count, n).view(shape), type, dim, "ortho", False, True]
            (y,) = call("dct", args)
            exact = rule_of("dct").reference(args[0].double(), *args[1:])
            assert float((y - exact).norm() / exact.norm()) < 3e-7, (count, dim)


@pytest.mark.parametrize("n", [65, 97, 128])
@pytest.mark.parametrize("type", [2, 3, 4])
def test_a_tube_leaves_the_others_alone(n: int, type: int, level: str, matrix: None) -> None:
    x = tubes(13, n)
    (clean,) = call("dct", [x, type, 1, "ortho", False, True])
    for place in (0, 5, 6, 12):
        spoilt = x.clone()
        spoilt[place, place] = torch.nan
        (y,) = call("dct", [spoilt, type, 1, "ortho", False, True])
        others = torch.arange(13) != place
        assert torch.equal(y[others], clean[others])
        assert bool(y[place].isnan().all())


@pytest.mark.parametrize("n", [80, 96, 97, 128])
def test_results_past_the_caches(n: int, level: str, matrix: None) -> None:
    check_past_the_caches("dct", tubes(LARGE // n + 5, n), (2, 1), 3e-7)


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("family", ["dct", "dst"])
def test_no_worse_than_scipy(n: int, family: str, matrix: None) -> None:
    x = np.random.default_rng(n).standard_normal((256, n)).astype(np.float32)
    for kind in (2, 3, 4):
        exact = getattr(scipy.fft, family)(x.astype(np.longdouble), kind, norm="ortho")
        theirs = np.linalg.norm(getattr(scipy.fft, family)(x, kind, norm="ortho") - exact)
        (y,) = call(family, [torch.from_numpy(x), kind, 1, "ortho", False, True])
        assert np.linalg.norm(y.numpy() - exact) <= 1.1 * theirs, kind


def test_which_take_the_matrix(level: str) -> None:
    """Large ones with AVX-512: a large prime factor; of many columns those that split into halves, and short ones."""
    rows = {}
    for n in (75, 82, 96, 97, 121, 126, 128):
        x = torch.empty(1, dtype=torch.float32).expand(LARGE // n + 1, n)
        columns = x.unflatten(0, (1, -1)).mT
        rows[n] = [fourier.by_matrix(t, type, 1) for t in (x, columns) for type in (2, 4)]
        few = x[:1, :1, None].expand(LARGE // n, n, 5)
        assert [fourier.by_matrix(few, type, 1) for type in (2, 4)] == rows[n][:2]
        assert not fourier.by_matrix(x[:64], 2, 1) and not fourier.by_matrix(x.double(), 2, 1)
    wanted = {
        75: [False, False, True, False],
        82: [True, False, True, True],
        96: [False, False, True, True],
        97: [True, True, True, True],
        121: [False, False, False, False],
        126: [False, False, False, True],
        128: [False, False, True, False],
    }
    assert rows == (wanted if level == "avx512" else {n: [False] * 4 for n in wanted})
