"""A convolution in Tucker form joined with its batch norm: values, gradients and statistics are the pair's."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from spectral_ops import models
from spectral_ops.compress import TDLRT, Fraction, join_norms, reconstruct, to_tucker
from spectral_ops.nn import TuckerConv2d, TuckerNorm2d
from spectral_ops.nn import tucker_norm as module

pytestmark = pytest.mark.usefixtures("seeded")
STATE = ("running_mean", "running_var", "num_batches_tracked")


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with each call of the joint form."""
    calls: list[int] = []
    apply = module._Normalised.apply

    def counted(*args: object) -> tuple[Tensor, ...]:
        calls.append(1)
        return apply(*args)

    monkeypatch.setattr(module._Normalised, "apply", counted)
    return calls


def _pair(dtype: torch.dtype = torch.float64, ranks: tuple[int, ...] = (5, 3), **options: object) -> nn.Sequential:
    conv = TuckerConv2d(8, 12, 3, padding=1, ranks=ranks, **{"bias": False, **options})  # type: ignore[arg-type]
    norm = nn.BatchNorm2d(12)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return nn.Sequential(conv, norm).to(dtype)


def _images(dtype: torch.dtype = torch.float64, n: int = 4) -> Tensor:
    x = torch.randn(n, 8, 6, 5, dtype=dtype) * 3 + 7  # means that are large beside what varies
    return x.contiguous(memory_format=torch.channels_last)


def _same(a: Tensor, b: Tensor, rtol: float = 1e-10) -> None:
    torch.testing.assert_close(a, b, rtol=rtol, atol=rtol * max(1.0, float(b.detach().abs().max())))


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("ranks", [(5, 3), (1, 1), (12, 8), (5, 3, 2, 3)], ids=str)
def test_values_gradients_and_statistics(ranks: tuple[int, ...], momentum: float | None, joined: list[int]) -> None:
    pair = _pair(ranks=ranks, stride=2)
    pair[1].momentum = momentum
    layer = TuckerNorm2d(*copy.deepcopy(pair))
    for step in range(2):
        x, again = (_images().requires_grad_() for _ in range(2))
        again.data.copy_(x.data)
        y, wanted = layer(x), pair(again)
        assert len(joined) == step + 1 and y.is_contiguous(memory_format=torch.channels_last)
        _same(y, wanted)
        grad = torch.randn_like(y)
        found = torch.autograd.grad(y.relu_(), [x, *layer.parameters()], grad)
        for a, b in zip(found, torch.autograd.grad(wanted.relu_(), [again, *pair.parameters()], grad), strict=True):
            _same(a, b)
        for name in STATE:
            _same(getattr(layer[1], name), getattr(pair[1], name))


def test_float32_is_as_near_as_the_pair() -> None:
    pair = _pair(torch.float32)
    layer, exact = TuckerNorm2d(*copy.deepcopy(pair)), copy.deepcopy(pair).double()
    x = _images(torch.float32, 64)
    truth = exact(x.double())
    ours, theirs = (float((f(x).double() - truth).detach().abs().max()) for f in (layer, pair))
    assert ours <= 2 * theirs + 1e-6


@pytest.mark.parametrize("seed", range(8))
def test_rank_channels_that_cancel(seed: int) -> None:
    """Of a constant channel, variance 0 beside large rank channels, rounding makes no root of a negative number."""
    torch.manual_seed(seed)
    layer = TuckerNorm2d(*_pair(torch.float32, ranks=(5, 3)))
    conv, norm = layer
    with torch.no_grad():
        conv.core.normal_(std=300)
        conv.core[1] = 1.3 * conv.core[0]
        conv.u_out[0] = torch.tensor([1.3, -1.0, 0.0, 0.0, 0.0])
    x = _images(torch.float32).requires_grad_()
    y = layer(x)
    grads = torch.autograd.grad(y.square().sum(), [x, *layer.parameters()])
    assert all(bool(t.isfinite().all()) for t in (y, *grads)) and bool((norm.running_var >= 0).all())
    torch.testing.assert_close(y[:, 1:].var((0, 2, 3), unbiased=False), norm.weight[1:].square(), rtol=1e-3, atol=1e-4)


EXCEPTIONS: dict[str, Callable[[TuckerNorm2d, Tensor], Tensor]] = {
    "evaluation": lambda layer, x: layer.eval()(x),
    "NCHW": lambda layer, x: layer(x.contiguous()),
    "one image": lambda layer, x: layer(x[:1]),
    "func": lambda layer, x: torch.func.jvp(lambda t: layer(t), (x,), (torch.ones_like(x),))[0],
    "compile": lambda layer, x: torch.compile(layer, fullgraph=True, backend="aot_eager")(x),
    "autocast": lambda layer, x: _under_autocast(layer, x),
}


def _under_autocast(layer: nn.Module, x: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return layer(x)


@pytest.mark.parametrize("how", EXCEPTIONS)
def test_elsewhere_the_pair_runs(how: str, joined: list[int]) -> None:
    dtype = torch.float32 if how == "autocast" else torch.float64
    pair, x = _pair(dtype), _images(dtype)
    layer = TuckerNorm2d(*copy.deepcopy(pair))
    for norm in (layer[1], pair[1]) if how == "func" else ():
        norm.track_running_stats, norm.running_mean, norm.running_var = False, None, None
    _same(EXCEPTIONS[how](layer, x), EXCEPTIONS[how](pair, x))
    assert not joined


@pytest.mark.parametrize("options", [{"bias": True}, {"groups": 2, "ranks": (3, 2)}], ids=str)
def test_biases_and_groups_run_as_a_pair(options: dict, joined: list[int]) -> None:
    pair = _pair(**options)
    x = _images()
    _same(TuckerNorm2d(*copy.deepcopy(pair))(x), pair(x))
    assert not joined


def test_wrong_parts() -> None:
    conv = TuckerConv2d(4, 6, 3, ranks=(2, 2))
    with pytest.raises(TypeError, match=r"^TuckerNorm2d: conv must be a TuckerConv2d, got Conv2d$"):
        TuckerNorm2d(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^TuckerNorm2d: norm must be a torch.nn.BatchNorm2d, got ReLU$"):
        TuckerNorm2d(conv, nn.ReLU())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^TuckerNorm2d: norm must have 6 features as conv, got 5$"):
        TuckerNorm2d(conv, nn.BatchNorm2d(5))
    with pytest.raises(TypeError, match=r"^join_norms: model must be a torch.nn.Module, got int$"):
        join_norms(3)  # type: ignore[arg-type]


def test_a_network_trains_the_same(joined: list[int]) -> None:
    small, _ = to_tucker(models.vgg19_bn(), Fraction(0.1))
    small = small.to(memory_format=torch.channels_last).double()
    other, pairs = join_norms(small)
    assert pairs == 16 and not any(isinstance(m, TuckerNorm2d) for m in small.modules())
    x = torch.randn(4, 3, 32, 32, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    for model in (small, other):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        for _ in range(2):
            optimizer.zero_grad()
            model(x).square().sum().backward()
            optimizer.step()
    assert len(joined) == 2 * 16
    for a, b in zip(other.parameters(), small.parameters(), strict=True):
        _same(a, b, 1e-6)
    dense, _ = reconstruct(other)  # a dense convolution in the pair's place: its batch norm stays
    _same(dense.eval()(x), other.eval()(x), 1e-8)


def test_rank_adaptive_training(joined: list[int]) -> None:
    """Algorithm 1 puts a pass of its own in the place of the convolution: there the pair runs."""
    model = nn.Sequential(
        *_pair(ranks=(5, 3, 3, 3)), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 3)
    )
    model = model.double()
    other, _ = join_norms(model)
    x, target = _images(), torch.arange(4) % 3
    for m in (model, other):
        trainer = TDLRT(m, tau=1e-3, lr=0.05)
        for _ in range(2):
            trainer.step(lambda m=m: nn.functional.cross_entropy(m(x), target))
    assert len(joined) == 2
    _same(other.eval()(x), model.eval()(x), 1e-8)
