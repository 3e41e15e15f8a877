"""`spectral train csg-cifar10 --data-dir FOLDER`: ResNet-56 of paper 2's Table 1, with the settings of its authors."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .generated import Images, Plan

SIDE, CLASSES = 32, 10
MEAN, DEVIATION = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)  # of the training images' colours in [0, 1]
PLAN = Plan(
    name="csg-cifar10",
    title="Generated filters on CIFAR-10",
    depth=56,
    source_depth=20,
    slice_shape=(16, 16, 3, 3),
    code_size=128,
    binary_code_size=1024,
    epochs=200,
    lr=0.05,
    batch_size=192,
    printed={"plain": "93.72", "csg": "92.76", "bcsg": "91.89", "pretrained": "88.02"},
)


class _ArraysOnly(pickle.Unpickler):
    """A pickle may call anything when it is read; those of CIFAR-10 need numpy's arrays, bytes, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        arrays = module.split(".")[0] == "numpy" and name in ("_reconstruct", "ndarray", "dtype")
        if arrays or (module, name) == ("_codecs", "encode"):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} is no array")


def images(data_dir: Path | None, seed: int) -> Images:
    """CIFAR-10 from the standard python batches: data_batch_1 to 5 and test_batch in a folder.

    Raises: FileNotFoundError without a folder or a file in it, ValueError for a file that is not what its name says.
    """
    if data_dir is None:
        raise FileNotFoundError(
            "csg-cifar10: --data-dir must name the folder cifar-10-batches-py, which has to be there"
        )
    parts = [_batch(data_dir / f"data_batch_{i}") for i in range(1, 6)]
    train = (torch.cat([x for x, _ in parts]), torch.cat([labels for _, labels in parts]))
    return Images(train, _batch(data_dir / "test_batch"), f"CIFAR-10 in {data_dir.name}", crop=4, flip=True)


def _batch(path: Path) -> tuple[Tensor, Tensor]:
    if not path.is_file():
        raise FileNotFoundError(f"csg-cifar10: --data-dir {path.parent} must hold {path.name}, and does not")
    try:
        with path.open("rb") as file:
            batch = _ArraysOnly(file, encoding="bytes").load()
        pixels, labels = np.asarray(batch[b"data"]), np.asarray(batch[b"labels"], dtype=np.int64)
    except (pickle.UnpicklingError, EOFError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"csg-cifar10: {path} is no python batch of CIFAR-10: {error}") from error
    if pixels.dtype != np.uint8 or pixels.shape != (len(labels), 3 * SIDE * SIDE) or not len(labels):
        got = f"{pixels.dtype} {pixels.shape} with {len(labels)} labels"
        raise ValueError(f"csg-cifar10: {path} must hold bytes (N, {3 * SIDE * SIDE}) and N labels, got {got}")
    if labels.min() < 0 or labels.max() >= CLASSES:
        raise ValueError(
            f"csg-cifar10: labels must be 0 to {CLASSES - 1}, got {labels.min()} to {labels.max()} in {path}"
        )
    x = torch.from_numpy(pixels.reshape(-1, 3, SIDE, SIDE)).float() / 255
    mean, deviation = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, DEVIATION))
    return (x - mean) / deviation, torch.from_numpy(labels)
