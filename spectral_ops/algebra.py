"""The tensor algebra of an invertible transform L: tensors (..., n1, n2, Q) as matrices whose entries are tubes.

A tube is a vector of length Q; two tubes are multiplied by transforming, multiplying number by number, and transforming
back. With the DFT that is circular convolution, and `tprod` the t-product. Every function computes on the slices of
L(A), matrices that know nothing of each other.

Dtypes: all take float32, float64, complex64, complex128, and half (computed in float32, rounded once at the end). The
result of real tensors is real where L is, or where its rows come in conjugate pairs (the DFT, and a transform that
keeps half a spectrum); under any other complex L it is complex. Leading dimensions are a batch.

Gradients reach the tensors and a learned transform. Functions without a note differentiate everywhere. For real
tensors the rows of a complex transform are examined, once per matrix, which breaks the graph of torch.compile.

Source: Liu et al., Highly Parallel Deep Ensemble Learning, eq. (1)-(4); Kernfeld, Kilmer, Aeron 2015, Tensor-tensor
products with invertible linear transforms; Kilmer, Martin 2011, Factorization strategies for third-order tensors.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .faces import Faces, check_numbers, product
from .ops import checks
from .transforms import Transform

__all__ = [
    "TSVD",
    "LowTubalRank",
    "bcirc",
    "facewise",
    "fold",
    "low_tubal_rank",
    "teye",
    "tinv",
    "tnorm",
    "tprod",
    "tsvd",
    "ttranspose",
    "tubal_rank",
    "unfold",
]


class TSVD(NamedTuple):
    """A = U * S * V^T: U (..., n1, r, Q), S (..., r, r, Q), V (..., n2, r, Q)."""

    U: Tensor
    S: Tensor
    V: Tensor


class LowTubalRank(NamedTuple):
    """approximation (..., n1, n2, Q) and the fraction of energy that it keeps (...), in [0, 1]."""

    approximation: Tensor
    energy: Tensor


# ---- products ------------------------------------------------------------------------------------------------------
def tprod(A: Tensor, B: Tensor, transform: Transform) -> Tensor:
    """The spectral tensor product A * B = L^-1(L(A) facewise L(B)), eq. (1); with the DFT the t-product, eq. (4).

    Associative, bilinear, with identity `teye` and (A * B)^T = B^T * A^T.

    Args: A (..., n1, n', Q). B (..., n', n2, Q), of A's dtype. transform: of length Q.
    Returns: (..., n1, n2, Q); leading dimensions broadcast.
    Raises: ValueError for shapes; TypeError for dtypes, and for complex tensors under half a spectrum.
    Accuracy: three products of matrices, in float32 at least: their error is amplified by the condition of L.
    """
    faces = Faces("tprod", transform, A=A, B=B)
    _check_product("tprod", A, B)
    return faces.tensor(product(faces.of(A), faces.of(B)))


def facewise(A: Tensor, B: Tensor) -> Tensor:
    """The product slice by slice, C[..., q] = A[..., q] B[..., q]: `tprod` with the identity as transform.

    Args: A (..., n1, n', Q). B (..., n', n2, Q), of A's dtype.
    Returns: (..., n1, n2, Q); leading dimensions broadcast.
    Raises: ValueError for shapes, TypeError for dtypes.
    """
    check_numbers("facewise", A=A, B=B)
    if A.dim() < 3:
        raise checks.wrong_shape("facewise", "A", A, "(..., n1, n', Q)")
    _check_product("facewise", A, B)
    exact = torch.promote_types(A.dtype, torch.float32)
    a, b = (t.to(exact).movedim(-1, -3) for t in (A, B))
    return product(a, b).movedim(-3, -1).to(A.dtype)


def bcirc(A: Tensor) -> Tensor:
    """The block-circulant matrix of eq. (2): block (i, j) is A[..., (i - j) mod Q].

    Args: A (..., n1, n2, Q), any dtype.
    Returns: (..., n1 Q, n2 Q).
    Raises: ValueError for fewer than three dimensions.
    """
    if A.dim() < 3:
        raise checks.wrong_shape("bcirc", "A", A, "(..., n1, n2, Q)")
    q = torch.arange(A.shape[-1], device=A.device)
    blocks = A.movedim(-1, -3)[..., (q[:, None] - q) % max(len(q), 1), :, :]  # (..., i, j, n1, n2)
    return blocks.transpose(-3, -2).flatten(-2).flatten(-3, -2)


def unfold(A: Tensor) -> Tensor:
    """The slices A[..., q] one below the other, (..., n1, n2, Q) -> (..., n1 Q, n2): row q n1 + i is A[..., i, :, q].

    Raises: ValueError for fewer than three dimensions.
    """
    if A.dim() < 3:
        raise checks.wrong_shape("unfold", "A", A, "(..., n1, n2, Q)")
    return A.movedim(-1, -3).flatten(-3, -2)


def fold(M: Tensor, Q: int) -> Tensor:
    """The inverse of `unfold`, eq. (3): (..., n1 Q, n2) -> (..., n1, n2, Q).

    Raises: ValueError for fewer than two dimensions, Q < 1, or a number of rows that Q does not divide.
    """
    if Q < 1:
        raise ValueError(f"fold: Q must be at least 1, got {Q}")
    if M.dim() < 2 or M.shape[-2] % Q:
        raise checks.wrong_shape("fold", "M", M, f"(..., n1 Q, n2) with Q = {Q}")
    return M.unflatten(-2, (Q, M.shape[-2] // Q)).movedim(-3, -1)


# ---- transpose, identity, inverse ----------------------------------------------------------------------------------
def ttranspose(A: Tensor, transform: Transform) -> Tensor:
    """A^T, whose slices in L's domain are the conjugate transposes of A's: (..., n1, n2, Q) -> (..., n2, n1, Q).

    This is the transpose that reverses products, for every invertible L, orthogonal or not. Under a real L it is the
    transpose of each slice of A itself (conjugated where A is complex), without rounding; with the DFT the slices also
    change places, q with Q - q, so that bcirc(A^T) = bcirc(A)^H.

    It is the adjoint of X -> A * X in the inner product <L(X), L(Y)>, and in the ordinary one exactly if the rows of L
    are orthogonal to each other, of whatever lengths (the DFT, a DCT-II of any norm).

    Raises: ValueError for shapes; TypeError for dtypes, and for complex tensors under half a spectrum.
    """
    faces = Faces("ttranspose", transform, A=A)
    if transform.is_real:
        return A.transpose(-3, -2).conj()
    return faces.tensor(faces.of(A).mH)


def teye(
    n: int, transform: Transform, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None
) -> Tensor:
    """The identity of `tprod`: every slice of L(I) is the n x n identity, so the diagonal holds the tube L^-1(1).

    With the DFT that tube is (1, 0, ..., 0); with another L it is in general no unit vector.

    Args: n: at least 0. dtype: of the tensors it is for; default torch's.
    Returns: (n, n, Q).
    Raises: ValueError for n < 0; TypeError for integers.
    """
    if n < 0:
        raise ValueError(f"teye: n must be at least 0, got {n}")
    x = torch.empty(0, 0, getattr(transform, "length", 0), dtype=dtype, device=device)
    faces = Faces("teye", transform, dtype=x)
    return faces.tensor(torch.eye(n, dtype=faces.exact, device=x.device).expand(faces.slices(), n, n))


def tinv(A: Tensor, transform: Transform) -> Tensor:
    """A^-1, with A * A^-1 = A^-1 * A = I: the inverse of each slice in L's domain.

    Args: A (..., n, n, Q).
    Raises: ValueError for shapes, and where a slice of L(A) is singular; TypeError for dtypes, and for complex tensors
        under half a spectrum.
    Accuracy: that of torch.linalg.inv, slice by slice, amplified by the condition of L.
    """
    faces = Faces("tinv", transform, "(..., n, n, Q)", A=A)
    if A.shape[-3] != A.shape[-2]:
        raise checks.wrong_shape("tinv", "A", A, "(..., n, n, Q)")
    try:
        return faces.tensor(torch.linalg.inv(faces.of(A)))
    except torch.linalg.LinAlgError as error:
        raise ValueError("tinv: A must be invertible in every slice of L(A), got a singular one") from error


# ---- the t-SVD, rank and norm --------------------------------------------------------------------------------------
def tsvd(A: Tensor, transform: Transform, rank: int | None = None) -> TSVD:
    """A = U * S * V^T, from the SVD of each slice in L's domain; with a rank R the best approximation of tubal rank R.

    S has tubes on its diagonal and zeros elsewhere; L(S) holds the singular values, each slice's in descending order.
    U^T * U = V^T * V = I for every invertible L, and products with such tensors keep `tnorm`. They keep the ordinary
    norm exactly if the rows of L are orthogonal to each other, of whatever lengths (the DFT, a DCT-II of any norm).

    Args: A (..., n1, n2, Q). rank: 1 .. min(n1, n2), the number r of tubes kept; None: min(n1, n2), economy size.
    Returns: TSVD(U (..., n1, r, Q), S (..., r, r, Q), V (..., n2, r, Q)), in one dtype.
    Raises: ValueError for shapes and rank; TypeError for dtypes, and for complex tensors under half a spectrum;
        torch.linalg.LinAlgError where A is not finite.
    Accuracy: that of torch.linalg.svd, slice by slice, amplified by the condition of L.
    Gradient: that of torch.linalg.svd. It is infinite or NaN where a slice of L(A) has equal singular values, or zero
        ones where n1 != n2; under a complex L, or of complex tensors, U and V are fixed up to a phase per singular
        value, and torch raises RuntimeError for a function that depends on it. U * S * V^T does not.
    """
    faces, r, (u, s, v) = _svd("tsvd", A, transform, rank)
    return TSVD(faces.tensor(u[..., :r]), faces.tensor(torch.diag_embed(s[..., :r])), faces.tensor(v[..., :r]))


def low_tubal_rank(A: Tensor, transform: Transform, rank: int) -> LowTubalRank:
    """The tensor of tubal rank at most R nearest to A in `tnorm`, and the energy it keeps.

    Each slice of L(A) is replaced by its own best approximation of rank R (Eckart-Young), which is the best of all,
    because the norm adds up over slices. So does the Frobenius norm, weighted, where the rows of L are orthogonal to
    each other (the DFT, a DCT-II of any norm): there it is the nearest in that norm too. Else in general it is not.

    Energy: tnorm(approximation)^2 / tnorm(A)^2, 1 for A = 0; tnorm(A - approximation)^2 is (1 - energy) tnorm(A)^2.

    Args: A (..., n1, n2, Q). rank: 1 .. min(n1, n2).
    Returns: LowTubalRank(approximation, of A's shape; energy (...), real, at least float32).
    Raises, accuracy: as `tsvd`.
    Gradient: as `tsvd`, and undefined where the singular values R and R + 1 of a slice are equal.
    Source: Kilmer, Martin 2011, theorem 4.3, for the DFT; Kilmer, Horesh, Avron, Newman 2021, Tensor-tensor algebra for
        optimal representation and compression of multiway data, for multiples of unitary L.
    """
    faces, r, (u, s, v) = _svd("low_tubal_rank", A, transform, rank)
    approximation = faces.tensor(product(u[..., :r] * s[..., None, :r], v[..., :r].mH))
    peak = s.detach().amax((-2, -1), keepdim=True)
    scale = torch.where(peak > 0, peak, 1)  # squares do not overflow
    energies = (s / scale).square().mul(faces.shares(s)[:, None])
    zero = peak[..., 0, 0] == 0
    total = energies.sum((-2, -1)).masked_fill(zero, 1)
    return LowTubalRank(approximation, (energies[..., :r].sum((-2, -1)) / total).masked_fill(zero, 1))


def tubal_rank(A: Tensor, transform: Transform, tol: float | None = None) -> Tensor:
    """The number of tubes of S in `tsvd` that are not zero: the largest rank among the slices of L(A).

    A singular value counts if it exceeds tol times the largest one of all slices, each measured in the length of its
    row of L: like the rank itself, the answer does not change when a row of L is scaled.

    Args: A (..., n1, n2, Q). tol: relative, at least 0; default max(n1, n2, Q) eps, eps of A's dtype.
    Returns: (...), int64. Not differentiable.
    Raises: ValueError for shapes and tol; TypeError for dtypes, and for complex tensors under half a spectrum.
    """
    faces = Faces("tubal_rank", transform, A=A)
    if tol is None:
        tol = max(A.shape[-3:]) * torch.finfo(A.dtype).eps
    if not tol >= 0:
        raise ValueError(f"tubal_rank: tol must be at least 0, got {tol}")
    with torch.no_grad():
        s = torch.linalg.svdvals(faces.of(A))
        if s.shape[-1] == 0:
            return torch.zeros(s.shape[:-2], dtype=torch.int64, device=s.device)
        rows = torch.linalg.vector_norm(transform.matrix.detach(), dim=1)
        if faces.pairs is not None and faces.pairs.keep is not None:
            rows = rows[faces.pairs.keep]
        s = s / rows.to(s)[:, None]
        return (s > tol * s.amax((-2, -1), keepdim=True)).sum(-1).amax(-1)


def tnorm(A: Tensor, transform: Transform) -> Tensor:
    """||A||_L = ||L(A)||_F, the norm in which the truncated t-SVD is optimal for every L.

    ||A * B||_L <= ||A||_L ||B||_L. For an orthogonal L it is the Frobenius norm of A; for the DFT without
    normalisation sqrt(Q) times that, and half a spectrum has the norm of the whole. Otherwise it weighs directions in
    a tube differently: sigma_min(L) ||A||_F <= ||A||_L <= sigma_max(L) ||A||_F.

    Args: A (..., n1, n2, Q).
    Returns: (...), real, at least float32.
    Raises: ValueError for shapes; TypeError for dtypes, and for complex tensors under half a spectrum.
    Gradient: 0 at A = 0.
    """
    faces = Faces("tnorm", transform, A=A)
    y = faces.of(A)
    return torch.linalg.vector_norm(y * faces.shares(y).sqrt()[:, None, None], dim=(-3, -2, -1))


# ---- checks --------------------------------------------------------------------------------------------------------
def _check_product(op: str, A: Tensor, B: Tensor) -> None:
    inner, q = A.shape[-2:]
    if B.dim() < 3 or B.shape[-3] != inner or B.shape[-1] != q:
        raise checks.wrong_shape(op, "B", B, f"(..., n', n2, Q) with n' = {inner} and Q = {q} as in A")
    try:
        torch.broadcast_shapes(A.shape[:-3], B.shape[:-3])
    except RuntimeError as error:
        batch = tuple(A.shape[:-3])
        must = f"(..., n', n2, Q) with leading dimensions that broadcast with {batch} of A"
        raise checks.wrong_shape(op, "B", B, must) from error


def _rank(op: str, A: Tensor, rank: int | None) -> int:
    most = min(A.shape[-3:-1])
    if rank is None:
        return most
    if not isinstance(rank, int) or isinstance(rank, bool):
        raise TypeError(f"{op}: rank must be an int, got {rank!r}")
    if not 1 <= rank <= most:
        raise ValueError(f"{op}: rank must be in [1, {most}], min(n1, n2) of A, got {rank}")
    return rank


def _svd(
    op: str, A: Tensor, transform: Transform, rank: int | None
) -> tuple[Faces, int, tuple[Tensor, Tensor, Tensor]]:
    """The domain, how many tubes to keep, and the whole U, S, V of each slice."""
    faces = Faces(op, transform, A=A)
    r = _rank(op, A, rank)
    return faces, r, faces.svd(faces.of(A))
