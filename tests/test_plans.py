"""Calls that are remembered: what is found again, what must be judged anew."""

from __future__ import annotations

import pytest
import torch
from calls import results
from samples import LEVELS, RIGHT, Sample
from torch import Tensor

import spectral_ops
from spectral_ops import native
from spectral_ops.op import _OPS, rule_of
from spectral_ops.plans import Plans

ops = torch.ops.spectral
pytestmark = [
    pytest.mark.native,
    pytest.mark.skipif(not LEVELS, reason=str(native.status()["cpu"])),
]


def layer(seed: int = 0, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    shapes = ((3, 5, 4), (3, 6, 4), (3, 6))
    return tuple(torch.randn(s, generator=g, dtype=dtype) for s in shapes)  # type: ignore[return-value]


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """The arguments of every check of branch_linear from now on; nothing is remembered."""
    rule, seen = rule_of("branch_linear"), []
    check = rule.check
    _OPS["branch_linear"].plans._known.clear()
    monkeypatch.setattr(rule, "check", lambda *args: seen.append(args) or check(*args))
    return seen


def test_a_call_is_checked_once(checks: list[tuple]) -> None:
    for seed in range(3):
        x, w, b = layer(seed)
        torch.testing.assert_close(ops.branch_linear(x, w, b), x @ w.mT + b[:, None])
    assert len(checks) == 1


def test_another_call_is_checked_again(checks: list[tuple]) -> None:
    x, w, b = layer()
    ops.branch_linear(x, w, b)
    others = [(x, w, b, "relu"), (x, w), (x[:, :2].contiguous(), w, b), (x.double(), w.double(), b.double())]
    for number, args in enumerate(others):
        ops.branch_linear(*args)
        assert len(checks) == 2 + number
    for wrong, error in (((x, w, b, "elu"), ValueError), ((x, w, b.double()), TypeError), ((x, b, w), ValueError)):
        for _ in range(2):
            with pytest.raises(error, match="branch_linear: "):
                ops.branch_linear(*wrong)


def test_what_the_kernel_does_not_take_as_it_is_is_not_remembered(checks: list[tuple]) -> None:
    x, w, _ = layer()
    half, turned = torch.bfloat16, x.mT.contiguous().mT
    for args in ((x.to(half), w.to(half)), (turned, w), (x, w.to(torch.complex64)), (x[:, :0], w)):
        del checks[:]
        ops.branch_linear(*args)
        once = len(checks)
        ops.branch_linear(*args)
        assert len(checks) == 2 * once > 0, args[0].dtype


def test_a_remembered_call_of_values_that_lie_otherwise(checks: list[tuple]) -> None:
    """Strides, conjugation and negation are no part of a signature."""
    x, w, _ = layer(dtype=torch.complex64)
    ops.branch_linear(x, w)
    for other in (x.mT.contiguous().mT, x.conj(), torch._neg_view(x)):
        torch.testing.assert_close(ops.branch_linear(other, w), other.resolve_neg() @ w.mT)
    assert len(_OPS["branch_linear"].plans._known) == 1


def test_use_comes_first() -> None:
    """A forced backend runs, and raises its reason, though the call was remembered with another one."""
    x, w, b = layer()
    ops.branch_linear(x, w, b)
    with spectral_ops.use("reference"):
        assert torch.equal(ops.branch_linear(x, w, b), rule_of("branch_linear").reference(x, w, b))
    with spectral_ops.use("triton"), pytest.raises(RuntimeError, match="'triton' was asked for"):
        ops.branch_linear(x, w, b)


def test_no_more_than_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    plans = _OPS["branch_linear"].plans
    monkeypatch.setattr(Plans, "MOST", 4)
    for n in range(1, 12):
        ops.branch_linear(torch.ones(1, n, 1), torch.ones(1, 1, 1))
        assert len(plans._known) <= 4


@pytest.mark.parametrize("row", [row for row in RIGHT if row.small], ids=lambda row: row.id)
def test_the_second_time_is_the_first(row: Sample) -> None:
    """Of every op: results of the same kind, shape, strides and values."""
    args = row.make(torch.float32)
    first, second = results(row.op, args), results(row.op, args)
    assert type(getattr(ops, row.op)(*args)) is type(getattr(ops, row.op)(*args))
    for a, b in zip(first, second, strict=True):
        assert (a.dtype == b.dtype and a.stride() == b.stride() and a.data_ptr() != b.data_ptr()) or not a.numel()
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("wide", ["x", "weight"])
def test_a_wide_network_is_differentiated_by_parts(wide: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the width of the kernels backward would compute forward again; autograd keeps it."""
    i, o = (130, 3) if wide == "x" else (3, 130)
    args = [torch.randn(2, 5, i), torch.randn(2, o, i), torch.randn(2, o)]

    def gradients() -> tuple[Tensor, ...]:
        x, weight, bias = leaves = [t.clone().requires_grad_() for t in args]
        y = ops.spectral_mlp(x, None, [weight], [bias], ["tanh"])
        z = ops.branch_linear(x, weight, bias, "tanh")
        return torch.autograd.grad([y, z], leaves, [torch.ones_like(y), torch.ones_like(z)])

    with spectral_ops.use("reference"):
        wanted = gradients()
    monkeypatch.setattr(rule_of("branch_mlp_backward"), "check", lambda *_: pytest.fail("computed again"))
    for got, want in zip(gradients() + gradients(), wanted + wanted, strict=True):
        torch.testing.assert_close(got, want)
    with pytest.raises(ValueError, match="weight"):
        ops.branch_linear(args[0].requires_grad_(), args[1][:, :, 1:], None)


def test_a_call_that_goes_to_the_reference_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight = torch.randn(2, 5, 130), torch.randn(2, 3, 130)
    wanted = ops.branch_linear(x, weight, None)
    monkeypatch.setattr(rule_of("branch_linear"), "check", lambda *_: pytest.fail("checked again"))
    torch.testing.assert_close(ops.branch_linear(x, weight, None), wanted)
