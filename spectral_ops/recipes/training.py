"""The training run of paper 1's MNIST experiment: Adam, batches of 64, every network by the same loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from .. import ensemble
from .data import CLASSES, Mnist, Split
from .networks import RECIPES, build

CHANCE = math.log(CLASSES)  # the loss of equal probabilities
PATIENCE = 3  # epochs in which the loss must have fallen below chance
RESTARTS = 2  # how often a run that diverges starts again, with a tenth of the learning rate


@dataclass
class Run:
    """A trained network and how it got there."""

    name: str
    net: nn.Module
    lr: float
    seconds: float
    curve: list[tuple[int, float]]  # step, mean loss of the steps since the last point (mean over the branches)
    branch_losses: Tensor  # of each branch on the training data, (B,)
    accuracy: dict[str, float] = field(default_factory=dict)  # on the test data, by weighting
    lr_note: str = ""


@dataclass(frozen=True)
class Settings:
    """The paper's settings are the defaults; `epochs` is ours (the paper names none)."""

    epochs: int = 40
    batch_size: int = 64
    lr: float = 0.01
    seed: int = 0


def train(name: str, data: Mnist, settings: Settings, progress: Callable[[int, int, float], None]) -> Run:
    """Train the network `name` and measure it on the test data.

    A run whose loss explodes, or stays at or above chance after three epochs, starts again from the same weights with a
    tenth of the learning rate; `lr_note` says so.

    Args:
        progress: called after each step with (step, steps in all, loss).
    """
    lr, note = settings.lr, ""
    for attempt in range(RESTARTS + 1):
        net = build(name, settings.seed)
        begin = time.perf_counter()
        curve = _descend(net, data.train, settings, lr, progress)
        seconds = time.perf_counter() - begin
        if curve is not None:
            break
        if attempt < RESTARTS:
            lr /= 10
            note = f"lr lowered from {settings.lr:g} to {lr:g}: with more the loss did not stay below chance"
    if curve is None:
        raise RuntimeError(f"{name}: the loss did not stay below chance at any of {RESTARTS + 1} learning rates")
    with torch.no_grad():
        losses = ensemble.branch_cross_entropy(_logits(net, data.train), data.train.labels)
    run = Run(name, net, lr, seconds, curve, losses, lr_note=note)
    run.accuracy = accuracies(run, data)
    return run


def _descend(
    net: nn.Module, split: Split, settings: Settings, lr: float, progress: Callable[[int, int, float], None]
) -> list[tuple[int, float]] | None:
    """The loss curve, or None when the run diverged."""
    optimizer = torch.optim.Adam(net.parameters(), lr=lr, fused=True)
    order = torch.Generator().manual_seed(settings.seed)
    batches = len(split) // settings.batch_size
    total = batches * settings.epochs
    every = max(total // 200, 1)
    curve: list[tuple[int, float]] = []
    recent: list[float] = []
    previous = math.inf
    start = CHANCE  # the loss of the first batch, where that is more
    for epoch in range(settings.epochs):
        shuffled = torch.randperm(len(split), generator=order)
        losses_of_epoch = []
        for b in range(batches):
            index = shuffled[b * settings.batch_size : (b + 1) * settings.batch_size]
            optimizer.zero_grad()
            losses, _ = net.loss(split.images[index], split.labels[index])  # type: ignore[operator]
            losses.sum().backward()  # branches learn alone: each gets the gradient of its own loss
            optimizer.step()
            loss = losses.detach().mean().item()
            losses_of_epoch.append(loss)
            start = loss if not curve and not recent and loss > start else start
            recent.append(loss)
            step = epoch * batches + b + 1
            if step % every == 0 or step == total:
                curve.append((step, sum(recent) / len(recent)))
                recent = []
            progress(step, total, loss)
        mean = sum(losses_of_epoch) / len(losses_of_epoch)
        stuck = epoch + 1 >= PATIENCE and mean >= 0.98 * CHANCE and mean > 0.98 * previous
        if stuck or not mean < 2 * start:  # "not <": NaN too
            return None
        previous = mean
    return curve


def _logits(net: nn.Module, split: Split, batch: int = 1000) -> Tensor:
    """Logits (B, N, C) of a whole split."""
    with torch.no_grad():
        return torch.cat([net(images) for images in split.images.split(batch)], 1)


def weightings(run: Run, data: Mnist) -> dict[str, Tensor]:
    """The branch weights of every rule; all but `learned` come from the training losses."""
    return {
        "average": ensemble.average(len(run.branch_losses)),
        "weighted_sum": ensemble.weighted_sum(run.branch_losses),
        "geometric": ensemble.geometric(run.branch_losses),
        "select_best": ensemble.select_best(run.branch_losses),
        "learned": ensemble.learned(_logits(run.net, data.held_out), data.held_out.labels),
    }


def accuracies(run: Run, data: Mnist) -> dict[str, float]:
    """Test accuracy: one number, or one a weighting where there are branches."""
    images, labels = data.test.images, data.test.labels
    with torch.no_grad():
        if not RECIPES[run.name].is_spectral:
            return {"test": _share(run.net.predict(images), labels)}  # type: ignore[operator]
        return {
            rule: _share(run.net.predict(images, weights), labels)  # type: ignore[operator]
            for rule, weights in weightings(run, data).items()
        }


def _share(scores: Tensor, labels: Tensor) -> float:
    return (scores.argmax(-1) == labels).double().mean().item()
