"""`spectral train tdlrt-lenet5`: the right of Figure 2 of the TDLRT paper on digits: an ill-conditioned start.

LeNet5, whose convolutions start at overestimated ranks with singular values that fall by powers of ten; linear layers
stay dense. TDLRT, plain descent on the factors of the same Tucker form, and a CP form, with the same SGD.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn
from torch.nn import functional

from ..compress import TDLRT, Fraction, to_cp, to_tucker
from ..models import LeNet5
from ..nn.tucker import TuckerConv2d
from . import data as mnist
from .low_rank import Arm, Clock, accuracy, batches, close, count, curves, figure, save

EPOCHS, QUICK_EPOCHS, EVERY = 15, 3, 10  # the last: steps between two measurements
BATCH, LR, MOMENTUM, TAU, KAPPA = 128, 0.05, 0.1, 0.01, 0.8
LINEAR = ("fc1", "fc2")
METHODS = ("TDLRT", "Tucker", "CP")
LEAST = 1e-15  # of the singular values


def run(
    data_dir: Path | None, out: Path, seeds: int = 1, epochs: int | None = None, quick: bool = False,
    tau: float = TAU, lr: float = LR, batch_size: int = BATCH,
) -> list[dict[str, Any]]:  # fmt: skip
    """Train by all methods; writes results.json, results.md, figure2.png and ranks.png; returns the table's rows."""
    console = Console()
    epochs = epochs or (QUICK_EPOCHS if quick else EPOCHS)
    arms = []
    for seed in range(seeds):
        data = mnist.load(data_dir, seed)
        steps = epochs * (len(data.train) // batch_size)
        for method in METHODS:
            arms.append(train(method, data, seed, steps, tau, lr, batch_size))
        console.print(f"seed {seed}: {', '.join(METHODS)} trained, {steps} steps")
    settings = {"epochs": epochs, "batch": batch_size, "lr": lr, "momentum": MOMENTUM, "tau": tau, "kappa": KAPPA}
    rows = save("An ill-conditioned start, LeNet5", arms, count(LeNet5()), settings, out, console)
    _draw(arms, out, console)
    return rows


def train(
    method: str, data: mnist.Mnist, seed: int, steps: int, tau: float, lr: float, size: int
) -> Arm:  # fmt: skip
    """One method; accuracy each `EVERY` steps."""
    torch.manual_seed(seed)
    arm, clock, model = Arm(method, seed), Clock(), ill_conditioned(method)
    trainer = TDLRT(model, tau=tau, lr=lr, momentum=MOMENTUM) if method == "TDLRT" else None
    rest = torch.optim.SGD(model.parameters() if trainer is None else trainer.rest, lr=lr, momentum=MOMENTUM)
    generator = torch.Generator().manual_seed(seed)
    stream = (batch for _ in range(steps) for batch in batches(data.train, size, generator))

    def descend(x: torch.Tensor, y: torch.Tensor) -> float:
        def closure() -> torch.Tensor:
            return functional.cross_entropy(model(x), y)

        if trainer is not None:
            loss = trainer.step(closure)
        else:
            rest.zero_grad()
            loss = closure()
            loss.backward()
        rest.step()
        return float(loss.detach())

    for step, (x, y) in zip(range(1, steps + 1), stream, strict=False):
        arm.losses.append(clock(partial(descend, x, y)))
        if step % EVERY == 0 or step == steps:
            arm.accuracy.append(accuracy(model, data.test))
            arm.ranks.append({} if trainer is None else dict(trainer.ranks))
    arm.parameters, arm.seconds = count(model), clock.seconds
    return arm


def ill_conditioned(method: str) -> nn.Module:
    """LeNet5 with convolutions of ranks kappa r_max, singular values 1, 0.1, 0.01, ... of the first; norms as usual."""
    if method == "CP":
        model = to_cp(LeNet5(), KAPPA, skip=LINEAR)
        for m in model.modules():
            if isinstance(m, nn.Sequential):
                _decay(m[-1].weight.data, [1])
        return model
    model, _ = to_tucker(LeNet5(), Fraction(KAPPA), skip=LINEAR, spatial=True, always=True)
    for m in model.modules():
        if isinstance(m, TuckerConv2d):
            _decay(m.core.data, [0, 1])
    return model


def _decay(values: torch.Tensor, modes: list[int]) -> None:
    """Slice i along each mode times 10^-i; then the norm as it was."""
    size = values.norm()
    for mode in modes:
        powers = (10.0 ** -torch.arange(values.shape[mode], dtype=torch.float64)).clamp(min=LEAST)
        values.mul_(powers.to(values).view([-1 if i == mode else 1 for i in range(values.dim())]))
    values.mul_(size / values.norm())


def _draw(arms: list[Arm], out: Path, console: Console) -> None:
    made, (left, right) = figure(2)
    curves(left, arms, "accuracy", 100)
    left.set(xlabel=f"steps / {EVERY}", ylabel="test accuracy, %")
    curves(right, arms, "losses")
    right.set(xlabel="steps", ylabel="loss of the batch", yscale="log")
    left.legend(frameon=False)
    close(made, out / "figure2.png", console)
    own = [arm for arm in arms if arm.name == "TDLRT"]
    layers = list(own[0].ranks[0])
    made, axes = figure(len(layers))
    for axis, layer in zip(axes, layers, strict=True):
        for mode, label in enumerate(("out", "in", "h", "w")):
            values = torch.tensor([[r[layer][mode] for r in arm.ranks] for arm in own], dtype=torch.float64).mean(0)
            axis.step([EVERY * (i + 1) for i in range(len(values))], values, where="post", label=f"r_{label}")
        axis.set(title=layer, xlabel="steps", ylabel="rank (mean over seeds)")
        axis.legend(frameon=False)
    close(made, out / "ranks.png", console)
