"""The calls that `benchmarks/resources.py` compiles: for each Triton kernel the ops that launch it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Q, N = 28, 4096  # branches and samples, of which the tiles do not depend


def _empty(*shape: int, dtype: torch.dtype) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def _to_branches(width: int, dtype: torch.dtype) -> list[Any]:
    return [_empty(N, width, width, dtype=dtype), _empty(width, width, dtype=dtype)]


def _from_branches(width: int, dtype: torch.dtype) -> list[Any]:
    return [_empty(width, N, width, dtype=dtype), _empty(width, width, dtype=dtype)]


def _along(dim: int) -> Callable[[int, torch.dtype], list[Any]]:
    return lambda width, dtype: [_empty(N, width, width, dtype=dtype), 2, dim, "ortho", False, True]


def _branch_linear(width: int, dtype: torch.dtype) -> list[Any]:
    tensors = ((Q, N, width), (Q, width, width), (Q, width))
    return [*(_empty(*shape, dtype=dtype) for shape in tensors), "crelu" if dtype.is_complex else "gelu"]


Make = Callable[[int, torch.dtype], list[Any]]
CASES: dict[str, list[tuple[str, Make]]] = {
    "tubes": [
        ("to_branches", _to_branches),
        ("from_branches", _from_branches),
        ("dct", _along(-1)),
        ("dst", _along(1)),
    ],
    "branch_linear": [("branch_linear", _branch_linear)],
}
