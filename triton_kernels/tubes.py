"""The kernel of every transform by a matrix along one dimension: y[r, p] = sum_q x[r, q] m[p, q] for all tubes r.

A tensor (outer, Q, inner) has outer * inner tubes. Tubes that lie along the last dimension (inner = 1) are rows; others
have their values `inner` apart, and neighbouring tubes are neighbours in memory. x and y may differ in that:
to_branches reads rows and writes columns.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from spectral_ops.ops import trigonometric

from . import tiles
from .launch import Launch, blocks, planar, precision
from .vocabulary import dot, load, product, store


@triton.jit
def transformed(
    x_ptr, x_start, x_step, valid, matrix_ptr, p, P,
    Q: tl.constexpr, X_COMPLEX: tl.constexpr, COMPLEX: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_R: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_Q: tl.constexpr,
):  # fmt: skip
    """Values p (those < P) of a block of tubes, which start at x_start with their values x_step apart."""
    re = tl.zeros((BLOCK_R, BLOCK_P), tl.float32)
    im = tl.zeros((BLOCK_R, BLOCK_P), tl.float32)
    for start in range(0, Q, BLOCK_Q):
        q = start + tl.arange(0, BLOCK_Q)
        there = (p[None, :] < P) & (q[:, None] < Q)
        m_re, m_im = load(matrix_ptr, p[None, :] * Q + q[:, None], there, COMPLEX)
        there = valid[:, None] & (q[None, :] < Q)
        x_re, x_im = load(x_ptr, x_start[:, None] + q[None, :] * x_step, there, X_COMPLEX)
        x_re, x_im = x_re.to(m_re.dtype), x_im.to(m_re.dtype)
        if COMPLEX and not X_COMPLEX:
            re = dot(x_re, m_re, re, PRECISION)
            im = dot(x_re, m_im, im, PRECISION)
        else:
            re, im = product(x_re, x_im, m_re, m_im, re, im, PRECISION, COMPLEX)
    return re, im


@triton.jit
def tile_to_branches(
    x_ptr, matrix_ptr, y_ptr, tile, first, end, n,
    I: tl.constexpr, Q: tl.constexpr, X_COMPLEX: tl.constexpr, COMPLEX: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_Q: tl.constexpr,
):  # fmt: skip
    """A tile of BLOCK_N samples of x (n, I, Q) into y (P, n, I), for the at most BLOCK_P branches first <= p < end."""
    p = first + tl.arange(0, BLOCK_P)
    for start in range(0, BLOCK_N * I, BLOCK_R):
        inside = start + tl.arange(0, BLOCK_R)
        tubes = tile * (BLOCK_N * I) + inside
        there = (inside < BLOCK_N * I) & (tubes < n * I)
        re, im = transformed(
            x_ptr, tubes * Q, 1, there, matrix_ptr, p, end,
            Q, X_COMPLEX, COMPLEX, PRECISION, BLOCK_R, BLOCK_P, BLOCK_Q,
        )  # fmt: skip
        mask = there[:, None] & (p < end)[None, :]
        store(y_ptr, p[None, :] * (n * I) + tubes[:, None], re, im, mask, COMPLEX)


@triton.jit
def tubes_kernel(
    x_ptr, matrix_ptr, y_ptr, tubes, inner,
    P: tl.constexpr, Q: tl.constexpr, X_ROWS: tl.constexpr, Y_ROWS: tl.constexpr, SPLIT: tl.constexpr,
    X_COMPLEX: tl.constexpr, COMPLEX: tl.constexpr, Y_COMPLEX: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_R: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_Q: tl.constexpr,
):  # fmt: skip
    """tubes: how many. inner: the distance of a column's values. SPLIT: columns short of a block, outer * inner as one.

    X_COMPLEX, Y_COMPLEX: of what is in memory. COMPLEX: of the matrix, and so of the products.
    """
    p_blocks: tl.constexpr = (P + BLOCK_P - 1) // BLOCK_P
    inner = tl.cast(inner, tl.int64)
    pid = tl.program_id(0).to(tl.int64)
    p = (pid % p_blocks) * BLOCK_P + tl.arange(0, BLOCK_P)
    block = pid // p_blocks
    # a block of tubes r of one outer index, or of all where a row is a tube
    if X_ROWS and Y_ROWS:
        r = block * BLOCK_R + tl.arange(0, BLOCK_R)
        valid = r < tubes
        x_start, y_start = r * Q, r * P
    elif SPLIT:
        r = block * BLOCK_R + tl.arange(0, BLOCK_R)
        valid = r < tubes
        x_start = r * Q if X_ROWS else (r // inner) * (inner * Q) + r % inner
        y_start = r * P if Y_ROWS else (r // inner) * (inner * P) + r % inner
    else:
        inner_blocks = tl.cdiv(inner, BLOCK_R)
        outer = block // inner_blocks
        r = (block % inner_blocks) * BLOCK_R + tl.arange(0, BLOCK_R)
        valid = r < inner
        x_start = (outer * inner + r) * Q if X_ROWS else outer * (inner * Q) + r
        y_start = (outer * inner + r) * P if Y_ROWS else outer * (inner * P) + r
    x_step = 1 if X_ROWS else inner
    y_step = 1 if Y_ROWS else inner
    re, im = transformed(
        x_ptr, x_start, x_step, valid, matrix_ptr, p, P, Q, X_COMPLEX, COMPLEX, PRECISION, BLOCK_R, BLOCK_P, BLOCK_Q
    )
    there = valid[:, None] & (p[None, :] < P)
    store(y_ptr, y_start[:, None] + p[None, :] * y_step, re, im, there, Y_COMPLEX)


def plan(
    x: Tensor, matrix: Tensor, out: Tensor, outer: int, inner: int, rows: Sequence[bool], arch: int
) -> list[Launch]:
    """x (outer, Q, inner), matrix (P, Q), out (outer, P, inner). rows: whether tubes are rows in x, and in out."""
    (p, q), (x_rows, y_rows) = matrix.shape, rows
    tile = tiles.pick("tubes", x.dtype if not matrix.is_complex() else matrix.dtype, max(p, q), arch)
    block = tile.blocks["R"]
    both_rows = x_rows and y_rows
    split = not both_rows and outer > 1 and inner < block
    count = blocks(outer * inner, block) if both_rows or split else outer * blocks(inner, block)
    constants: dict[str, Any] = {
        **tile.constants(),
        "P": p,
        "Q": q,
        "X_ROWS": x_rows,
        "Y_ROWS": y_rows,
        "SPLIT": split,
        "PRECISION": precision(),
    }
    constants |= {"X_COMPLEX": x.is_complex(), "COMPLEX": matrix.is_complex(), "Y_COMPLEX": out.is_complex()}
    arguments = {
        "x_ptr": planar(x), "matrix_ptr": planar(matrix), "y_ptr": planar(out), "tubes": outer * inner, "inner": inner
    }  # fmt: skip
    return [Launch(tubes_kernel, count * blocks(p, tile.blocks["P"]), arguments, constants, tile)]


LONGEST = 256  # beyond, a matrix does n / log(n) times the operations of a fast transform


def too_long(x: Tensor, dim: int) -> str | None:
    """The reason against a matrix for the tubes of x along dim."""
    n = x.shape[dim]
    return None if n <= LONGEST else f"n = {n} is past {LONGEST}, where a product with the matrix is the slower form"


def along(x: Tensor, matrix: Tensor, dim: int, out: Tensor, arch: int) -> list[Launch]:
    """The matrix along one dimension of x."""
    at = dim % x.dim()
    outer, inner = math.prod(x.shape[:at]), math.prod(x.shape[at + 1 :])
    return plan(x, matrix, out, outer, inner, (inner == 1, inner == 1), arch)


def trigonometric_plan(args: Sequence[Any], out: Tensor, arch: int, adjoint: bool, sine: bool) -> list[Launch]:
    """dct, dst and their adjoints: the table in float32 also for half, or its rounding would be the largest error."""
    x, type, dim, norm, inverse, orthogonalize = args
    n = x.shape[dim]
    f = trigonometric.factors(n, type, norm, inverse, orthogonalize, adjoint, sine)
    return along(x, trigonometric.matrix(n, f, x.dtype, x.device), dim, out, arch)
