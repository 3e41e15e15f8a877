"""`spectral train tucker-cifar10 --data-dir FOLDER`: the arms of paper 4's Tables 1 to 3, with its settings.

VGG19-BN, DenseNet40-k12 or ResNet-56; batches of 128, 200 epochs (DenseNet 160), SGD with rate 0.1, divided by ten at
epochs 100 and 150; decomposed after 10, 20, 30, 40 and 50 epochs (DenseNet 20), decomposed early and reconstructed near
the end, and decomposed at the end and fine-tuned for 40 (a fifth) more.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..compress.decompose import Rule
from ..models import DenseNet, resnet56, vgg19_bn
from .data import Split
from .generated import Images, augmented
from .tucker_mnist import Plan, compare

QUICK_EPOCHS, BATCH, LR = 2, 128, 0.1
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "vgg19": vgg19_bn,
    "densenet40": partial(DenseNet, 40, 12, bottleneck=False, compression=1.0),
    "resnet56": resnet56,
}
EPOCHS = {"vgg19": 200, "densenet40": 160, "resnet56": 200}
# shares of the epochs, from the epochs of the paper
_SHARES: dict[str, Any] = {"fractions": (0.05, 0.1, 0.15, 0.2, 0.25), "back": 0.95, "drops": (0.5, 0.75)}
_DENSENET: dict[str, Any] = {"fractions": (0.125,), "back": 150 / 160, "drops": (100 / 160, 150 / 160), "tune": 0.25}
# Tables 1 to 3: best accuracy in % and parameters, which hold for the paper's epochs
_VGG, _DENSE, _RESNET = (
    ("93.55 / 20 M", "91.69 / 749 k", "92.10 / 1.33 M", "91.85 / 1.69 M", "92.57 / 1.75 M", "92.51 / 1.73 M",
     "91.69 / 749 k", "91.52 / 1.33 M"),
    ("94.00 / 1.06 M", "92.00 / 270 k", "92.00 / 1.06 M", "91.49 / 441 k"),
    ("91.83 / 853 k", "92.16 / 508 k", "92.27 / 520 k", "91.66 / 556 k", "91.67 / 550 k", "91.65 / 550 k",
     "92.16 / 853 k", "92.32 / 547 k"),
)  # fmt: skip
PRINTED = {"vgg19": _VGG, "densenet40": _DENSE, "resnet56": _RESNET}


def run(
    images: Images, out: Path, seeds: int = 1, epochs: int | None = None, quick: bool = False,
    rank: Rule = "evbmf", lr: float = LR, batch_size: int = BATCH, network: str = "vgg19", build: Any = None,
) -> list[dict[str, Any]]:  # fmt: skip
    """Train all arms; writes results.json, results.md and figure3.png to `out`, and returns the rows of the table.

    network: which of the paper's; build: another network's class, in its place.
    """
    if network not in NETWORKS:
        raise ValueError(f"tucker-cifar10: network must be one of {', '.join(NETWORKS)}, got {network!r}")

    def change(x: Tensor, generator: Any) -> Tensor:
        return augmented(x, images, generator)

    splits = Split(*images.train), Split(*images.test)
    length = epochs or (QUICK_EPOCHS if quick else EPOCHS[network])
    shares = _DENSENET if network == "densenet40" else _SHARES
    printed = PRINTED[network] if length == EPOCHS[network] and build is None else ()
    plan = Plan(
        build or NETWORKS[network], lambda seed: splits, length, lr, batch_size, rank,
        change=change, printed=printed, **shares,
    )  # fmt: skip
    return compare(plan, f"Decomposition during training, {network}", seeds, out)
