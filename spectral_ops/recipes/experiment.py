"""What every recipe does with its networks: train, time, count, write a report, print a table."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from torch import Tensor

from .. import __version__, doctor, native
from . import data as mnist
from .networks import Recipe, build
from .report import write_report
from .terminal import best, results_table
from .timing import measure
from .training import Run, Settings, train

QUICK_EPOCHS, QUICK_SECONDS, SECONDS = 4, 0.5, 3.0


@dataclass(frozen=True)
class Experiment:
    """A dense network and spectral ones beside it, under names that the report has colours for.

    parts: pictures of what the branches see of an image (28, 28), each with its title. lr, epochs: the defaults.
    """

    name: str
    title: str
    about: str
    networks: list[Recipe]
    parts: Callable[[Tensor], list[tuple[str, Tensor]]]
    lr: float
    epochs: int


def run(
    experiment: Experiment, settings: Settings, data_dir: Path | None, out: Path, quick: bool, compile: bool = True
) -> tuple[dict[str, Any], list[Run]]:
    """Train and time the networks; returns (and saves, as results.json beside report.html) everything shown."""
    console = Console()
    data = load(data_dir, settings, console)
    runs = train_all(experiment.networks, data, settings, console)
    image = mnist.pixels(data.test.images[first_seven(data)])
    with torch.no_grad():
        parts = [{"title": title, "values": values.tolist()} for title, values in experiment.parts(image)]
    results = {
        "title": experiment.title, "about": experiment.about,
        "settings": settings_of(settings, quick, data),
        "machine": machine(),
        "networks": [_network(r, runs) for r in runs],
        "paper": {},
        "speed": speeds(runs, data, settings, quick, compile, console),
        "parts": {"label": int(data.test.labels[first_seven(data)]), "digit": image.tolist(), "branches": parts},
    }  # fmt: skip
    save(results, out, console)
    return results, runs


def load(data_dir: Path | None, settings: Settings, console: Console) -> mnist.Mnist:
    """The digits, and a line that says which."""
    data = mnist.load(data_dir, settings.seed)
    console.print(f"{data.source}: {len(data.train)} to train, {len(data.held_out)} held out, {len(data.test)} to test")
    return data


def first_seven(data: mnist.Mnist) -> int:
    """The test image that reports show."""
    return int((data.test.labels == 7).nonzero()[0])


def train_all(recipes: Sequence[Recipe], data: mnist.Mnist, settings: Settings, console: Console) -> list[Run]:
    """Train one network after the other, with a bar for each."""
    columns = (
        TextColumn("{task.description:24}"), BarColumn(bar_width=30), TextColumn("loss {task.fields[loss]:6.3f}"),
        TimeElapsedColumn(),
    )  # fmt: skip
    runs = []
    with Progress(*columns, console=console) as progress:
        for recipe in recipes:
            task = progress.add_task(recipe.title, total=1, loss=float("nan"))

            def show(step: int, steps: int, loss: float, task: TaskID = task) -> None:
                progress.update(task, completed=step, total=steps, loss=loss)

            runs.append(train(recipe, data, settings, show))
    return runs


def speeds(
    runs: Sequence[Run], data: mnist.Mnist, settings: Settings, quick: bool, compile: bool, console: Console
) -> list[dict[str, Any]]:
    """Times of a training step and of inference, of each network and against the dense one."""
    console.print("Measuring training steps and inference: ours, eager, torch.compile ...")
    rows = [_speed(r, data, settings, QUICK_SECONDS if quick else SECONDS, compile) for r in runs]
    dense = next((row for row in rows if row["name"] == "dense"), None)
    for row in rows:
        for kind in ("step", "inference"):
            ours, theirs = row[f"{kind}_ms"]["ours"], dense and best(dense[f"{kind}_ms"])
            row[f"dense_{kind}_ratio"] = theirs / ours if theirs and ours else None
    return rows


def _speed(run: Run, data: mnist.Mnist, settings: Settings, seconds: float, compile: bool) -> dict[str, Any]:
    # an untrained network: the tiny gradients of a trained one are denormal numbers, which are slow to compute with
    net = build(run.recipe, settings.seed)
    timed = measure(run.recipe, net, data.train, settings.batch_size, seconds, compile)
    return {"name": run.recipe.name, "title": run.recipe.title, **timed}


def settings_of(settings: Settings, quick: bool, data: mnist.Mnist) -> dict[str, Any]:
    return {
        **asdict(settings), "quick": quick, "data": data.source, "optimizer": "Adam",
        "train": len(data.train), "held_out": len(data.held_out), "test": len(data.test),
    }  # fmt: skip


def network(run: Run) -> dict[str, Any]:
    """What is reported of one network, but for its compression."""
    return {
        "name": run.recipe.name, "title": run.recipe.title,
        "parameters": sum(p.numel() for p in run.net.parameters()),
        "operations": run.net.operations(),  # type: ignore[operator]
        "compression": None, "lr": run.lr, "lr_note": run.lr_note, "seconds": run.seconds,
        "curve": run.curve, "band": run.band, "accuracy": run.accuracy, "accuracy_logits": run.accuracy_logits,
        "branch_accuracy": run.branch_accuracy,
    }  # fmt: skip


def weights_in(net: torch.nn.Module) -> int:
    """Trained numbers without the biases, which are vectors, one a branch where there are branches."""
    biased = {id(p) for name, p in net.named_parameters() if "bias" in name}
    return sum(p.numel() for p in net.parameters() if id(p) not in biased)


def _network(run: Run, runs: Sequence[Run]) -> dict[str, Any]:
    row, dense = network(run), next((r.net for r in runs if r.recipe.name == "dense"), None)
    if dense is not None and run.net is not dense:
        whole = sum(p.numel() for p in dense.parameters()) / row["parameters"]
        best_branch = whole * len(run.branch_losses) if run.recipe.is_spectral else None
        row["compression"] = {
            "whole": whole, "weights": weights_in(dense) / weights_in(run.net), "best_branch": best_branch,
        }  # fmt: skip
    return row


def machine() -> dict[str, Any]:
    return {
        "cpu": doctor.facts()["cpu"]["model"], "threads": torch.get_num_threads(), "torch": torch.__version__,
        "python": platform.python_version(), "spectral_ops": __version__,
        "cpu_level": native.current_cpu_level() or "reference (no native library)", "date": date.today().isoformat(),
    }  # fmt: skip


def save(results: dict[str, Any], out: Path, console: Console) -> None:
    """Write results.json and report.html, and print the table."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "results.json").write_text(json.dumps(results))
    write_report(results, out / "report.html")
    console.print(results_table(results))
    if "bounds" in results:
        console.print(results["bounds"])
    for net in results["networks"]:
        if net["lr_note"]:
            console.print(f"{net['title']}: {net['lr_note']}")
    for note in sorted({row["compile_note"] for row in results["speed"] if row["compile_note"]}):
        console.print(f"compile: {note}")
    console.print(f"Report: {out / 'report.html'}")
