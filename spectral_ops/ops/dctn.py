"""dctn: cosine or sine transforms along several dimensions in one call, and their adjoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from . import checks, dct, fourier, trigonometric
from .trigonometric import factors, rotated, split

LARGEST_PLANE = 1 << 12  # values of two short dimensions whose columns stay in cache between the passes
LARGEST_SHARED_PLANE = 1 << 14  # bytes, of which the CUDA kernel keeps two tiles beside both matrices


def check(
    x: Tensor,
    dim: Sequence[int],
    type: int = 2,
    norm: str = "backward",
    inverse: bool = False,
    orthogonalize: bool = False,
    sine: bool = False,
    adjoint: bool = False,
) -> None:
    if not len(dim):
        raise ValueError("dctn: dim must name at least one dimension, got none")
    for d in dim:
        trigonometric.check("dctn", x, type, d, norm, sine)
    checks.once("dctn", x, dim)


def empty(*args: Any) -> Tensor:
    check(*args)
    return args[0].new_empty(args[0].shape)


def reference(
    x: Tensor,
    dim: Sequence[int],
    type: int = 2,
    norm: str = "backward",
    inverse: bool = False,
    orthogonalize: bool = False,
    sine: bool = False,
    adjoint: bool = False,
) -> Tensor:
    """`dct`, with sine `dst`, along each of `dim`, the order of which changes nothing but rounding.

    Args:
        x: any shape, real floating point. dim: the dimensions that are transformed, each once.
        type, norm, inverse, orthogonalize: as in `dct`. sine: the sine transform.
        adjoint: the transpose of that linear map, <dctn(u), x> = <u, dctn(x, adjoint=True)> for every u.

    Returns: contiguous, shape and dtype of x (half computes in float32 and is rounded once).
    Raises: ValueError for type, norm, dim, dimensions that repeat, empty lengths, and length 1 with the DCT of type 1;
        TypeError for dtypes.
    Accuracy: one transform's error for each of `dim`, `tests/test_scipy.py`.
    Gradient: to x, any order; it is this op with `adjoint` changed. Deterministic: bitwise.
    Source: scipy.fft.dctn, scipy.fft.dstn.
    """
    y = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
    for d in dim:
        y = trigonometric.transform(y, d, factors(x.shape[d], type, norm, inverse, orthogonalize, adjoint, sine))
    return y.to(x.dtype)


def cpp_why_not(x: Tensor, dim: Sequence[int], type: int, *options: Any) -> str | None:
    sine = options[3]
    reasons = (fourier.why_not(x, type, d, sine) for d in dim)
    return next((reason for reason in reasons if reason is not None), None)


def cuda_why_not(x: Tensor, dim: Sequence[int], type: int, *options: Any) -> str | None:
    reasons = (fourier.cuda_why_not(x, type, d, options[3]) for d in dim)
    return next((reason for reason in reasons if reason is not None), None)


def cpp(args: list[Any], out: Tensor) -> None:
    """Two short dimensions at a time, so that memory is passed through once for both; each other one by itself."""
    x, dim, type, norm, inverse, orthogonalize, sine, adjoint = args
    options = (norm, inverse, orthogonalize, adjoint, sine)
    left = sorted(d % x.dim() for d in dim)
    while left:
        second = left.pop()
        if left and _together(x, type, left[-1], second):
            first = left.pop()
            matrices = (_matrix(x, type, d, options) for d in (first, second))
            torch.ops.spectral_native.dctn(x, *matrices, first, second, out)
        else:
            dct.native([x, type, second, norm, inverse, orthogonalize], out, adjoint, sine)
        x = out


def _matrix(x: Tensor, type: int, d: int, options: tuple[Any, ...]) -> Tensor:
    n = x.shape[d]
    f = factors(n, type, *options)
    if fourier.rotates(x, type, d):
        return rotated(n, f, x.dtype)
    return split(n, f, x.dtype, x.device, fourier.parts(x, f.type, d))


def _together(x: Tensor, type: int, first: int, second: int) -> bool:
    """Whether one pass serves both dimensions."""
    largest = LARGEST_PLANE if fourier.for_cpu(x) else LARGEST_SHARED_PLANE // x.element_size()
    return x.shape[first] * x.shape[second] <= largest and all(fourier.by_matrix(x, type, d) for d in (first, second))


def backward(args: list[Any], grads: Any, needs: list[Any]) -> list[Any]:
    *rest, adjoint = args[1:]
    return [torch.ops.spectral.dctn(grads[0], *rest, not adjoint), *[None] * 7]
