"""dct: the discrete cosine transform along one dimension, with scipy's meaning of type, norm and orthogonalize."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import fourier, trigonometric
from .trigonometric import factors, matrix

check, empty = trigonometric.rules("dct", sine=False)


def reference(
    x: Tensor,
    type: int = 2,
    dim: int = -1,
    norm: str = "backward",
    inverse: bool = False,
    orthogonalize: bool = False,
) -> Tensor:
    """Sums over j = 0 ... n-1 for k = 0 ... n-1, in norm "backward":

    I    y_k = x_0 + (-1)^k x_(n-1) + 2 sum_(0<j<n-1) x_j cos(pi k j / (n-1))
    II   y_k = 2 sum_j x_j cos(pi k (2j+1) / 2n)
    III  y_k = x_0 + 2 sum_(j>0) x_j cos(pi (2k+1) j / 2n)
    IV   y_k = 2 sum_j x_j cos(pi (2k+1) (2j+1) / 4n)

    Args:
        x: any shape, real floating point. dim: the dimension of length n that is transformed; k counts half periods.
        type: 1, 2, 3 or 4. norm: "backward" (as above), "ortho" (times p^-1/2), "forward" (times 1/p), where p is 2n,
            and 2(n-1) for type 1. inverse: the inverse of that transform.
        orthogonalize: scale index 0 (type 1: and n-1) so that "ortho" is orthogonal.

    Returns: contiguous, shape and dtype of x (half computes in float32).
    Raises: ValueError for type, norm, dim, empty lengths and length 1 with type 1; TypeError for dtypes.
    Accuracy: no worse than scipy.fft.dct in the same dtype, `tests/test_reference.py`, `tests/test_scipy.py`.
    Gradient: to x, any order; it is `dct_adjoint`, again a transform. Deterministic: bitwise.
    Source: scipy.fft; long lengths by one FFT, J. Makhoul, IEEE TASSP 28 (1980) 27-34.
    """
    return trigonometric.transform(x, dim, factors(x.shape[dim], type, norm, inverse, orthogonalize, adjoint=False))


def cpp_why_not(x: Tensor, type: int, dim: int, *_: Any) -> str | None:
    return fourier.why_not(x, type, dim, sine=False)


def cuda_why_not(x: Tensor, type: int, dim: int, *_: Any) -> str | None:
    return fourier.cuda_why_not(x, type, dim, sine=False)


def cpp(args: list[Any], out: Tensor) -> None:
    native(args, out, adjoint=False)


def native(args: list[Any], out: Tensor, adjoint: bool, sine: bool = False) -> None:
    """Hand x, seen as (outer, n, inner), to the C++ kernel: with the matrix, or with the tables of the FFT."""
    x, type, dim, norm, inverse, orthogonalize = args
    n = x.shape[dim]
    f = factors(n, type, norm, inverse, orthogonalize, adjoint, sine)
    entry, at = torch.ops.spectral_native.dct, dim % x.dim()
    codelet = fourier.by_codelet(x, f.type, dim)
    if not codelet and fourier.by_matrix(x, type, dim):
        entry(x, matrix(n, f, x.dtype, x.device), f.type, sine, 0, 1.0, 1.0, 1.0, 1.0, 1.0, at, out)
        return
    head = trigonometric.heads(n, f)
    first, last = 0 in head, n - 1 in head
    weights = [f.head_in if first else 1.0, f.head_in if last else 1.0]
    weights += [f.head_out if first else 1.0, f.head_out if last else 1.0]
    if codelet:
        entry(x, x.new_empty(0), f.type, sine, 0, f.scale, *weights, at, out)
        return
    table, circle = fourier.table(n, f.type, sine, x.dtype, x.device), fourier.circle(fourier.length(n, f.type, sine))
    entry(x, table, f.type, sine, circle, f.scale, *weights, at, out)


def backward(args: list[Any], grads: Any, needs: list[Any]) -> list[Any]:
    return [torch.ops.spectral.dct_adjoint(grads[0], *args[1:]), *[None] * 5]
