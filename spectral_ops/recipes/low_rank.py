"""What the experiments on low-rank training share: batches, accuracy, several seeds, and pictures of the results."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional

from ..compress import TDLRT
from .data import Split
from .experiment import machine

Change = Callable[[Tensor, torch.Generator], Tensor]


@dataclass
class Arm:
    """One way to train, of one seed.

    accuracy: on the test data, after each epoch. losses: on the training data, each step or epoch as the recipe says.
    ranks: of each layer, at each point. events: what happened to the network, epoch and words.
    """

    name: str
    seed: int
    parameters: int = 0
    seconds: float = 0.0
    accuracy: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    ranks: list[dict[str, tuple[int, ...]]] = field(default_factory=list)
    events: list[tuple[int, str]] = field(default_factory=list)

    @property
    def best(self) -> float:
        return max(self.accuracy)

    @property
    def final(self) -> float:
        return self.accuracy[-1]


def batches(split: Split, size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Images (N, C, H, W) and labels in a new order; what is left over of the last batch is dropped."""
    images = split.images if split.images.dim() == 4 else split.images.unsqueeze(1)
    order = torch.randperm(len(split), generator=generator)
    for index in order.split(size):
        if len(index) == min(size, len(split)):
            yield images[index], split.labels[index]


def accuracy(model: nn.Module, split: Split, size: int = 500) -> float:
    """The share of a split that the model gets right; its mode is put back."""
    training = model.training
    model.eval()
    images = split.images if split.images.dim() == 4 else split.images.unsqueeze(1)
    with torch.no_grad():
        right = sum(
            int((model(x).argmax(1) == y).sum())
            for x, y in zip(images.split(size), split.labels.split(size), strict=True)
        )
    model.train(training)
    return right / len(split)


def epoch(
    model: nn.Module, optimizer: torch.optim.Optimizer, split: Split, size: int, seed: int, change: Change | None = None
) -> float:
    """One pass over the data with cross-entropy; the mean loss. change: of the images of each batch, at random."""
    model.train()
    losses = []
    generator = torch.Generator().manual_seed(seed)
    for x, y in batches(split, size, generator):
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(x if change is None else change(x, generator)), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return float(torch.stack(losses).mean())


def stepped(trainer: TDLRT, closure: Callable[[], Tensor]) -> Tensor:
    """The loss of a step; of a training that diverged NaN, as of any other optimiser."""
    try:
        return trainer.step(closure)
    except FloatingPointError:
        return torch.tensor(torch.nan)


class Clock:
    """Adds up seconds of training, without those of testing."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self, work: Callable[[], Any]) -> Any:
        begin = time.perf_counter()
        result = work()
        self.seconds += time.perf_counter() - begin
        return result


def count(model: nn.Module) -> int:
    """Trained numbers; of pruned weights those that are left."""
    masked = sum(int((mask == 0).sum()) for name, mask in model.named_buffers() if name.endswith("_mask"))
    return sum(p.numel() for p in model.parameters()) - masked


def mean_and_std(values: Sequence[float]) -> tuple[float, float]:
    """Over seeds; the deviation of one value is 0."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def summaries(arms: Sequence[Arm], dense: int) -> list[dict[str, Any]]:
    """A row a name: best and final accuracy, parameters, compression 1 - c/f, seconds; mean and std over seeds."""
    rows: list[dict[str, Any]] = []
    for name in dict.fromkeys(arm.name for arm in arms):
        own = [arm for arm in arms if arm.name == name]
        columns: dict[str, list[float]] = {
            "best": [a.best for a in own], "final": [a.final for a in own],
            "parameters": [a.parameters for a in own], "compression": [1 - a.parameters / dense for a in own],
            "seconds": [a.seconds for a in own],
        }  # fmt: skip
        rows.append({"name": name, "seeds": len(own)} | {k: mean_and_std(v) for k, v in columns.items()})
    return rows


def save(
    title: str, arms: Sequence[Arm], dense: int, settings: dict[str, Any], out: Path, console: Console,
    printed: dict[str, str] | None = None,
) -> list[dict[str, Any]]:  # fmt: skip
    """results.json with everything, results.md with the table, and the table on the console.

    printed: by name, the numbers of a paper, for a column of their own.
    """
    out.mkdir(parents=True, exist_ok=True)
    rows = summaries(arms, dense)
    results = {"title": title, "settings": settings, "machine": machine(), "summary": rows}
    (out / "results.json").write_text(json.dumps(results | {"arms": [asdict(a) for a in arms]}))
    table = Table(title=title)
    heads = ["", "best %", "final %", "parameters", "compression %", "seconds", *(["paper"] if printed else [])]
    lines = [f"# {title}", "", " | ".join(heads), " | ".join(["---"] + ["---:"] * (len(heads) - 1))]
    for head in heads:
        table.add_column(head, justify="left" if not head else "right")
    for row in rows:
        cells = [row["name"], *(_cell(row[k], 100) for k in ("best", "final")), _cell(row["parameters"], 1, 0)]
        cells += [_cell(row["compression"], 100), _cell(row["seconds"], 1, 1)]
        cells += [printed.get(row["name"], "")] if printed else []
        table.add_row(*cells)
        lines.append(" | ".join(cells))
    (out / "results.md").write_text("\n".join([*lines, "", json.dumps(settings)]) + "\n")
    console.print(table)
    return rows


def _cell(value: tuple[float, float], scale: float, digits: int = 2) -> str:
    mean, deviation = (v * scale for v in value)
    return f"{mean:,.{digits}f}" + (f" +- {deviation:,.{digits}f}" if deviation else "")


def figure(columns: int = 1, height: float = 4.0, width: float = 5.6) -> tuple[Any, Any]:
    """A matplotlib figure with axes side by side, each so large in inches, without a display."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot

    made, axes = pyplot.subplots(1, columns, figsize=(width * columns, height), layout="constrained", squeeze=False)
    for axis in axes[0]:
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    return made, axes[0]


def curves(axis: Any, arms: Sequence[Arm], what: str, scale: float = 1.0) -> None:
    """Mean over the seeds of each name, with a band of one deviation."""
    for name in dict.fromkeys(arm.name for arm in arms):
        rows = [getattr(arm, what) for arm in arms if arm.name == name]
        shortest = min(map(len, rows))
        values = torch.tensor([row[:shortest] for row in rows], dtype=torch.float64) * scale
        steps = range(1, shortest + 1)
        (line,) = axis.plot(steps, values.mean(0), label=name, linewidth=1.6)
        if len(rows) > 1:
            low, high = values.mean(0) - values.std(0), values.mean(0) + values.std(0)
            axis.fill_between(steps, low, high, color=line.get_color(), alpha=0.2, linewidth=0)


def close(made: Any, path: Path, console: Console) -> None:
    """Write a figure."""
    from matplotlib import pyplot

    made.savefig(path, dpi=130)
    pyplot.close(made)
    console.print(f"Picture: {path}")
