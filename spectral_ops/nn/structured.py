"""The matrix that a spectral layer without activation stands for, and the layer nearest to a given matrix.

Features are those of x (N, I, Q) flattened: feature i Q + q is x[:, i, q]. The matrix of a layer is then
D[(o, p), (i, q)] = sum_k inverse[p, k] W_k[o, i] matrix[k, q]: O x I blocks of Q x Q, diagonalised by the transform.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..transforms import Transform


def matrix_of(blocks: Tensor, matrix: Tensor, inverse: Tensor) -> Tensor:
    """D (O Q, I Q) of blocks W (Q', O, I), matrix (Q', Q) and inverse (Q, Q')."""
    return torch.einsum("pk,koi,kq->opiq", inverse, blocks, matrix).flatten(2).flatten(0, 1)


def blocks_of(dense: Tensor, matrix: Tensor, inverse: Tensor) -> Tensor:
    """W (Q, O, I) of the matrix nearest to dense (O Q, I Q) in the Frobenius norm.

    The layer's matrices are spanned, for each (o, i), by E_k = inverse[:, k] matrix[k, :]. With the Gram matrix
    G_kl = <E_k, E_l> and b_k = <E_k, D_oi>, least squares are W = G^-1 b. G is a Hadamard product of two positive
    definite matrices, so positive definite itself (Schur), and the identity where the rows of the transform are
    orthogonal, whatever their lengths.
    """
    q = matrix.shape[1]
    tubes = dense.unflatten(0, (-1, q)).unflatten(2, (-1, q))
    b = torch.einsum("pk,opiq,kq->koi", inverse, tubes, matrix)
    gram = (inverse.mT @ inverse) * (matrix @ matrix.mT)
    return torch.linalg.solve(gram, b.flatten(1)).view_as(b)


def window_blocks_of(dense: Tensor, matrix: Tensor, inverse: Tensor) -> Tensor:
    """w (Q, O/Q, C/Q, kh, kw) of the layer nearest to a convolution's dense (O, C, kh, kw), where slices stand slowest.

    At each place of the window the same least squares as in `blocks_of`, with features q I + i.
    """
    q = matrix.shape[1]
    groups = dense.unflatten(0, (q, -1)).unflatten(2, (q, -1))  # (Q, O/Q, Q, C/Q, kh, kw)
    b = torch.einsum("pk,poqiyx,kq->koiyx", inverse, groups, matrix)
    gram = (inverse.mT @ inverse) * (matrix @ matrix.mT)
    return torch.linalg.solve(gram, b.flatten(1)).view_as(b)


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


def check_real(op: str, transform: Transform) -> None:
    """TypeError under a complex transform: the nearest layer would need complex weights."""
    if not transform.is_real:
        raise TypeError(f"{op}: transform must be real, got {transform}")


def check_rank(op: str, rank: int, most: int) -> None:
    """ValueError for a rank that no block has."""
    if rank > most:
        raise ValueError(f"{op}: rank must be at most min(I, O) = {most}, got {rank}")


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
