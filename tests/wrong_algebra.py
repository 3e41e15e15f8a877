"""Wrong arguments of the tensor algebra and of the layers from and to dense ones: a row for every message."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from tubes import dft

from spectral_ops import algebra
from spectral_ops.nn import SpectralLinear
from spectral_ops.transforms import DCT

_L, _A = DCT(6), torch.ones(3, 4, 6)
_TENSORS = ("ttranspose", "tinv", "tsvd", "tubal_rank", "tnorm")
_FROM, _FAR = (f"SpectralLinear.{name}" for name in ("from_dense", "relative_error"))
_LINEAR = nn.Linear(12, 18)


def _of_each() -> list[tuple[Callable[[], Any], type[Exception], str]]:
    """What every function of a tensor and a transform says."""
    rows: list[tuple[Callable[[], Any], type[Exception], str]] = []
    for name in (*_TENSORS, "tprod", "low_tubal_rank"):

        def call(A: Any, L: Any = _L, name: str = name) -> Any:
            more = {"tprod": (A, L), "low_tubal_rank": (L, 1)}.get(name, (L,))
            return getattr(algebra, name)(A, *more)

        def row(error: type[Exception], text: str, *args: Any, name: str = name, call: Any = call) -> None:
            rows.append((lambda: call(*args), error, f"{name}: {text}"))

        shape = "(..., n, n, Q)" if name == "tinv" else "(..., n1, n2, Q)"
        transform = "transform must be a spectral_ops.transforms.Transform"
        row(TypeError, f"{transform}, got 'dct'", _A, "dct")
        row(TypeError, "A must be floating point or complex, got torch.int64", _A.long())
        row(TypeError, "A must be floating point or complex, got list", [[[1.0]]])
        row(ValueError, f"A must be {shape} with Q = 6 as the transform, got (4, 6)", _A[0])
        row(ValueError, f"A must be {shape} with Q = 6 as the transform, got (3, 4, 5)", _A[..., :5])
        row(
            TypeError, "A must be real where the transform keeps half a spectrum, got torch.complex64",
            _A.to(torch.complex64), dft(6, half=True),
        )  # fmt: skip
    return rows


def _cuts() -> list[tuple[Callable[[], Any], type[Exception], str]]:
    rows: list[tuple[Callable[[], Any], type[Exception], str]] = []
    for name in ("tsvd", "low_tubal_rank"):
        for rank in (0, 4):
            message = f"{name}: rank must be in [1, 3], min(n1, n2) of A, got {rank}"
            rows.append((lambda f=name, r=rank: getattr(algebra, f)(_A, _L, r), ValueError, message))
        for rank in ("2", True):
            message = f"{name}: rank must be an int, got {rank!r}"
            rows.append((lambda f=name, r=rank: getattr(algebra, f)(_A, _L, r), TypeError, message))
    return rows


# as in WRONG_CALLS: what is called, the error, the whole message
WRONG_ALGEBRA: list[tuple[Callable[[], Any], type[Exception], str]] = [
    *_of_each(),
    *_cuts(),
    (
        lambda: algebra.tprod(_A, torch.ones(3, 4, 6), _L), ValueError,
        "tprod: B must be (..., n', n2, Q) with n' = 4 and Q = 6 as in A, got (3, 4, 6)",
    ),
    (
        lambda: algebra.facewise(_A, torch.ones(4, 2, 5)), ValueError,
        "facewise: B must be (..., n', n2, Q) with n' = 4 and Q = 6 as in A, got (4, 2, 5)",
    ),
    (
        lambda: algebra.facewise(_A, torch.ones(4)), ValueError,
        "facewise: B must be (..., n', n2, Q) with n' = 4 and Q = 6 as in A, got (4,)",
    ),
    (
        lambda: algebra.tprod(torch.ones(2, 3, 4, 6), torch.ones(3, 4, 2, 6), _L), ValueError,
        "tprod: B must be (..., n', n2, Q) with leading dimensions that broadcast with (2,) of A, got (3, 4, 2, 6)",
    ),
    (
        lambda: algebra.tprod(_A, _A.double(), _L), TypeError, "tprod: B must be torch.float32 as A, got torch.float64",
    ),
    (lambda: algebra.tprod(_A, _A.to("meta"), _L), TypeError, "tprod: B must be on cpu as A, got meta"),
    (
        lambda: algebra.facewise(_A, _A.double()), TypeError,
        "facewise: B must be torch.float32 as A, got torch.float64",
    ),
    (lambda: algebra.facewise(_A[0], _A), ValueError, "facewise: A must be (..., n1, n', Q), got (4, 6)"),
    (lambda: algebra.bcirc(_A[0]), ValueError, "bcirc: A must be (..., n1, n2, Q), got (4, 6)"),
    (lambda: algebra.unfold(_A[0]), ValueError, "unfold: A must be (..., n1, n2, Q), got (4, 6)"),
    (lambda: algebra.fold(_A[0], 3), ValueError, "fold: M must be (..., n1 Q, n2) with Q = 3, got (4, 6)"),
    (lambda: algebra.fold(_A[0, 0], 3), ValueError, "fold: M must be (..., n1 Q, n2) with Q = 3, got (6,)"),
    (lambda: algebra.fold(_A[0], 0), ValueError, "fold: Q must be at least 1, got 0"),
    (lambda: algebra.teye(-1, _L), ValueError, "teye: n must be at least 0, got -1"),
    (
        lambda: algebra.teye(2, "dct"), TypeError,
        "teye: transform must be a spectral_ops.transforms.Transform, got 'dct'",
    ),
    (
        lambda: algebra.teye(2, _L, dtype=torch.int64), TypeError,
        "teye: dtype must be floating point or complex, got torch.int64",
    ),
    (lambda: algebra.tinv(_A, _L), ValueError, "tinv: A must be (..., n, n, Q), got (3, 4, 6)"),
    (
        lambda: algebra.tinv(torch.ones(2, 2, 6), _L), ValueError,
        "tinv: A must be invertible in every slice of L(A), got a singular one",
    ),
    (lambda: algebra.tubal_rank(_A, _L, -1), ValueError, "tubal_rank: tol must be at least 0, got -1"),
    (lambda: algebra.tubal_rank(_A, _L, float("nan")), ValueError, "tubal_rank: tol must be at least 0, got nan"),
    (
        lambda: SpectralLinear.from_dense(nn.Conv1d(12, 18, 1), 6), TypeError,
        f"{_FROM}: linear must be a torch.nn.Linear, got Conv1d",
    ),
    (
        lambda: SpectralLinear.from_dense(_LINEAR, 4), ValueError,
        f"{_FROM}: branches must divide the out_features of linear, 18, got 4",
    ),
    (
        lambda: SpectralLinear.from_dense(_LINEAR, 9), ValueError,
        f"{_FROM}: branches must divide the in_features of linear, 12, got 9",
    ),
    (lambda: SpectralLinear.from_dense(_LINEAR, 0), ValueError, f"{_FROM}: branches must be at least 1, got 0"),
    (lambda: SpectralLinear.from_dense(_LINEAR, 6.0), TypeError, f"{_FROM}: branches must be an int, got 6.0"),
    (
        lambda: SpectralLinear.from_dense(_LINEAR, 6, DCT(5)), ValueError,
        f"{_FROM}: transform must have length 6 as branches, got 5",
    ),
    (
        lambda: SpectralLinear.from_dense(_LINEAR, 6, rank=3), ValueError,
        f"{_FROM}: rank must be at most min(I, O) = 2, got 3",
    ),
    (lambda: SpectralLinear.from_dense(_LINEAR, 6, rank=0), ValueError, f"{_FROM}: rank must be at least 1, got 0"),
    (
        lambda: SpectralLinear(2, 3, 6, activation="relu").relative_error(_LINEAR), ValueError,
        f"{_FAR}: activation must be none, for the layer to be a matrix, got 'relu'",
    ),
    (
        lambda: SpectralLinear(2, 3, 6).relative_error(nn.Linear(18, 12)), ValueError,
        f"{_FAR}: linear must have features (12, 18) as this layer, got (18, 12)",
    ),
    (
        lambda: SpectralLinear(2, 3, 6).relative_error(torch.ones(18, 12)), TypeError,
        f"{_FAR}: linear must be a torch.nn.Linear, got Tensor",
    ),
]  # fmt: skip
