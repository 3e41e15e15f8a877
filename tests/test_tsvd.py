"""The t-SVD, tubal rank and norm against Eckart-Young slice by slice, and the gradients of the whole algebra."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from tubes import (
    C128,
    EVERY,
    ORTHOGONAL_ROWS,
    OTHERS,
    UNITARY,
    Q,
    back,
    calls,
    close,
    dft,
    every_transform,
    every_transform_and_dtype,
    product_of,
    random_matrix,
    slices,
    tensor,
    whole,
)

from spectral_ops import (
    low_tubal_rank,
    teye,
    tinv,
    tnorm,
    tprod,
    tsvd,
    ttranspose,
    tubal_rank,
)
from spectral_ops.transforms import DCT, Matrix, Transform


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


# ---- the t-SVD -----------------------------------------------------------------------------------------------------
@every_transform_and_dtype
@pytest.mark.parametrize("shape", [(3, 4), (4, 3), (3, 3), (1, 5)])
def test_tsvd(name: str, shape: tuple[int, int], dtype: torch.dtype) -> None:
    transform = EVERY[name]()
    q, r = transform.length, min(shape)
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


@pytest.mark.parametrize("name", ORTHOGONAL_ROWS)
def test_products_with_t_orthogonal_tensors_keep_the_norm(name: str) -> None:
    transform = ORTHOGONAL_ROWS[name]()
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


@pytest.mark.parametrize("name", ORTHOGONAL_ROWS)
def test_it_is_the_best_in_the_frobenius_norm_too(name: str) -> None:
    """With orthogonal rows: the squared norm is a weighted sum over slices, each of which has a best possible tail."""
    transform = ORTHOGONAL_ROWS[name]()
    A = tensor(4, 3, transform.length)
    rows = whole(transform).matrix.norm(dim=1)
    parts = slices(A, transform).abs().square().sum((1, 2)) / rows.square()
    close(A.norm().square(), parts.sum())
    B, energy = low_tubal_rank(A, transform, 2)
    tails = torch.linalg.svdvals(slices(A, transform))[:, 2:].square().sum(1) / rows.square()
    close((A - B).norm().square(), tails.sum())
    if name in UNITARY:
        close(tnorm(A, transform), rows[0] * A.norm())
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
    scale = torch.tensor([1, 1e-6, 1e6, 1, 1e-4, 1], dtype=torch.float64)
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
        class Learned(Transform):
            matrix = weight
            inverse = torch.linalg.inv(weight)  # type: ignore[assignment]

            def _as(self, name: str, x: Tensor) -> Tensor:
                return getattr(self, name).to(x.dtype)

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
        tsvd(A, dft()).U[..., 0].sum().backward()


def test_under_torch_func() -> None:
    A, B = tensor(4, 3, 2, Q), tensor(2, 3, Q)
    transform = DCT(Q)
    close(torch.func.vmap(lambda a: tprod(a, B, transform))(A), tprod(A, B, transform))
    grads = torch.func.vmap(torch.func.grad(lambda a: tnorm(tprod(a, B, transform), transform)))(A)
    copy = A.clone().requires_grad_()
    tnorm(tprod(copy, B, transform), transform).sum().backward()
    close(grads, copy.grad)
