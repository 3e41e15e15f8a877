"""dst_adjoint: the transpose of `dst` as a linear map, which is its gradient."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from . import dct, trigonometric
from .dst import cpp_why_not, cuda_why_not

__all__ = ["backward", "check", "cpp", "cpp_why_not", "cuda_why_not", "empty", "reference"]


check, empty = trigonometric.rules("dst_adjoint", sine=True)


def reference(
    x: Tensor,
    type: int = 2,
    dim: int = -1,
    norm: str = "backward",
    inverse: bool = False,
    orthogonalize: bool = False,
) -> Tensor:
    """<dst(u), x> = <u, dst_adjoint(x)> for every u: a DST with its head scaled.

    Types II and III change places, I and IV stay.

    Args, Returns, Raises, Accuracy: as `dst`. Gradient: `dst`. Deterministic: bitwise.
    """
    f = trigonometric.factors(x.shape[dim], type, norm, inverse, orthogonalize, adjoint=True, sine=True)
    return trigonometric.transform(x, dim, f)


def cpp(args: list[Any], out: Tensor) -> None:
    dct.native(args, out, adjoint=True, sine=True)


kernel_for = functools.partial(dct.kernel_for, adjoint=True, sine=True)


def backward(args: list[Any], grads: Any, needs: list[Any]) -> list[Any]:
    return [torch.ops.spectral.dst(grads[0], *args[1:]), *[None] * 5]
