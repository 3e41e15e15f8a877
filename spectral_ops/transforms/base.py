"""What every transform has: matrix, inverse, adjoint, the conversions that layers read, and `fast`."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..autograd import outside_modes, transforming
from ..ops import checks
from ..ops.activations import wide


class Transform(nn.Module):
    """An invertible linear map of length Q: y = matrix @ x along the tube dimension (Kernfeld et al. 2015).

    Attributes:
        length: Q, the length of the tube.
        branches: Q', how many independent branches it makes (= Q but for `DFT(Q, real=True)`).
        matrix: (Q', Q), float64 or complex128 unless learned.
        inverse: (Q, Q'), with inverse @ matrix = identity (`DFT(Q, real=True)`: its real part).
        adjoint: (Q, Q'), the conjugate transpose of matrix.
        is_real: whether matrix is real.
        is_orthogonal: whether adjoint and inverse are the same; of a complex matrix: whether it is unitary.
    """

    matrix: Tensor
    is_real = True
    is_orthogonal = False

    def __init__(self, length: int, branches: int | None = None) -> None:
        super().__init__()
        at_least_one(type(self).__name__, length)
        self.length = length
        self.branches = length if branches is None else branches
        self._cache: dict[tuple, tuple[Any, int, Any]] = {}  # source, its version, the converted matrix

    @property
    def inverse(self) -> Tensor:
        return self.adjoint if self.is_orthogonal else torch.linalg.inv(self.matrix)

    @property
    def is_half(self) -> bool:
        """Half a spectrum of real data, Q' = Q // 2 + 1: layers take the real part of what the inverse gives."""
        return not self.is_real and self.branches < self.length

    @property
    def adjoint(self) -> Tensor:
        return self.matrix.mH.resolve_conj()

    def fast(self, x: Tensor, dim: int = -1) -> Tensor:
        """The transform of x along one dimension, by the fastest way there is: y = matrix @ x.

        Args:
            x: any shape with length Q along dim; real or complex; integers become the default dtype.

        Returns: Q' along dim, dtype of x; complex where the transform is (half becomes complex64).
        Raises: ValueError for dim and a length other than Q; TypeError for bool.
        Gradient: to x, and to a learned matrix; any order.
        """
        return _product("matrix", self, self._tubes("fast", x, dim, self.length), dim)

    def fast_inverse(self, y: Tensor, dim: int = -1) -> Tensor:
        """The inverse transform along one dimension: x = inverse @ y, with Q' along dim in y and Q in the result."""
        return _product("inverse", self, self._tubes("fast_inverse", y, dim, self.branches), dim)

    def _tubes(self, method: str, x: Tensor, dim: int, length: int) -> Tensor:
        """x as numbers, with `length` of them along dim."""
        name = f"{type(self).__name__}.{method}"
        x = checks.number(name, x)
        checks.dimension(name, x, dim)
        if x.shape[dim] != length:
            raise ValueError(f"{name}: x must have length {length} along dim {dim}, got {x.shape[dim]}")
        return x

    def matrix_as(self, x: Tensor) -> Tensor:
        """The matrix in the dtype (complex ones: in its complex counterpart) and on the device of x."""
        return self._as("matrix", x)

    def inverse_as(self, x: Tensor) -> Tensor:
        """The inverse in the dtype (complex ones: in its complex counterpart) and on the device of x."""
        return self._as("inverse", x)

    def _as(self, name: str, x: Tensor) -> Tensor:
        if torch.compiler.is_compiling() or transforming() or not outside_modes():
            return _like(getattr(self, name), x)  # belongs to the transform or mode: not to be kept
        matrix, key = self.matrix, (name, x.dtype, x.device)
        source, version, value = self._cache.get(key, (None, 0, None))
        if source is not matrix or version != matrix._version:
            with torch.inference_mode(False), torch.no_grad():
                value = _like(getattr(self, name), x).contiguous()
            self._cache[key] = (matrix, matrix._version, value)
        return value

    def forward(self, x: Tensor) -> Tensor:
        """Transform (N, I, Q) into branches (Q', N, I)."""
        if self.is_real:
            return torch.ops.spectral.to_branches(x, self.matrix_as(x))
        if x.dim() != 3:
            raise checks.wrong_shape(type(self).__name__, "x", x, "(N, I, Q)")
        return self.fast(x).permute(2, 0, 1).contiguous()

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_cache": {}}

    def extra_repr(self) -> str:
        return str(self.length)


class Fixed(Transform):
    """A transform whose matrix never changes; it is not part of the state_dict, because its arguments define it.

    inverse: by default the adjoint, of a unitary matrix.
    """

    def __init__(self, matrix: Tensor, inverse: Tensor | None = None) -> None:
        super().__init__(matrix.shape[1], matrix.shape[0])
        self._matrix, self._inverse = matrix, matrix.mH if inverse is None else inverse

    @property
    def matrix(self) -> Tensor:
        return self._matrix

    @property
    def inverse(self) -> Tensor:
        return self._inverse


def at_least_one(name: str, length: int) -> None:
    if length < 1:
        raise ValueError(f"{name}: length must be at least 1, got {length}")


def real_dtype(x: Tensor) -> torch.dtype:
    """The dtype of x, or of its parts where it is complex (spelled out: Dynamo does not know `dtype.to_real`)."""
    return {torch.complex64: torch.float32, torch.complex128: torch.float64}.get(x.dtype, x.dtype)


def _like(m: Tensor, x: Tensor) -> Tensor:
    """m in the precision and on the device of x; real or complex as m is."""
    if m.is_complex():  # there is no complex half that ops take: half x gets complex64, and the op's error
        return m.to(x.device, torch.complex128 if x.dtype in (torch.float64, torch.complex128) else torch.complex64)
    return m.to(x.device, real_dtype(x))


def _product(name: str, transform: Transform, x: Tensor, dim: int) -> Tensor:
    """matrix @ x (or inverse @ x) along dim: one GEMM, batched over the dimensions before it; half is widened."""
    v = wide(x)
    m = transform._as(name, v)
    if m.is_complex() != v.is_complex():
        m, v = (m, v.to(m.dtype)) if m.is_complex() else (m.to(v.dtype), v)
    dim = dim % x.dim()
    if dim == x.dim() - 1:
        y = v @ m.mT
    else:
        before, after = x.shape[:dim], x.shape[dim + 1 :]
        y = torch.matmul(m, v.reshape(math.prod(before), x.shape[dim], math.prod(after)))
        y = y.view(*before, m.shape[0], *after)
    return y if y.is_complex() else y.to(x.dtype)
