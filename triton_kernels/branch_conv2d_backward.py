"""branch_conv2d_backward on the GPU: the input gradient by the convolution's kernel, the weight's as sums of pixels.

The weight gradient is d^T times the gathered image, a block of (tap, channel) pairs a program; a program adds up every
S-th block of pixels, and the parts are added in order: the same bits every time.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import branch_conv2d, sums, tiles
from .branch_conv2d import READS_STRIDES, gathered, strides
from .launch import Launch, blocks, planar, precision
from .layers import PROGRAMS
from .vocabulary import load, product_conj, store

__all__ = ["READS_STRIDES", "plan", "why_not"]


@triton.jit
def conv2d_weights_kernel(
    g_ptr, x_ptr, parts_ptr, n, branches, height, width, y_height, y_width, splits,
    g_n, g_q, g_c, g_y, g_x, x_n, x_q, x_c, x_y, x_x,
    C: tl.constexpr, O: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr, GEOMETRY: tl.constexpr,
    COMPLEX: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_O: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """parts: (splits, branches, O, C, KH, KW). g: the gradient of the result, x: the image."""
    o_blocks: tl.constexpr = (O + BLOCK_O - 1) // BLOCK_O
    TAPS: tl.constexpr = KH * KW
    k_blocks: tl.constexpr = (C * TAPS + BLOCK_K - 1) // BLOCK_K
    PARTS: tl.constexpr = 2 if COMPLEX else 1
    pid = tl.program_id(0).to(tl.int64)
    pixels = tl.cast(y_height, tl.int64) * y_width
    o = (pid % o_blocks) * BLOCK_O + tl.arange(0, BLOCK_O)
    k = (pid // o_blocks % k_blocks) * BLOCK_K + tl.arange(0, BLOCK_K)
    q, split = pid // (o_blocks * k_blocks) % branches, pid // (o_blocks * k_blocks) // branches
    re = tl.zeros((BLOCK_O, BLOCK_K), tl.float32)
    im = tl.zeros((BLOCK_O, BLOCK_K), tl.float32)
    for block in range(split, tl.cdiv(n * pixels, BLOCK_M), splits):
        m = block * BLOCK_M + tl.arange(0, BLOCK_M)
        valid = m < n * pixels
        image, y, x = m // pixels, m % pixels // y_width, m % y_width
        at = (q * g_q + image * g_n + y * g_y + x * g_x)[:, None] + o[None, :] * g_c
        g_re, g_im = load(g_ptr, at, valid[:, None] & (o < O)[None, :], COMPLEX)
        x_re, x_im = gathered(
            x_ptr, q, image, y, x, valid, k, x_n, x_q, x_c, x_y, x_x, height, width,
            C, KH, KW, GEOMETRY, False, COMPLEX,
        )  # fmt: skip
        re, im = product_conj(tl.trans(g_re), tl.trans(g_im), x_re, x_im, re, im, PRECISION, COMPLEX)
    at = (o[:, None] * C + (k % C)[None, :]) * TAPS + (k // C)[None, :]
    part_ptr = parts_ptr + (split * branches + q) * (O * C * TAPS * PARTS)
    store(part_ptr, at, re, im, (o < O)[:, None] & (k < C * TAPS)[None, :], COMPLEX)


def why_not(grad_y: Tensor, x: Tensor, *_: Any) -> str | None:
    return branch_conv2d.why_not(x)


def plan(args: list[Any], out: tuple[Tensor, Tensor], arch: int) -> list[Launch]:
    (grad_y, x, weight, *geometry, want_x, want_weight), (grad_x, grad_weight) = args, out
    launches = []
    if want_x:
        launches.append(
            branch_conv2d.convolution(grad_y, weight.contiguous(), None, "none", grad_x, geometry, True, arch)
        )
    if not want_weight:
        return launches
    (n, q, c, height, width), (_, o, _, kh, kw), sizes = x.shape, weight.shape, grad_y.shape[3:]
    tile = tiles.pick("conv2d_weights", x.dtype, o, arch)
    count = blocks(o, tile.blocks["O"]) * blocks(c * kh * kw, tile.blocks["K"])
    splits = min(blocks(n * sizes[0] * sizes[1], tile.blocks["M"]), blocks(PROGRAMS, q * count))
    parts = x.new_empty(splits, q, planar(grad_weight).numel() // q, dtype=torch.float32)
    arguments = {
        "g_ptr": planar(grad_y), "x_ptr": planar(x), "parts_ptr": parts, "n": n, "branches": q, "height": height,
        "width": width, "y_height": sizes[0], "y_width": sizes[1], "splits": splits,
        **strides(grad_y, "g"), **strides(x, "x"),
    }  # fmt: skip
    constants = {
        "C": c, "O": o, "KH": kh, "KW": kw, "GEOMETRY": tuple(i for pair in geometry for i in pair),
        "COMPLEX": x.is_complex(), "PRECISION": precision(), **tile.constants(),
    }  # fmt: skip
    launches.append(Launch(conv2d_weights_kernel, splits * q * count, arguments, constants, tile))
    return [*launches, sums.plan(parts, [grad_weight], arch)]
