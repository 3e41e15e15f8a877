"""to_branches on the GPU: x (N, I, Q) is read in rows, and written in columns of N I neighbours."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from . import tubes
from .launch import Launch


def why_not(x: Tensor, transform: Tensor) -> str | None:
    return None


def plan(args: Sequence[Tensor], out: Tensor, arch: int) -> list[Launch]:
    x, transform = args
    return tubes.plan(x, transform, out, 1, x.shape[0] * x.shape[1], (True, False), arch)
