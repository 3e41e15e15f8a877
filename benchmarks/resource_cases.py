"""The calls that `benchmarks/resources.py` compiles: for each Triton kernel the ops that launch it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

N = 4096  # samples: what a row is for


def _empty(*shape: int, dtype: torch.dtype) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def _to_branches(width: int, dtype: torch.dtype) -> list[Any]:
    return [_empty(N, width, width, dtype=dtype), _empty(width, width, dtype=dtype)]


def _from_branches(width: int, dtype: torch.dtype) -> list[Any]:
    return [_empty(width, N, width, dtype=dtype), _empty(width, width, dtype=dtype)]


Make = Callable[[int, torch.dtype], list[Any]]
CASES: dict[str, list[tuple[str, Make]]] = {
    "tubes": [("to_branches", _to_branches), ("from_branches", _from_branches)],
}
