"""dst: the discrete sine transform along one dimension, with scipy's meaning of type, norm and orthogonalize."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from . import dct, fourier, trigonometric

__all__ = ["backward", "check", "cpp", "cpp_why_not", "empty", "reference"]


check, empty = trigonometric.rules("dst", sine=True)


def reference(
    x: Tensor,
    type: int = 2,
    dim: int = -1,
    norm: str = "backward",
    inverse: bool = False,
    orthogonalize: bool = False,
) -> Tensor:
    """Sums over j = 0 ... n-1 for k = 0 ... n-1, in norm "backward":

    I    y_k = 2 sum_j x_j sin(pi (k+1) (j+1) / (n+1))
    II   y_k = 2 sum_j x_j sin(pi (k+1) (2j+1) / 2n)
    III  y_k = (-1)^k x_(n-1) + 2 sum_(j<n-1) x_j sin(pi (2k+1) (j+1) / 2n)
    IV   y_k = 2 sum_j x_j sin(pi (2k+1) (2j+1) / 4n)

    Args:
        x: any shape, real floating point. dim: the dimension of length n that is transformed; k counts half periods.
        type: 1, 2, 3 or 4. norm: "backward" (as above), "ortho" (times p^-1/2), "forward" (times 1/p), where p is 2n,
            and 2(n+1) for type 1. inverse: the inverse of that transform.
        orthogonalize: scale index n-1 of types 2 and 3 so that "ortho" is orthogonal.

    Returns: contiguous, shape and dtype of x (half computes in float32).
    Raises: ValueError for type, norm, dim and empty lengths; TypeError for dtypes.
    Accuracy: no worse than scipy.fft.dst in the same dtype, `tests/test_scipy.py`.
    Gradient: to x, any order; it is `dst_adjoint`, again a transform. Deterministic: bitwise.
    Source: scipy.fft; S. A. Martucci, IEEE Trans. Signal Processing 42 (1994) 1038-1051.
    """
    f = trigonometric.factors(x.shape[dim], type, norm, inverse, orthogonalize, adjoint=False, sine=True)
    return trigonometric.transform(x, dim, f)


def cpp_why_not(x: Tensor, type: int, dim: int, *_: Any) -> str | None:
    return fourier.why_not(x, type, dim, sine=True)


def cuda_why_not(x: Tensor, type: int, dim: int, *_: Any) -> str | None:
    return fourier.cuda_why_not(x, type, dim, sine=True)


def cpp(args: list[Any], out: Tensor) -> None:
    dct.native(args, out, adjoint=False, sine=True)


kernel_for = functools.partial(dct.kernel_for, sine=True)


def backward(args: list[Any], grads: Any, needs: list[Any]) -> list[Any]:
    return [torch.ops.spectral.dst_adjoint(grads[0], *args[1:]), *[None] * 5]
