"""torch.func, vmap and forward-mode AD, nested, against the same transforms of the plain reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from calls import assert_same_under, of_tensors
from samples import small
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import grad, hessian, jacfwd, jacrev, jvp, vjp, vmap

import spectral_ops
from spectral_ops.op import rule_of
from spectral_ops.table import TABLE

D = torch.float64
every_op = pytest.mark.parametrize("op", TABLE)


def pair(op: str, index: int = -1) -> tuple[Callable, Callable, list[Tensor]]:
    """The op and its reference as scalar functions of their floating tensors, and these."""
    args = small(op)[index].make(D)

    def scalar(f: Callable) -> Callable:
        of = of_tensors(f, args)[0]
        return lambda *given: sum((y.sin() * (y + k)).sum() for k, y in enumerate(of(*given)) if y.numel())

    reference = rule_of(op).reference
    return scalar(getattr(torch.ops.spectral, op)), scalar(reference), of_tensors(reference, args)[1]


def moved(inputs: list[Tensor]) -> list[Tensor]:
    """Other tensors of the same shapes: tangents."""
    return [torch.cos(5 * t + i) for i, t in enumerate(inputs)]


def first(f: Callable, inputs: list[Tensor]) -> Callable:
    """f of its first tensor alone."""
    return lambda x: f(x, *inputs[1:])


def along(f: Callable, inputs: list[Tensor], tangents: list[Tensor]) -> Tensor:
    return jvp(f, tuple(inputs), tuple(tangents))[1]


TRANSFORMS: dict[str, Callable[[Callable, list[Tensor]], Any]] = {
    "grad": lambda f, v: grad(f, argnums=tuple(range(len(v))))(*v),
    "jvp": lambda f, v: jvp(f, tuple(v), tuple(moved(v))),
    "jacfwd": lambda f, v: jacfwd(first(f, v))(v[0]),
    "jacrev": lambda f, v: jacrev(f, argnums=tuple({0, len(v) - 1}))(*v),
    "hessian": lambda f, v: hessian(first(f, v))(v[0]),
    "jacrev of jacrev": lambda f, v: jacrev(jacrev(first(f, v)))(v[0]),
    "jvp of grad": lambda f, v: jvp(grad(first(f, v)), (v[0],), (moved(v)[0],)),
    "jvp of jvp": lambda f, v: jvp(
        lambda *u: along(f, list(u), moved(v)), tuple(v), tuple(t.flip(0) for t in moved(v))
    ),
    "grad of grad": lambda f, v: grad(lambda x: grad(first(f, v))(x).square().sum())(v[0]),
    # a Function of one level would silently drop the primal of the inner vjp
    "grad of vjp": lambda f, v: grad(_primal_and_cotangent(f, v))(v[0]),
    "vmap": lambda f, v: vmap(f)(*_stacks(v)),
    "vmap of one": lambda f, v: vmap(f, (0, *[None] * (len(v) - 1)))(_stacks(v)[0], *v[1:]),
    "vmap of the last": lambda f, v: vmap(f, (*[None] * (len(v) - 1), -1))(*v[:-1], _stacks(v)[-1].movedim(0, -1)),
    "vmap of grad": lambda f, v: vmap(grad(f, argnums=tuple(range(len(v)))))(*_stacks(v)),
    "vmap of hessian": lambda f, v: vmap(hessian(f))(*_stacks(v)),
    "jvp of vmap": lambda f, v: jvp(vmap(f), tuple(_stacks(v)), tuple(_stacks(moved(v)))),
    "vmap of vmap": lambda f, v: vmap(vmap(f))(*[torch.stack([s, s + 1]) for s in _stacks(v)]),
}


def _stacks(tensors: list[Tensor]) -> list[Tensor]:
    return [torch.stack([t, 0.5 * t, t.flip(0)]) for t in tensors]


def _primal_and_cotangent(f: Callable, v: list[Tensor]) -> Callable:
    def g(x: Tensor) -> Tensor:
        y, pull = vjp(first(f, v), x)
        return y + pull(torch.ones_like(y))[0].square().sum()

    return g


@every_op
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_transform(op: str, transform: str) -> None:
    assert_same_under(TRANSFORMS[transform], *pair(op))


@every_op
def test_forward_mode(op: str) -> None:
    """A plain register_autograd would give zero tangents here, silently."""
    f, reference, inputs = pair(op)
    with forward_ad.dual_level():
        duals = [forward_ad.make_dual(t, d) for t, d in zip(inputs, moved(inputs), strict=True)]
        got, wanted = forward_ad.unpack_dual(f(*duals)), forward_ad.unpack_dual(reference(*duals))
    torch.testing.assert_close((got.primal, got.tangent), (wanted.primal, wanted.tangent))
    assert got.tangent.abs() > 0


@every_op
def test_gradients_in_batches(op: str) -> None:
    """is_grads_batched takes the older batching key."""
    f, tensors = of_tensors(getattr(torch.ops.spectral, op), small(op)[-1].make(D))
    leaves = [t.requires_grad_() for t in tensors]
    y = next(y for y in f(*leaves) if y.numel())
    seeds = torch.randn(3, *y.shape, dtype=D, generator=torch.Generator().manual_seed(0))
    together = torch.autograd.grad(y, leaves, seeds, is_grads_batched=True, retain_graph=True, allow_unused=True)
    single = [torch.autograd.grad(y, leaves, s, retain_graph=True, allow_unused=True) for s in seeds]
    for i, batch in enumerate(together):
        if batch is not None:
            torch.testing.assert_close(batch, torch.stack([grads[i] for grads in single]), rtol=1e-10, atol=1e-12)
    assert any(batch is not None for batch in together)


def test_a_forced_kernel_does_not_stop_a_transform() -> None:
    """Under torch.func the reference is traced whatever is forced: the kernels have no rule for it."""
    f, reference, inputs = pair("branch_linear")
    with spectral_ops.use("reference"):
        wanted = grad(reference)(*inputs)
    torch.testing.assert_close(grad(f)(*inputs), wanted)


def test_vmap_over_a_network_per_sample_gradients() -> None:
    """Per-sample gradients, the common use of vmap(grad)."""
    x, t, weights, biases, activations = small("spectral_mlp")[1].make(D)

    def loss(w: list[Tensor], sample: Tensor) -> Tensor:
        return torch.ops.spectral.spectral_mlp(sample[None], t, w, biases, activations).square().sum()

    each = vmap(grad(loss), (None, 0))(weights, x)
    for n in range(x.shape[0]):
        alone = [w.clone().requires_grad_() for w in weights]
        wanted = torch.autograd.grad(loss(alone, x[n]), alone)
        torch.testing.assert_close([e[n] for e in each], list(wanted), rtol=1e-10, atol=1e-12)
