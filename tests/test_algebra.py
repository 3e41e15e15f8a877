"""The tensor algebra against its definitions: block-circulant matrices, slices one by one, and Eckart-Young."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import spectral_ops
from spectral_ops import (
    bcirc,
    facewise,
    fold,
    low_tubal_rank,
    teye,
    tinv,
    tnorm,
    tprod,
    tsvd,
    ttranspose,
    tubal_rank,
    unfold,
)
from spectral_ops.transforms import DCT, Identity, Matrix, Transform

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


ORTHOGONAL = {"dct": lambda: DCT(Q), "dct3": lambda: DCT(Q, 3), "identity": lambda: Identity(Q)}
UNITARY = {**ORTHOGONAL, "dft": dft, "dft_odd": lambda: dft(5), "dft_half": lambda: dft(half=True)}
UNITARY |= {"dft_half_odd": lambda: dft(5, half=True), "length_1": lambda: DCT(1)}
OTHERS = {
    "backward": lambda: DCT(Q, norm="backward"),
    "matrix": random_matrix,
    "learned": lambda: random_matrix(learned=True),
    "pairs": scaled_pairs,
    "complex": complex_matrix,
}
EVERY = {**UNITARY, **OTHERS}
every_transform = pytest.mark.parametrize("name", EVERY)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


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


# ---- products ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("q", [1, 2, 3, 4, 7, 8])
@pytest.mark.parametrize("half", [False, True])
def test_tprod_with_the_dft_is_the_t_product(q: int, half: bool) -> None:
    """Eq. (4), which knows nothing of transforms."""
    A, B = tensor(3, 4, q), tensor(4, 2, q)
    C = tprod(A, B, dft(q, half))
    assert C.dtype == torch.float64 and C.shape == (3, 2, q)
    close(C, fold(bcirc(A) @ unfold(B), q))


def test_tprod_of_complex_tensors_with_the_dft() -> None:
    A, B = tensor(2, 3, 4, Q, dtype=C128), tensor(4, 2, Q, dtype=C128)
    close(tprod(A, B, dft()), fold(bcirc(A) @ unfold(B), Q))


@every_transform
@pytest.mark.parametrize("dtype", [torch.float64, C128])
def test_tprod_is_its_definition(name: str, dtype: torch.dtype) -> None:
    transform = EVERY[name]()
    if dtype == C128 and transform.branches < transform.length:
        pytest.skip("half a spectrum is that of real tensors")
    A, B = tensor(2, 1, 3, 4, transform.length, dtype=dtype), tensor(5, 4, 2, transform.length, dtype=dtype)
    C = tprod(A, B, transform)
    assert C.shape == (2, 5, 3, 2, transform.length)
    assert C.is_complex() == (dtype == C128 or name == "complex")
    close(C, like(back(slices(A, transform) @ slices(B, transform), transform), C))


@every_transform
def test_ring(name: str) -> None:
    transform = EVERY[name]()
    q = transform.length
    A, B, C, D = tensor(3, 4, q), tensor(4, 2, q), tensor(2, 5, q), tensor(4, 2, q)

    def prod(x: Tensor, y: Tensor) -> Tensor:
        dtype = torch.promote_types(x.dtype, y.dtype)
        return tprod(x.to(dtype), y.to(dtype), transform)

    close(prod(prod(A, B), C), prod(A, prod(B, C)))
    close(prod(A, B + D), prod(A, B) + prod(A, D))
    close(prod(teye(3, transform, dtype=torch.float64), A), prod(A, teye(4, transform, dtype=torch.float64)))
    close(prod(teye(3, transform, dtype=torch.float64), A), A.to(prod(A, B).dtype))


def test_facewise_is_the_product_with_the_identity() -> None:
    A, B = tensor(7, 3, 4, Q), tensor(4, 2, Q)
    C = facewise(A, B)
    for q in range(Q):
        close(C[..., q], A[..., q] @ B[..., q])
    close(C, tprod(A, B, Identity(Q)))
    assert facewise(A.bfloat16(), B.bfloat16()).dtype == torch.bfloat16


def test_bcirc_block_by_block() -> None:
    A = tensor(2, 3, 4, Q)
    M = bcirc(A)
    assert M.shape == (2, 3 * Q, 4 * Q)
    for i in range(Q):
        for j in range(Q):
            assert torch.equal(M[:, 3 * i : 3 * i + 3, 4 * j : 4 * j + 4], A[..., (i - j) % Q])
    assert bcirc(torch.arange(4)[None, None]).tolist() == [[0, 3, 2, 1], [1, 0, 3, 2], [2, 1, 0, 3], [3, 2, 1, 0]]
    assert torch.equal(bcirc(A)[..., :4], unfold(A))


def test_unfold_and_fold() -> None:
    A = tensor(2, 3, 4, Q)
    M = unfold(A)
    assert M.shape == (2, 3 * Q, 4)
    for q in range(Q):
        assert torch.equal(M[:, 3 * q : 3 * q + 3], A[..., q])
    assert torch.equal(fold(M, Q), A)
    assert torch.equal(fold(M.long(), Q), A.long())


# ---- transpose, identity, inverse ----------------------------------------------------------------------------------
@every_transform
@pytest.mark.parametrize("dtype", [torch.float64, C128])
def test_transpose(name: str, dtype: torch.dtype) -> None:
    transform = EVERY[name]()
    q = transform.length
    if dtype == C128 and transform.branches < q:
        pytest.skip("half a spectrum is that of real tensors")
    A, B = tensor(2, 3, 4, q, dtype=dtype), tensor(2, 4, 5, q, dtype=dtype)
    T = ttranspose(A, transform)
    close(T, like(back(slices(A, transform).mH, transform), T))
    left = ttranspose(tprod(A, B, transform), transform)
    close(left, tprod(ttranspose(B, transform).to(left.dtype), T.to(left.dtype), transform))
    if T.dtype == dtype:
        close(ttranspose(T, transform), A)


@pytest.mark.parametrize("dtype", [torch.float64, C128])
def test_transpose_with_the_dft_is_that_of_bcirc(dtype: torch.dtype) -> None:
    A = tensor(3, 4, Q, dtype=dtype)
    close(bcirc(ttranspose(A, dft())), bcirc(A).mH)


def test_transpose_under_a_real_transform_has_no_rounding() -> None:
    A = tensor(3, 4, Q, dtype=torch.bfloat16)
    assert torch.equal(ttranspose(A, random_matrix()), A.transpose(0, 1))
    B = tensor(3, 4, Q, dtype=C128)
    assert torch.equal(ttranspose(B, DCT(Q)), B.transpose(0, 1).conj())


@every_transform
def test_transpose_is_the_adjoint_in_the_inner_product_of_the_transform(name: str) -> None:
    transform = EVERY[name]()
    A, X, Y = tensor(3, 4, transform.length), tensor(4, 2, transform.length), tensor(3, 2, transform.length)

    def inner(x: Tensor, y: Tensor) -> Tensor:
        return (slices(x, transform).conj() * slices(y, transform)).sum()

    T, AX = ttranspose(A, transform), tprod(A, X, transform)
    close(inner(Y, AX), inner(tprod(T, Y.to(T.dtype), transform), X))
    if name in UNITARY:
        close((Y * AX).sum(), (tprod(T, Y, transform) * X).sum())


def test_identity() -> None:
    first = torch.zeros(3, 3, Q)
    first[:, :, 0] = torch.eye(3)
    for half in (False, True):
        close(teye(3, dft(half=half)), first, 1e-6)
    assert torch.equal(teye(2, Identity(Q)), torch.eye(2)[:, :, None].expand(2, 2, Q))
    assert teye(2, dft(), dtype=C128).dtype == C128
    assert teye(2, complex_matrix()).dtype == torch.complex64
    assert teye(2, DCT(Q), dtype=torch.bfloat16).dtype == torch.bfloat16
    assert teye(0, DCT(Q)).shape == (0, 0, Q)
    assert teye(2, DCT(Q), device="meta").device.type == "meta"


@every_transform
@pytest.mark.parametrize("dtype", [torch.float64, C128])
def test_inverse(name: str, dtype: torch.dtype) -> None:
    transform = EVERY[name]()
    if dtype == C128 and transform.branches < transform.length:
        pytest.skip("half a spectrum is that of real tensors")
    A = tensor(2, 3, 3, transform.length, dtype=dtype)
    inverse = tinv(A, transform)
    A, eye = A.to(inverse.dtype), teye(3, transform, dtype=dtype).expand(2, -1, -1, -1)
    close(tprod(A, inverse, transform), eye.to(inverse.dtype), 1e-10)
    close(tprod(inverse, A, transform), eye.to(inverse.dtype), 1e-10)


def test_inverse_with_the_dft_is_that_of_bcirc() -> None:
    A = tensor(3, 3, Q)
    close(bcirc(tinv(A, dft())), torch.linalg.inv(bcirc(A)), 1e-10)


# ---- the t-SVD -----------------------------------------------------------------------------------------------------
def product_of(factors: tuple[Tensor, Tensor, Tensor], transform: Transform) -> Tensor:
    U, S, V = factors
    return tprod(tprod(U, S, transform), ttranspose(V, transform), transform)


@every_transform
@pytest.mark.parametrize("shape", [(3, 4), (4, 3), (3, 3), (1, 5)])
@pytest.mark.parametrize("dtype", [torch.float64, C128])
def test_tsvd(name: str, shape: tuple[int, int], dtype: torch.dtype) -> None:
    transform = EVERY[name]()
    q, r = transform.length, min(shape)
    if dtype == C128 and transform.branches < q:
        pytest.skip("half a spectrum is that of real tensors")
    A = tensor(2, *shape, q, dtype=dtype)
    factors = U, S, V = tsvd(A, transform)
    assert U.shape == (2, shape[0], r, q) and S.shape == (2, r, r, q) and V.shape == (2, shape[1], r, q)
    assert U.dtype == S.dtype == V.dtype == (C128 if name == "complex" else dtype)
    close(product_of(factors, transform), A.to(U.dtype))
    for t in (U, V):  # t-orthogonal, for any invertible transform
        eye = teye(r, transform, dtype=dtype).to(t.dtype).expand(2, -1, -1, -1)
        close(tprod(ttranspose(t, transform), t, transform), eye)
    values = slices(S, transform)
    close(values, torch.diag_embed(torch.linalg.svdvals(slices(A, transform))).to(values.dtype))
    assert torch.equal(S, S * torch.eye(r)[:, :, None])  # zeros beside the diagonal, exactly


@pytest.mark.parametrize("name", UNITARY)
def test_products_with_t_orthogonal_tensors_keep_the_norm(name: str) -> None:
    transform = UNITARY[name]()
    U, X = tsvd(tensor(5, 3, transform.length), transform).U, tensor(3, 4, transform.length)
    close(tprod(U, X, transform).norm(), X.norm())


@pytest.mark.parametrize("name", OTHERS)
def test_they_keep_the_norm_of_the_transform_else(name: str) -> None:
    transform = OTHERS[name]()
    U, X = tsvd(tensor(5, 3, Q), transform).U, tensor(3, 4, Q)
    close(tnorm(tprod(U, X.to(U.dtype), transform), transform), tnorm(X, transform))


@pytest.mark.parametrize("q", [4, 5])
def test_half_a_spectrum_gives_the_same(q: int) -> None:
    A = tensor(2, 4, 3, q)
    pairs = dft(q), dft(q, half=True)
    for f in (tnorm, tubal_rank, ttranspose):
        close(*(f(A, t) for t in pairs))
    (B, energy), (B2, energy2) = (low_tubal_rank(A, t, 2) for t in pairs)
    close(B, B2)
    close(energy, energy2)
    close(tinv(A[:, :3], pairs[0]), tinv(A[:, :3], pairs[1]))


# ---- rank, energy, optimality --------------------------------------------------------------------------------------
@every_transform
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_low_tubal_rank_is_the_best(name: str, rank: int) -> None:
    """Against the theory slice by slice, and against competitors: random ones, near ones and fitted ones."""
    transform = EVERY[name]()
    A = tensor(4, 3, transform.length)
    B, energy = low_tubal_rank(A, transform, rank)
    s = torch.linalg.svdvals(slices(A, transform))
    error, norm = tnorm(A.to(B.dtype) - B, transform), tnorm(A, transform)
    close(error.square(), s[:, rank:].square().sum(), 1e-10)
    close(energy, s[:, :rank].square().sum() / s.square().sum())
    close(energy, (tnorm(B, transform) / norm).square())
    assert tubal_rank(B, transform, 1e-10) == rank
    close(product_of(tsvd(A, transform, rank), transform), B)
    if rank == 3:
        close(B, A.to(B.dtype))
        return
    U, S, V = tsvd(A, transform, rank)
    US, VT = tprod(U, S, transform), ttranspose(V, transform)
    for step in (1e-3, 1e-1, 1):
        for _ in range(5):
            X = US + step * torch.randn_like(US)
            near = tprod(X, VT + step * torch.randn_like(VT), transform)
            assert tubal_rank(near, transform, 1e-9) <= rank
            assert tnorm(A - near, transform) > error
    # the least-squares fit to a random row space, the best that has it
    P = tsvd(torch.randn_like(VT), transform).V
    fitted = tprod(tprod(A.to(P.dtype), P, transform), ttranspose(P, transform), transform)
    assert tubal_rank(fitted, transform, 1e-9) == rank and tnorm(A - fitted, transform) > error


@pytest.mark.parametrize("name", UNITARY)
def test_it_is_the_best_in_the_frobenius_norm_too(name: str) -> None:
    transform = UNITARY[name]()
    A = tensor(4, 3, transform.length)
    scale = slices(torch.ones(1, 1, transform.length).double(), transform).norm() / transform.length**0.5
    close(tnorm(A, transform), scale * A.norm())
    B, energy = low_tubal_rank(A, transform, 2)
    close((A - B).norm().square(), (1 - energy) * A.norm().square())


def test_it_is_not_the_best_in_the_frobenius_norm_else() -> None:
    """Why the docstring says so: another tensor of the same tubal rank is nearer."""
    transform, A = random_matrix(), tensor(3, 3, Q)
    factors = tsvd(A, transform, 1)
    x, y = (t.detach().requires_grad_() for t in (tprod(factors.U, factors.S, transform), factors.V))
    before = (A - low_tubal_rank(A, transform, 1).approximation).norm()
    optimizer = torch.optim.LBFGS([x, y], max_iter=50, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (A - tprod(x, ttranspose(y, transform), transform)).square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    after = closure().detach().sqrt()
    assert after < 0.999 * before
    better = tprod(x, ttranspose(y, transform), transform).detach()
    assert tubal_rank(better, transform, 1e-9) == 1
    assert tnorm(A - better, transform) > tnorm(A - low_tubal_rank(A, transform, 1).approximation, transform)


@every_transform
@pytest.mark.parametrize("rank", [0, 1, 2, 4])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_tubal_rank_of_constructed_tensors(name: str, rank: int, dtype: torch.dtype) -> None:
    transform = EVERY[name]()
    A = tprod(tensor(3, 5, rank, transform.length), tensor(3, rank, 4, transform.length), transform)
    A = A.to(torch.promote_types(A.dtype, torch.complex64) if A.is_complex() else dtype)
    found = tubal_rank(A, transform, None if A.dtype == torch.float64 else 1e-5)
    assert found.dtype == torch.int64 and found.tolist() == [rank] * 3


def test_tubal_rank_is_that_of_the_slice_of_largest_rank() -> None:
    faces = torch.zeros(Q, 4, 4, dtype=torch.float64)
    faces[0, 0, 0] = 5
    faces[3, :3, :3] = torch.eye(3)
    for transform in (DCT(Q), random_matrix()):
        assert tubal_rank(back(faces, transform), transform) == 3
    assert tubal_rank(back(faces, DCT(Q)), DCT(Q), tol=0.5) == 1


def test_tubal_rank_does_not_depend_on_the_scale_of_a_row() -> None:
    scale = torch.tensor([1, 1e-9, 1e9, 1, 1e-4, 1], dtype=torch.float64)
    A = tprod(tensor(5, 2, Q), tensor(2, 5, Q), DCT(Q)) + 1e-6 * tensor(5, 5, Q)
    for tol in (1e-4, 1e-12):
        assert tubal_rank(A, Matrix(scale[:, None] * DCT(Q).matrix), tol) == tubal_rank(A, DCT(Q), tol)


def test_energy_of_extreme_numbers() -> None:
    B, energy = low_tubal_rank(torch.zeros(2, 3, 3, Q), DCT(Q), 1)
    assert energy.tolist() == [1, 1] and not B.any()
    A = tensor(3, 3, Q, dtype=torch.float32)
    expected = low_tubal_rank(A, DCT(Q), 1).energy
    for factor in (2.0**-80, 2.0**80):  # whose squares underflow and overflow
        close(low_tubal_rank(A * factor, DCT(Q), 1).energy, expected, 1e-6)


@every_transform
def test_norm(name: str) -> None:
    transform = EVERY[name]()
    A, B = tensor(2, 3, 4, transform.length), tensor(2, 4, 3, transform.length)
    norm = tnorm(A, transform)
    assert norm.shape == (2,) and norm.dtype == torch.float64
    close(norm, slices(A, transform).abs().square().sum((1, 2, 3)).sqrt())
    assert (tnorm(tprod(A, B, transform), transform) <= norm * tnorm(B, transform)).all()
    values = torch.linalg.svdvals(whole(transform).matrix.detach())
    frobenius = A.flatten(1).norm(dim=1)
    assert (values[-1] * frobenius <= norm * (1 + 1e-12)).all() and (norm <= values[0] * frobenius * (1 + 1e-12)).all()


# ---- dtypes, shapes ------------------------------------------------------------------------------------------------
def calls(A: Tensor, transform: Transform) -> dict[str, Tensor | tuple[Tensor, ...]]:
    """Every function of square slices."""
    return {
        "tprod": tprod(A, A, transform),
        "ttranspose": ttranspose(A, transform),
        "tinv": tinv(A, transform),
        "low_tubal_rank": low_tubal_rank(A, transform, 2).approximation,
        "product_of_tsvd": product_of(tsvd(A, transform, 2), transform),
    }


@pytest.mark.parametrize("name", ["dct", "dft", "backward", "learned"])
@pytest.mark.parametrize(
    "dtype, tolerance",
    [(torch.float32, 1e-4), (torch.bfloat16, 0.04), (torch.float16, 0.005), (torch.complex64, 1e-4)],
)
def test_dtypes(name: str, dtype: torch.dtype, tolerance: float) -> None:
    transform = EVERY[name]()
    A = (tensor(2, 3, 3, Q, dtype=C128 if dtype.is_complex else torch.float64) + 4 * teye(3, transform)).to(dtype)
    exact = calls(A.to(C128 if dtype.is_complex else torch.float64), transform)
    for function, value in calls(A, transform).items():
        assert value.dtype == dtype, function
        error = (value.to(exact[function].dtype) - exact[function]).abs().max()
        assert error <= tolerance * exact[function].abs().max(), function
    assert tnorm(A, transform).dtype == torch.float32
    assert low_tubal_rank(A, transform, 1).energy.dtype == torch.float32
    assert tubal_rank(A, transform) == 3 if A.dim() == 3 else tubal_rank(A, transform).tolist() == [3, 3]


def test_half_under_a_complex_transform_is_complex64() -> None:
    A = tensor(3, 3, Q, dtype=torch.bfloat16)
    assert tprod(A, A, complex_matrix()).dtype == torch.complex64


def test_half_is_rounded_once() -> None:
    """Products whose slices would overflow or vanish in float16."""
    A = torch.full((1, 64, Q), 60.0, dtype=torch.float16)
    C = tprod(A * 32, A.transpose(0, 1) / 32, Identity(Q))
    assert torch.equal(C, (facewise(A.double(), A.transpose(0, 1).double())).to(torch.float16)) or C.isinf().all()
    assert tprod(A / 8, A.transpose(0, 1) / 8, Identity(Q)).flatten().tolist() == [3600.0] * Q


def test_autocast_changes_nothing() -> None:
    A, transform = tensor(2, 3, 3, Q, dtype=torch.float32), DCT(Q)
    expected = calls(A, transform)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for function, value in calls(A, transform).items():
            assert torch.equal(value, expected[function]), function
        assert facewise(A, A).dtype == torch.float32


@every_transform
def test_batches_are_done_one_by_one(name: str) -> None:
    transform = EVERY[name]()
    A = tensor(2, 2, 3, 3, transform.length)
    batched = calls(A, transform) | {"tnorm": tnorm(A, transform), "energy": low_tubal_rank(A, transform, 1).energy}
    for i in range(2):
        for j in range(2):
            one = calls(A[i, j], transform)
            one |= {"tnorm": tnorm(A[i, j], transform), "energy": low_tubal_rank(A[i, j], transform, 1).energy}
            for function, value in one.items():
                close(batched[function][i, j], value)


@pytest.mark.parametrize("name", ["dct", "dft", "dft_half", "complex"])
def test_zero_sizes(name: str) -> None:
    transform = EVERY[name]()

    def empty(*shape: int) -> Tensor:
        return torch.empty(*shape, Q)

    assert not tprod(empty(2, 0), empty(0, 3), transform).any()  # a sum of nothing
    assert tprod(empty(0, 2, 3), empty(3, 4), transform).shape == (0, 2, 4, Q)
    assert facewise(empty(0, 3), empty(3, 2)).shape == (0, 2, Q)
    assert bcirc(empty(0, 3)).shape == (0, 3 * Q) and bcirc(torch.empty(2, 3, 0)).shape == (0, 0)
    assert fold(unfold(empty(0, 3)), Q).shape == (0, 3, Q)
    assert tinv(empty(0, 0), transform).shape == (0, 0, Q)
    U, S, V = tsvd(empty(0, 3), transform)
    assert U.shape == (0, 0, Q) and S.shape == (0, 0, Q) and V.shape == (3, 0, Q)
    assert tubal_rank(empty(2, 0, 3), transform).tolist() == [0, 0]
    assert tubal_rank(empty(0, 2, 3), transform).shape == (0,)
    assert low_tubal_rank(empty(0, 2, 3), transform, 1).energy.shape == (0,)
    assert tnorm(empty(0, 3), transform) == 0


def test_layouts_do_not_matter() -> None:
    A = tensor(Q, 3, 3).permute(1, 2, 0)
    for function, value in calls(A, DCT(Q)).items():
        close(value, calls(A.contiguous(), DCT(Q))[function])


# ---- gradients -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["dct", "dft", "dft_half_odd", "matrix", "pairs", "complex"])
def test_gradients(name: str) -> None:
    transform = EVERY[name]()
    q = transform.length
    A, B = tensor(3, 3, q).requires_grad_(), tensor(3, 2, q).requires_grad_()
    check = torch.autograd.gradcheck
    assert check(lambda a, b: tprod(a, b, transform), (A, B))
    assert check(lambda a: ttranspose(a, transform), A)
    assert check(lambda a: tinv(a, transform), A)
    assert check(lambda a: tnorm(a, transform), A)
    assert check(lambda b: low_tubal_rank(b, transform, 1), B)
    assert check(lambda b: tsvd(b, transform).S, B)
    assert check(lambda b: product_of(tsvd(b, transform, 1), transform), B)
    assert torch.autograd.gradgradcheck(lambda a, b: tprod(a, b, transform), (A, B))


def test_gradients_of_the_factors_under_a_real_transform() -> None:
    A = tensor(3, 2, Q).requires_grad_()
    assert torch.autograd.gradcheck(lambda a: tsvd(a, DCT(Q)), A)


def test_gradients_of_complex_tensors() -> None:
    A, B = (tensor(3, 3, Q, dtype=C128).requires_grad_() for _ in range(2))
    assert torch.autograd.gradcheck(lambda a, b: tprod(a, b, dft()), (A, B))
    assert torch.autograd.gradcheck(lambda a: ttranspose(a, DCT(Q)), A)


def test_gradients_reach_a_learned_transform() -> None:
    transform, A = random_matrix(learned=True), tensor(3, 3, Q)

    def call(weight: Tensor, function: str) -> Tensor:
        class Learned(Identity):
            matrix = weight  # type: ignore[assignment]
            inverse = torch.linalg.inv(weight)  # type: ignore[assignment]
            matrix_as = lambda self, x: weight.to(x.dtype)  # noqa: E731
            inverse_as = lambda self, x: torch.linalg.inv(weight).to(x.dtype)  # noqa: E731

        return calls(A, Learned(Q))[function]

    for function in ("tprod", "tinv", "low_tubal_rank"):
        assert torch.autograd.gradcheck(lambda w, f=function: call(w, f), transform.weight)
        (grad,) = torch.autograd.grad(calls(A, transform)[function].square().sum(), transform.weight)
        (expected,) = torch.autograd.grad(call(transform.weight, function).square().sum(), transform.weight)
        close(grad, expected, 1e-9)


def test_gradient_of_the_norm_of_nothing() -> None:
    A = torch.zeros(2, 3, Q).requires_grad_()
    tnorm(A, DCT(Q)).backward()
    assert not A.grad.any()


def test_a_phase_of_the_factors_has_no_gradient() -> None:
    """As documented: torch refuses, and does not answer wrongly."""
    A = tensor(3, 2, Q).requires_grad_()
    with pytest.raises(RuntimeError, match="phase"):
        tsvd(A, dft()).U.sum().backward()


def test_under_torch_func() -> None:
    A, B = tensor(4, 3, 2, Q), tensor(2, 3, Q)
    transform = DCT(Q)
    close(torch.func.vmap(lambda a: tprod(a, B, transform))(A), tprod(A, B, transform))
    grads = torch.func.vmap(torch.func.grad(lambda a: tnorm(tprod(a, B, transform), transform)))(A)
    copy = A.clone().requires_grad_()
    tnorm(tprod(copy, B, transform), transform).sum().backward()
    close(grads, copy.grad)


# ---- errors that need no row ---------------------------------------------------------------------------------------
def test_what_is_not_finite() -> None:
    with pytest.raises(torch.linalg.LinAlgError):
        tsvd(torch.full((2, 2, Q), torch.nan), DCT(Q))
    assert tprod(torch.full((2, 2, Q), torch.nan), torch.ones(2, 2, Q), DCT(Q)).isnan().all()
    assert tnorm(torch.full((2, 2, Q), torch.nan), DCT(Q)).isnan()


def test_names() -> None:
    assert set(spectral_ops.algebra.__all__) - {"TSVD", "LowTubalRank"} < set(spectral_ops.__all__)
