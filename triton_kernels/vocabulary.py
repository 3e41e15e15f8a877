"""The vocabulary of the Triton kernels: numbers in memory, and products on tensor cores.

Complex numbers are planar inside, a pair (re, im) of blocks; of real ones im is not computed with, and stands for re.
Offsets are 64-bit: they start from `program_id(0).to(tl.int64)`, and sizes that multiply each other are cast too.
Masked loads give 0, in both factors of a product, so that what is not there never meets an infinite value.
"""

from __future__ import annotations

import triton
import triton.language as tl
from triton import knobs

INTERPRETED = tl.constexpr(bool(knobs.runtime.interpret))


@triton.jit
def load(ptr, offsets, mask, COMPLEX: tl.constexpr):
    """The numbers at `offsets`, 0 where masked."""
    if COMPLEX:
        re = tl.load(ptr + 2 * offsets, mask=mask, other=0.0)
        im = tl.load(ptr + 2 * offsets + 1, mask=mask, other=0.0)
    else:
        re = tl.load(ptr + offsets, mask=mask, other=0.0)
        im = re
    return re, im


@triton.jit
def store(ptr, offsets, re, im, mask, COMPLEX: tl.constexpr):
    """Numbers to `offsets`, rounded to what is there."""
    if COMPLEX:
        tl.store(ptr + 2 * offsets, re.to(ptr.dtype.element_ty), mask=mask)
        tl.store(ptr + 2 * offsets + 1, im.to(ptr.dtype.element_ty), mask=mask)
    else:
        tl.store(ptr + offsets, re.to(ptr.dtype.element_ty), mask=mask)


@triton.jit
def add_to(pointers, values, mask):
    """Add to what is there."""
    tl.store(pointers, tl.load(pointers, mask=mask, other=0.0) + values, mask=mask)


@triton.jit
def dot(a, b, acc, PRECISION: tl.constexpr):
    """acc + a b, accumulated in float32."""
    if INTERPRETED:  # which multiplies the bits of bfloat16 as integers
        a = a.to(tl.float32)
        b = b.to(tl.float32)
    return tl.dot(a, b, acc, input_precision=PRECISION)


@triton.jit
def product(a_re, a_im, b_re, b_im, re, im, PRECISION: tl.constexpr, COMPLEX: tl.constexpr):
    """(re, im) + a b: of complex numbers four products."""
    re = dot(a_re, b_re, re, PRECISION)
    if COMPLEX:
        re = dot(-a_im, b_im, re, PRECISION)
        im = dot(a_re, b_im, im, PRECISION)
        im = dot(a_im, b_re, im, PRECISION)
    return re, im


@triton.jit
def product_conj(a_re, a_im, b_re, b_im, re, im, PRECISION: tl.constexpr, COMPLEX: tl.constexpr):
    """(re, im) + a conj(b)."""
    re = dot(a_re, b_re, re, PRECISION)
    if COMPLEX:
        re = dot(a_im, b_im, re, PRECISION)
        im = dot(a_im, b_re, im, PRECISION)
        im = dot(-a_re, b_im, im, PRECISION)
    return re, im


# ---- activations: `spectral_ops/ops/activations.py` has the formulas ------------------------------------------------
@triton.jit
def tanh(x):
    """Near 0 a quotient of polynomials (Lambert's fraction, 7 steps), for (1 - e) / (1 + e) cancels there."""
    s = x * x
    above = x * (135135 + s * (17325 + s * (378 + s)))
    near = above / (135135 + s * (62370 + s * (3150 + s * 28)))
    size = tl.abs(x)
    e = tl.exp(-2 * size)
    far = (1 - e) / (1 + e)
    return tl.where(size < 0.6, near, tl.where(x < 0, -far, far))


@triton.jit
def sigmoid(x):
    return 1 / (1 + tl.exp(-x))


@triton.jit
def modulus(re, im):
    """|z|, and the same with 1 for 0, to divide by."""
    r = tl.sqrt_rn(re * re + im * im)
    return r, tl.where(r == 0, 1.0, r)


@triton.jit
def activate(re, im, NAME: tl.constexpr, OFFSET: tl.constexpr, COMPLEX: tl.constexpr):
    """The activation of z = (re, im); OFFSET: b of modrelu. NaN passes."""
    if NAME == "relu":
        re = tl.where(re <= 0, 0.0, re)
    elif NAME == "tanh":
        re = tanh(re)
    elif NAME == "sigmoid":
        re = sigmoid(re)
    elif NAME == "silu":
        re = re * sigmoid(re)
    elif NAME == "gelu":
        re = 0.5 * re * (1 + tl.erf(re * 0.7071067811865476))
    elif NAME == "crelu":
        re = tl.where(re <= 0, 0.0, re)
        im = tl.where(im <= 0, 0.0, im)
    elif NAME == "zrelu":
        closed = (re <= 0) | (im <= 0)
        re, im = tl.where(closed, 0.0, re), tl.where(closed, 0.0, im)
    elif NAME == "cardioid":
        r, divisor = modulus(re, im)
        scale = 0.5 + 0.5 * re / divisor
        re, im = scale * re, scale * im
    elif NAME == "modrelu":
        r, divisor = modulus(re, im)
        scale = tl.where((r + OFFSET <= 0) | (r == 0), 0.0, 1 + OFFSET / divisor)
        re, im = scale * re, scale * im
    else:
        tl.static_assert(NAME == "none")
    if not COMPLEX:
        im = re
    return re, im


@triton.jit
def descend(g_re, g_im, re, im, NAME: tl.constexpr, OFFSET: tl.constexpr, COMPLEX: tl.constexpr):
    """g times the derivative of the activation at z = (re, im)."""
    if NAME == "relu":
        g_re = tl.where(re <= 0, 0.0, g_re)
    elif NAME == "tanh":
        h = tanh(re)
        g_re = g_re * (1 - h * h)
    elif NAME == "sigmoid":
        h = sigmoid(re)
        g_re = g_re * (h * (1 - h))
    elif NAME == "silu":
        h = sigmoid(re)
        g_re = g_re * (h * (1 + re * (1 - h)))
    elif NAME == "gelu":
        density = tl.exp(-0.5 * re * re) * 0.3989422804014327
        g_re = g_re * (0.5 * (1 + tl.erf(re * 0.7071067811865476)) + re * density)
    elif NAME == "crelu":
        g_re = tl.where(re <= 0, 0.0, g_re)
        g_im = tl.where(im <= 0, 0.0, g_im)
    elif NAME == "zrelu":
        closed = (re <= 0) | (im <= 0)
        g_re, g_im = tl.where(closed, 0.0, g_re), tl.where(closed, 0.0, g_im)
    elif NAME == "cardioid":
        r, divisor = modulus(re, im)
        c, d = re / divisor, im / divisor
        along = g_re * c + g_im * d
        g_re, g_im = 0.5 * ((1 + c) * g_re + along * d * d), 0.5 * ((1 + c) * g_im - along * d * c)
    elif NAME == "modrelu":
        r, divisor = modulus(re, im)
        c, d = re / divisor, im / divisor
        along = g_re * c + g_im * d
        closed = (r + OFFSET <= 0) | (r == 0)
        k = OFFSET / divisor
        g_re, g_im = (1 + k) * g_re - k * along * c, (1 + k) * g_im - k * along * d
        g_re, g_im = tl.where(closed, 0.0, g_re), tl.where(closed, 0.0, g_im)
    else:
        tl.static_assert(NAME == "none")
    if not COMPLEX:
        g_im = g_re
    return g_re, g_im
