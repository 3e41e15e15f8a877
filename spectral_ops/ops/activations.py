"""The elementwise activations of real branches: their definition in PyTorch and their number in the native kernels."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from .checks import ACTIVATIONS

_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "relu": torch.relu,
    "gelu": functional.gelu,
    "silu": functional.silu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}


_CODES = {name: number for number, name in enumerate(ACTIVATIONS)}


def apply(name: str, x: Tensor) -> Tensor:
    """The activation `name` of x, elementwise."""
    return _FUNCTIONS[name](x)


def code(name: str) -> int:
    """The activation's number in `csrc/cpu/kernels.h`."""
    return _CODES[name]


def offset(name: str) -> float:
    """The number that belongs to an activation, b of "modrelu:b"; 0 for the others."""
    return float(name.partition(":")[2] or -0.1) if name.startswith("modrelu") else 0.0


def offsets(names: list[str]) -> list[float]:
    """One `offset` a name, or none at all where no name has one, as the native kernels take them."""
    return [offset(name) for name in names] if any(name.startswith("modrelu") for name in names) else []


def wide(x: Tensor) -> Tensor:
    """x in the dtype in which the ops accumulate: half becomes float32, the rest stays."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def dense_like(t: Tensor) -> Tensor:
    """A contiguous tensor of t's shape and dtype, not filled (half the cost of new_empty)."""
    return torch.empty_like(t, memory_format=torch.contiguous_format)
