"""`spectral demo`: train dense, tNN and spectral networks on real digits, time them, print a table, save a report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from ..transforms import DCT
from . import data as mnist
from . import experiment
from .networks import FEATURES, LAYERS, PAPER_ACCURACY, RANK, RECIPES
from .training import Run, Settings


def run(
    settings: Settings,
    data_dir: Path | None,
    out: Path,
    quick: bool,
    names: list[str] | None = None,
    compile: bool = True,
) -> dict[str, Any]:
    """The whole demo; returns (and saves, as results.json beside report.html) everything that it shows."""
    console = Console()
    data = experiment.load(data_dir, settings, console)
    runs = experiment.train_all([RECIPES[name] for name in names or RECIPES], data, settings, console)
    results = {
        "title": "Spectral networks on MNIST",
        "settings": experiment.settings_of(settings, quick, data),
        "machine": experiment.machine(),
        "networks": [_network(r) for r in runs],
        "paper": PAPER_ACCURACY,
        "bounds": f"Table 2: compression and operations O(nQ/2r), select the best O(nQ^2/2r); n = Q = 28, r = {RANK}: "
        f"{28 * 28 // (2 * RANK)}x and {28**3 // (2 * RANK)}x",
        "speed": experiment.speeds(runs, data, settings, quick, compile, console),
        "images": _images(data),
    }
    experiment.save(results, out, console)
    return results


def _network(run: Run) -> dict[str, Any]:
    row, dense = experiment.network(run), RECIPES["dense"].build()
    row["layers"] = LAYERS
    if run.recipe.name != "dense":
        whole = sum(p.numel() for p in dense.parameters()) / row["parameters"]
        side, rank = FEATURES[0], run.recipe.rank
        hidden = side * side if rank is None else 2 * side * rank
        bound = side**3 / hidden  # Q at full rank, n Q / 2r at rank r (Table 2); the best branch alone: Q times that
        row["compression"] = {
            "hidden_weight": side**4 / (side * hidden),
            "hidden_bound": bound,
            "whole": whole,
            "weights": experiment.weights_in(dense) / experiment.weights_in(run.net),
            "best_branch": whole * side if run.recipe.is_spectral else None,
            "best_bound": bound * side if run.recipe.is_spectral else None,
        }
    return row


def _images(data: mnist.Mnist) -> dict[str, Any]:
    """The first seven of the test data, and what the branches see of it: DCT coefficient q of every row."""
    index = experiment.first_seven(data)
    image = mnist.pixels(data.test.images[index])
    transform = DCT(mnist.SIDE)
    branches = transform(image[None])[:, 0].mT  # (I, Q): row i, coefficient q
    return {
        "label": int(data.test.labels[index]), "digit": image.tolist(), "branches": branches.tolist(),
        "inverse": transform.inverse.tolist(),
    }  # fmt: skip
