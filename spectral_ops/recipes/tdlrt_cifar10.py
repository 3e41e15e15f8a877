"""`spectral train tdlrt-cifar10 --data-dir FOLDER`: Figure 1 and the low-rank rows of Table 1 of the TDLRT paper.

VGG16 (or AlexNet, ResNet-18) in full, by TDLRT and matrix DLRT over tolerances tau, and by Tucker, matrix and CP layers
of fixed rank over fractions kappa. SGD for all, with the paper's settings: batches of 128, 70 epochs, rate 0.05 divided
by ten on plateaus of the training loss, momentum 0.1, random crops and flips.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn
from torch.nn import functional

from ..compress import TDLRT, Fraction, to_cp, to_matrix, to_matrix_dlrt, to_tucker
from ..models import CifarAlexNet, ResNet18, vgg16
from .data import Split
from .generated import Images, augmented
from .low_rank import Arm, Clock, accuracy, batches, close, count, figure, save

NETWORKS: dict[str, Callable[[], nn.Module]] = {"vgg16": vgg16, "alexnet": CifarAlexNet, "resnet18": ResNet18}
EPOCHS, QUICK_EPOCHS, BATCH, LR, MOMENTUM, PATIENCE = 70, 1, 128, 0.05, 0.1, 5
TAUS, KAPPAS, START = (0.1, 0.05, 0.03, 0.02), (0.5, 0.35, 0.25, 0.15), 0.3  # START: kappa of the adaptive ranks


def run(
    images: Images, out: Path, seeds: int = 1, epochs: int | None = None, quick: bool = False,
    lr: float = LR, batch_size: int = BATCH, network: str = "vgg16",
    taus: Sequence[float] = TAUS, kappas: Sequence[float] = KAPPAS,
) -> list[dict[str, Any]]:  # fmt: skip
    """Train every method at every tau or kappa; writes results.json, results.md and figure1.png, returns the rows."""
    console, arms = Console(), []
    epochs = epochs or (QUICK_EPOCHS if quick else EPOCHS)
    build = NETWORKS[network]
    plan = [("full", None), *((m, t) for m in ("TDLRT", "matrix DLRT") for t in taus)]
    plan += [(m, k) for m in ("Tucker", "matrix", "CP") for k in kappas]
    for seed in range(seeds):
        for method, value in plan:
            arms.append(train(build, method, value, images, seed, epochs, lr, batch_size))
            console.print(f"seed {seed}: {arms[-1].name}, {100 * arms[-1].final:.2f} %, {arms[-1].parameters:,}")
    settings = {"network": network, "epochs": epochs, "batch": batch_size, "lr": lr, "momentum": MOMENTUM}
    rows = save(f"Low-rank training of {network}", arms, count(build()), settings, out, console)
    _draw(rows, out / "figure1.png", console)
    return rows


def compressed(model: nn.Module, method: str, value: float | None) -> nn.Module:
    """The model in the form that a method trains; value: kappa, or tau of the adaptive ones, whose start is fixed."""
    if method == "TDLRT":
        return to_tucker(model, Fraction(START), spatial=True)[0]
    if method == "matrix DLRT":
        return to_matrix_dlrt(model, START)
    if value is None:
        return model
    if method == "Tucker":
        return to_tucker(model, Fraction(value), spatial=True)[0]
    return to_matrix(model, value) if method == "matrix" else to_cp(model, value)


def train(
    build: Callable[[], nn.Module], method: str, value: float | None, images: Images,
    seed: int, epochs: int, lr: float, size: int,
) -> Arm:  # fmt: skip
    """One method with one tau or kappa."""
    torch.manual_seed(seed)
    adaptive = method.endswith("DLRT") or method == "TDLRT"
    name = method if value is None else f"{method} {'tau' if adaptive else 'kappa'} {value:g}"
    model, clock = compressed(build(), method, value), Clock()
    arm, generator = Arm(name, seed), torch.Generator().manual_seed(seed)
    trainer = TDLRT(model, tau=value or 0.0, lr=lr, momentum=MOMENTUM) if adaptive else None
    rest = torch.optim.SGD(model.parameters() if trainer is None else trainer.rest, lr=lr, momentum=MOMENTUM)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau
    schedulers = [plateau(o, factor=0.1, patience=PATIENCE) for o in (rest, trainer) if o is not None]

    def pass_over() -> float:
        model.train()
        losses = []
        for x, y in batches(Split(*images.train), size, generator):
            shown = augmented(x, images, generator)

            def closure(x: torch.Tensor = shown, y: torch.Tensor = y) -> torch.Tensor:
                return functional.cross_entropy(model(x), y)

            if trainer is not None:
                losses.append(trainer.step(closure))
            else:
                rest.zero_grad()
                loss = closure()
                loss.backward()
                losses.append(loss.detach())
            rest.step()
        return float(torch.stack(losses).mean())

    for _ in range(epochs):
        arm.losses.append(clock(pass_over))
        for scheduler in schedulers:
            scheduler.step(arm.losses[-1])
        arm.accuracy.append(accuracy(model, Split(*images.test)))
        arm.ranks.append({} if trainer is None else dict(trainer.ranks))
    arm.parameters, arm.seconds = count(model), clock.seconds
    return arm


def _draw(rows: list[dict[str, Any]], path: Path, console: Console) -> None:
    """Figure 1: accuracy against compression, a line a method; mean over the seeds, with one deviation."""
    made, (axis,) = figure()
    full = next(row for row in rows if row["name"] == "full")
    axis.axhline(100 * full["final"][0], color="gray", linestyle="--", label="full")
    for method in ("TDLRT", "matrix DLRT", "Tucker", "matrix", "CP"):
        own = [row for row in rows if row["name"].startswith((f"{method} tau", f"{method} kappa"))]
        own.sort(key=lambda row: row["compression"][0])
        at, height = ([100 * row[what][0] for row in own] for what in ("compression", "final"))
        axis.errorbar(at, height, [100 * row["final"][1] for row in own], marker="o", markersize=4, label=method)
    axis.set(xlabel="compression, %", ylabel="test accuracy, %")
    axis.legend(frameon=False)
    close(made, path, console)
