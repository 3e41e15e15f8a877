"""`spectral demo`: train dense, tNN and spectral networks on real digits, time them, print a table, save a report."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from .. import __version__, doctor, native
from ..transforms import DCT
from . import data as mnist
from .networks import FEATURES, LAYERS, PAPER_ACCURACY, RANK, RECIPES, build
from .report import write_report
from .terminal import best, results_table
from .timing import measure
from .training import Run, Settings, train

QUICK_EPOCHS, QUICK_SECONDS, SECONDS = 4, 0.5, 3.0


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
    data = mnist.load(data_dir, settings.seed)
    console.print(f"{data.source}: {len(data.train)} to train, {len(data.held_out)} held out, {len(data.test)} to test")
    runs = _train_all(names or list(RECIPES), data, settings, console)
    console.print("Measuring training steps and inference: ours, eager, torch.compile ...")
    speed = [_speed(r, data, settings, QUICK_SECONDS if quick else SECONDS, compile) for r in runs]
    dense = next((s for s in speed if s["name"] == "dense"), None)
    for row in speed:
        for kind in ("step", "inference"):
            ours, theirs = row[f"{kind}_ms"]["ours"], dense and best(dense[f"{kind}_ms"])
            row[f"dense_{kind}_ratio"] = theirs / ours if theirs and ours else None
    results = {
        "settings": {
            **asdict(settings), "quick": quick, "data": data.source, "optimizer": "Adam",
            "train": len(data.train), "held_out": len(data.held_out), "test": len(data.test),
        },
        "machine": _machine(),
        "networks": [_network(r) for r in runs],
        "paper": PAPER_ACCURACY,
        "bounds": f"Table 2: compression and operations O(nQ/2r), select the best O(nQ^2/2r); n = Q = 28, r = {RANK}: "
        f"{28 * 28 // (2 * RANK)}x and {28**3 // (2 * RANK)}x",
        "speed": speed,
        "images": _images(data),
    }  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    (out / "results.json").write_text(json.dumps(results))
    write_report(results, out / "report.html")
    _print(results, console)
    console.print(f"Report: {out / 'report.html'}")
    return results


def _train_all(names: list[str], data: mnist.Mnist, settings: Settings, console: Console) -> list[Run]:
    columns = (
        TextColumn("{task.description:24}"), BarColumn(bar_width=30), TextColumn("loss {task.fields[loss]:6.3f}"),
        TimeElapsedColumn(),
    )  # fmt: skip
    runs = []
    with Progress(*columns, console=console) as progress:
        for name in names:
            task = progress.add_task(RECIPES[name].title, total=1, loss=float("nan"))

            def show(step: int, steps: int, loss: float, task: TaskID = task) -> None:
                progress.update(task, completed=step, total=steps, loss=loss)

            runs.append(train(name, data, settings, show))
    return runs


def _speed(run: Run, data: mnist.Mnist, settings: Settings, seconds: float, compile: bool) -> dict[str, Any]:
    # an untrained network: the tiny gradients of a trained one are denormal numbers, which are slow to compute with
    net = build(run.name, settings.seed)
    timed = measure(run.name, net, data.train, settings.batch_size, seconds, compile)
    return {"name": run.name, "title": RECIPES[run.name].title, **timed}


def _network(run: Run) -> dict[str, Any]:
    recipe, dense = RECIPES[run.name], RECIPES["dense"].build()
    parameters = sum(p.numel() for p in run.net.parameters())
    compression = None
    if run.name != "dense":
        whole = sum(p.numel() for p in dense.parameters()) / parameters
        side = FEATURES[0]
        hidden = side * side if recipe.rank is None else 2 * side * recipe.rank
        bound = side**3 / hidden  # Q at full rank, n Q / 2r at rank r (Table 2); the best branch alone: Q times that
        compression = {
            "hidden_weight": side**4 / (side * hidden),
            "hidden_bound": bound,
            "whole": whole,
            "weights": _weights(dense) / _weights(run.net),
            "best_branch": whole * side if recipe.is_spectral else None,
            "best_bound": bound * side if recipe.is_spectral else None,
        }
    return {
        "name": run.name, "title": recipe.title, "parameters": parameters,
        "operations": run.net.operations(),  # type: ignore[operator]
        "compression": compression, "lr": run.lr, "lr_note": run.lr_note, "seconds": run.seconds,
        "curve": run.curve, "band": run.band, "accuracy": run.accuracy, "accuracy_logits": run.accuracy_logits,
        "branch_accuracy": run.branch_accuracy, "layers": LAYERS,
    }  # fmt: skip


def _weights(net: torch.nn.Module) -> int:
    """Trained numbers without the biases, which are vectors, one a branch where there are branches."""
    biased = {id(p) for name, p in net.named_parameters() if "bias" in name}
    return sum(p.numel() for p in net.parameters() if id(p) not in biased)


def _machine() -> dict[str, Any]:
    return {
        "cpu": doctor.facts()["cpu"]["model"], "threads": torch.get_num_threads(), "torch": torch.__version__,
        "python": platform.python_version(), "spectral_ops": __version__,
        "cpu_level": native.current_cpu_level() or "reference (no native library)", "date": date.today().isoformat(),
    }  # fmt: skip


def _images(data: mnist.Mnist) -> dict[str, Any]:
    """The first seven of the test data, and what the branches see of it: DCT coefficient q of every row."""
    index = int((data.test.labels == 7).nonzero()[0])
    image = mnist.pixels(data.test.images[index])
    transform = DCT(mnist.SIDE)
    branches = transform(image[None])[:, 0].mT  # (I, Q): row i, coefficient q
    return {
        "label": int(data.test.labels[index]), "digit": image.tolist(), "branches": branches.tolist(),
        "inverse": transform.inverse.tolist(),
    }  # fmt: skip


def _print(results: dict[str, Any], console: Console) -> None:
    console.print(results_table(results))
    console.print(results["bounds"])
    for net in results["networks"]:
        if net["lr_note"]:
            console.print(f"{net['title']}: {net['lr_note']}")
    for note in sorted({row["compile_note"] for row in results["speed"] if row["compile_note"]}):
        console.print(f"compile: {note}")
