"""`spectral train tdlrt-mnist`: the methods of Table 1 of the TDLRT paper, each over its dial, for LeNet5 on digits.

The same harness as `tdlrt-cifar10`, for data that is at hand: SGD with the paper's rate and momentum.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..models import LeNet5
from . import data as mnist
from .generated import Images
from .tdlrt_methods import Plan, sweep

EPOCHS, QUICK_EPOCHS, BATCH, LR = 15, 2, 128, 0.05


def run(
    data_dir: Path | None, out: Path, seeds: int = 1, epochs: int | None = None, quick: bool = False,
    lr: float = LR, batch_size: int = BATCH, **chosen: Any,
) -> list[dict[str, Any]]:  # fmt: skip
    """Every method at every value of its dial; chosen: methods, taus, kappas, shares, rounds of `Plan`."""
    data = mnist.load(data_dir)
    parts = [(split.images.unsqueeze(1), split.labels) for split in (data.train, data.test)]
    length = epochs or (QUICK_EPOCHS if quick else EPOCHS)
    images = Images(parts[0], parts[1], data.source)
    return sweep(Plan(LeNet5, images, "Low-rank training of LeNet5", length, lr, batch_size, **chosen), seeds, out)
