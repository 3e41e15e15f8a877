"""The matrix that a spectral layer without activation stands for, and the layer nearest to a given matrix.

Features are those of x (N, I, Q) flattened: feature i Q + q is x[:, i, q]. The matrix of a layer is then
D[(o, p), (i, q)] = sum_k inverse[p, k] W_k[o, i] matrix[k, q]: O x I blocks of Q x Q, diagonalised by the transform.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..ops.activations import together
from ..transforms import Transform


def matrix_of(blocks: Tensor, transform: Transform) -> Tensor:
    """D (O Q, I Q) of blocks W (Q', O, I); of half a spectrum the real part of it."""
    w, matrix, inverse = together(blocks, transform.matrix_as(blocks), transform.inverse_as(blocks))
    dense = torch.einsum("pk,koi,kq->opiq", inverse, w, matrix).flatten(2).flatten(0, 1)
    return dense.real if transform.is_half else dense


def blocks_of(dense: Tensor, transform: Transform) -> Tensor:
    """W (Q', O, I) of the matrix nearest to a real dense (O Q, I Q) in the Frobenius norm."""
    q = transform.length
    return _nearest(dense.view(-1, q, dense.shape[1] // q, q).permute(1, 3, 0, 2), transform)


def window_blocks_of(dense: Tensor, transform: Transform) -> Tensor:
    """w (Q', O/Q, C/Q, kh, kw) of the layer nearest to a convolution's dense (O, C, kh, kw).

    Slices stand slowest there: features q I + i. At each place of the window the least squares of `blocks_of`.
    """
    q = transform.length
    groups = dense.unflatten(0, (q, -1)).unflatten(2, (q, -1))  # (Q, O/Q, Q, C/Q, kh, kw)
    return _nearest(groups.permute(0, 2, 1, 3, 4, 5), transform)


def _nearest(dense: Tensor, transform: Transform) -> Tensor:
    """W (Q', ...) with sum_k E_k W_k nearest to each Q x Q matrix of a real dense (Q, Q, ...), E_k = column times row.

    With E_k = inverse[:, k] matrix[k, :], their Gram matrix G and b_k = <E_k, dense>, W = G^-1 b; G is the identity
    where the rows of the transform are orthogonal. Of half a spectrum the real part counts: real and imaginary parts of
    W are unknowns of their own, and those without any effect become 0.
    """
    matrix, inverse = transform.matrix_as(dense), transform.inverse_as(dense)
    rest = dense.shape[2:]
    flat = dense.reshape(*dense.shape[:2], -1).to(matrix.dtype)
    plain = torch.einsum("pk,pqr,kq->kr", inverse, flat, matrix)  # sum of E_k * dense, not conjugated
    gram = (inverse.mH @ inverse) * (matrix @ matrix.mH).conj()
    if not transform.is_half:
        return torch.linalg.solve(gram, plain.conj()).view(-1, *rest)
    same = (inverse.mT @ inverse) * (matrix @ matrix.mT)  # sum of E_j * E_k
    real, mixed, imaginary = (same + gram).real / 2, (same + gram).imag / 2, (gram - same).real / 2
    normal = torch.cat([torch.cat([real, -mixed], 1), torch.cat([-mixed.mT, imaginary], 1)])
    found = torch.linalg.pinv(normal, hermitian=True) @ torch.cat([plain.real, -plain.imag])
    return torch.complex(*found.chunk(2)).view(-1, *rest)


def block_diagonal(blocks: Tensor, transform: Tensor | None = None) -> Tensor:
    """The matrix (O Q', I Q') of branches W (Q', O, I) side by side, feature o Q' + k being o of branch k.

    transform: (Q', Q), of what comes in: then (O Q', I Q).
    """
    matrix = torch.eye(len(blocks), dtype=blocks.dtype, device=blocks.device) if transform is None else transform
    blocks, matrix = together(blocks, matrix)
    return torch.einsum("koi,kq->okiq", blocks, matrix).flatten(2).flatten(0, 1)


def dense_linear(weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> nn.Linear:
    """A torch.nn.Linear with these values."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device="meta")
    layer.weight = rounded(weight, dtype)
    if bias is not None:
        layer.bias = rounded(bias, dtype)
    return layer


def precise(t: Tensor) -> Tensor:
    """t in float64 or complex128."""
    return t.to(torch.complex128) if t.is_complex() else t.double()


def tubes_of(bias: Tensor, transform: Transform) -> Tensor:
    """The bias (Q, O) in the original domain of one in branches (Q', O)."""
    inverse, branches = together(transform.inverse_as(bias), bias)
    tubes = inverse @ branches
    return tubes.real if transform.is_half else tubes


def exact(pairs: Tensor, is_complex: bool) -> Tensor:
    """A parameter in float64, or in complex128 if it holds pairs."""
    return torch.view_as_complex(pairs.double()) if is_complex else pairs.double()


def parameter(value: Tensor, dtype: torch.dtype) -> nn.Parameter:
    """A parameter of real dtype: complex values as pairs."""
    pairs = torch.view_as_real(value.resolve_conj()) if value.is_complex() else value
    return nn.Parameter(pairs.to(dtype).contiguous())


def rounded(value: Tensor, dtype: torch.dtype) -> nn.Parameter:
    """A parameter of a dense layer: of real dtype, or of its complex partner where the value is complex."""
    return nn.Parameter(value.to(dtype.to_complex() if value.is_complex() else dtype))


def distance(found: Tensor, wanted: Tensor) -> float:
    """||found - wanted||_F / ||wanted||_F; of wanted = 0, ||found||_F."""
    with torch.no_grad():
        precise = torch.complex128 if found.is_complex() else torch.float64
        return float((found.to(precise) - wanted.to(precise)).norm() / (wanted.double().norm() or 1))


def low_rank(blocks: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """(Q', R, I) and (Q', O, R), whose product is the best approximation of rank R of each block; equal in size."""
    u, s, vh = torch.linalg.svd(blocks, full_matrices=False)
    root = s[:, :rank].sqrt()
    return root[:, :, None] * vh[:, :rank], u[:, :, :rank] * root[:, None]


def check_linear(op: str, linear: nn.Linear) -> None:
    """TypeError for anything but a torch.nn.Linear."""
    if not isinstance(linear, nn.Linear):
        raise TypeError(f"{op}: linear must be a torch.nn.Linear, got {type(linear).__name__}")


def block_sizes(op: str, linear: nn.Linear, branches: int) -> tuple[int, int]:
    """I and O of the layer with `branches` that a dense layer becomes, or why there is none."""
    check_linear(op, linear)
    for name, features in (("in_features", linear.in_features), ("out_features", linear.out_features)):
        if features % branches or not features:
            raise ValueError(f"{op}: branches must divide the {name} of linear, {features}, got {branches}")
    return linear.in_features // branches, linear.out_features // branches


def check_conv(op: str, conv: nn.Conv2d) -> None:
    """TypeError for anything but a torch.nn.Conv2d, ValueError for one that no layer of branches can be."""
    if not isinstance(conv, nn.Conv2d):
        raise TypeError(f"{op}: conv must be a torch.nn.Conv2d, got {type(conv).__name__}")
    if conv.groups != 1:
        raise ValueError(f"{op}: conv must have groups 1, got {conv.groups}")
    if conv.padding_mode != "zeros":
        raise ValueError(f"{op}: conv must have padding_mode 'zeros', got {conv.padding_mode!r}")


def check_rank(op: str, rank: int, most: int, letters: str = "min(I, O)") -> None:
    """ValueError for a rank that no block has."""
    if rank > most:
        raise ValueError(f"{op}: rank must be at most {letters} = {most}, got {rank}")


def check_none(op: str, activation: str) -> None:
    """ValueError with an activation: the layer is no matrix."""
    if activation != "none":
        raise ValueError(f"{op}: activation must be none, for the layer to be a matrix, got {activation!r}")


def check_sizes(op: str, linear: nn.Linear, in_features: int, out_features: int) -> None:
    """ValueError for a dense layer of other sizes."""
    check_linear(op, linear)
    if (linear.in_features, linear.out_features) != (in_features, out_features):
        got = f"({linear.in_features}, {linear.out_features})"
        raise ValueError(f"{op}: linear must have features ({in_features}, {out_features}) as this layer, got {got}")
