"""mode_product: a matrix applied along one dimension, without moving that dimension."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from . import checks
from .activations import wide
from .to_branches import transform_gradient

LONGEST_COLUMN = 64  # the C++ kernel keeps a whole column of the matrix's input and output in L1 up to here


def check(x: Tensor, matrix: Tensor, dim: int) -> None:
    op = "mode_product"
    if x.dim() == 0 or not -x.dim() <= dim < x.dim():
        raise ValueError(f"{op}: dim must be in [{-x.dim()}, {x.dim() - 1}] for x with {x.dim()} dimensions, got {dim}")
    if matrix.dim() != 2 or matrix.shape[1] != x.shape[dim]:
        raise checks.wrong_shape(op, "matrix", matrix, f"(Q', Q) with Q = {x.shape[dim]} as x along dim {dim}")
    checks.real(op, x=x, matrix=matrix)


def empty(x: Tensor, matrix: Tensor, dim: int) -> Tensor:
    check(x, matrix, dim)
    axis = dim % x.dim()
    return x.new_empty(*x.shape[:axis], matrix.shape[0], *x.shape[axis + 1 :])


def reference(x: Tensor, matrix: Tensor, dim: int) -> Tensor:
    """y[..., p, ...] = sum_q matrix[p, q] x[..., q, ...]: the product x ×_dim matrix of tensor algebra.

    Args:
        x: any shape with Q values along dim, real floating point.
        matrix: (Q', Q); p counts what the matrix makes of the Q values.
        dim: the dimension of x that is multiplied.

    Returns: contiguous, shape of x with Q' along dim, dtype of x (half accumulates in float32).
    Raises: ValueError for shapes and dim, TypeError for dtypes and devices.
    Accuracy: |error| <= 4 eps sqrt(Q) (|matrix| @ |x|), `tests/test_backends.py`.
    Gradient: to both arguments, any order. Deterministic: bitwise, for any number of threads, in C++.
    Source: Kolda and Bader, SIAM Review 51 (2009) 455, section 2.5; the transform of eq. (23) along the channels.
    """
    axis, m = dim % x.dim(), wide(matrix)
    if axis == x.dim() - 1:
        return (wide(x) @ m.mT).to(x.dtype).contiguous()
    before, after = x.shape[:axis], x.shape[axis + 1 :]
    tubes = wide(x).reshape(math.prod(before), x.shape[axis], math.prod(after))
    return (m @ tubes).to(x.dtype).reshape(*before, matrix.shape[0], *after).contiguous()


def cpp_why_not(x: Tensor, matrix: Tensor, dim: int) -> str | None:
    p, q = matrix.shape
    if p != q:
        return f"a matrix of {p} x {q} is not square, and the library's GEMM takes it"
    if q > LONGEST_COLUMN:
        return f"Q = {q} is past {LONGEST_COLUMN}, where the library's GEMM is faster"
    return None


def cuda_why_not(x: Tensor, matrix: Tensor, dim: int) -> str | None:
    return checks.too_wide_for_gpu(matrix.shape, x, matrix)


def cpp(args: list[Any], out: Tensor) -> None:
    x, matrix, dim = args
    one = (1.0,) * 5
    torch.ops.spectral_native.dct(x, matrix, 0, False, 0, *one, dim % x.dim(), out)


def backward(args: list[Any], grads: Any, needs: list[Any]) -> list[Any]:
    (x, matrix, dim), (grad,) = args, grads
    p, q = matrix.shape
    grad_x = torch.ops.spectral.mode_product(grad, matrix.mT, dim) if needs[0] else None
    if not needs[1]:
        return [grad_x, None, None]
    tubes, grads_of_tubes = x.movedim(dim, -1).reshape(-1, 1, q), grad.movedim(dim, 0).reshape(p, -1, 1)
    return [grad_x, transform_gradient(grads_of_tubes, tubes, matrix), None]
