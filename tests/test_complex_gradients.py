"""Derivatives of complex branches: numerical checks, torch.func, forward mode, vmap, and torch.compile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from calls import assert_same_under, function, listed, of_tensors, results
from complex_samples import OPS, complex_rows, small_rows
from samples import Sample, floating, map_tensors
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.func import grad, jacfwd, jacrev, jvp, vmap

from spectral_ops.autograd import flatten, unflatten
from spectral_ops.op import rule_of

ops = torch.ops.spectral
D, Z = torch.float64, torch.complex128
GRADIENT_OPS = tuple(op for op in OPS if op.endswith(("_backward", "_with_grads")))


def smallest(op: str, count: int) -> list[Sample]:
    return sorted(small_rows(op), key=lambda row: row.values)[:count]


# every kind of layer; of the ops that are made of it fewer, of the helpers of gradients the smallest row
FIRST = [row for op in OPS for row in smallest(op, {"spectral_linear": 8}.get(op, 2 if op in GRADIENT_OPS else 4))]
SECOND = [row for op in OPS for row in smallest(op, {"spectral_linear": 4}.get(op, 1 if op in GRADIENT_OPS else 2))]
every_op = pytest.mark.parametrize("op", OPS)


@pytest.fixture(autouse=True)
def _one_thread(threads):
    """The tensors are tiny: waking a second thread for each costs more than all else."""
    torch.set_num_threads(1)


@pytest.mark.parametrize("row", FIRST, ids=lambda row: row.id)
def test_gradcheck(row: Sample) -> None:
    f, leaves = function(row)
    assert gradcheck(f, leaves, check_forward_ad=True, check_batched_grad=True)


@pytest.mark.parametrize("row", SECOND, ids=lambda row: row.id)
def test_gradgradcheck(row: Sample) -> None:
    f, leaves = function(row)
    assert gradgradcheck(f, leaves, check_fwd_over_rev="with_grads" not in row.op)


@pytest.mark.parametrize("row", [row for op in OPS for row in complex_rows(op)[:2]], ids=lambda row: row.id)
def test_gradients_are_the_references(row: Sample) -> None:
    """At large sizes too: what `backward` composes is the derivative of the definition."""
    args = map_tensors(lambda t: t.requires_grad_(floating(t)), row.make(D))
    leaves = [t for t in flatten(args)[0] if t.requires_grad]
    found = []
    for f in (getattr(ops, row.op), rule_of(row.op).reference):
        out = [y for y in listed(f(*args)) if y.requires_grad]
        seeds = [torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(1)) for y in out]
        found.append(torch.autograd.grad(out, leaves, seeds, allow_unused=True))
    for got, wanted, t in zip(*found, leaves, strict=True):
        assert (got is None) == (wanted is None)
        if got is not None:
            assert got.dtype == t.dtype and got.shape == t.shape
            torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-10)


def test_the_fused_loss_gives_each_branch_its_own_gradient() -> None:
    for row in complex_rows("spectral_mlp_cross_entropy"):
        *net, target = map_tensors(lambda t: t.requires_grad_(floating(t)), row.make(D))
        leaves = [t for t in flatten(net)[0] if t.requires_grad]
        losses, logits = ops.spectral_mlp_cross_entropy(*net, target)
        composed = torch.stack([torch.nn.functional.cross_entropy(z.real, target) for z in ops.spectral_mlp(*net)])
        scale = torch.linspace(0.5, 2, len(losses), dtype=D)
        for objective, wanted in (
            (losses.sum(), composed.sum()),
            (losses @ scale, composed @ scale),
            (losses @ scale + logits.abs().sum(), composed @ scale + ops.spectral_mlp(*net).abs().sum()),
        ):
            got = torch.autograd.grad(objective, leaves, retain_graph=True)
            torch.testing.assert_close(
                got, torch.autograd.grad(wanted, leaves, retain_graph=True), rtol=1e-9, atol=1e-11
            )


# ---- torch.func ----------------------------------------------------------------------------------------------------
def pair(op: str) -> tuple[Callable, Callable, list[Tensor]]:
    """The op and its reference as real scalar functions, and their inputs."""
    args = small_rows(op)[0].make(D)

    def scalar(f: Callable) -> Callable:
        of = of_tensors(f, args)[0]

        def g(*given: Tensor) -> Tensor:
            parts = [p for y in of(*given) if y.numel() for p in ((y.real, y.imag) if y.is_complex() else (y,))]
            return sum((p.sin() * (p + k)).sum() for k, p in enumerate(parts))

        return g

    return scalar(getattr(ops, op)), scalar(rule_of(op).reference), of_tensors(rule_of(op).reference, args)[1]


def _stacks(tensors: list[Tensor]) -> tuple[Tensor, ...]:
    return tuple(torch.stack([t, 0.5 * t, t.flip(0)]) for t in tensors)


def _real(f: Callable, v: list[Tensor]) -> tuple[Callable, Tensor]:
    """f of the real parts of the last complex tensor: the Jacobians of torch.func are for real inputs."""
    at = max(i for i, t in enumerate(v) if t.is_complex())
    return lambda re: f(*v[:at], torch.complex(re, v[at].imag), *v[at + 1 :]), v[at].real.clone()


TRANSFORMS: dict[str, Callable[[Callable, list[Tensor]], Any]] = {
    "grad": lambda f, v: grad(f, argnums=tuple(range(len(v))))(*v),
    "jvp": lambda f, v: jvp(f, tuple(v), tuple(0.3 * t.flip(0) for t in v)),
    "jacfwd of jacrev": lambda f, v: jacfwd(jacrev(_real(f, v)[0]))(_real(f, v)[1]),
    "vmap": lambda f, v: vmap(f)(*_stacks(v)),
    "vmap of one": lambda f, v: vmap(f, (0, *[None] * (len(v) - 1)))(_stacks(v)[0], *v[1:]),
    "vmap of grad": lambda f, v: vmap(grad(f, argnums=tuple(range(len(v)))))(*_stacks(v)),
}


@every_op
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_transform(op: str, transform: str) -> None:
    assert_same_under(TRANSFORMS[transform], *pair(op))


# ---- compile -------------------------------------------------------------------------------------------------------
@every_op
def test_opcheck(op: str) -> None:
    args = map_tensors(lambda t: t.requires_grad_(floating(t)), small_rows(op)[0].make(torch.float32))
    checks = ["test_schema", "test_faketensor", "test_autograd_registration", "test_aot_dispatch_dynamic"]
    found = torch.library.opcheck(getattr(ops, op).default, tuple(args), test_utils=checks)
    assert found == dict.fromkeys(checks, "SUCCESS")


COMPILED = [(op, False) for op in OPS] + [(op, True) for op in OPS if op not in GRADIENT_OPS]


@pytest.mark.parametrize(("op", "dynamic"), COMPILED, ids=lambda value: {True: "dynamic", False: "static"}.get(value))
def test_compile(op: str, dynamic: bool) -> None:
    torch._dynamo.reset()
    tensors, structure = flatten(complex_rows(op)[1].make(torch.float32))
    leaves = [t.requires_grad_() for t in tensors if floating(t)]

    def f(tensors: list[Tensor]) -> Tensor:
        out = results(op, unflatten(tensors, structure))
        return sum((y.abs().sin() * (k + 1)).sum() for k, y in enumerate(out) if y.numel())

    got, wanted = torch.compile(f, fullgraph=True, backend="aot_eager", dynamic=dynamic)(tensors), f(tensors)
    torch.testing.assert_close(got, wanted)
    grads = torch.autograd.grad(got, leaves, allow_unused=True)
    for a, b in zip(grads, torch.autograd.grad(wanted, leaves, allow_unused=True), strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4 * max(1.0, float(b.abs().max())))
    torch._dynamo.reset()
