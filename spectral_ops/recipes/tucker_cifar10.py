"""`spectral train tucker-cifar10 --data-dir FOLDER`: the arms of paper 4's Table 1, VGG19-BN, with its settings.

Batches of 128, 200 epochs, SGD with rate 0.1, divided by ten after half and three quarters; decomposed after 10, 20,
30, 40 and 50 epochs, decomposed after 10 and reconstructed after 190, and decomposed at the end and fine-tuned for 40.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..compress.decompose import Rule
from ..models import vgg19_bn
from .data import Split
from .generated import Images, augmented
from .tucker_mnist import Plan, compare

EPOCHS, QUICK_EPOCHS, BATCH, LR = 200, 2, 128, 0.1
FRACTIONS = (0.05, 0.1, 0.15, 0.2, 0.25)


def run(
    images: Images, out: Path, seeds: int = 1, epochs: int | None = None, quick: bool = False,
    rank: Rule = "evbmf", lr: float = LR, batch_size: int = BATCH, build: Any = vgg19_bn,
) -> list[dict[str, Any]]:  # fmt: skip
    """Train all arms; writes results.json, results.md and figure3.png to `out`, and returns the rows of the table."""

    def change(x: Tensor, generator: torch.Generator) -> Tensor:
        return augmented(x, images, generator)

    splits = Split(*images.train), Split(*images.test)
    length = epochs or (QUICK_EPOCHS if quick else EPOCHS)
    plan = Plan(build, lambda seed: splits, length, lr, batch_size, rank, FRACTIONS, change)
    return compare(plan, "Decomposition during training, VGG19-BN", seeds, out)
