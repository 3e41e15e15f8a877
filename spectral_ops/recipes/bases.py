"""The basis vectors of the transforms as a picture: `spectral plot transforms`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..transforms import DCT, DFT, DST, Haar, Hadamard, Identity, Matrix

LENGTHS = (8, 28)
_TYPES = {1: "I", 2: "II", 3: "III", 4: "IV"}
_LARGEST = math.sqrt(2)  # of a cosine, in units of Q^-1/2; the few larger entries of Haar and Identity saturate
_PANEL = 1.75  # inches


def pictures(length: int) -> list[list[tuple[str, Tensor]]]:
    """Rows of (title, real matrix): the orthonormal transforms of `length`, or of the next power of two.

    The first row holds the cosines, the second the sines and the steps.
    """
    power = 1 << (length - 1).bit_length()
    note = "" if power == length else f", Q = {power}"
    fourier = DFT(length).matrix
    rotation = torch.linalg.qr(torch.randn(length, length, generator=torch.Generator().manual_seed(0)).double())[0]
    return [
        [
            *((f"DCT-{name}", DCT(length, type).matrix) for type, name in _TYPES.items()),
            ("DFT, real part", fourier.real),
            (f"Hadamard{note}", Hadamard(power).matrix),
            ("Identity", Identity(length).matrix),
        ],
        [
            *((f"DST-{name}", DST(length, type).matrix) for type, name in _TYPES.items()),
            ("DFT, imaginary part", fourier.imag),
            (f"Haar{note}", Haar(power).matrix),
            ("Matrix: a rotation", Matrix(rotation).matrix),
        ],
    ]


def draw(out: Path) -> None:
    """Write the picture to `out`; the suffix says which format.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
        ValueError: the suffix names no format.
    """
    from matplotlib.figure import Figure

    blocks = [(length, pictures(length)) for length in LENGTHS]
    columns = max(len(row) for _, rows in blocks for row in rows)
    height = sum(_PANEL * len(rows) + 0.75 for _, rows in blocks) + 0.9
    figure = Figure(figsize=(_PANEL * columns + 1.1, height), layout="constrained", dpi=150)
    figure.suptitle("Orthonormal transforms: row k is a basis vector, column j its place along the tube", fontsize=13)
    parts: Any = figure.subfigures(len(blocks), 1, height_ratios=[len(rows) for _, rows in blocks], hspace=0.02)
    for part, (length, rows) in zip(parts, blocks, strict=True):
        part.suptitle(f"Q = {length}", fontsize=12, fontweight="bold", x=0.02, ha="left")
        axes: Any = part.subplots(len(rows), columns, squeeze=False)
        image: Any = None
        for i, row in enumerate(rows):
            for j, (title, matrix) in enumerate(row):
                image = _picture(axes[i][j], title, matrix, first=j == 0, last=i == len(rows) - 1)
        bar = part.colorbar(image, ax=list(axes.flat), extend="both", shrink=0.7, aspect=25, pad=0.015)
        bar.set_ticks([-_LARGEST, -1, 0, 1, _LARGEST], labels=["−√2", "−1", "0", "1", "√2"])
        bar.set_label("entry × √Q", fontsize=9)
    figure.savefig(out)


def _picture(axes: Any, title: str, matrix: Tensor, first: bool, last: bool) -> Any:
    q = len(matrix)
    image = axes.imshow(
        matrix.numpy() * math.sqrt(q), cmap="RdBu_r", vmin=-_LARGEST, vmax=_LARGEST, interpolation="nearest"
    )
    axes.set_title(title, fontsize=9)
    ends = [0, q - 1]
    axes.set_xticks(ends if last else [])
    axes.set_yticks(ends if first else [])
    axes.tick_params(length=2, labelsize=7, pad=1.5)
    for side in axes.spines.values():
        side.set_color("0.6")
    if last:
        axes.set_xlabel("j", fontsize=8, labelpad=-7)
    if first:
        axes.set_ylabel("k", fontsize=8, labelpad=-4)
    return image
