"""A launch of a kernel as data: it can be run, or compiled for a GPU that is not there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from spectral_ops.ops.activations import offset

from .tiles import Tile


class Launch(NamedTuple):
    """One kernel on a grid of `programs`.

    arguments: tensors, and sizes that change from call to call. constants: what the kernel is compiled for.
    """

    kernel: Any
    programs: int
    arguments: Mapping[str, Any]
    constants: Mapping[str, Any]
    tile: Tile

    def run(self) -> None:
        if self.programs:
            self.kernel[(self.programs,)](**self.arguments, **self.constants, **self.options())

    def options(self) -> dict[str, Any]:
        """What the compiler is told besides."""
        return {"num_warps": self.tile.warps, "num_stages": self.tile.stages, "enable_fp_fusion": True}


def precision() -> str:
    """How `tl.dot` multiplies float32: as three products in tf32, or as one where torch is allowed to."""
    return "tf32" if torch.backends.cuda.matmul.fp32_precision == "tf32" else "tf32x3"


def convolution_precision() -> str:
    """The same in the place of the library's convolutions, which torch lets use tf32 unless it is told otherwise."""
    return "tf32" if torch.backends.cudnn.conv.fp32_precision == "tf32" else "tf32x3"


def planar(t: Tensor | None) -> Any:
    """A tensor as the kernels see it: complex numbers as pairs."""
    return torch.view_as_real(t) if t is not None and t.is_complex() else t


def padded(n: int, least: int = 16) -> int:
    """The power of two that a block of n values takes; tl.dot wants 16."""
    return max(least, 1 << (n - 1).bit_length() if n > 0 else 0)


def blocks(n: int, size: int) -> int:
    """How many blocks of `size` hold n."""
    return -(-n // size)


def named(activation: str) -> tuple[str, float]:
    """An activation as the kernels take it: its name, and b of a modrelu."""
    return activation.partition(":")[0], offset(activation)
