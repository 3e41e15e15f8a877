"""hadamard on the GPU: a product with the matrix, whose signs tensor cores add faster than butterflies cross lanes."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from spectral_ops.autograd import untransformed

from . import tubes
from .launch import Launch


def why_not(x: Tensor, dim: int, normalized: bool) -> str | None:
    return tubes.too_long(x, dim)


def plan(args: list[Any], out: Tensor, arch: int) -> list[Launch]:
    x, dim, normalized = args
    n = x.shape[dim]
    return tubes.along(x, _matrix(n, n**-0.5 if normalized else 1.0, x.device), dim, out, arch)


@functools.lru_cache(maxsize=64)
def _matrix(n: int, scale: float, device: torch.device) -> Tensor:
    with untransformed():  # the cache outlives any transform that the caller is in
        h = torch.full((1, 1), scale)
        while len(h) < n:
            h = torch.cat([torch.cat([h, h], 1), torch.cat([h, -h], 1)])
        return h.to(device)
