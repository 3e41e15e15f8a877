"""dct_adjoint on the GPU: dct with the transposed matrix."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from . import tubes
from .launch import Launch


def why_not(x: Tensor, type: int, dim: int, *_: Any) -> str | None:
    return tubes.too_long(x, dim)


def plan(args: list[Any], out: Tensor, arch: int) -> list[Launch]:
    return tubes.trigonometric_plan(args, out, arch, adjoint=True, sine=False)
