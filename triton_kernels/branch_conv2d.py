"""branch_conv2d on the GPU: an implicit GEMM for each branch, bias and activation on its accumulators.

Rows are the pixels of the result, columns its channels, and what is summed over are the pairs k = (tap, channel) of the
window: a block of rows x k is gathered from the image as it lies in memory, in either format, and never written out.
The input gradient is the same product with the window turned round (`BACK`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from . import tiles
from .launch import Launch, blocks, named, planar, precision
from .vocabulary import activate, load, product, store

READS_STRIDES = True


@triton.jit
def gathered(
    x_ptr, q, image, y, x, valid, k, stride_n, stride_q, stride_c, stride_y, stride_x, height, width,
    C: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr, GEOMETRY: tl.constexpr, BACK: tl.constexpr,
    COMPLEX: tl.constexpr,
):  # fmt: skip
    """What the windows at pixels (y, x) see: of tap k // C channel k % C. BACK: the results whose window sees them."""
    tap, c = k // C, k % C
    dy, dx = (tap // KW) * GEOMETRY[4], (tap % KW) * GEOMETRY[5]
    there = valid[:, None] & (k < C * KH * KW)[None, :]
    if BACK:
        up, left = y[:, None] + GEOMETRY[2] - dy[None, :], x[:, None] + GEOMETRY[3] - dx[None, :]
        there = there & (up >= 0) & (left >= 0) & (up % GEOMETRY[0] == 0) & (left % GEOMETRY[1] == 0)
        row, column = up // GEOMETRY[0], left // GEOMETRY[1]
    else:
        row = y[:, None] * GEOMETRY[0] + (dy - GEOMETRY[2])[None, :]
        column = x[:, None] * GEOMETRY[1] + (dx - GEOMETRY[3])[None, :]
        there = there & (row >= 0) & (column >= 0)
    there = there & (row < height) & (column < width)
    at = q * stride_q + image[:, None] * stride_n + c[None, :] * stride_c + row * stride_y + column * stride_x
    return load(x_ptr, at, there, COMPLEX)


@triton.jit
def branch_conv2d_kernel(
    x_ptr, weight_ptr, bias_ptr, y_ptr, n, branches, height, width, y_height, y_width,
    x_n, x_q, x_c, x_y, x_x, y_n, y_q, y_c, y_y, y_x,
    C: tl.constexpr, O: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr, GEOMETRY: tl.constexpr,
    BACK: tl.constexpr, NAME: tl.constexpr, OFFSET: tl.constexpr, COMPLEX: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_O: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """x_n .. y_x: strides of sample, branch, channel, row, column. GEOMETRY: stride, padding, dilation, pairs each.

    weight (branches, O, C, KH, KW); BACK, (branches, C, O, KH, KW), conjugated.
    """
    o_blocks: tl.constexpr = (O + BLOCK_O - 1) // BLOCK_O
    TAPS: tl.constexpr = KH * KW
    pid = tl.program_id(0).to(tl.int64)
    pixels = tl.cast(y_height, tl.int64) * y_width
    o = (pid % o_blocks) * BLOCK_O + tl.arange(0, BLOCK_O)
    q = pid // o_blocks % branches  # of neighbours in time, whose channels are neighbours in channels_last
    m = pid // o_blocks // branches * BLOCK_M + tl.arange(0, BLOCK_M)
    valid = m < n * pixels
    image, y, x = m // pixels, m % pixels // y_width, m % y_width
    re = tl.zeros((BLOCK_M, BLOCK_O), tl.float32)
    im = tl.zeros((BLOCK_M, BLOCK_O), tl.float32)
    for start in range(0, C * TAPS, BLOCK_K):
        k = start + tl.arange(0, BLOCK_K)
        x_re, x_im = gathered(
            x_ptr, q, image, y, x, valid, k, x_n, x_q, x_c, x_y, x_x, height, width,
            C, KH, KW, GEOMETRY, BACK, COMPLEX,
        )  # fmt: skip
        tap, c = (k // C)[:, None], (k % C)[:, None]
        if BACK:
            at = ((q * C + c) * O + o[None, :]) * TAPS + tap
        else:
            at = ((q * O + o[None, :]) * C + c) * TAPS + tap
        w_re, w_im = load(weight_ptr, at, (k < C * TAPS)[:, None] & (o < O)[None, :], COMPLEX)
        if BACK:
            w_im = -w_im
        re, im = product(x_re, x_im, w_re, w_im, re, im, PRECISION, COMPLEX)
    if bias_ptr is not None:
        b_re, b_im = load(bias_ptr, q * O + o, o < O, COMPLEX)
        re, im = re + b_re[None, :], im + b_im[None, :]
    re, im = activate(re, im, NAME, OFFSET, COMPLEX)
    at = q * y_q + (image * y_n + y * y_y + x * y_x)[:, None] + o[None, :] * y_c
    store(y_ptr, at, re, im, valid[:, None] & (o < O)[None, :], COMPLEX)


def why_not(x: Tensor, *_: Any) -> str | None:
    return None if x.numel() else "no samples are left to the reference"


def plan(args: list[Any], out: Tensor, arch: int) -> list[Launch]:
    x, weight, bias, activation, *geometry = args
    return [convolution(x, weight.contiguous(), bias, activation, out, geometry, False, arch)]


def strides(x: Tensor, letter: str) -> dict[str, int]:
    """Those of (N, Q, C, H, W), as the kernels take them."""
    return dict(zip((f"{letter}_{dim}" for dim in "nqcyx"), x.stride(), strict=True))


def convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, activation: str, y: Tensor, geometry: Sequence[Sequence[int]],
    backward: bool, arch: int,
) -> Launch:  # fmt: skip
    """y = activation(x * weight + bias); backward: the gradient y of an image, from that of its result, x."""
    (n, q, o, *sizes), c = y.shape, x.shape[2]
    tile, (name, offset) = tiles.pick("branch_conv2d", x.dtype, o, arch), named(activation)
    arguments = {
        "x_ptr": planar(x), "weight_ptr": planar(weight), "bias_ptr": planar(bias), "y_ptr": planar(y), "n": n,
        "branches": q, "height": x.shape[3], "width": x.shape[4], "y_height": sizes[0], "y_width": sizes[1],
        **strides(x, "x"), **strides(y, "y"),
    }  # fmt: skip
    constants = {
        "C": c, "O": o, "KH": weight.shape[3], "KW": weight.shape[4], "GEOMETRY": tuple(i for p in geometry for i in p),
        "BACK": backward, "NAME": name, "OFFSET": offset, "COMPLEX": x.is_complex(), "PRECISION": precision(),
        **tile.constants(),
    }  # fmt: skip
    programs = q * blocks(n * sizes[0] * sizes[1], tile.blocks["M"]) * blocks(o, tile.blocks["O"])
    return Launch(branch_conv2d_kernel, programs, arguments, constants, tile)
