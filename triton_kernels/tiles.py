"""Tile rows: which blocks, warps and pipeline stages a kernel takes, by dtype, size and architecture, and why.

No row was measured on a GPU yet. What stands behind them: registers and shared memory of the compiled kernels
(`RESOURCES.md`, which a test compares), and counts. Nothing is tuned at run time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch

MMA = {80: "mma.sync", 90: "mma.sync"}  # blocks of fewer than 64 rows, which wgmma wants
WGMMA = {80: "mma.sync", 90: "wgmma"}
NONE: Mapping[int, str] = {}
ANY = 1 << 30


class Tile(NamedTuple):
    """A row: the first one with the kernel and dtype, wide enough and for the architecture, is taken.

    kernel: of which kernel. dtypes: "float32", "half" (bfloat16, float16), "complex64". widest: the most features (or
    tube values) that it takes. archs: 80, and 90 for all later ones. blocks: the kernel's BLOCK constants.
    tensor: the tensor-core instruction that the PTX must hold, by architecture. why: the reason for the row.
    """

    kernel: str
    dtypes: tuple[str, ...]
    widest: int
    blocks: Mapping[str, int]
    warps: int
    stages: int
    tensor: Mapping[int, str]
    why: str
    archs: tuple[int, ...] = (80, 90)

    @property
    def id(self) -> str:
        """Its name in `RESOURCES.md`."""
        width = "any" if self.widest == ANY else self.widest
        return f"{self.kernel} {'+'.join(self.dtypes)} to {width}"

    def constants(self) -> dict[str, int]:
        """What the kernel calls its blocks."""
        return {f"BLOCK_{name}": size for name, size in self.blocks.items()}


class Crossover(NamedTuple):
    """From how many values in an op's largest tensor on Triton comes before CUDA C++, and what that rests on."""

    least: int
    why: str


_REAL = ("float32", "half")

ROWS: tuple[Tile, ...] = (
    # tubes: y[r, p] = sum_q x[r, q] m[p, q]; bound by bytes, so many rows in flight and the matrix in few columns
    Tile("tubes", _REAL, 16, {"R": 128, "P": 16, "Q": 16}, 4, 1, WGMMA, "one product of 16: whole tubes, no loop"),
    Tile("tubes", _REAL, 32, {"R": 128, "P": 32, "Q": 32}, 4, 1, WGMMA, "whole tubes: x is read once"),
    Tile("tubes", _REAL, 64, {"R": 64, "P": 64, "Q": 32}, 8, 1, WGMMA, "64 of Q at a time spill in tf32x3 on sm_80"),
    Tile("tubes", _REAL, ANY, {"R": 64, "P": 128, "Q": 32}, 8, 2, WGMMA, "128 of P a pass over x, Q in a pipeline"),
    Tile("tubes", ("complex64",), ANY, {"R": 64, "P": 32, "Q": 16}, 8, 1, WGMMA, "32 of Q at a time spill on sm_80"),
    # branch_linear: a small product per branch; samples in the rows of the block
    Tile("branch_linear", _REAL, 32, {"N": 128, "O": 32, "I": 32}, 4, 1, WGMMA, "all features at once, no loop"),
    Tile("branch_linear", _REAL, 64, {"N": 64, "O": 64, "I": 32}, 8, 2, WGMMA, "64 features twice 32 deep: no spills"),
    Tile("branch_linear", _REAL, 256, {"N": 64, "O": 128, "I": 32}, 8, 3, WGMMA, "128 outputs a pass over x"),
    Tile("branch_linear", ("complex64",), 256, {"N": 64, "O": 32, "I": 16}, 8, 1, WGMMA, "as tubes of complex64"),
)

CROSSOVERS: dict[str, Crossover] = {}


def kind(dtype: torch.dtype) -> str:
    """The rows' name of a dtype."""
    return "half" if dtype in (torch.bfloat16, torch.float16) else str(dtype).removeprefix("torch.")


def pick(kernel: str, dtype: torch.dtype, width: int, arch: int) -> Tile:
    """The row for a call; `why_not` of the op has made sure that there is one."""
    name, generation = kind(dtype), 90 if arch >= 90 else 80
    return next(
        row
        for row in ROWS
        if row.kernel == kernel and name in row.dtypes and width <= row.widest and generation in row.archs
    )
