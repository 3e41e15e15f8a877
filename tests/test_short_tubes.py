"""Tubes of at most 16 values, along the last axis and as columns: every length and number, and what lies beside."""

from __future__ import annotations

import itertools

import pytest
import torch
from test_native import PATTERN, call

from spectral_ops.op import rule_of

pytestmark = pytest.mark.native
LENGTHS = range(2, 17)
COUNTS = [1, 2, 3, 5, 7, 8, 11, 15, 16, 17, 31, 33, 49, 240, 257]


def tubes(count: int, n: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(count, n, generator=torch.Generator().manual_seed(count + n), dtype=dtype)


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_every_number_of_tubes(n: int, dtype: torch.dtype, level: str) -> None:
    """Types II, III and IV: with either symmetry and without; the guards of `call` lie around x and the result."""
    for count, dim in itertools.product(COUNTS, (0, 1)):
        for op, type in (("dct", 2), ("dct", 3), ("dct", 4), ("dst", 3), ("dst", 1)):
            x = tubes(count, n, dtype) if dim else tubes(count, n, dtype).mT.contiguous()
            args = [x, type, dim, "ortho", False, True]
            (y,) = call(op, args)
            exact = rule_of(op).reference(x.double(), *args[1:])
            assert (y - exact).abs().max() < 4 * torch.finfo(dtype).eps * x.norm(dim=dim).max(), (op, type, count, dim)


@pytest.mark.parametrize("n", LENGTHS)
def test_any_address(n: int, level: str) -> None:
    """x and y that start beside a vector give the same bits."""
    x, options = tubes(100, n), (2, 1, "ortho", False, True)
    (y,) = call("dct", [x, *options])
    for offset in (1, 3, 13):
        source, target = torch.full((2, x.numel() + offset + 1), PATTERN)
        moved, result = (t[offset:-1].view(x.shape) for t in (source, target))
        rule_of("dct").cpp([moved.copy_(x), *options], result)
        assert torch.equal(result, y)
        assert (target[:offset] == PATTERN).all() and target[-1] == PATTERN


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_tube_leaves_the_others_alone(n: int, value: float, level: str) -> None:
    for type, dim in itertools.product((2, 3, 4), (0, 1)):
        x = tubes(50, n)
        (clean,) = call("dct", [x if dim else x.mT, type, dim, "ortho", False, True])
        for place in (0, 15, 17, 48, 49):
            spoilt = x.clone()
            spoilt[place, place % n] = value
            (y,) = call("dct", [spoilt if dim else spoilt.mT, type, dim, "ortho", False, True])
            others = torch.arange(50) != place
            result, expected = (y, clean) if dim else (y.mT, clean.mT)
            assert torch.equal(result[others], expected[others])
            assert not result[place].isfinite().any()
