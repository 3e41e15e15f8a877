"""Whole training steps of networks in Tucker form: against the dense network, and TDLRT against its two passes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from spectral_ops import models
from spectral_ops.compress import TDLRT, Fraction, Summary, decompose, join_norms, to_tucker
from spectral_ops.nn.tucker import Ranked
from spectral_ops.recipes import data

from .contenders import Built, Case
from .convolutions import LAYOUTS
from .cost import Cost
from .measure import Contender

OP = "tucker_conv2d"
SHARE = 0.6  # of the ratio of operations, that a step is to be faster
RATIOS = {0.15: 16.93, 0.3: 6.16, 0.5: 2.73}  # dense operations of VGG19 by those with ranks of this fraction
STEPS, FOUND_RATIO = 80, 60.5  # of training before EVBMF, and the ratio with the ranks that it finds, near enough
SAMPLES = (32, 128)  # the second is both papers' batch


def cases() -> Iterator[Case]:
    for n in SAMPLES:
        for kappa, ratio in RATIOS.items():
            name = f"VGG19-BN step in Tucker form, ranks {kappa:g} of full, N={n}"
            yield Case(name, OP, partial(_vgg, kappa, n), "targets", SHARE * ratio, large=True)
            name += ", norms joined"
            yield Case(name, OP, partial(_vgg, kappa, n, joined=True), "targets", SHARE * ratio, large=True)
        name = f"VGG19-BN step in Tucker form, ranks by EVBMF after {STEPS} steps on digits, N={n}"
        yield Case(name, OP, partial(_found, n), "targets", SHARE * FOUND_RATIO, large=True)
        name = f"TDLRT step, VGG19-BN, ranks 0.15 of full, N={n}"
        yield Case(name, OP, partial(_tdlrt, n), "targets", limits={"two passes": 1.15}, large=True)


def _images(n: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, 3, 32, 32, generator=generator), torch.arange(n) % 10


def _step(model: nn.Module, layout: str, n: int) -> Callable[[], list[Tensor]]:
    """zero_grad, forward, backward and SGD. Rate 0 leaves the work as it is, and every step the same."""
    model = copy.deepcopy(model).to(memory_format=LAYOUTS[layout])
    x, target = _images(n)
    x = x.contiguous(memory_format=LAYOUTS[layout])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9)

    def step() -> list[Tensor]:
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(x), target)
        loss.backward()
        optimizer.step()
        return [loss.detach()]

    return step


def _vgg(kappa: float, n: int, joined: bool = False) -> Built:
    """Decomposed at given ranks; both networks in both layouts, the better of the dense one's is the baseline."""
    torch.manual_seed(0)
    dense = models.vgg19_bn()
    small, summary = to_tucker(dense, Fraction(kappa), example=_images(1)[0])
    assert abs(_operations(summary)[0] / _operations(summary)[1] - RATIOS[kappa]) < 0.01
    return _beside(dense, join_norms(small)[0] if joined else small, summary, n)


def _found(n: int) -> Built:
    """As in paper 4: trained a little, on real images, and decomposed at the ranks that EVBMF finds."""
    torch.manual_seed(0)
    dense, digits = models.vgg19_bn(), data.load().train
    images = functional.pad(digits.images, (2, 2, 2, 2), value=float(digits.images.min())).unsqueeze(1)
    optimizer = torch.optim.SGD(dense.parameters(), lr=0.05, momentum=0.9)
    for _ in range(STEPS):
        drawn = torch.randint(len(images), (32,))
        optimizer.zero_grad()
        loss = functional.cross_entropy(dense(images[drawn].repeat(1, 3, 1, 1)), digits.labels[drawn])
        loss.backward()
        optimizer.step()
    small, summary = decompose(dense, "evbmf", example=_images(1)[0])
    return _beside(dense, small, summary, n)


def _operations(summary: Summary) -> tuple[int, int]:
    """Of one image, dense and with the ranks."""
    return sum(layer.operations_before for layer in summary.layers), sum(layer.operations for layer in summary.layers)


def _beside(dense: nn.Module, small: nn.Module, summary: Summary, n: int) -> Built:
    contenders = [Contender(OP, "ours", _step(small, "channels_last", n))]
    contenders += [Contender(f"dense {layout}", "eager", _step(dense, layout, n)) for layout in LAYOUTS]
    contenders.append(Contender("ours NCHW", "own", _step(small, "NCHW", n)))
    return Built(contenders, _cost(small, 3 * _operations(summary)[1], n), "reference")


def _cost(model: nn.Module, operations: int, n: int) -> Cost:
    return Cost(2.0 * operations * n, 12 * sum(p.numel() for p in model.parameters()))


def _tdlrt(n: int) -> Built:
    """The step, and an ordinary pass at its ranks followed by one at twice its ranks for the core alone."""
    torch.manual_seed(0)
    x, target = _images(n)
    x = x.contiguous(memory_format=torch.channels_last)
    model, summary = to_tucker(models.vgg19_bn(), Fraction(0.15), spatial=True, example=x[:1])
    # rate 0: what the augmented bases bring is zero, and is rounded away again: each step does the same work
    trainer = TDLRT(model, tau=1e-5, lr=0.0, momentum=0.0)
    plain, doubled = copy.deepcopy(model), copy.deepcopy(model)
    for layer in doubled.modules():
        if isinstance(layer, Ranked):
            _double(layer)

    def closure_of(network: nn.Module) -> Callable[[], Tensor]:
        return lambda: functional.cross_entropy(network(x), target)

    def passes() -> list[Tensor]:
        losses = []
        for network in (plain, doubled):
            network.zero_grad()
            losses.append(closure_of(network)())
            losses[-1].backward()
        return [loss.detach() for loss in losses]

    step: Callable[[], Any] = partial(trainer.step, closure_of(model))
    operations = _operations(summary)[1]
    contenders = [Contender(OP, "ours", step), Contender("two passes", "own", passes)]
    return Built(contenders, _cost(model, 9 * operations, n), "reference")


def _double(layer: Ranked) -> None:
    """Twice the ranks, as far as the sizes allow; only the core wants a gradient."""
    core, factors = layer.core.detach(), []
    for mode, u in enumerate(layer.factors):
        if u is None:
            factors.append(None)
            continue
        rank = min(2 * u.shape[1], u.shape[0])
        pad = [0, 0] * core.dim()
        pad[2 * (core.dim() - 1 - mode) + 1] = rank - u.shape[1]
        core = functional.pad(core, pad)
        factors.append(torch.linalg.qr(torch.randn(u.shape[0], rank))[0])
    layer.set_factors(core, factors)
    for u in layer.factors:
        if u is not None:
            u.requires_grad_(False)
