"""What the recipes on Figure 1 and Table 1 of the TDLRT paper share: every method on one harness, the table, the plot.

A method has a dial: the tolerance tau of the adaptive ones, the fraction kappa of the largest rank of the factored
ones, the share of the weights that the pruned ones keep. All start from the same seeds, see the same batches and are
trained with the same SGD.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional

from ..compress import (
    TDLRT,
    Fraction,
    prune_grasp,
    prune_magnitude,
    prune_snip,
    to_cp,
    to_matrix,
    to_matrix_dlrt,
    to_tucker,
)
from .data import Split
from .generated import Images, augmented
from .low_rank import Arm, Clock, accuracy, batches, close, count, figure, save, stepped

MOMENTUM, PATIENCE, START, ROUNDS = 0.1, 5, 0.3, 5  # START: kappa of the adaptive ranks; ROUNDS: of magnitude pruning
TEMPERATURE = 200.0  # that GraSP's authors divide the logits by, so that no class is sure at the start
TAUS, KAPPAS, SHARES = (0.1, 0.05, 0.03, 0.02), (0.5, 0.35, 0.25, 0.15), (0.4, 0.2)
DIALS = {
    "full": "",
    "TDLRT": "tau", "matrix DLRT": "tau",
    "Tucker": "kappa", "matrix": "kappa", "matrix, random start": "kappa", "CP": "kappa",
    "SNIP": "share", "magnitude": "share", "GraSP": "share",
}  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """A sweep. build: the dense network. methods: of `DIALS`. printed: of each, the paper's accuracy / compression."""

    build: Callable[[], nn.Module]
    images: Images
    title: str
    epochs: int
    lr: float
    size: int
    methods: Sequence[str] = tuple(DIALS)
    taus: Sequence[float] = TAUS
    kappas: Sequence[float] = KAPPAS
    shares: Sequence[float] = SHARES
    rounds: int = ROUNDS
    printed: dict[str, str] | None = None

    def __post_init__(self) -> None:
        for name in self.methods:
            if name not in DIALS:
                raise ValueError(f"methods must be of {', '.join(DIALS)}, got {name!r}")

    def arms(self) -> Iterator[tuple[str, float | None]]:
        """Each method at each value of its dial; the full network first, the others' measure."""
        values = {"": (None,), "tau": self.taus, "kappa": self.kappas, "share": self.shares}
        for method in dict.fromkeys(("full", *self.methods)):
            for value in values[DIALS[method]]:
                yield method, value


def sweep(plan: Plan, seeds: int, out: Path) -> list[dict[str, Any]]:
    """Train every arm with every seed; writes results.json, results.md and figure1.png, returns the table's rows."""
    console, arms = Console(), []
    for seed in range(seeds):
        for method, value in plan.arms():
            arms.append(train(plan, method, value, seed))
            console.print(f"seed {seed}: {arms[-1].name}, {100 * arms[-1].final:.2f} %, {arms[-1].parameters:,}")
    settings = {"epochs": plan.epochs, "batch": plan.size, "lr": plan.lr, "momentum": MOMENTUM, "rounds": plan.rounds}
    rows = save(plan.title, arms, count(plan.build()), settings, out, console, _printed(plan))
    _draw(rows, out / "figure1.png", console)
    return rows


def _name(method: str, value: float | None) -> str:
    return method if value is None else f"{method} {DIALS[method]} {value:g}"


def _printed(plan: Plan) -> dict[str, str]:
    """The paper's numbers by the name of each arm of that method."""
    return {_name(m, v): plan.printed[m] for m, v in plan.arms() if m in plan.printed} if plan.printed else {}


def compressed(model: nn.Module, method: str, value: float | None) -> nn.Module:
    """The model in the form that a method trains; tau does not change it: adaptive ranks start at START."""
    if method == "TDLRT":
        return to_tucker(model, Fraction(START), spatial=True)[0]
    if method == "matrix DLRT":
        return to_matrix_dlrt(model, START)
    if value is None or DIALS[method] == "share":
        return model
    if method == "Tucker":
        return to_tucker(model, Fraction(value), spatial=True)[0]
    return to_cp(model, value) if method == "CP" else to_matrix(model, value, spectral=method == "matrix")


def train(plan: Plan, method: str, value: float | None, seed: int) -> Arm:
    """One method at one value, from building or pruning the network to its last epoch."""
    torch.manual_seed(seed)
    model, clock = compressed(plan.build(), method, value), Clock()
    run = _Run(plan, model, torch.Generator().manual_seed(seed), clock)
    if DIALS[method] == "share":
        assert value is not None
        clock(lambda: _prune(run, method, value))
    adaptive = DIALS[method] == "tau"
    arm = Arm(_name(method, value), seed)
    run.fit(arm, TDLRT(model, tau=value or 0.0, lr=plan.lr, momentum=MOMENTUM) if adaptive else None)
    arm.parameters, arm.seconds = count(model), clock.seconds
    return arm


@dataclass
class _Run:
    plan: Plan
    model: nn.Module
    generator: torch.Generator
    clock: Clock

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        images = self.plan.images
        for x, y in batches(Split(*images.train), self.plan.size, self.generator):
            yield augmented(x, images, self.generator), y

    def fit(self, arm: Arm | None = None, trainer: TDLRT | None = None) -> None:
        """All epochs, the rates divided by ten on plateaus of the training loss; measured where there is an arm."""
        model, plan = self.model, self.plan
        own = model.parameters() if trainer is None else trainer.rest
        rest = torch.optim.SGD(own, lr=plan.lr, momentum=MOMENTUM)
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau
        schedulers = [plateau(o, factor=0.1, patience=PATIENCE) for o in (rest, trainer) if o is not None]
        for _ in range(plan.epochs):
            loss = self._pass_over(rest, trainer) if arm is None else self.clock(lambda: self._pass_over(rest, trainer))
            for scheduler in schedulers:
                scheduler.step(loss)
            if arm is not None:
                arm.losses.append(loss)
                arm.accuracy.append(accuracy(model, Split(*plan.images.test)))
                arm.ranks.append({} if trainer is None else dict(trainer.ranks))

    def _pass_over(self, rest: torch.optim.Optimizer, trainer: TDLRT | None) -> float:
        self.model.train()
        losses = []
        for x, y in self.batches():

            def closure(x: Tensor = x, y: Tensor = y) -> Tensor:
                return functional.cross_entropy(self.model(x), y)

            if trainer is not None:
                losses.append(stepped(trainer, closure))
            else:
                rest.zero_grad()
                loss = closure()
                loss.backward()
                losses.append(loss.detach())
            rest.step()
        return float(torch.stack(losses).mean())


def _prune(run: _Run, method: str, share: float) -> None:
    """Masks on the new network, without warm-up; magnitude's come from trainings of their own, all epochs a round."""
    if method == "magnitude":
        prune_magnitude(run.model, share, lambda model: run.fit(), run.plan.rounds)
        return
    x, y = next(run.batches())
    flat = TEMPERATURE if method == "GraSP" else 1.0

    def loss() -> Tensor:
        return functional.cross_entropy(run.model.train()(x) / flat, y)

    (prune_snip if method == "SNIP" else prune_grasp)(run.model, share, loss)


def _draw(rows: list[dict[str, Any]], path: Path, console: Console) -> None:
    """Figure 1: accuracy against compression, a line a method; mean over the seeds, with one deviation."""
    made, (axis,) = figure(width=7.5, height=4.6)
    full = next(row for row in rows if row["name"] == "full")
    axis.axhline(100 * full["final"][0], color="black", linestyle="--", linewidth=1, label="full")
    for number, (method, dial) in enumerate(DIALS.items()):
        own = [row for row in rows if dial and row["name"].startswith(f"{method} {dial} ")]
        own.sort(key=lambda row: row["compression"][0])
        at, height, spread = (
            [100 * row[what][part] for row in own] for what, part in (("compression", 0), ("final", 0), ("final", 1))
        )
        style = {"marker": "osv^D*PXh<"[number], "linestyle": ":" if dial == "share" else "-"}
        if own:
            axis.errorbar(at, height, spread, markersize=5, capsize=2, linewidth=1.2, label=method, **style)
    axis.set(xlabel="compression, %", ylabel="test accuracy, %")
    axis.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    close(made, path, console)
