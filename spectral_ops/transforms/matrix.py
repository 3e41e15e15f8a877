"""Transforms given by their matrix: Identity, Matrix."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from .base import Fixed, Transform, at_least_one, real_dtype


class Identity(Fixed):
    """No transform: the branches are the slices of the data themselves."""

    is_orthogonal = True

    def __init__(self, length: int) -> None:
        at_least_one("Identity", length)
        super().__init__(torch.eye(length, dtype=torch.float64))

    def fast(self, x: Tensor, dim: int = -1) -> Tensor:
        return self._tubes("fast", x, dim, self.length)

    def fast_inverse(self, y: Tensor, dim: int = -1) -> Tensor:
        return self._tubes("fast_inverse", y, dim, self.length)


class Matrix(Transform):
    """Any invertible matrix, fixed or learned.

    Args:
        matrix: (Q, Q), real, invertible. learned: make it a Parameter; the gradient reaches it through both the
            transform and its inverse.

    A learned matrix that is to stay orthogonal takes torch's own parametrisation (the orthogonal factor of `m` is
    where it starts; `is_orthogonal` says so, and the inverse is the transpose):

    >>> transform = torch.nn.utils.parametrizations.orthogonal(Matrix(m, learned=True), "weight")  # doctest: +SKIP

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
        orthogonal = not torch.compiler.is_compiling() and self.is_orthogonal  # a compiler sees no numbers to tell it
        return (exact.mT if orthogonal else torch.linalg.inv(exact)).to(self.weight.dtype)

    @property
    def is_orthogonal(self) -> bool:  # type: ignore[override]
        """Of the matrix as it is now, which a checkpoint may have replaced.

        A learned one may leave orthogonality, unless it is parametrised to stay.
        """
        if self.learned:
            kept = parametrize.is_parametrized(self, "weight")
            return kept and any(type(p) is _orthogonal() for p in self.parametrizations["weight"])
        eye = torch.eye(self.length, dtype=torch.float64, device=self.weight.device)
        return torch.allclose(self.weight @ self.weight.mT, eye, rtol=0, atol=1e-12)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Matrix:
        exact = self.weight
        super()._apply(fn, recurse)
        if not self.learned:  # moves to a device, but is never rounded: `matrix_as` rounds what a layer reads
            self.weight = exact.to(self.weight.device)
        return self

    def _as(self, name: str, x: Tensor) -> Tensor:
        return getattr(self, name).to(x.device, real_dtype(x)) if self.learned else super()._as(name, x)

    def extra_repr(self) -> str:
        return f"{self.length}, learned={self.learned}"


@functools.cache
def _orthogonal() -> type:
    """The class behind torch's orthogonal parametrisation, which has no public name."""
    module = nn.Module()
    module.weight = nn.Parameter(torch.eye(1))
    with torch.random.fork_rng(devices=[]):
        return type(parametrizations.orthogonal(module).parametrizations["weight"][0])
