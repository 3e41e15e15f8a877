"""Wrong calls of the transforms, as WRONG_CALLS in `wrong_samples.py` has them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from spectral_ops import transforms

C64 = torch.complex64
I64 = torch.int64
_KINDS = "float32, float64, bfloat16 or float16"
# error, text, then the arguments of dctn as `wrong_samples.py` turns them into rows: shape, dtype, dim, type, norm
DCTN: list[tuple[type[Exception], str, tuple[int, ...], torch.dtype, list[int], int, str]] = [
    (TypeError, f"x must be {_KINDS}, got torch.int64", (2, 8), I64, [0, 1], 2, "ortho"),
    (TypeError, f"x must be {_KINDS}, got torch.complex64", (2, 8), C64, [0, 1], 2, "ortho"),
    (ValueError, "dim must name at least one dimension, got none", (2, 8), torch.float32, [], 2, "ortho"),
    (ValueError, "dim must name each dimension once, got (0, -2)", (2, 8), torch.float32, [0, -2], 2, "ortho"),
    (
        ValueError, "dim must be in [-2, 1] for x with 2 dimensions, got 2",
        (2, 8), torch.float32, [0, 2], 2, "ortho",
    ),
    (ValueError, "type must be one of (1, 2, 3, 4), got 5", (2, 8), torch.float32, [0, 1], 5, "ortho"),
    (
        ValueError, "norm must be one of backward, ortho, forward, got 'both'",
        (2, 8), torch.float32, [0, 1], 2, "both",
    ),
    (
        ValueError, "x must have length at least 2 along dim 0 for type 1, got 1",
        (1, 8), torch.float32, [1, 0], 1, "ortho",
    ),
    (
        ValueError, "x must have length at least 1 along dim 1 for type 2, got 0",
        (2, 0), torch.float32, [0, 1], 2, "ortho",
    ),
]  # fmt: skip
WRONG_TRANSFORMS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: transforms.DCT(1, type=1), ValueError, "DCT: length must be at least 2 for type 1, got 1"),
    (lambda: transforms.DST(0), ValueError, "DST: length must be at least 1, got 0"),
    (lambda: transforms.DST(4, 7), ValueError, "DST: type must be one of (1, 2, 3, 4), got 7"),
    (lambda: transforms.DFT(0), ValueError, "DFT: length must be at least 1, got 0"),
    (lambda: transforms.DFT(4, norm=None), ValueError, "DFT: norm must be one of backward, ortho, forward, got None"),
    (
        lambda: transforms.DFT(4, real=True).fast(torch.ones(4, dtype=C64)), TypeError,
        "DFT.fast: x must be real as real=True promises, got torch.complex64",
    ),
    (lambda: transforms.DFT(4)(torch.ones(2, 4)), ValueError, "DFT: x must be (N, I, Q), got (2, 4)"),
    (lambda: transforms.Hadamard(0), ValueError, "Hadamard: length must be at least 1, got 0"),
    (lambda: transforms.Hadamard(6), ValueError, "Hadamard: length must be a power of two, got 6"),
    (lambda: transforms.Haar(12), ValueError, "Haar: length must be a power of two, got 12"),
    (lambda: transforms.DCT(4).fast(torch.ones(3)), ValueError, "DCT.fast: x must have length 4 along dim -1, got 3"),
    (
        lambda: transforms.DFT(4, real=True).fast_inverse(torch.ones(4)), ValueError,
        "DFT.fast_inverse: x must have length 3 along dim -1, got 4",
    ),
    (
        lambda: transforms.Haar(4).fast(torch.ones(4), 1), ValueError,
        "Haar.fast: dim must be in [-1, 0] for x with 1 dimensions, got 1",
    ),
    (lambda: transforms.Haar(4).fast(torch.ones(4).bool()), TypeError, "Haar.fast: x must be a number, got torch.bool"),
    (
        lambda: transforms.Matrix(torch.eye(3, dtype=torch.int64)), TypeError,
        "Matrix: matrix must be a real floating point tensor, got torch.int64",
    ),
    (lambda: transforms.Matrix([[1.0]]), TypeError, "Matrix: matrix must be a real floating point tensor, got list"),
    (lambda: transforms.Matrix(torch.ones(2, 3)), ValueError, "Matrix: matrix must be (Q, Q), got (2, 3)"),
    (
        lambda: transforms.Matrix(torch.ones(2, 2)), ValueError,
        "Matrix: matrix must be finite and invertible, got a singular one",
    ),
    (
        lambda: transforms.Matrix(torch.tensor([[float("nan")]])), ValueError,
        "Matrix: matrix must be finite and invertible, got a singular one",
    ),
    (lambda: transforms.Matrix(torch.ones(0, 0)), ValueError, "Matrix: length must be at least 1, got 0"),
    (lambda: transforms.Transform(3).matrix, AttributeError, "'Transform' object has no attribute 'matrix'"),
]  # fmt: skip
