"""`spectral train tdlrt-cifar10 --data-dir FOLDER`: Figure 1 and Table 1 of the TDLRT paper.

VGG16 (or AlexNet, ResNet-18) in full, by TDLRT and matrix DLRT over tolerances tau, with Tucker, matrix and CP layers
of fixed rank over fractions kappa, and pruned by SNIP, GraSP and iterative magnitude. The paper's settings: batches of
128, 70 epochs, SGD with rate 0.05 divided by ten on plateaus, momentum 0.1, random crops and flips.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from ..models import CifarAlexNet, ResNet18, vgg16
from .generated import Images
from .tdlrt_methods import Plan, sweep

EPOCHS, QUICK_EPOCHS, BATCH, LR = 70, 1, 128, 0.05
NETWORKS: dict[str, Callable[[], nn.Module]] = {"vgg16": vgg16, "alexnet": CifarAlexNet, "resnet18": ResNet18}
# Table 1: test accuracy / compression, both in %, in the order of NETWORKS
_TABLE1 = {
    "full": ("89.43 / 0", "85.46 / 0", "94.33 / 0"),
    "TDLRT": ("89.59 / 95.34", "82.39 / 83.12", "92.72 / 78.73"),
    "matrix DLRT": ("89.13 / 83.22", "73.57 / 71.57", "80.98 / 56.85"),
    "Tucker": ("83.74 / 61.34", "70.30 / 69.74", "91.11 / 74.19"),
    "matrix": ("79.96 / 87.20", "77.07 / 68.20", "92.07 / 77.49"),
    "CP": ("83.68 / 78.85", "76.14 / 71.46", "91.87 / 69.95"),
    "SNIP": ("89.58 / 56.23", "-", "89.5 / 78.5"),
    "magnitude": ("87.21 / 58.54", "-", "90.5 / 82.5"),
    "GraSP": ("88.5 / 77.3", "-", "89.4 / 77.9"),
}
PRINTED = {network: {m: row[i] for m, row in _TABLE1.items()} for i, network in enumerate(NETWORKS)}


def run(
    images: Images, out: Path, seeds: int = 1, epochs: int | None = None, quick: bool = False,
    lr: float = LR, batch_size: int = BATCH, network: str = "vgg16", **chosen: Any,
) -> list[dict[str, Any]]:  # fmt: skip
    """Every method at every value of its dial; chosen: methods, taus, kappas, shares, rounds of `Plan`."""
    if network not in NETWORKS:
        raise ValueError(f"tdlrt-cifar10: network must be one of {', '.join(NETWORKS)}, got {network!r}")
    length = epochs or (QUICK_EPOCHS if quick else EPOCHS)
    title, printed = f"Low-rank training of {network}", PRINTED[network]
    return sweep(Plan(NETWORKS[network], images, title, length, lr, batch_size, printed=printed, **chosen), seeds, out)
