"""What TDLRT is compared with: factored layers, matrix DLRT, and pruning by masks."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from spectral_ops.compress import (
    TDLRT,
    MatrixConv2d,
    prune_grasp,
    prune_magnitude,
    prune_snip,
    to_cp,
    to_matrix,
    to_matrix_dlrt,
)
from spectral_ops.compress.k_step import KPass
from spectral_ops.nn import TuckerLinear

D = torch.float64
pytestmark = pytest.mark.usefixtures("seeded")


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 12, 3, padding=1), nn.Tanh(), nn.Conv2d(12, 16, (3, 2), stride=(2, 1), padding=(1, 0), bias=False),
        nn.Tanh(), nn.Conv2d(16, 16, 3, padding="same", dilation=2), nn.Flatten(), nn.Linear(16 * 4 * 6, 20), nn.Tanh(),
        nn.Linear(20, 4),
    )  # fmt: skip


X = torch.randn(8, 3, 7, 7)
TARGET = torch.arange(8) % 4


def loss(model: nn.Module) -> Tensor:
    return functional.cross_entropy(model(X), TARGET)


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


# ---- factored layers -----------------------------------------------------------------------------------------------
def test_spectral_start_is_the_truncated_svd() -> None:
    model = network()
    small = to_matrix(model, 0.5, skip=["8"])
    assert count(small) < count(model) and isinstance(small[8], nn.Linear)
    for i in (2, 4, 6):
        inner, outer = (layer.weight.detach().flatten(1) for layer in small[i])
        dense = model[i].weight.detach().flatten(1)
        s = torch.linalg.svdvals(dense)
        assert len(inner) == min(dense.shape) // 2
        assert (outer @ inner - dense).norm() == pytest.approx(float(s[len(inner) :].norm()), rel=1e-4)
        torch.testing.assert_close(inner.norm(), outer.norm())  # balanced
        x = torch.randn(2, dense.shape[1]) if i == 6 else torch.randn(2, model[i].in_channels, 7, 7)
        whole = copy.deepcopy(model[i])
        whole.weight.data.copy_((outer @ inner).view_as(whole.weight))
        torch.testing.assert_close(small[i](x), whole(x), rtol=1e-4, atol=1e-5)
    other = to_matrix(model, 0.5, spectral=False)
    assert not torch.equal(other[4][0].weight, small[4][0].weight)
    loss(other).backward()


def test_cp_is_a_sum_of_products() -> None:
    model = network()
    small = to_cp(model, 0.4)
    assert small(X).shape == model(X).shape and count(small) < count(model)
    layer, dense = small[2], model[2]
    b, h, w, a = (part.weight.detach() for part in layer)
    kernel = torch.einsum("or,rc,ry,rx->ocyx", a[:, :, 0, 0], b[:, :, 0, 0], h[:, 0, :, 0], w[:, 0, 0])
    x = torch.randn(2, 12, 7, 7)
    torch.testing.assert_close(
        layer(x), functional.conv2d(x, kernel, None, dense.stride, dense.padding), rtol=1e-4, atol=1e-5
    )
    wide = nn.Conv2d(64, 96, 3, bias=False).requires_grad_(False)
    image = torch.randn(8, 64, 9, 9)
    assert float(to_cp(wide, 0.5)(image).detach().std()) == pytest.approx(float(wide(image).std()), rel=0.3)


# ---- matrix DLRT ---------------------------------------------------------------------------------------------------
def test_gradients_of_k_of_a_matrix_layer() -> None:
    layer = MatrixConv2d(4, 5, (3, 2), (2, 1), (1, 0), (1, 2), rank=3).double()
    x = torch.randn(2, 4, 7, 8, dtype=D, requires_grad=True)
    core, u, v = layer.core.detach(), layer.u_out.detach(), layer.u_in.detach()
    (q_out, s_out), (q_in, s_in) = torch.linalg.qr(core.mT), torch.linalg.qr(core)
    q_out = q_out.mT
    steps = [torch.zeros(5, 3, dtype=D, requires_grad=True), torch.zeros(24, 3, dtype=D, requires_grad=True)]
    weight = u @ core @ v.mT + steps[0] @ q_out @ v.mT + u @ q_in @ steps[1].mT
    exact = functional.conv2d(x, weight.view(5, 4, 3, 2), layer.bias, layer.stride, layer.padding, layer.dilation)
    torch.testing.assert_close(layer(x), exact)
    g = torch.randn_like(exact)
    *wanted, wanted_x = torch.autograd.grad(exact, [*steps, x], g)
    run = KPass({0: q_out, 1: q_in}, {0: u @ s_out.mT, 1: v @ s_in.mT})
    layer.__dict__["multiply"] = run.multiply
    y = layer(x)
    torch.testing.assert_close(y, exact)
    torch.testing.assert_close(torch.autograd.grad(y, [x], g)[0], wanted_x)
    for i, gradient in enumerate(wanted):
        torch.testing.assert_close(run.gradients[i], gradient)


def test_matrix_dlrt_trains() -> None:
    model = to_matrix_dlrt(network(), 0.3)
    kinds = [type(m) for m in model if not isinstance(m, nn.Tanh | nn.Flatten)]
    assert kinds == [MatrixConv2d, MatrixConv2d, MatrixConv2d, TuckerLinear, TuckerLinear]
    trainer = TDLRT(model, tau=0.05, lr=0.5, momentum=0.1)
    rest = torch.optim.SGD(trainer.rest, lr=0.5)
    losses = []
    for _ in range(40):
        losses.append(float(trainer.step(lambda: loss(model))))
        rest.step()
    assert losses[-1] < 0.3 * losses[0] and len(set(trainer.ranks.values())) > 1
    assert "multiply" not in model[2].__dict__


# ---- pruning -------------------------------------------------------------------------------------------------------
def weights(model: nn.Module) -> list[Tensor]:
    return [m.weight.detach() for m in model if hasattr(m, "weight")]


def kept(model: nn.Module) -> int:
    return sum(int((w != 0).sum()) for w in weights(model))


METHODS = {
    "magnitude": lambda model, share: prune_magnitude(model, share, train, rounds=3),
    "snip": lambda model, share: prune_snip(model, share, lambda: loss(model)),
    "grasp": lambda model, share: prune_grasp(model, share, lambda: loss(model)),
}


def train(model: nn.Module, steps: int = 5) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.5)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(model).backward()
        optimizer.step()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("share", [0.05, 0.3, 1.0])
def test_a_share_of_all_weights_stays_and_zeros_stay_zero(method: str, share: float) -> None:
    model = network()
    before = copy.deepcopy(model)
    METHODS[method](model, share)
    total = sum(w.numel() for w in weights(model))
    assert kept(model) == round(share * total)
    for w, old in zip(weights(model), weights(before), strict=True):
        assert torch.equal(w[w != 0], old[w != 0])  # the initial values, also after magnitude's trainings
    zeros = [w == 0 for w in weights(model)]
    train(model)
    assert all(not w[zero].any() for w, zero in zip(weights(model), zeros, strict=True))
    assert not torch.equal(weights(model)[0], weights(before)[0])


def test_magnitude_keeps_the_largest_after_training() -> None:
    model, plain = network(), network()
    plain.load_state_dict(model.state_dict())
    prune_magnitude(model, 0.25, train, rounds=1)
    train(plain)
    flat = torch.cat([w.flatten().abs() for w in weights(plain)])
    limit = flat.topk(round(0.25 * flat.numel())).values[-1]
    for w, trained in zip(weights(model), weights(plain), strict=True):
        assert torch.equal(w != 0, trained.abs() >= limit)


def test_snip_scores_are_the_loss_sensitivity() -> None:
    """|dL/dm| of a mask m at one, by differences, for the weight of highest and of lowest score."""
    model = network().double()
    x = X.double()

    def value() -> Tensor:
        return functional.cross_entropy(model(x), TARGET)

    w = model[8].weight
    (gradient,) = torch.autograd.grad(value(), [w])
    scores = (w * gradient).detach().abs()
    for at in (int(scores.argmax()), int(scores.argmin())):
        flat, eps = w.data.view(-1), 1e-6
        own = float(flat[at])
        found = []
        for sign in (1, -1):
            flat[at] = own * (1 + sign * eps)
            found.append(float(value().detach()))
        flat[at] = own
        assert abs(found[0] - found[1]) / (2 * eps) == pytest.approx(float(scores.view(-1)[at]), rel=1e-4, abs=1e-9)


def test_grasp_scores_against_the_hessian() -> None:
    """Of a quadratic loss the scores are w (A A w), by hand."""
    layer = nn.Linear(6, 1, bias=False).double()
    a = torch.randn(6, 6, dtype=D)
    a = a @ a.mT
    w = layer.weight.detach()[0].clone()
    prune_grasp(layer, 0.5, lambda: (layer.weight @ a @ layer.weight.mT).sum() / 2)
    scores = w * (a @ (a @ w))
    assert set(layer.weight[0].nonzero().flatten().tolist()) == set(scores.topk(3).indices.tolist())


WRONG = [
    (lambda: to_matrix(network(), 0.0), "to_matrix: kappa must be above 0 and at most 1, got 0.0"),
    (lambda: to_cp(network(), 1.5), "to_cp: kappa must be above 0 and at most 1, got 1.5"),
    (lambda: to_cp(network(), 0.5, skip=["99"]), "to_cp: skip must hold names of modules of the model, got '99'"),
    (lambda: prune_snip(network(), 0.0, lambda: None), "prune_snip: share must be above 0 and at most 1, got 0.0"),
    (lambda: prune_magnitude(network(), 0.5, train, 0), "prune_magnitude: rounds must be at least 1, got 0"),
    (lambda: MatrixConv2d(2, 3, 3, rank=4), r"MatrixConv2d: ranks must be at most \(3, 18\), got \(4, 4\)"),
]


@pytest.mark.parametrize(("call", "text"), WRONG, ids=[text for _, text in WRONG])
def test_errors(call, text: str) -> None:
    with pytest.raises(ValueError, match="^" + text):
        call()
