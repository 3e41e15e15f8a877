"""`spectral train tucker-mnist`: the arms of paper 4 on digits: when to decompose a network that is being trained.

LeNet5 with SGD, its rate divided by ten after half and after three quarters of the epochs, as the paper's. The arms:
the original; decomposed after each of several epochs, ranks by EVBMF; decomposed early and reconstructed before the
end; decomposed after training and fine-tuned for a fifth of the epochs. The claim under test: decomposing early gives
the smaller network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn

from ..compress import DecomposeAt, decompose, swap_parameters
from ..compress.decompose import Rule
from ..models import LeNet5
from ..nn.tucker import Ranked
from . import data as mnist
from .data import Split
from .low_rank import Arm, Change, Clock, accuracy, close, count, curves, epoch, figure, save

EPOCHS, QUICK_EPOCHS = 20, 6
# With the rate of the paper, 0.1, networks decomposed early diverge here: LeNet5 has no batch norm, and the gradient
# of an orthonormal factor is as large as the core.
BATCH, LR, MOMENTUM = 128, 0.02, 0.9
FRACTIONS = (0.1, 0.25, 0.5)  # of the epochs, after which an arm decomposes


def run(
    data_dir: Path | None, out: Path, seeds: int = 1, epochs: int | None = None, quick: bool = False,
    rank: Rule = "evbmf", lr: float = LR, batch_size: int = BATCH,
) -> list[dict[str, Any]]:  # fmt: skip
    """Train all arms; writes results.json, results.md and figure3.png to `out`, and returns the rows of the table."""

    def load(seed: int) -> tuple[Split, Split]:
        data = mnist.load(data_dir, seed)
        return data.train, data.test

    plan = Plan(LeNet5, load, epochs or (QUICK_EPOCHS if quick else EPOCHS), lr, batch_size, rank)
    return compare(plan, "Decomposition during training, LeNet5", seeds, out)


@dataclass(frozen=True)
class Plan:
    """What all arms share.

    load: of a seed, the data to train and to test. fractions, back, drops: the epochs after which networks are
    decomposed, the early one is reconstructed, and the rate is divided by ten; tune: the epochs of fine-tuning; all as
    shares of `epochs`. change: of the images of each batch. printed: what the paper has of each arm, in their order.
    """

    build: Callable[[], nn.Module]
    load: Callable[[int], tuple[Split, Split]]
    epochs: int
    lr: float
    size: int
    rank: Rule
    fractions: tuple[float, ...] = FRACTIONS
    back: float = 0.95
    drops: tuple[float, float] = (0.5, 0.75)
    tune: float = 0.2
    change: Change | None = None
    printed: tuple[str, ...] = ()


def compare(plan: Plan, title: str, seeds: int, out: Path) -> list[dict[str, Any]]:
    """All arms for each seed, the table and the picture."""
    console, epochs = Console(), plan.epochs
    points = sorted({max(1, round(f * epochs)) for f in plan.fractions})
    arms: list[Arm] = []
    for seed in range(seeds):
        data = plan.load(seed)
        arms.append(train("original", plan, data, seed))
        for at in points:
            arms.append(train(f"decomposed after {at}", plan, data, seed, DecomposeAt(at, rank=plan.rank)))
        if points[0] < epochs - 1:
            back = min(max(points[0] + 1, round(plan.back * epochs)), epochs - 1)
            name = f"decomposed after {points[0]}, reconstructed after {back}"
            arms.append(train(name, plan, data, seed, DecomposeAt(points[0], back, rank=plan.rank)))
        arms.append(train("original, then decomposed", plan, data, seed, tune=max(1, round(plan.tune * epochs))))
        console.print(
            f"seed {seed}: {len(arms) // (seed + 1)} arms, {len(data[0])} images to train, {len(data[1])} to test"
        )
    settings = {"epochs": epochs, "batch": plan.size, "lr": plan.lr, "momentum": MOMENTUM, "rank": str(plan.rank)}
    printed = dict(zip(dict.fromkeys(arm.name for arm in arms), plan.printed, strict=False))
    rows = save(title, arms, count(plan.build()), settings, out, console, printed)
    _draw(arms, out / "figure3.png", console)
    return rows


def train(
    name: str, plan: Plan, data: tuple[Split, Split], seed: int, schedule: DecomposeAt | None = None, tune: int = 0
) -> Arm:
    """One arm. tune: epochs after a decomposition of the trained network."""
    torch.manual_seed(seed)
    arm, clock, model, epochs = Arm(name, seed), Clock(), plan.build(), plan.epochs
    optimizer = torch.optim.SGD(model.parameters(), lr=plan.lr, momentum=MOMENTUM)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [int(share * epochs) for share in plan.drops])
    for i in range(epochs + tune):
        summary = None
        if schedule is not None:
            summary = clock(partial(schedule, model, optimizer, i))
        elif tune and i == epochs:
            _, summary = clock(lambda: decompose(model, plan.rank, inplace=True))
            swap_parameters(optimizer, summary.swaps)
        if summary is not None:
            arm.events.append((i, f"{len(summary.changed)} of {len(summary.layers)} layers"))
        one = partial(epoch, model, optimizer, data[0], plan.size, 1000 * seed + i, plan.change)
        arm.losses.append(clock(one))
        scheduler.step()
        arm.accuracy.append(accuracy(model, data[1]))
        arm.ranks.append(ranks_of(model))
    arm.parameters, arm.seconds = count(model), clock.seconds
    return arm


def ranks_of(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Ranks of the layers in Tucker form."""
    return {name: m.ranks for name, m in model.named_modules() if isinstance(m, Ranked)}


def _draw(arms: list[Arm], path: Path, console: Console) -> None:
    """Figure 3: test accuracy over the epochs; and parameters at the end."""
    made, (left, right) = figure(2)
    curves(left, arms, "accuracy", 100)
    left.set(xlabel="epoch", ylabel="test accuracy, %")
    left.legend(fontsize=7, frameon=False)
    names = list(dict.fromkeys(arm.name for arm in arms))
    sizes = [[arm.parameters / 1e3 for arm in arms if arm.name == name] for name in names]
    colours = [line.get_color() for line in left.get_lines()]
    right.barh(names[::-1], [sum(s) / len(s) for s in sizes][::-1], color=colours[::-1])
    right.set(xlabel="parameters at the end, thousands")
    right.tick_params(axis="y", labelsize=7)
    close(made, path, console)
