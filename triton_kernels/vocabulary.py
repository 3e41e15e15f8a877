"""The vocabulary of the Triton kernels: numbers in memory, and products on tensor cores.

Complex numbers are planar inside, a pair (re, im) of blocks; of real ones im is not computed with, and stands for re.
Offsets are 64-bit: they start from `program_id(0).to(tl.int64)`. Masked loads give 0, in both factors of a product, so
that what is not there never meets an infinite value.
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
