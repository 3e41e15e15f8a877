"""What csg-mnist and csg-cifar10 do: a ResNet plain, with CSG, with BCSG and with another run's CSG, in one report."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional

from ..compress import to_csg
from ..models import CifarResNet
from ..nn import CSG, csg_scope
from .charts import Line, loss_curves
from .experiment import machine
from .report import page
from .training import Settings

MOMENTUM, WEIGHT_DECAY = 0.9, 5e-4  # the authors' code
STAGES = ((0.5, 1.0), (0.25, 0.1), (0.25, 0.01))  # shares of the epochs, and of the learning rate: 100 + 50 + 50
POINTS = 60  # of a loss curve
TURNS, QUICK_TURNS = 9, 3  # of the timed training steps
BATCH = 1000  # images whose classes are predicted at once


@dataclass(frozen=True)
class Images:
    """Images (N, C, H, W), float32, standardised, and labels (N,). crop: pixels of random shifts in training; 0: none.

    flip: whether training mirrors half of the images.
    """

    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    source: str
    crop: int = 0
    flip: bool = False


@dataclass(frozen=True)
class Plan:
    """The networks of a recipe.

    depth: of the ResNet that is compared, and of the smaller one whose generator is taken over.
    slice_shape, code_size: of CSG; binary_code_size: of BCSG. epochs, lr, batch_size: the defaults.
    printed: the errors that the paper prints, by network, in percent.
    """

    name: str
    title: str
    depth: int
    source_depth: int
    slice_shape: tuple[int, int, int, int]
    code_size: int
    binary_code_size: int
    epochs: int
    lr: float
    batch_size: int
    printed: dict[str, str] = field(default_factory=dict)


@dataclass
class Result:
    """One network: accuracy on the test images, trained parameters, milliseconds of a training step, mean losses."""

    name: str
    title: str
    parameters: int
    accuracy: float = 0.0
    seconds: float = 0.0
    step_ms: float = 0.0
    curve: list[tuple[int, float]] = field(default_factory=list)


def run(plan: Plan, images: Images, settings: Settings, out: Path, quick: bool) -> dict[str, Any]:
    """Train the networks, time their steps in turns, and write report.html and results.json; returns the latter."""
    console = Console()
    console.print(f"{images.source}: {len(images.train[1])} to train, {len(images.test[1])} to test")
    results, steps, generator = [], [], None
    for name in ("plain", "csg", "bcsg", "source", "pretrained"):
        torch.manual_seed(settings.seed)
        net = build(plan, name, images.train[0].shape[1], generator)
        result = Result(name, _title(plan, name), sum(p.numel() for p in net.parameters()))
        begin = time.perf_counter()
        with csg_scope(net):
            result.curve = fit(net, images, settings)
            result.accuracy = accuracy(net, *images.test)
        result.seconds = time.perf_counter() - begin
        console.print(f"{result.title}: {100 * result.accuracy:.2f} % in {result.seconds:.0f} s")
        generator = next((m for m in net.modules() if isinstance(m, CSG)), None) if name == "source" else generator
        results.append(result)
        torch.manual_seed(settings.seed)  # timed before training: small gradients may be denormal numbers
        steps.append(_step(build(plan, name, images.train[0].shape[1], generator), images, settings))
    best = [float("inf")] * len(steps)
    for _ in range(QUICK_TURNS if quick else TURNS):
        for i, step in enumerate(steps):
            begin = time.perf_counter()
            step()
            best[i] = min(best[i], 1000 * (time.perf_counter() - begin))
    for result, ms in zip(results, best, strict=True):
        result.step_ms = ms
    shown = {
        "title": plan.title, "data": images.source, "settings": {**asdict(settings), "quick": quick},
        "train": len(images.train[1]), "test": len(images.test[1]), "printed": plan.printed,
        "networks": [asdict(result) for result in results], "machine": machine(),
    }  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    (out / "results.json").write_text(json.dumps(shown))
    (out / "report.html").write_text(_report(shown), encoding="utf-8")
    console.print(_table(shown))
    console.print(f"Report: {out / 'report.html'}")
    return shown


def build(plan: Plan, name: str, channels: int, generator: CSG | None = None) -> nn.Module:
    """A network of the plan with random parameters; "pretrained" takes `generator`, fixed."""
    depth = plan.source_depth if name == "source" else plan.depth
    net: nn.Module = CifarResNet(depth, in_channels=channels)
    shape, size = plan.slice_shape, plan.code_size
    if name == "bcsg":
        net, _ = to_csg(net, shape, plan.binary_code_size, binary=True)
    elif name == "pretrained":
        assert generator is not None
        fixed = CSG(shape, size, trainable=False)
        fixed.generator.copy_(generator.generator.detach())
        net, _ = to_csg(net, generators=fixed)
    elif name != "plain":
        net, _ = to_csg(net, shape, size)
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _title(plan: Plan, name: str) -> str:
    shape = ",".join(map(str, plan.slice_shape))
    return {
        "plain": f"ResNet-{plan.depth}",
        "csg": f"ResNet-{plan.depth}-CSG-[{shape}]-{plan.code_size}",
        "bcsg": f"ResNet-{plan.depth}-BCSG-[{shape}]-{plan.binary_code_size}",
        "source": f"ResNet-{plan.source_depth}-CSG-[{shape}]-{plan.code_size}",
        "pretrained": f"ResNet-{plan.depth}-CSG, generator of ResNet-{plan.source_depth}",
    }[name]


def fit(net: nn.Module, images: Images, settings: Settings) -> list[tuple[int, float]]:
    """SGD with momentum, in three stages of the learning rate; returns (step, mean loss since the last point)."""
    x, labels = images.train
    optimizer = torch.optim.SGD(net.parameters(), settings.lr, MOMENTUM, weight_decay=WEIGHT_DECAY)
    generator = torch.Generator().manual_seed(settings.seed)
    batches = -(-len(labels) // settings.batch_size)
    rates = [rate for share, rate in STAGES for _ in range(round(share * settings.epochs))]
    rates = (rates + [STAGES[-1][1]] * settings.epochs)[: settings.epochs]
    every = max(1, batches * settings.epochs // POINTS)
    curve: list[tuple[int, float]] = []
    losses: list[float] = []
    step = 0
    for rate in rates:
        for group in optimizer.param_groups:
            group["lr"] = settings.lr * rate
        net.train()
        for chosen in torch.randperm(len(labels), generator=generator).split(settings.batch_size):
            batch = augmented(x[chosen], images, generator)
            loss = functional.cross_entropy(net(batch), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
            step += 1
            if step % every == 0:
                curve.append((step, sum(losses) / len(losses)))
                losses.clear()
    return curve


def augmented(x: Tensor, images: Images, generator: torch.Generator) -> Tensor:
    """The images of a batch shifted and mirrored at random, each by itself, in channels_last."""
    if images.flip:
        mirrored = torch.rand(len(x), 1, 1, 1, generator=generator) < 0.5
        x = torch.where(mirrored, x.flip(3), x)
    if images.crop:
        (n, _, height, width), c = x.shape, images.crop
        padded = functional.pad(x, (c, c, c, c))
        rows = torch.randint(2 * c + 1, (n, 1), generator=generator) + torch.arange(height)
        columns = torch.randint(2 * c + 1, (n, 1), generator=generator) + torch.arange(width)
        x = padded[torch.arange(n)[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    return x.contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def accuracy(net: nn.Module, x: Tensor, labels: Tensor) -> float:
    """The share of the images whose class is right."""
    net.eval()
    found = [net(part.contiguous(memory_format=torch.channels_last)).argmax(1) for part in x.split(BATCH)]
    return float((torch.cat(found) == labels).double().mean())


def _step(net: nn.Module, images: Images, settings: Settings) -> Callable[[], None]:
    """One training step on the first batch, at the learning rate 0."""
    x, labels = (t[: settings.batch_size] for t in images.train)
    x = x.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(net.parameters(), 0.0, MOMENTUM)
    csg_scope(net)

    def step() -> None:
        optimizer.zero_grad()
        functional.cross_entropy(net(x), labels).backward()
        optimizer.step()

    step()
    return step


_HEAD = ("network", "parameters", "ratio", "accuracy %", "paper %", "step ms", "/ plain", "train s")


def _cells(shown: dict[str, Any]) -> list[list[str]]:
    plain = shown["networks"][0]
    return [
        [
            net["title"], f"{net['parameters']:,}", f"{plain['parameters'] / net['parameters']:.2f}x",
            f"{100 * net['accuracy']:.2f}", shown["printed"].get(net["name"], "–"), f"{net['step_ms']:.1f}",
            f"{net['step_ms'] / plain['step_ms']:.2f}x", f"{net['seconds']:.0f}",
        ]
        for net in shown["networks"]
    ]  # fmt: skip


def _table(shown: dict[str, Any]) -> Table:
    table = Table(title=shown["title"], box=None)
    for i, head in enumerate(_HEAD):
        table.add_column(head, justify="right" if i else "left", no_wrap=i > 0, overflow="fold")
    for row in _cells(shown):
        table.add_row(*row)
    return table


def _report(shown: dict[str, Any]) -> str:
    # the page's colours have these names
    colours = {"plain": "dense", "csg": "spectral", "bcsg": "tnn", "pretrained": "spectral-r8"}
    lines = [Line(colours[n["name"]], n["title"], n["curve"], ()) for n in shown["networks"] if n["name"] in colours]
    rows = "".join("<tr>" + "".join(f"<td>{escape(c)}</td>" for c in row) + "</tr>" for row in _cells(shown))
    head = "".join(f"<th>{escape(name)}</th>" for name in _HEAD)
    s, m = shown["settings"], shown["machine"]
    about = (
        f"{shown['data']}, {shown['train']:,} images to train and {shown['test']:,} to test; SGD, learning rate "
        f"{s['lr']}, divided by 10 twice, momentum {MOMENTUM}, weight decay {WEIGHT_DECAY}, batches of "
        f"{s['batch_size']}, {s['epochs']} epochs, seed {s['seed']}. A binary or pre-trained generator is not trained "
        "and counts no parameters. Accuracy is that on the test images. A step's time is the least of some, networks "
        "taking turns; / plain is its ratio to the plain network's."
    )
    curves = (
        f"<h2>Training loss</h2><figure>{loss_curves(lines)}</figure>" if all(line.points for line in lines) else ""
    )
    return page(
        shown["title"],
        f"<h1>{escape(shown['title'])}</h1><p>{escape(about)}</p><table><tr>{head}</tr>{rows}</table>{curves}"
        f"<p class='soft'>{escape(m['cpu'])}, {m['threads']} threads, torch {m['torch']}, {m['date']}</p>",
    )
