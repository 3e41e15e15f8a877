"""`spectral train tdlrt-lenet5`: the right of Figure 2 of the TDLRT paper on digits: an ill-conditioned start.

LeNet5, whose convolutions start at overestimated ranks with singular values 1, 0.1, 0.01, ...; linear layers stay
dense. TDLRT, and plain descent with the same SGD: on the factors of the same Tucker form with the same W ("Tucker": a
spectral start, where every factor has its share of each singular value; "Tucker, orthonormal": all of it in the core),
and on a CP form.

The start decides who wins. Plain descent moves a core in fixed orthonormal bases at the full rate, whatever its
singular values, and it moves the bases at the rate times ||C||^2: with cores as large as the dense layers' it is
faster than any method that descends in W, until it diverges. From a spectral start the same descent stalls, since the
gradient of each factor has the small singular values of the others. TDLRT sees W alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
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
from .low_rank import Arm, Clock, accuracy, batches, close, count, curves, figure, save, stepped

EPOCHS, QUICK_EPOCHS, EVERY, POINTS = 15, 3, 10, 80  # steps between two measurements, of which there are POINTS at most
BATCH, LR, MOMENTUM, TAU, KAPPA = 128, 0.05, 0.1, 0.01, 0.8
LINEAR = ("fc1", "fc2")
METHODS = ("TDLRT", "Tucker", "Tucker, orthonormal", "CP")
LEAST = 1e-15  # of the singular values


def run(
    data_dir: Path | None, out: Path, seeds: int = 1, epochs: int | None = None, quick: bool = False,
    taus: Sequence[float] = (TAU,), lr: float = LR, batch_size: int = BATCH, rates: Sequence[float] = (),
) -> list[dict[str, Any]]:  # fmt: skip
    """Train by all methods; writes results.json, results.md, figure2.png and ranks.png; returns the table's rows.

    rates: several learning rates, each for all methods, in the place of `lr`: rates.png shows them.
    """
    console, rates = Console(), sorted(rates) or [lr]
    epochs = epochs or (QUICK_EPOCHS if quick else EPOCHS)
    arms = []
    for seed in range(seeds):
        data = mnist.load(data_dir, seed)
        steps = epochs * (len(data.train) // batch_size)
        for rate, method in itertools.product(rates, METHODS):
            for tau in taus if method == "TDLRT" else (None,):
                name = method + (f" tau {tau:g}" if tau is not None and len(taus) > 1 else "")
                name += f" lr {rate:g}" if len(rates) > 1 else ""
                arms.append(train(name, method, data, seed, steps, tau or 0.0, rate, batch_size))
                console.print(f"seed {seed}: {name}, {100 * arms[-1].final:.2f} % after {len(arms[-1].losses)} steps")
    settings = {"epochs": epochs, "batch": batch_size, "lr": rates, "momentum": MOMENTUM, "tau": taus, "kappa": KAPPA}
    rows = save("An ill-conditioned start, LeNet5", arms, count(LeNet5()), settings, out, console)
    middle = rates[len(rates) // 2]  # of which the curves are drawn
    shown = [arm for arm in arms if len(rates) == 1 or arm.name.endswith(f" lr {middle:g}")]
    _draw(shown, _every(steps), out, console)
    if len(rates) > 1:
        _draw_rates(rows, rates, out, console)
    return rows


def train(name: str, method: str, data: mnist.Mnist, seed: int, steps: int, tau: float, lr: float, size: int) -> Arm:
    """One method, its accuracy measured now and then; accuracy of a diverged one goes on at chance."""
    torch.manual_seed(seed)
    arm, clock, model = Arm(name, seed), Clock(), ill_conditioned(method)
    trainer = TDLRT(model, tau=tau, lr=lr, momentum=MOMENTUM) if method == "TDLRT" else None
    rest = torch.optim.SGD(model.parameters() if trainer is None else trainer.rest, lr=lr, momentum=MOMENTUM)
    generator = torch.Generator().manual_seed(seed)
    stream = (batch for _ in range(steps) for batch in batches(data.train, size, generator))

    def descend(x: torch.Tensor, y: torch.Tensor) -> float:
        def closure() -> torch.Tensor:
            return functional.cross_entropy(model(x), y)

        if trainer is not None:
            loss = stepped(trainer, closure)
        else:
            rest.zero_grad()
            loss = closure()
            loss.backward()
        rest.step()
        return float(loss.detach())

    for step, (x, y) in zip(range(1, steps + 1), stream, strict=False):
        arm.losses.append(clock(partial(descend, x, y)))
        if step % _every(steps) == 0 or step == steps:
            arm.accuracy.append(accuracy(model, data.test))
            arm.ranks.append({} if trainer is None else dict(trainer.ranks))
    arm.parameters, arm.seconds = count(model), clock.seconds
    return arm


def _every(steps: int) -> int:
    return max(EVERY, -(-steps // POINTS))


def ill_conditioned(method: str) -> nn.Module:
    """LeNet5 with convolutions of ranks kappa r_max and channel modes' singular values about 1, 0.1, 0.01, ..."""
    if method == "CP":
        model = to_cp(LeNet5(), KAPPA, skip=LINEAR)
        for m in model.modules():
            if isinstance(m, nn.Sequential):
                # each of the four vectors of a product of unit norm, times the fourth root of 10^-i
                powers = _powers(m[0].weight.shape[0]) ** 0.25
                for position, layer in enumerate(m):
                    dim = 1 if position == 3 else 0
                    flat = layer.weight.data.movedim(dim, 0).flatten(1)
                    scale = powers.to(flat) / flat.norm(dim=1)
                    layer.weight.data.mul_(scale.view([-1 if i == dim else 1 for i in range(4)]))
        return model
    model, _ = to_tucker(LeNet5(), Fraction(KAPPA), skip=LINEAR, spatial=True, always=True)
    for m in model.modules():
        if isinstance(m, TuckerConv2d):
            core = m.core.data
            for mode in (0, 1):
                _scale(core, mode, _powers(core.shape[mode]))
            core.div_(torch.linalg.matrix_norm(core.flatten(1), 2))
            if method == "Tucker":
                for mode, u in ((0, m.u_out), (1, m.u_in)):
                    roots = _powers(core.shape[mode]).sqrt()
                    _scale(u.data, 1, roots)  # type: ignore[union-attr, arg-type]
                    _scale(core, mode, 1 / roots)
    return model


def _powers(n: int) -> torch.Tensor:
    return (10.0 ** -torch.arange(n, dtype=torch.float64)).clamp(min=LEAST)


def _scale(values: torch.Tensor, mode: int, by: torch.Tensor) -> None:
    """values x_mode diag(by), in place."""
    values.mul_(by.to(values).view([-1 if i == mode else 1 for i in range(values.dim())]))


def _draw(arms: list[Arm], every: int, out: Path, console: Console) -> None:
    made, (left, right) = figure(2)
    curves(left, arms, "accuracy", 100)
    left.set(xlabel=f"steps / {every}", ylabel="test accuracy, %")
    curves(right, arms, "losses")
    right.set(xlabel="steps", ylabel="loss of the batch", yscale="log")
    right.legend(*left.get_legend_handles_labels(), frameon=False, fontsize=8, loc="lower left")
    close(made, out / "figure2.png", console)
    own = [arm for arm in arms if arm.ranks[0] and arm.name == arms[0].name]
    layers = list(own[0].ranks[0])
    made, axes = figure(len(layers))
    for axis, layer in zip(axes, layers, strict=True):
        for mode, (label, style) in enumerate(zip(("out", "in", "h", "w"), ("-", "-", "--", ":"), strict=True)):
            values = torch.tensor([[r[layer][mode] for r in arm.ranks] for arm in own], dtype=torch.float64).mean(0)
            at = [every * (i + 1) for i in range(len(values))]
            axis.step(at, values, style, where="post", label=f"r_{label}", linewidth=2)
        axis.set_ylim(bottom=0)
        axis.set(title=layer, xlabel="steps", ylabel="rank (mean over seeds)")
        axis.legend(frameon=False)
    close(made, out / "ranks.png", console)


def _draw_rates(rows: list[dict[str, Any]], rates: Sequence[float], out: Path, console: Console) -> None:
    """Final accuracy over the learning rate, a line a method; mean over the seeds with one deviation."""
    made, (axis,) = figure()
    for method in dict.fromkeys(row["name"].rpartition(" lr ")[0] for row in rows):
        own = [row["final"] for row in rows if row["name"].rpartition(" lr ")[0] == method]
        axis.errorbar(rates, [100 * m for m, _ in own], [100 * s for _, s in own], marker="o", capsize=2, label=method)
    axis.set(xlabel="learning rate", ylabel="final test accuracy, %", xscale="log")
    axis.set_xticks(rates, [f"{rate:g}" for rate in rates])
    axis.minorticks_off()
    axis.legend(frameon=False)
    close(made, out / "rates.png", console)
