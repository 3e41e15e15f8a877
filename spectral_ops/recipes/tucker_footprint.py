"""`spectral train tucker-footprint`: the left of Figure 2 of the TDLRT paper: inference time and memory by compression.

VGG16 and AlexNet with layers of fixed Tucker ranks, kappa of the largest, classify random images; the dense network is
the point without compression. Nothing is trained: time and memory do not depend on the weights.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn

from ..compress import Fraction, to_tucker
from ..models import CifarAlexNet, vgg16
from .experiment import machine
from .low_rank import close, count, figure

IMAGES, QUICK_IMAGES, BATCH = 120_000, 1_280, 128
KAPPAS = (0.5, 0.35, 0.25, 0.15, 0.1, 0.05)
NETWORKS: dict[str, Callable[[], nn.Module]] = {"VGG16": vgg16, "AlexNet": CifarAlexNet}


def run(out: Path, images: int | None = None, quick: bool = False, batch_size: int = BATCH) -> list[dict[str, Any]]:
    """Time all networks; writes results.json and figure2.png to `out`, and returns the rows.

    images: how many in all, rounded up to whole batches; the paper's 120,000, with quick 1,280.
    """
    console = Console()
    batches = -(-(images or (QUICK_IMAGES if quick else IMAGES)) // batch_size)
    x = torch.randn(batch_size, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    x = x.contiguous(memory_format=torch.channels_last)
    rows: list[dict[str, Any]] = []
    for name, build in NETWORKS.items():
        torch.manual_seed(0)
        dense = build()
        for kappa in (None, *KAPPAS):
            model = dense if kappa is None else to_tucker(dense, Fraction(kappa))[0]
            row = {"network": name, "kappa": kappa, "images": batches * batch_size, "parameters": count(model)}
            row |= {"compression": 1 - count(model) / count(dense), "megabytes": 4 * count(model) / 2**20}
            rows.append(row | {"seconds": seconds(model, x, batches)})
            console.print(
                f"{name:8} kappa {kappa or 1:<5} compression {100 * rows[-1]['compression']:6.2f} %  "
                f"{rows[-1]['megabytes']:7.2f} MiB  {rows[-1]['seconds']:8.2f} s"
            )
    out.mkdir(parents=True, exist_ok=True)
    (out / "results.json").write_text(json.dumps({"machine": machine(), "rows": rows}))
    _draw(rows, out / "figure2.png", console)
    return rows


def seconds(model: nn.Module, x: torch.Tensor, batches: int) -> float:
    """Time of so many batches in evaluation, after one that is not counted."""
    model = model.eval().to(memory_format=torch.channels_last)
    with torch.inference_mode():
        model(x)
        begin = time.perf_counter()
        for _ in range(batches):
            model(x)
        return time.perf_counter() - begin


def _draw(rows: list[dict[str, Any]], path: Path, console: Console) -> None:
    made, (left, right) = figure(2)
    for name in NETWORKS:
        own = [row for row in rows if row["network"] == name]
        at = [100 * row["compression"] for row in own]
        for axis, what in ((left, "seconds"), (right, "megabytes")):
            axis.plot(at, [row[what] for row in own], "o-", label=name, markersize=4)
    left.set(xlabel="compression, %", ylabel=f"seconds for {rows[0]['images']:,} images")
    right.set(xlabel="compression, %", ylabel="parameters, MiB")
    for axis in (left, right):
        axis.set_ylim(bottom=0)
        axis.legend(frameon=False)
    close(made, path, console)
