"""dct_adjoint: the transpose of `dct` as a linear map, which is its gradient."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from . import dct, trigonometric
from .dct import cpp_why_not, cuda_why_not

__all__ = ["backward", "check", "cpp", "cpp_why_not", "cuda_why_not", "empty", "reference"]


check, empty = trigonometric.rules("dct_adjoint", sine=False)


def reference(
    x: Tensor,
    type: int = 2,
    dim: int = -1,
    norm: str = "backward",
    inverse: bool = False,
    orthogonalize: bool = False,
) -> Tensor:
    """<dct(u), x> = <u, dct_adjoint(x)> for every u: a DCT with its head scaled.

    Types II and III change places, I and IV stay.

    Args, Returns, Raises, Accuracy: as `dct`. Gradient: `dct`. Deterministic: bitwise.
    """
    f = trigonometric.factors(x.shape[dim], type, norm, inverse, orthogonalize, adjoint=True)
    return trigonometric.transform(x, dim, f)


def cpp(args: list[Any], out: Tensor) -> None:
    dct.native(args, out, adjoint=True)


kernel_for = functools.partial(dct.kernel_for, adjoint=True)


def backward(args: list[Any], grads: Any, needs: list[Any]) -> list[Any]:
    return [torch.ops.spectral.dct(grads[0], *args[1:]), *[None] * 5]
