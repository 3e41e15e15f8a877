"""Types II and III of which half is a type IV of half the length: values, guards, accuracy, and which are split."""

from __future__ import annotations

import bounds
import numpy as np
import pytest
import scipy.fft
import torch
from samples import T, make
from test_native import LARGE, call, check_past_the_caches

from spectral_ops.ops import fourier

pytestmark = pytest.mark.native
LENGTHS = range(16, 65, 4)


@pytest.fixture
def deepest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Down to matrices of at most 8 or 12, or of an odd length."""
    monkeypatch.setattr(fourier, "SHORTEST_SPLIT", {2: 16, 3: 16})


def check(calls: list[tuple[str, list]], dtype: torch.dtype) -> None:
    for op, args in calls:
        made = make(args, dtype)
        for r, limit in zip(call(op, made), bounds.bounded(op, made, dtype), strict=True):
            bounds.check(r, limit, f"{op}, {args}")


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_every_length(n: int, dtype: torch.dtype, level: str, deepest: None) -> None:
    """Whole and ragged tiles, blocks of few columns, tubes along the last axis in tiles, planes; heads and scales."""
    for type in (2, 3):
        along = [type, 1, "ortho", False, True]
        calls = [(op, [T(shape), *along]) for op in ("dct", "dst") for shape in ((25, n), (2, n, 39), (40, n, 2))]
        calls += [(op, [T((2, n, 64)), type, 1, "forward", True, False]) for op in ("dct_adjoint", "dst_adjoint")]
        calls += [("dctn", [T((2, n, 18)), [1, 2], type, "backward", True, True, sine, sine]) for sine in (False, True)]
        check(calls, dtype)


@pytest.mark.parametrize("n", [32, 36, 48, 64])
def test_as_they_are_taken(n: int, level: str) -> None:
    check([("dct", [T((2, n, 39)), type, 1, "ortho", False, True]) for type in (2, 3)], torch.float32)


@pytest.mark.parametrize("n, inner", [(32, 1024), (36, 1021), (48, 33), (56, 1170), (64, 2048)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_results_past_the_caches(n: int, inner: int, dtype: torch.dtype, level: str, deepest: None) -> None:
    outer = LARGE * 4 // (dtype.itemsize * n * inner) + 1
    x = torch.randn(outer, n, inner, generator=torch.Generator().manual_seed(n), dtype=dtype)
    for type in (2, 3):
        check_past_the_caches("dct", x, (type, 1), 2e-7 if dtype == torch.float32 else 1e-15)


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_no_worse_than_scipy(n: int, dtype: type, deepest: None) -> None:
    x = np.random.default_rng(n).standard_normal((n, 2048)).astype(dtype)
    for family in ("dct", "dst"):
        for kind in (2, 3):
            exact = getattr(scipy.fft, family)(x.astype(np.longdouble), kind, axis=0, norm="ortho")
            theirs = np.linalg.norm(getattr(scipy.fft, family)(x, kind, axis=0, norm="ortho") - exact)
            (y,) = call(family, [torch.from_numpy(x), kind, 0, "ortho", False, True])
            assert np.linalg.norm(y.numpy() - exact) <= 1.05 * theirs, (family, kind)


def test_which_are_split(level: str) -> None:
    """Columns of lengths divisible by 4 until they are short, of the type that is computed; rows where tiles are."""
    columns = {n: torch.empty(2, n, 40) for n in (28, 32, 36, 42, 64)}
    assert [fourier.parts(x, 2, 1) for x in columns.values()] == [1, 1, 2, 1, 2]
    assert [fourier.parts(x, 3, 1) for x in columns.values()] == [1, 2, 2, 1, 4]
    assert all(fourier.parts(x, type, 1) == 1 for x in columns.values() for type in (1, 4))
    rows = torch.empty(40, 64)
    assert fourier.parts(rows, 2, 1) == (1 if level == "avx512" else 2)
    assert fourier.parts(rows.double(), 2, 1) == 2
    assert fourier.parts(torch.empty(40, 88), 2, 1) == 1
