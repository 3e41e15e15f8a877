"""The transforms made of steps, whose lengths are powers of two: Hadamard, Haar."""

from __future__ import annotations

import torch
from torch import Tensor

from .base import Fixed, at_least_one


class Hadamard(Fixed):
    """The orthonormal Walsh-Hadamard transform in natural (Sylvester) order: `torch.ops.spectral.hadamard`.

    Raises:
        ValueError: length < 1 or no power of two.
    """

    is_orthogonal = True

    def __init__(self, length: int) -> None:
        _power_of_two("Hadamard", length)
        m = torch.ones(1, 1, dtype=torch.float64)
        while len(m) < length:
            m = torch.cat([torch.cat([m, m], 1), torch.cat([m, -m], 1)])
        super().__init__(m * length**-0.5)

    def fast(self, x: Tensor, dim: int = -1) -> Tensor:
        return self._butterflies(self._tubes("fast", x, dim, self.length), dim)

    def fast_inverse(self, y: Tensor, dim: int = -1) -> Tensor:
        return self._butterflies(self._tubes("fast_inverse", y, dim, self.length), dim)

    def _butterflies(self, x: Tensor, dim: int) -> Tensor:
        if x.is_complex():
            return torch.complex(*(torch.ops.spectral.hadamard(part, dim) for part in (x.real, x.imag)))
        return torch.ops.spectral.hadamard(x, dim)


class Haar(Fixed):
    """The orthonormal Haar wavelet transform: the mean, then differences of neighbouring parts, coarse ones first.

    H_1 = (1); H_2n is H_n on the sums of neighbours and then their n differences, all divided by sqrt 2 (Haar 1910).

    Raises:
        ValueError: length < 1 or no power of two.
    """

    is_orthogonal = True

    def __init__(self, length: int) -> None:
        _power_of_two("Haar", length)
        rows = [torch.ones(1, length, dtype=torch.float64) * length**-0.5]
        support = length
        while support > 1:
            half = torch.ones(1, support // 2, dtype=torch.float64) * support**-0.5
            eye = torch.eye(length // support, dtype=torch.float64)
            rows.append(torch.kron(eye, torch.cat([half, -half], 1)))
            support //= 2
        super().__init__(torch.cat(rows) + 0.0)  # no -0


def _power_of_two(name: str, length: int) -> None:
    at_least_one(name, length)
    if length & (length - 1):
        raise ValueError(f"{name}: length must be a power of two, got {length}")
