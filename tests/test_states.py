"""What the forward pass of a network keeps for its gradient: the same bits as computing it again."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from samples import LEVELS
from torch import Tensor

import spectral_ops
from spectral_ops import native
from spectral_ops.op import rule_of

ops = torch.ops.spectral
OPS = ("spectral_mlp", "spectral_ensemble")
REAL, COMPLEX = ("relu", "gelu", "silu", "tanh", "sigmoid"), ("crelu", "zrelu", "modrelu:0.1", "cardioid")
pytestmark = [pytest.mark.native, pytest.mark.skipif(not LEVELS, reason=str(native.status()["cpu"]))]


def network(op: str, activation: str, n: int, dtype: torch.dtype, transform: bool = True) -> list:
    """Arguments of three branches of tubes of five, or of four; everything wants a gradient."""
    g = torch.Generator().manual_seed(n)
    widths, q = (5, 7, 3), 3

    def normal(*shape: int, of: torch.dtype = dtype) -> Tensor:
        return torch.randn(shape, generator=g, dtype=of).requires_grad_()

    x = normal(n, 5, 4, of=dtype.to_real()) if transform else normal(q, n, 5)
    weights = [normal(q, o, i) for i, o in pairwise(widths)]
    biases = [normal(q, 7), None]
    args = [x, normal(q, 4) if transform else None, weights, biases, [activation, "none"]]
    return [*args, normal(q, of=dtype.to_real())] if op == "spectral_ensemble" else args


def leaves(args: list) -> list[Tensor]:
    return [t for a in args for t in (a if isinstance(a, list) else [a]) if isinstance(t, Tensor)]


def kept(op: str, y: Tensor, args: list) -> int:
    """How many tensors are saved for the gradient besides the arguments."""
    return len(y.grad_fn.saved_tensors) - len(leaves(args))  # type: ignore[union-attr]


def gradients(op: str, args: list, keeps: bool) -> list[Tensor]:
    for _ in range(2):  # the first call of its shapes keeps nothing
        y = getattr(ops, op)(*args)
    assert kept(op, y, args) == keeps
    weight = torch.arange(1, y.numel() + 1).view(y.shape).to(y.dtype)
    return [y, *torch.autograd.grad(y, leaves(args), weight)]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("n", [1, 9, 16, 33, 300])
@pytest.mark.parametrize("op", OPS)
def test_the_same_bits(op: str, n: int, level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tile with few samples, a whole one, several, and several blocks; with and without arguments kept."""
    rule = rule_of("spectral_mlp")
    with native.cpu_level(level):
        for activation in (*REAL, *COMPLEX):
            for dtype in (torch.float32, torch.float64):
                args = network(op, activation, n, dtype.to_complex() if activation in COMPLEX else dtype)
                monkeypatch.setattr(rule, "MOST_STATES", 8 << 20)
                got = gradients(op, args, keeps=True)
                monkeypatch.setattr(rule, "MOST_STATES", 0)
                for a, b in zip(got, gradients(op, args, keeps=False), strict=True):
                    torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("activation", ["relu", "modrelu"])
def test_against_the_reference(op: str, activation: str) -> None:
    dtype = torch.complex128 if activation == "modrelu" else torch.float64
    for transform in (True, False):
        args = network(op, activation, 20, dtype, transform)
        got = gradients(op, args, keeps=True)
        with spectral_ops.use("reference"):
            wanted = gradients(op, args, keeps=False)
        for a, b in zip(got, wanted, strict=True):
            torch.testing.assert_close(a, b)


@pytest.mark.parametrize("op", OPS)
def test_as_many_bytes_as_that(op: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three branches of 5 + 7 + 3 numbers a sample."""
    args = network(op, "crelu", 6, torch.complex64)
    monkeypatch.setattr(rule_of("spectral_mlp"), "MOST_STATES", 3 * 6 * 15 * 8)
    gradients(op, args, keeps=True)
    monkeypatch.setattr(rule_of("spectral_mlp"), "MOST_STATES", 3 * 6 * 15 * 8 - 1)
    gradients(op, args, keeps=False)


@pytest.mark.parametrize("op", OPS)
def test_they_serve_twice_and_no_second_derivative(op: str) -> None:
    args = network(op, "tanh", 20, torch.float64)
    for _ in range(2):
        y = getattr(ops, op)(*args)
    assert kept(op, y, args) == 1
    first, again = (torch.autograd.grad(y.square().sum(), leaves(args), retain_graph=True) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    with_graph = torch.autograd.grad(y.square().sum(), leaves(args), create_graph=True)
    second = torch.autograd.grad(sum(g.square().sum() for g in with_graph), leaves(args))
    with spectral_ops.use("reference"):
        exact = torch.autograd.grad(getattr(ops, op)(*args).square().sum(), leaves(args), create_graph=True)
        wanted = torch.autograd.grad(sum(g.square().sum() for g in exact), leaves(args))
    for a, b in zip((*first, *with_graph, *second), (*exact, *exact, *wanted), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("op", OPS)
def test_a_gradient_that_lies_otherwise(op: str) -> None:
    """Expanded, transposed, conjugated in the flags alone."""
    args = network(op, "none", 20, torch.complex128 if op == "spectral_mlp" else torch.float64)
    for _ in range(2):
        y = getattr(ops, op)(*args)
    dense = torch.randn(y.shape, dtype=y.dtype)
    for other in (torch.ones((), dtype=y.dtype).expand(y.shape), dense.mT.contiguous().mT, dense.conj()):
        got = torch.autograd.grad(y, leaves(args), other, retain_graph=True)
        wanted = torch.autograd.grad(y, leaves(args), other.resolve_conj().contiguous(), retain_graph=True)
        assert all(torch.equal(a, b) for a, b in zip(got, wanted, strict=True))


@pytest.mark.skipif(len(LEVELS) < 2, reason="one SIMD level only")
def test_states_of_another_level() -> None:
    args = network("spectral_mlp", "relu", 20, torch.float32)
    for _ in range(2):
        y = ops.spectral_mlp(*args)
    with native.cpu_level(LEVELS[1]), pytest.raises(RuntimeError, match="another SIMD level"):
        y.sum().backward()
