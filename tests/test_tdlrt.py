"""TDLRT: its gradients, its promises (Theorems 1 and 2), and where plain descent on the factors fails."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from spectral_ops.compress import TDLRT, tucker_round
from spectral_ops.compress.k_step import KPass
from spectral_ops.compress.tucker import multiply, unfold_mode
from spectral_ops.nn import TuckerConv2d, TuckerLinear

D = torch.float64
pytestmark = pytest.mark.usefixtures("seeded")


def conv(c: int, o: int, k: int, ranks: tuple[int, ...], dtype: torch.dtype = D, **more) -> TuckerConv2d:
    return TuckerConv2d(c, o, k, ranks=ranks, dtype=dtype, bias=False, **more)


def impulses(layer: nn.Module) -> Tensor:
    """An input whose output is the whole weight: the loss of it is a function of W alone."""
    if isinstance(layer, TuckerLinear):
        return torch.eye(layer.in_features, dtype=layer.core.dtype)
    c, (h, w) = layer.in_channels, layer.kernel_size
    return torch.eye(c * h * w, dtype=layer.core.dtype).view(c * h * w, c, h, w)


def weight_of(layer: nn.Module) -> Tensor:
    return layer.weight().detach()


def quadratic(layer: nn.Module, target: Tensor, scale: Tensor | None = None):
    """closure() = ||(W - target) * scale||^2 / 2, through the layer's own forward."""
    x = impulses(layer)
    exact = x.flatten(1) @ target.flatten(1).mT
    factor = 1.0 if scale is None else scale

    def closure() -> Tensor:
        return ((layer(x).flatten(1) - exact) * factor).square().sum() / 2

    return closure


# ---- Theorem 1: the gradients of K ---------------------------------------------------------------------------------
LAYERS = {
    "tucker4": lambda: conv(5, 7, 3, (3, 2, 2, 1), stride=2, padding=1),
    "tucker2": lambda: conv(4, 6, 3, (2, 3), dilation=2, padding=2),
    "asymmetric": lambda: TuckerConv2d(4, 5, (3, 2), (1, 2), (0, 1), ranks=(2, 3, 1, 2), dtype=D),
    "pointwise": lambda: conv(6, 5, 1, (2, 2)),
    "rank1": lambda: conv(3, 4, 3, (1, 1, 1, 1)),
    "linear": lambda: TuckerLinear(6, 5, ranks=(2, 3), dtype=D),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_gradients_of_k(name: str, layout) -> None:
    """Against autograd of W + sum_i Ten_i(Q_i^T) x_(j != i) U_j x_i D_i at D = 0."""
    layer = LAYERS[name]()
    linear = isinstance(layer, TuckerLinear)
    x = torch.randn(3, 6, dtype=D) if linear else torch.randn(2, layer.in_channels, 6, 7, dtype=D)
    x = (x if linear else x.contiguous(memory_format=layout)).requires_grad_()
    core, factors = layer.core.detach(), [u if u is None else u.detach() for u in layer.factors]
    cores, k, steps, weight = {}, {}, {}, layer.weight().detach()
    for i, u in enumerate(factors):
        if u is not None:
            q, s = torch.linalg.qr(unfold_mode(core, i).mT)
            k[i] = u @ s.mT
            cores[i] = q.mT.reshape(-1, *(n for j, n in enumerate(core.shape) if j != i)).movedim(0, i)
            steps[i] = torch.zeros(u.shape[0], q.shape[1], dtype=D, requires_grad=True)
            weight = weight + multiply(cores[i], [steps[i] if j == i else v for j, v in enumerate(factors)])
    if linear:
        exact = functional.linear(x, weight, layer.bias)
    else:
        exact = functional.conv2d(x, weight, layer.bias, layer.stride, layer.padding, layer.dilation)
    g = torch.randn_like(exact)
    *wanted, wanted_x = torch.autograd.grad(exact, [*steps.values(), x], g)
    run = KPass(cores, k)
    layer.__dict__["multiply" if linear else "convolve"] = run.multiply if linear else run.convolve
    y = layer(x)
    torch.testing.assert_close(y, exact)
    (got_x,) = torch.autograd.grad(y, [x], g)
    torch.testing.assert_close(got_x, wanted_x)
    for i, gradient in zip(steps, wanted, strict=True):
        torch.testing.assert_close(run.gradients[i], gradient)


def test_no_gradient_of_the_kernel_is_made() -> None:
    layer = conv(48, 48, 3, (2, 2, 2, 2), torch.float32)
    trainer = TDLRT(layer)
    x, sizes, calls = torch.randn(1, 48, 4, 4), [], []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            calls.append(func.overloadpacket)
            sizes.extend(t.numel() for t in (out if isinstance(out, tuple | list) else [out]) if isinstance(t, Tensor))
            return out

    with Watch():
        trainer.step(lambda: layer(x).square().sum())
    assert max(sizes) < 48 * 48
    forward, backward = (calls.count(op) for op in (torch.ops.aten.convolution, torch.ops.aten.convolution_backward))
    # gradients of K and the layer itself share two; the window's basis takes one; then an ordinary pass
    assert (forward, backward) == (1 + 1, 2 + 1)


# ---- what a step keeps ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-13), (torch.float32, 2e-6)], ids=str)
def test_without_tolerance_and_rate_nothing_moves(name: str, dtype: torch.dtype, close: float) -> None:
    layer = LAYERS[name]().to(dtype)
    before = weight_of(layer)
    trainer = TDLRT(layer, tau=0.0, lr=0.0)
    x = impulses(layer) if isinstance(layer, TuckerLinear) else torch.randn(2, layer.in_channels, 6, 7, dtype=dtype)
    for _ in range(5):
        trainer.step(lambda: layer(x).square().sum())
        assert (weight_of(layer) - before).norm() <= close * before.norm()


@pytest.mark.parametrize("tau", [0.01, 0.1, 0.5])
def test_the_rounding_error_is_at_most_tau_in_total(tau: float) -> None:
    """Of all modes together, for singular values that decay slowly and fast."""
    for decay in (0.3, 1.0, 3.0):
        layer = conv(12, 10, 3, (8, 8, 3, 3))
        with torch.no_grad():
            for mode, n in enumerate(layer.core.shape):
                scale = torch.arange(1, n + 1, dtype=D) ** -decay
                layer.core.mul_(scale.view([-1 if m == mode else 1 for m in range(4)]))
        before = weight_of(layer)
        trainer = TDLRT(layer, tau=tau, lr=0.0)
        trainer.step(quadratic(layer, torch.zeros_like(before)))
        error = (weight_of(layer) - before).norm() / before.norm()
        assert error <= tau * (1 + 1e-9)
        assert sum(trainer.ranks[""]) < 22 or error == pytest.approx(0, abs=1e-12)
        wanted = tucker_round(before, tau).ranks
        assert trainer.ranks[""] == wanted  # W has the singular values of its core


@pytest.mark.parametrize(
    "shape", [(8, 9, 3, (3, 2, 2, 2)), (8, 9, 3, (7, 6, 3, 3)), (7, 9, 1, (3, 3)), (4, 5, 3, (1, 1, 1, 1))], ids=str
)
@pytest.mark.parametrize("adaptive", [True, False])
def test_the_loss_descends(shape, adaptive: bool) -> None:
    """Theorem 2 for a small rate: on an ill-conditioned quadratic, with 2 r > n, 1 x 1 windows and rank 1."""
    c, o, k, ranks = shape
    layer = conv(c, o, k, ranks)
    target = torch.randn(o, c, k, k, dtype=D)
    scale = torch.logspace(0, -2, c * k * k, dtype=D).unsqueeze(1)
    closure = quadratic(layer, target, scale)
    trainer = TDLRT(layer, tau=1e-9, lr=0.05, momentum=0.0, adaptive=adaptive)
    losses = [float(trainer.step(closure)) for _ in range(30)]
    assert all(b < a for a, b in itertools.pairwise(losses))
    if not adaptive:
        assert trainer.ranks[""] == (*ranks, k, k)[:4]


@pytest.mark.parametrize("start", [(1, 1, 1, 1), (6, 5, 3, 3), (3, 2, 2, 1)], ids=str)
def test_a_target_of_low_rank_is_recovered_with_its_ranks(start: tuple[int, ...]) -> None:
    """Ranks grow to the target's from below and shrink to them from above."""
    target = conv(9, 8, 3, (3, 2, 2, 1))
    layer = conv(9, 8, 3, start)
    trainer = TDLRT(layer, tau=1e-6, lr=0.5, momentum=0.0)
    closure = quadratic(layer, weight_of(target))
    for _ in range(120):
        loss = trainer.step(closure)
    assert loss < 1e-10 and trainer.ranks[""] == (3, 2, 2, 1)
    assert (weight_of(layer) - weight_of(target)).norm() < 1e-5
    assert sum(p.numel() for p in layer.parameters()) == 12 + 8 * 3 + 9 * 2 + 3 * 2 + 3


def test_momentum_on_both_and_on_the_core_alone() -> None:
    target = torch.randn(8, 9, 3, 3, dtype=D)
    found = []
    for options in ({"momentum": 0.0}, {"momentum": 0.5}, {"momentum": 0.5, "core_momentum_only": True}):
        torch.manual_seed(1)
        layer = conv(9, 8, 3, (3, 3, 2, 2))
        trainer = TDLRT(layer, tau=1e-3, lr=0.1, **options)
        closure = quadratic(layer, target)
        found.append([float(trainer.step(closure)) for _ in range(15)][-1])
    assert len(set(found)) == 3 and found[1] < found[0] and found[2] < found[0]


# ---- ill-conditioning ----------------------------------------------------------------------------------------------
def ill_conditioned(layer: nn.Module, decades: float) -> None:
    """Singular values of the core's unfoldings in powers of ten."""
    with torch.no_grad():
        core = torch.zeros_like(layer.core)
        r = min(n for n in layer.core.shape if n > 1)
        for i in range(r):
            core[tuple(min(i, n - 1) for n in core.shape)] = 10 ** (-decades * i / max(r - 1, 1))
        layer.core.copy_(core)


def test_an_ill_conditioned_start_converges_where_plain_descent_stalls() -> None:
    """The right of Figure 2, on a quadratic: the rank is overestimated, singular values fall by powers of ten."""
    target = weight_of(conv(12, 12, 3, (4, 4, 3, 3)))
    target = target / target.norm()
    layer = conv(12, 12, 3, (6, 6, 3, 3))
    ill_conditioned(layer, 8)
    plain = copy.deepcopy(layer)
    trainer = TDLRT(layer, tau=1e-3, lr=0.2, momentum=0.0)
    closure = quadratic(layer, target)
    ours = [float(trainer.step(closure)) for _ in range(40)]
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.2)
    theirs = []
    loss = quadratic(plain, target)
    for _ in range(40):
        optimizer.zero_grad()
        value = loss()
        value.backward()
        optimizer.step()
        theirs.append(float(value.detach()))
    assert ours[-1] < 1e-6 and theirs[-1] > 0.05


def test_bases_come_from_grad_k_in_float32_at_condition_1e10() -> None:
    """Of 8 directions that the gradient has, grad K keeps all; grad U = grad K S^T keeps those above 1e-7."""
    layer = TuckerLinear(40, 40, bias=False, ranks=(8, 8))
    ill_conditioned(layer, 10)
    with torch.no_grad():  # turned, so that no row of the core is small by itself
        for name in ("u_out", "u_in"):
            turn = torch.linalg.qr(torch.randn(8, 8, dtype=D))[0]
            u = getattr(layer, name)
            u.copy_(u.double() @ turn)
            layer.core.copy_(turn.mT @ layer.core.double() if name == "u_out" else layer.core.double() @ turn)
    target = torch.randn(40, 40)
    exact = weight_of(layer).double() - target.double()  # the gradient
    v = layer.u_in.detach().double()
    wanted = torch.linalg.qr(exact @ v)[0]  # the directions that the output's basis should gain
    plain = copy.deepcopy(layer)
    quadratic(plain, target)().backward()
    for adaptive in (True, False):
        own = copy.deepcopy(layer)
        old = own.u_out.detach().double()
        trainer = TDLRT(own, tau=0.0, lr=1.0, momentum=0.0, adaptive=adaptive)
        trainer._round = lambda layers: None  # the augmented bases themselves
        trainer.step(quadratic(own, target))
        basis = own.u_out.detach().double()
        if not adaptive:
            wanted = torch.linalg.qr(old @ (old.mT @ weight_of(layer).double() @ v) - exact @ v)[0]
        kept = torch.linalg.svdvals(wanted.mT @ basis)
        assert int((kept > 0.999).sum()) == 8
    stepped = torch.linalg.qr(torch.cat([plain.u_out.detach(), plain.u_out.grad], 1))[0].double()
    wanted = torch.linalg.qr(exact @ v)[0]
    assert int((torch.linalg.svdvals(wanted.mT @ stepped) > 0.999).sum()) < 8


def test_the_gauge_does_not_matter() -> None:
    """U_i R_i and C x_i R_i^T are the same W, and lead to the same W after several steps, with momentum."""
    target = torch.randn(8, 9, 3, 3, dtype=D)
    first = conv(9, 8, 3, (3, 2, 2, 2))
    second = copy.deepcopy(first)
    turns = [torch.linalg.qr(torch.randn(r, r, dtype=D))[0] for r in first.core.shape]
    core = multiply(first.core.detach(), [t.mT for t in turns])
    second.set_factors(core, [u.detach() @ t for u, t in zip(first.factors, turns, strict=True)])
    for options in ({}, {"adaptive": False}):
        a, b = copy.deepcopy(first), copy.deepcopy(second)
        trainers = [TDLRT(m, tau=0.01, lr=0.1, momentum=0.3, **options) for m in (a, b)]
        for _ in range(6):
            for trainer, m in zip(trainers, (a, b), strict=True):
                trainer.step(quadratic(m, target))
        torch.testing.assert_close(weight_of(a), weight_of(b), rtol=1e-9, atol=1e-11)
        assert trainers[0].ranks == trainers[1].ranks
    skewed = copy.deepcopy(first)  # factors that are not orthonormal are made so, W staying
    with torch.no_grad():
        skewed.u_in.mul_(3).add_(0.1)
    before = weight_of(skewed)
    TDLRT(skewed)
    torch.testing.assert_close(weight_of(skewed), before)
    torch.testing.assert_close(skewed.u_in.mT @ skewed.u_in, torch.eye(2, dtype=D))


def test_ranks_beyond_the_product_of_the_others_are_reduced_first() -> None:
    layer = conv(30, 20, 1, (12, 3))
    before = weight_of(layer)
    trainer = TDLRT(layer, tau=0.0, lr=0.1)
    assert trainer.ranks[""] == (3, 3, 1, 1)
    torch.testing.assert_close(weight_of(layer), before)
    trainer.step(quadratic(layer, torch.randn_like(before)))
    assert trainer.ranks[""] == (6, 6, 1, 1)


def test_rank_bounds() -> None:
    layer = conv(9, 8, 3, (3, 3, 2, 2))
    trainer = TDLRT(layer, tau=0.0, lr=0.1, min_rank=2, max_rank=4)
    closure = quadratic(layer, torch.randn(8, 9, 3, 3, dtype=D))
    for _ in range(3):
        trainer.step(closure)
    assert trainer.ranks[""] == (4, 4, 3, 3)
    trainer.param_groups[0]["tau"] = 10.0
    trainer.step(closure)
    assert trainer.ranks[""] == (2, 2, 2, 2)
