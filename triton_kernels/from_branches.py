"""from_branches on the GPU: y (Q', N, I) is read in columns of N I neighbours, and x is written in rows."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from . import tubes
from .launch import Launch


def why_not(y: Tensor, inverse: Tensor) -> str | None:
    return None


def plan(args: Sequence[Tensor], out: Tensor, arch: int) -> list[Launch]:
    y, inverse = args
    return tubes.plan(y, inverse, out, 1, y.shape[1] * y.shape[2], (False, True), arch)
