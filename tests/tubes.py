"""Transforms of every kind for the tests of the tensor algebra, and its definitions slice by slice."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from spectral_ops import (
    low_tubal_rank,
    tinv,
    tprod,
    tsvd,
    ttranspose,
)
from spectral_ops.transforms import DCT, DFT, DST, Hadamard, Identity, Matrix, Transform

Q = 6
C128 = torch.complex128


class Table(Transform):
    """Any complex matrix, or the upper half of one: for what the package has no transform of its own."""

    is_real = False

    def __init__(self, matrix: Tensor, inverse: Tensor) -> None:
        super().__init__(matrix.shape[1])
        self.branches = matrix.shape[0]
        self.tables = matrix, inverse

    @property
    def matrix(self) -> Tensor:
        return self.tables[0]

    @property
    def inverse(self) -> Tensor:
        return self.tables[1]


def dft(q: int = Q, half: bool = False) -> Table:
    k = torch.arange(q, dtype=torch.float64)
    matrix = torch.exp(-2j * torch.pi * k[:, None] * k / q)
    inverse = matrix.conj().mT / q
    if not half:
        return Table(matrix, inverse)
    weights = torch.tensor([1 if 2 * k % q == 0 else 2 for k in range(q // 2 + 1)])
    return Table(matrix[: q // 2 + 1], inverse[:, : q // 2 + 1] * weights)


def random_matrix(learned: bool = False) -> Matrix:
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(Q, Q, generator=generator, dtype=torch.float64)
    return Matrix(2 * torch.eye(Q, dtype=torch.float64) + 0.5 * noise, learned=learned)


def complex_matrix() -> Table:
    """No row is the conjugate of another: results are complex for real tensors too."""
    generator = torch.Generator().manual_seed(2)
    noise = torch.randn(Q, Q, generator=generator, dtype=C128)
    matrix = 2 * torch.eye(Q, dtype=C128) + 0.5 * noise
    return Table(matrix, torch.linalg.inv(matrix))


def scaled_pairs() -> Table:
    """Rows in conjugate pairs, but neither unitary nor in the DFT's order."""
    matrix = dft().matrix[[3, 1, 0, 4, 5, 2]] * torch.tensor([2, 1j, -1, 3, -1j, 3])[:, None]
    return Table(matrix, torch.linalg.inv(matrix))


UNITARY = {"dct": lambda: DCT(Q), "dct3": lambda: DCT(Q, 3), "identity": lambda: Identity(Q), "dft": dft}
UNITARY |= {"dft_odd": lambda: dft(5), "dft_half": lambda: dft(half=True)}
UNITARY |= {"dft_half_odd": lambda: dft(5, half=True), "length_1": lambda: DCT(1)}
# by their fast algorithms
UNITARY |= {"fft": lambda: DFT(Q, norm="backward"), "rfft": lambda: DFT(Q, real=True, norm="backward")}
UNITARY |= {"dst": lambda: DST(Q, 4), "hadamard": lambda: Hadamard(4)}
OTHERS = {
    "backward": lambda: DCT(Q, norm="backward"),
    "backward3": lambda: DCT(Q, 3, norm="backward"),
    "matrix": random_matrix,
    "learned": lambda: random_matrix(learned=True),
    "pairs": scaled_pairs,
    "complex": complex_matrix,
}
ORTHOGONAL_ROWS = {**UNITARY, "backward": OTHERS["backward"], "pairs": OTHERS["pairs"]}
EVERY = {**UNITARY, **OTHERS}
every_transform = pytest.mark.parametrize("name", EVERY)
HALF = ("dft_half", "dft_half_odd", "rfft")  # half a spectrum is that of real tensors
every_transform_and_dtype = pytest.mark.parametrize(
    "name, dtype", [*((name, torch.float64) for name in EVERY), *((name, C128) for name in EVERY if name not in HALF)]
)


def tensor(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, dtype=dtype)


def close(actual: Tensor, expected: Tensor, tolerance: float = 1e-11) -> None:
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def whole(transform: Transform) -> Transform:
    """The transform with all rows: half a DFT stands for the DFT."""
    return dft(transform.length) if transform.branches < transform.length else transform


def slices(A: Tensor, transform: Transform) -> Tensor:
    """L(A) slice by slice, (..., Q, n1, n2), all of them, complex where L or A is."""
    matrix = whole(transform).matrix.detach()
    dtype = torch.promote_types(A.dtype, matrix.dtype)
    return torch.einsum("kq,...ijq->...kij", matrix.to(dtype), A.detach().to(dtype))


def back(slices: Tensor, transform: Transform) -> Tensor:
    inverse = torch.linalg.inv(whole(transform).matrix.detach())
    dtype = torch.promote_types(slices.dtype, inverse.dtype)
    return torch.einsum("qk,...kij->...ijq", inverse.to(dtype), slices.to(dtype))


def like(expected: Tensor, actual: Tensor) -> Tensor:
    """`expected` with its imaginary part, which must be nothing, dropped where `actual` is real."""
    if expected.is_complex() and not actual.is_complex():
        assert expected.imag.abs().max() < 1e-11
        return expected.real
    return expected.to(actual.dtype)


def product_of(factors: tuple[Tensor, Tensor, Tensor], transform: Transform) -> Tensor:
    U, S, V = factors
    return tprod(tprod(U, S, transform), ttranspose(V, transform), transform)


def calls(A: Tensor, transform: Transform) -> dict[str, Tensor | tuple[Tensor, ...]]:
    """Every function of square slices."""
    return {
        "tprod": tprod(A, A, transform),
        "ttranspose": ttranspose(A, transform),
        "tinv": tinv(A, transform),
        "low_tubal_rank": low_tubal_rank(A, transform, 2).approximation,
        "product_of_tsvd": product_of(tsvd(A, transform, 2), transform),
    }
