"""hadamard: the Walsh-Hadamard transform along one dimension, in natural (Sylvester) order."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import checks
from .activations import wide


def check(x: Tensor, dim: int = -1, normalized: bool = True) -> None:
    checks.real("hadamard", x=x)
    checks.dimension("hadamard", x, dim)
    n = x.shape[dim]
    if n < 1 or n & (n - 1):
        raise ValueError(f"hadamard: x must have a power of two as its length along dim {dim}, got {n}")


def empty(x: Tensor, dim: int = -1, normalized: bool = True) -> Tensor:
    check(x, dim, normalized)
    return x.new_empty(x.shape)


def reference(x: Tensor, dim: int = -1, normalized: bool = True) -> Tensor:
    """y_k = n^-1/2 sum_j (-1)^|j & k| x_j, where |j & k| counts the ones of j AND k in binary; j, k = 0 ... n-1.

    As a matrix H_1 = (1), H_2n = ((H_n, H_n), (H_n, -H_n)), divided by n^1/2: log2(n) stages of sums and differences.

    Args:
        x: any shape, real floating point. dim: the dimension of length n, a power of two, that is transformed.
        normalized: False leaves out n^-1/2.

    Returns: contiguous, shape and dtype of x (half computes in float32).
    Raises: ValueError for dim and for lengths that are no power of two; TypeError for dtypes.
    Accuracy: within eps (log2(n) + 1) of the sum of the sizes of its terms, element by element, `tests/bounds.py`.
    Gradient: to x, any order; the transform is its own adjoint (and, normalized, its own inverse).
    Deterministic: bitwise.
    Source: J. J. Sylvester (1867); B. J. Fino and V. R. Algazi, IEEE Trans. Computers 25 (1976) 1142-1146.
    """
    n = x.shape[dim]
    y = wide(x).movedim(dim, -1)
    shape, half = y.shape, 1
    while half < n:
        y = y.reshape(*shape[:-1], n // (2 * half), 2, half)
        a, b = y.select(-2, 0), y.select(-2, 1)
        y = torch.stack([a + b, a - b], -2)
        half *= 2
    y = y.reshape(shape)
    if normalized:
        y = y * n**-0.5
    return y.movedim(-1, dim).to(x.dtype, copy=n == 1).contiguous()


def cpp(args: list[Any], out: Tensor) -> None:
    x, dim, normalized = args
    torch.ops.spectral_native.hadamard(x, dim % x.dim(), normalized, out)


def backward(args: list[Any], grads: Any, needs: list[Any]) -> list[Any]:
    return [torch.ops.spectral.hadamard(grads[0], *args[1:]), None, None]
