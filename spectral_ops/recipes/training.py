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
from .networks import Recipe, build, recipe_of

CHANCE = math.log(CLASSES)  # the loss of equal probabilities
PATIENCE = 3  # epochs in which the loss must have fallen below chance
RESTARTS = 2  # how often a run that diverges starts again, with a tenth of the learning rate


@dataclass
class Run:
    """A trained network and how it got there."""

    recipe: Recipe
    net: nn.Module
    lr: float
    seconds: float
    curve: list[tuple[int, float]]  # step, mean loss of the steps since the last point (mean over the branches)
    band: list[tuple[int, float, float]]  # the same, of the best and of the worst branch
    branch_losses: Tensor  # of each branch on the training data, (B,)
    accuracy: dict[str, float] = field(default_factory=dict)  # on the test data, by weighting of the probabilities
    accuracy_logits: dict[str, float] = field(default_factory=dict)  # the same, of the logits
    branch_accuracy: list[float] = field(default_factory=list)  # of each branch alone; empty without branches
    lr_note: str = ""


@dataclass(frozen=True)
class Settings:
    """The paper's settings are the defaults; `epochs` is ours (the paper names none)."""

    epochs: int = 40
    batch_size: int = 64
    lr: float = 0.01
    seed: int = 0


def train(which: str | Recipe, data: Mnist, settings: Settings, progress: Callable[[int, int, float], None]) -> Run:
    """Train a network, of paper 1's by its name, and measure it on the test data.

    A run whose loss explodes, or stays at or above chance after three epochs, starts again from the same weights with a
    tenth of the learning rate; `lr_note` says so.

    Args:
        progress: called after each step with (step, steps in all, loss).
    """
    recipe, lr, note = recipe_of(which), settings.lr, ""
    for attempt in range(RESTARTS + 1):
        net = build(recipe, settings.seed)
        begin = time.perf_counter()
        story = _descend(net, data.train, settings, lr, progress)
        seconds = time.perf_counter() - begin
        if story is not None:
            break
        if attempt < RESTARTS:
            lr /= 10
            note = f"lr lowered from {settings.lr:g} to {lr:g}: with more the loss did not stay below chance"
    if story is None:
        raise RuntimeError(f"{recipe.name}: the loss did not stay below chance at any of {RESTARTS + 1} learning rates")
    with torch.no_grad():
        losses = ensemble.branch_cross_entropy(_logits(net, data.train), data.train.labels)
    curve = [(step, points.mean().item()) for step, points in story]
    band = [(step, points.min().item(), points.max().item()) for step, points in story]
    run = Run(recipe, net, lr, seconds, curve, band, losses, lr_note=note)
    run.accuracy = accuracies(run, data)
    if recipe.is_spectral:
        run.accuracy_logits = accuracies(run, data, "logits")
        run.branch_accuracy = [_share(logits, data.test.labels) for logits in _logits(net, data.test)]
    return run


def _descend(
    net: nn.Module, split: Split, settings: Settings, lr: float, progress: Callable[[int, int, float], None]
) -> list[tuple[int, Tensor]] | None:
    """[(step, each branch's mean loss of the steps since the last point)]; None when the run diverged."""
    optimizer = torch.optim.Adam(net.parameters(), lr=lr, fused=True)
    order = torch.Generator().manual_seed(settings.seed)
    batches = len(split) // settings.batch_size
    total = batches * settings.epochs
    every = max(total // 200, 1)
    curve: list[tuple[int, Tensor]] = []
    recent: list[Tensor] = []
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
            recent.append(losses.detach())
            step = epoch * batches + b + 1
            if step % every == 0 or step == total:
                curve.append((step, torch.stack(recent).mean(0)))
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


def weightings(run: Run, data: Mnist, space: str = "probabilities") -> dict[str, Tensor]:
    """The branch weights of every rule: `learned` is fitted on the held-out data, the others to the training losses."""
    return {
        "average": ensemble.average(len(run.branch_losses)),
        "weighted_sum": ensemble.weighted_sum(run.branch_losses),
        "geometric": ensemble.geometric(run.branch_losses),
        "select_best": ensemble.select_best(run.branch_losses),
        "learned": ensemble.learned(_logits(run.net, data.held_out), data.held_out.labels, space),
    }


def accuracies(run: Run, data: Mnist, space: str = "probabilities") -> dict[str, float]:
    """Test accuracy: one number, or one a weighting (of probabilities or of logits) where there are branches."""
    images, labels = data.test.images, data.test.labels
    with torch.no_grad():
        if not run.recipe.is_spectral:
            return {"test": _share(run.net.predict(images), labels)}  # type: ignore[operator]
        return {
            rule: _share(run.net.predict(images, weights, space), labels)  # type: ignore[operator]
            for rule, weights in weightings(run, data, space).items()
        }


def _share(scores: Tensor, labels: Tensor) -> float:
    return (scores.argmax(-1) == labels).double().mean().item()
