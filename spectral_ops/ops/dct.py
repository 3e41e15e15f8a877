"""dct: the discrete cosine transform along one dimension, with scipy's meaning of type, norm and orthogonalize."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..autograd import outside_modes, untransformed
from . import fourier, trigonometric
from .trigonometric import Factors, factors, rotated, split

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
    kernel_for(args, adjoint, sine)(args, out)


def kernel_for(
    args: Sequence[Any], adjoint: bool = False, sine: bool = False
) -> Callable[[Sequence[Any], Tensor], None]:
    """The call of the C++ kernel for arguments of these shapes, dtypes and options."""
    x, type, dim, *options = args
    f = _factors(x.shape[dim], type, *options, adjoint, sine)
    form = fourier.form(x, type, f.type, dim)
    parts = fourier.parts(x, f.type, dim) if form == "matrix" else 1
    prepared = _prepared if outside_modes() else _prepared.__wrapped__
    rest = (*prepared(x.shape[dim], f, form, parts, x.dtype, x.device), dim % x.dim())
    kernel = torch.ops.spectral_native.dct.default
    return lambda args, out: kernel(args[0], *rest, out)


_factors = functools.lru_cache(maxsize=256)(factors)


@functools.lru_cache(maxsize=256)
def _prepared(n: int, f: Factors, form: str, parts: int, dtype: torch.dtype, device: torch.device) -> tuple[Any, ...]:
    """The kernel's arguments between x and its dimension."""
    if form in ("matrix", "rotated"):
        table = rotated(n, f, dtype) if form == "rotated" else split(n, f, dtype, device, parts)
        return table, f.type, f.sine, 0, 1.0, 1.0, 1.0, 1.0, 1.0
    head = trigonometric.heads(n, f)
    ends = (0 in head, n - 1 in head)
    weights = [factor if here else 1.0 for factor in (f.head_in, f.head_out) for here in ends]
    if form == "codelet":
        with untransformed():
            return torch.empty(0, dtype=dtype, device=device), f.type, f.sine, 0, f.scale, *weights
    fold = form == "folded"
    table = fourier.table(n, f.type, f.sine, dtype, device, fold)
    return table, f.type, f.sine, fourier.circle(fourier.length(n, f.type, f.sine, fold)), f.scale, *weights


def backward(args: list[Any], grads: Any, needs: list[Any]) -> list[Any]:
    return [torch.ops.spectral.dct_adjoint(grads[0], *args[1:]), *[None] * 5]
