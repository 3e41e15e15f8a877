"""Invertible linear maps along the tube dimension, as objects that every layer takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .autograd import outside_modes, transforming
from .ops import dct as dct_rule


class Transform(nn.Module):
    """An invertible linear map of length Q: y = matrix @ x along the tube dimension (Kernfeld et al. 2015).

    Attributes:
        length: Q, the length of the tube.
        branches: Q', how many independent branches it makes (= Q for real transforms).
        matrix: (Q', Q), float64 unless learned.
        inverse: (Q, Q'), with inverse @ matrix = identity.
        is_real, is_orthogonal: what kind of matrix it is.
    """

    matrix: Tensor
    is_real = True
    is_orthogonal = False

    def __init__(self, length: int) -> None:
        super().__init__()
        if length < 1:
            raise ValueError(f"{type(self).__name__}: length must be at least 1, got {length}")
        self.length = self.branches = length
        self._cache: dict[tuple, tuple[Any, int, Any]] = {}  # source, its version, the converted matrix

    @property
    def inverse(self) -> Tensor:
        return self.matrix.mT if self.is_orthogonal else torch.linalg.inv(self.matrix)

    def matrix_as(self, x: Tensor) -> Tensor:
        """The matrix in the dtype and on the device of x."""
        return self._as("matrix", x)

    def inverse_as(self, x: Tensor) -> Tensor:
        """The inverse in the dtype and on the device of x."""
        return self._as("inverse", x)

    def _as(self, name: str, x: Tensor) -> Tensor:
        if torch.compiler.is_compiling() or transforming() or not outside_modes():
            return getattr(self, name).to(x.device, x.dtype)  # belongs to the transform or mode: not to be kept
        matrix, key = self.matrix, (name, x.dtype, x.device)
        source, version, value = self._cache.get(key, (None, 0, None))
        if source is not matrix or version != matrix._version:
            with torch.inference_mode(False), torch.no_grad():
                value = getattr(self, name).to(x.device, x.dtype).contiguous()
            self._cache[key] = (matrix, matrix._version, value)
        return value

    def forward(self, x: Tensor) -> Tensor:
        """Transform (N, I, Q) into branches (Q', N, I)."""
        return torch.ops.spectral.to_branches(x, self.matrix_as(x))

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_cache": {}}

    def extra_repr(self) -> str:
        return str(self.length)


class _Fixed(Transform):
    """A transform whose matrix never changes; it is not part of the state_dict, because its arguments define it."""

    def __init__(self, matrix: Tensor) -> None:
        super().__init__(matrix.shape[1])
        self._matrix = matrix

    @property
    def matrix(self) -> Tensor:
        return self._matrix


class DCT(_Fixed):
    """The discrete cosine transform of type 2 or 3; orthonormal unless `norm` says otherwise.

    The papers' runs used norm "backward": their t-product differs from the orthonormal one by a factor per slice
    (2 sqrt(Q) for k = 0, sqrt(2Q) otherwise).

    Raises:
        ValueError: length < 1, type not 2 or 3, norm not "backward", "ortho" or "forward".
    """

    def __init__(self, length: int, type: int = 2, norm: str = "ortho") -> None:
        dct_rule.check(torch.empty(max(length, 1)), type=type, norm=norm, op="DCT")
        if length < 1:
            raise ValueError(f"DCT: length must be at least 1, got {length}")
        self.type, self.norm = type, norm
        f = dct_rule.factors(length, type, norm, False, norm == "ortho", False)
        super().__init__(dct_rule.matrix(length, f, torch.float64, torch.device("cpu")))
        self.type, self.norm, self.is_orthogonal = type, norm, norm == "ortho"
        f = dct_rule.factors(length, type, norm, True, norm == "ortho", False)
        # made here: torch.compile cannot trace how
        self._inverse = dct_rule.matrix(length, f, torch.float64, torch.device("cpu"))

    @property
    def inverse(self) -> Tensor:
        return self._inverse

    def extra_repr(self) -> str:
        return f"{self.length}, type={self.type}, norm={self.norm!r}"


class Identity(_Fixed):
    """No transform: the branches are the slices of the data themselves."""

    is_orthogonal = True

    def __init__(self, length: int) -> None:
        if length < 1:
            raise ValueError(f"Identity: length must be at least 1, got {length}")
        super().__init__(torch.eye(length, dtype=torch.float64))


class Matrix(Transform):
    """Any invertible matrix, fixed or learned.

    Args:
        matrix: (Q, Q), real, invertible. learned: make it a Parameter; the gradient reaches it through both the
            transform and its inverse.

    Raises:
        ValueError: not square, not finite, or singular to working precision.
        TypeError: not a real floating point tensor.
    """

    def __init__(self, matrix: Tensor, learned: bool = False) -> None:
        if not isinstance(matrix, Tensor) or not matrix.is_floating_point():
            got = getattr(matrix, "dtype", type(matrix).__name__)
            raise TypeError(f"Matrix: matrix must be a real floating point tensor, got {got}")
        if matrix.dim() != 2 or matrix.shape[0] != matrix.shape[1]:
            raise ValueError(f"Matrix: matrix must be (Q, Q), got {tuple(matrix.shape)}")
        exact = matrix.detach().double()
        if not bool(exact.isfinite().all()) or not torch.linalg.cond(exact) < 1 / torch.finfo(torch.float64).eps:
            raise ValueError("Matrix: matrix must be finite and invertible, got a singular one")
        super().__init__(matrix.shape[0])
        self.learned = learned
        if learned:
            self.weight = nn.Parameter(matrix.detach().clone())
        else:
            self.register_buffer("weight", exact.clone())

    @property
    def matrix(self) -> Tensor:  # type: ignore[override]
        return self.weight

    @property
    def inverse(self) -> Tensor:
        """In float64 inside, because torch inverts no half; gradients of a learned matrix pass."""
        exact = self.weight.double()
        return (exact.mT if self.is_orthogonal else torch.linalg.inv(exact)).to(self.weight.dtype)

    @property
    def is_orthogonal(self) -> bool:  # type: ignore[override]
        """Of the matrix as it is now, which a checkpoint may have replaced; a learned one may leave orthogonality."""
        eye = torch.eye(self.length, dtype=torch.float64, device=self.weight.device)
        return not self.learned and torch.allclose(self.weight @ self.weight.mT, eye, rtol=0, atol=1e-12)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Matrix:
        exact = self.weight
        super()._apply(fn, recurse)
        if not self.learned:  # moves to a device, but is never rounded: `matrix_as` rounds what a layer reads
            self.weight = exact.to(self.weight.device)
        return self

    def _as(self, name: str, x: Tensor) -> Tensor:
        return getattr(self, name).to(x.device, x.dtype) if self.learned else super()._as(name, x)

    def extra_repr(self) -> str:
        return f"{self.length}, learned={self.learned}"
