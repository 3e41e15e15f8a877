"""branch_linear on the GPU: a product for each branch, bias and activation on its accumulators."""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from . import tiles
from .launch import Launch, blocks, named, planar, precision
from .vocabulary import activate, load, product, store


@triton.jit
def branch_block(
    x_ptr, weight_ptr, bias_ptr, q, rows, o, n,
    I: tl.constexpr, O: tl.constexpr, COMPLEX: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_O: tl.constexpr, BLOCK_I: tl.constexpr,
):  # fmt: skip
    """x w^T + b for a block of rows and outputs o of branch q."""
    re = tl.zeros((BLOCK_N, BLOCK_O), tl.float32)
    im = tl.zeros((BLOCK_N, BLOCK_O), tl.float32)
    for start in range(0, I, BLOCK_I):
        i = start + tl.arange(0, BLOCK_I)
        there = (rows[:, None] < n) & (i[None, :] < I)
        x_re, x_im = load(x_ptr, (q * n + rows)[:, None] * I + i[None, :], there, COMPLEX)
        there = (o[None, :] < O) & (i[:, None] < I)
        w_re, w_im = load(weight_ptr, (q * O + o)[None, :] * I + i[:, None], there, COMPLEX)
        re, im = product(x_re, x_im, w_re, w_im, re, im, PRECISION, COMPLEX)
    if bias_ptr is not None:
        b_re, b_im = load(bias_ptr, q * O + o, o < O, COMPLEX)
        re, im = re + b_re[None, :], im + b_im[None, :]
    return re, im


@triton.jit
def branch_linear_kernel(
    x_ptr, weight_ptr, bias_ptr, y_ptr, n,
    I: tl.constexpr, O: tl.constexpr, NAME: tl.constexpr, OFFSET: tl.constexpr,
    COMPLEX: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_O: tl.constexpr, BLOCK_I: tl.constexpr,
):  # fmt: skip
    o_blocks: tl.constexpr = (O + BLOCK_O - 1) // BLOCK_O
    pid = tl.program_id(0).to(tl.int64)
    n_blocks = tl.cdiv(n, BLOCK_N)
    o = (pid % o_blocks) * BLOCK_O + tl.arange(0, BLOCK_O)
    rows = (pid // o_blocks % n_blocks) * BLOCK_N + tl.arange(0, BLOCK_N)
    q = pid // o_blocks // n_blocks
    re, im = branch_block(
        x_ptr, weight_ptr, bias_ptr, q, rows, o, n, I, O, COMPLEX, PRECISION, BLOCK_N, BLOCK_O, BLOCK_I
    )
    re, im = activate(re, im, NAME, OFFSET, COMPLEX)
    store(y_ptr, (q * n + rows)[:, None] * O + o[None, :], re, im, (rows[:, None] < n) & (o[None, :] < O), COMPLEX)


def why_not(x: Tensor, weight: Tensor, *_: Any) -> str | None:
    return tiles.too_wide("branch_linear", x.dtype, x.shape[2], weight.shape[1])


def plan(args: list[Any], out: Tensor, arch: int) -> list[Launch]:
    x, weight, bias, activation = args
    (q, n, i), o = x.shape, weight.shape[1]
    tile = tiles.pick("branch_linear", x.dtype, max(i, o), arch)
    name, offset = named(activation)
    arguments = {
        "x_ptr": planar(x), "weight_ptr": planar(weight), "bias_ptr": planar(bias), "y_ptr": planar(out), "n": n
    }  # fmt: skip
    constants = {"I": i, "O": o, "NAME": name, "OFFSET": offset, "COMPLEX": x.is_complex(), "PRECISION": precision()}
    constants |= tile.constants()
    programs = q * blocks(n, tile.blocks["N"]) * blocks(o, tile.blocks["O"])
    return [Launch(branch_linear_kernel, programs, arguments, constants, tile)]
