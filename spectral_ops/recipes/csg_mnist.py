"""`spectral train csg-mnist`: a small ResNet on MNIST or Fashion-MNIST, whose filters are generated or not."""

from __future__ import annotations

from pathlib import Path

import torch

from . import data
from .generated import Images, Plan

PLAN = Plan(
    name="csg-mnist",
    title="Generated filters on small grey images",
    depth=14,
    source_depth=8,
    slice_shape=(16, 16, 3, 3),
    code_size=32,
    binary_code_size=128,
    epochs=8,
    lr=0.05,
    batch_size=128,
)


def images(data_dir: Path | None, seed: int) -> Images:
    """The digits of `data.load`, or what the IDX files in `data_dir` hold; the held out ones train, too."""
    found = data.load(data_dir, seed)
    x = torch.cat([found.train.images, found.held_out.images])[:, None]
    labels = torch.cat([found.train.labels, found.held_out.labels])
    return Images((x, labels), (found.test.images[:, None], found.test.labels), found.source, crop=2)
