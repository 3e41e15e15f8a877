"""The tensor algebra against its definitions: block-circulant matrices, and slices one by one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from tubes import (
    C128,
    EVERY,
    ORTHOGONAL_ROWS,
    Q,
    back,
    calls,
    close,
    complex_matrix,
    dft,
    every_transform,
    every_transform_and_dtype,
    like,
    random_matrix,
    slices,
    tensor,
)

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
from spectral_ops.transforms import DCT, Identity


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


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


@every_transform_and_dtype
def test_tprod_is_its_definition(name: str, dtype: torch.dtype) -> None:
    transform = EVERY[name]()
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


def test_a_changed_matrix_is_examined_again() -> None:
    """In place or another one: whether results are real depends on it."""
    transform, A = dft(), tensor(2, 2, Q)
    assert not tprod(A, A, transform).is_complex()
    transform.matrix[1] *= 1j  # row 5 is not its conjugate any more
    transform.inverse[:, 1] /= 1j
    assert tprod(A, A, transform).is_complex()
    transform.tables = dft().tables
    close(tprod(A, A, transform), fold(bcirc(A) @ unfold(A), Q))


# ---- transpose, identity, inverse ----------------------------------------------------------------------------------
@every_transform_and_dtype
def test_transpose(name: str, dtype: torch.dtype) -> None:
    transform = EVERY[name]()
    q = transform.length
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
    if name in ORTHOGONAL_ROWS:
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


@every_transform_and_dtype
def test_inverse(name: str, dtype: torch.dtype) -> None:
    transform = EVERY[name]()
    A = tensor(2, 3, 3, transform.length, dtype=dtype)
    inverse = tinv(A, transform)
    A, eye = A.to(inverse.dtype), teye(3, transform, dtype=dtype).expand(2, -1, -1, -1)
    close(tprod(A, inverse, transform), eye.to(inverse.dtype), 1e-10)
    close(tprod(inverse, A, transform), eye.to(inverse.dtype), 1e-10)


def test_inverse_with_the_dft_is_that_of_bcirc() -> None:
    A = tensor(3, 3, Q)
    close(bcirc(tinv(A, dft())), torch.linalg.inv(bcirc(A)), 1e-10)


# ---- dtypes, shapes ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["dct", "dft", "backward", "learned"])
@pytest.mark.parametrize(
    "dtype, tolerance",
    [(torch.float32, 1e-4), (torch.bfloat16, 0.04), (torch.float16, 0.005), (torch.complex64, 1e-4)],
)
def test_dtypes(name: str, dtype: torch.dtype, tolerance: float) -> None:
    transform = EVERY[name]()
    A = tensor(2, 3, 3, Q, dtype=C128 if dtype.is_complex else torch.float64)
    A = (A + 20 * teye(3, transform, dtype=torch.float64)).detach().to(dtype)  # well conditioned
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
    """L(A) would overflow float16; A * B does not."""
    A, B = torch.full((1, 1, Q), 30000.0, dtype=torch.float16), (0.5 * teye(1, DCT(Q))).half()
    close(tprod(A, B, DCT(Q)).double(), torch.full((1, 1, Q), 15000.0).double(), 1e-3)


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


@pytest.mark.parametrize("name", ["dct", "dft", "dft_half", "complex", "learned"])
def test_shapes_and_dtypes_without_values(name: str) -> None:
    """On the meta device: nothing else is left on the device of the transform, and nothing depends on the numbers."""
    transform = EVERY[name]()
    A = tensor(2, 3, 3, Q)
    meta = calls(A.to("meta"), transform) | {"tnorm": tnorm(A.to("meta"), transform)}
    meta |= {"rank": tubal_rank(A.to("meta"), transform), "energy": low_tubal_rank(A.to("meta"), transform, 1).energy}
    real = calls(A, transform) | {"tnorm": tnorm(A, transform)}
    real |= {"rank": tubal_rank(A, transform), "energy": low_tubal_rank(A, transform, 1).energy}
    for function, value in meta.items():
        assert value.device.type == "meta", function
        assert (value.shape, value.dtype) == (real[function].shape, real[function].dtype), function


@pytest.mark.parametrize("function", ["tprod", "ttranspose", "tinv", "low_tubal_rank", "product_of_tsvd"])
def test_compiled(function: str) -> None:
    A, transform = tensor(3, 3, Q), random_matrix(learned=True)
    compiled = torch.compile(lambda a: calls(a, transform)[function], fullgraph=True, backend="aot_eager")
    close(compiled(A), calls(A, transform)[function])


def test_layouts_do_not_matter() -> None:
    A = tensor(Q, 3, 3).permute(1, 2, 0)
    for function, value in calls(A, DCT(Q)).items():
        close(value, calls(A.contiguous(), DCT(Q))[function])


# ---- errors that need no row ---------------------------------------------------------------------------------------
def test_what_is_not_finite() -> None:
    with pytest.raises(torch.linalg.LinAlgError):
        tsvd(torch.full((2, 2, Q), torch.nan), DCT(Q))
    assert tprod(torch.full((2, 2, Q), torch.nan), torch.ones(2, 2, Q), DCT(Q)).isnan().all()
    assert tnorm(torch.full((2, 2, Q), torch.nan), DCT(Q)).isnan()


def test_names() -> None:
    assert set(spectral_ops.algebra.__all__) - {"TSVD", "LowTubalRank"} < set(spectral_ops.__all__)
