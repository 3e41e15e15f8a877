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
from rich.table import Table

from .. import __version__, doctor, native
from ..transforms import DCT
from . import data as mnist
from .networks import FEATURES, LAYERS, PAPER_ACCURACY, RANK, RECIPES
from .report import write_report
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
            ours, best = row[f"{kind}_ms"]["ours"], dense and _best(dense[f"{kind}_ms"])
            row[f"dense_{kind}_ratio"] = best / ours if best and ours else None
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
    timed = measure(run.name, run.net, data.train, settings.batch_size, seconds, compile)
    return {"name": run.name, "title": RECIPES[run.name].title, **timed}


def _best(ms: dict[str, float | None]) -> float:
    """The faster of eager and compile: the baseline of every ratio."""
    return min(t for t in (ms["eager"], ms["compile"]) if t is not None)


def _network(run: Run) -> dict[str, Any]:
    recipe, dense = RECIPES[run.name], RECIPES["dense"].build()
    parameters = sum(p.numel() for p in run.net.parameters())
    compression = None
    if run.name != "dense":
        whole = sum(p.numel() for p in dense.parameters()) / parameters
        side = FEATURES[0]
        hidden = side * side if recipe.rank is None else 2 * side * recipe.rank
        compression = {
            "hidden_weight": side**4 / (side * hidden),
            "whole": whole,
            "best_branch": whole * side if recipe.is_spectral else None,
        }
    return {
        "name": run.name, "title": recipe.title, "parameters": parameters,
        "operations": run.net.operations(),  # type: ignore[operator]
        "compression": compression, "lr": run.lr, "lr_note": run.lr_note, "seconds": run.seconds,
        "curve": run.curve, "accuracy": run.accuracy, "layers": LAYERS,
    }  # fmt: skip


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
    branches = DCT(mnist.SIDE)(image[None])[:, 0].mT  # (I, Q): row i, coefficient q
    return {"label": int(data.test.labels[index]), "digit": image.tolist(), "branches": branches.tolist()}


def _print(results: dict[str, Any], console: Console) -> None:
    nets, speeds = results["networks"], results["speed"]
    dense_parameters = next((n["parameters"] for n in nets if n["name"] == "dense"), None)
    learnt = Table(title="Size and test accuracy", title_justify="left")
    for column in ("", "parameters", "smaller", "accuracy %"):
        learnt.add_column(column, justify="right" if column else "left")
    for net in nets:
        smaller = f"{dense_parameters / net['parameters']:.1f}x" if dense_parameters else "-"
        rules = [f"{'' if rule == 'test' else rule} {100 * a:.2f}" for rule, a in net["accuracy"].items()]
        learnt.add_row(net["title"], f"{net['parameters']:,}", smaller, "\n".join(rules))
    console.print(learnt)
    timed = Table(title="Milliseconds (training step, 1000 inferences)", title_justify="left")
    for column in ("", "ours", "eager", "compile", "x", "x dense"):
        timed.add_column(column, justify="right" if column else "left")
    for row in speeds:
        for kind in ("step", "inference"):
            ms, than_dense = row[f"{kind}_ms"], row[f"dense_{kind}_ratio"]
            faster = f"{_best(ms) / ms['ours']:.1f}" if ms["ours"] else "-"
            cells = [_ms(ms[contender]) for contender in ("ours", "eager", "compile")]
            title = row["title"] if kind == "step" else "  inference"
            timed.add_row(title, *cells, faster, f"{than_dense:.1f}" if than_dense else "-")
    console.print(timed)
    for net in nets:
        if net["lr_note"]:
            console.print(f"{net['title']}: {net['lr_note']}")
    for note in sorted({s["compile_note"] for s in speeds if s["compile_note"]}):
        console.print(f"compile: {note}")


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
