"""The cosine and sine transforms: short and long lengths, a prime, the last and a middle axis, in and out of cache, and
two dimensions at a time, beside a GEMM, one FFT of torch, scipy, and the wheel torch-dct.

The targets are those against the fastest of all contenders. For lengths up to 32 they ask for twice its speed, which
may be less than a copy takes: the share in the report is that of a copy of as many bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from spectral_ops.ops import trigonometric

from . import baselines, cost
from .contenders import (
    Built,
    Case,
    Gradient,
    Values,
    call,
    learn,
    scipy_dct,
    scipy_dctn,
    side_by_side,
    torch_dct,
    torch_dct_2d,
)
from .measure import Contender

VALUES = 1 << 22  # that do not fit the caches
CACHED = 1 << 16  # 256 KiB
LENGTHS = (8, 16, 32, 64, 256, 1024, 4096, 1021)
# short ones, composite and prime ones between; their columns begin in the middle of cache lines, but those of 4 and 128
BETWEEN = {2: (3, 4, 6, 7, 12, 20, 48, 72, 97, 128), 4: (20, 48, 72, 97, 128)}
PLANES = (((61, 13, 7, 11), (1, 3)), ((997, 9, 31), (1, 2)), ((29, 31, 97), (0, 1)))
JPEG = (32, 64, 8, 64, 8)  # 32 images of 512 x 512 in blocks of 8 x 8
ops = torch.ops.spectral


def cases() -> Iterator[Case]:
    for type in (2, 3, 4):
        for n in LENGTHS:
            yield from _axes("dct", type, n, VALUES, training=False)
        for n in LENGTHS:
            yield from _axes("dct", type, n, VALUES, training=True)
    for type, lengths in BETWEEN.items():
        for n in lengths:
            yield from _axes("dct", type, n, VALUES, training=False)
    for n in (8, 32, 64, 256, 1024):
        yield from _axes("dct", 2, n, CACHED, training=False)
    for type, n in ((2, 32), (2, 1024), (4, 64)):
        yield from _axes("dst", type, n, VALUES, training=False)
    yield Case("dct type=2 n=28 rows=1792 fwd", "dct", partial(_batch, 1792, 28), "targets", 1.5)
    yield Case("dct type=2 n=28 rows=1792 kernel alone", "dct", partial(_kernel, 1792, 28), "targets", 2.5)
    for training in (False, True):
        title = "fwd+bwd" if training else "fwd"
        yield Case(f"dctn 8x8 of 512x512x32 images {title}", "dctn", partial(_images, training), "targets", 2)
        yield Case(f"dctn 131072 blocks of 8x8 {title}", "dctn", partial(_blocks, training), "targets", 2)
    for shape, dim in PLANES:
        for training in (False, True):
            name = f"dctn {'x'.join(map(str, shape))} dim={dim} {'fwd+bwd' if training else 'fwd'}"
            yield Case(name.replace(", ", ","), "dctn", partial(_plane, shape, dim, training), "odd shapes")


def _axes(op: str, type: int, n: int, values: int, training: bool) -> Iterator[Case]:
    """Along the last axis, with the target; along a middle one, at most 1.3 times as long."""
    name = f"{op} type={type} n={n}"
    rest = ("in cache " if values == CACHED else "") + ("fwd+bwd" if training else "fwd")
    target, large = 2 if n <= 32 else 1.5, n > 1024
    last, middle = (partial(build, op, type, n, values, training) for build in (_last, _middle))
    yield Case(f"{name} last axis {rest}", op, last, "targets", target, large=large)
    yield Case(f"{name} middle axis {rest}", op, middle, "targets", limits={"last axis": 1.3}, large=large)


def _last(op: str, type: int, n: int, values: int, training: bool) -> Built:
    return _forms(op, Values(op).normal(values // n, n), type, -1, training)


def _middle(op: str, type: int, n: int, values: int, training: bool) -> Built:
    numbers, outer = Values(op), 64 if values == VALUES and n <= 1024 else 4
    flat = numbers.normal(values // n, n)
    x = numbers.normal(outer, n, values // (outer * n))
    if training:
        learn(flat)
    last = call(getattr(ops, op), [flat, type, -1], Gradient() if training else None)
    return _forms(op, x, type, 1, training, Contender("last axis", "own", last))


def _forms(op: str, x: Tensor, type: int, dim: int, training: bool, *extra: Contender) -> Built:
    """Ours beside a GEMM, an FFT of torch, scipy, and the wheel torch-dct."""
    n, table = x.shape[dim], baselines.dct_matrix if op == "dct" else baselines.dst_matrix
    fft = baselines.dct_fft if op == "dct" else baselines.dst_fft
    forms = {
        "fft": fft(n, type, dim, torch.float32),
        "gemm": baselines.along(table(n, type, torch.float32), dim),
    }
    if training:
        learn(x)
    others = [scipy_dct(x, type, dim, op, training), *extra]
    if op == "dct":
        others.append(torch_dct(x, type, dim, training))
    args = [x, type, dim]
    return side_by_side(
        op,
        args,
        forms,
        (cost.training if training else cost.forward)(op, args),
        Gradient() if training else None,
        baseline_args=[x],
        extra=others,
        exact=baselines.along(table(n, type, torch.float64), dim),
    )


def _batch(rows: int, n: int) -> Built:
    return _forms("dct", Values("dct").normal(rows, n), 2, -1, training=False)


def _kernel(rows: int, n: int) -> Built:
    """The C++ kernel without torch.ops.spectral around it: result and matrix are given, for the baseline too."""
    x = Values("dct").normal(rows, n)
    out, their_out = torch.empty_like(x), torch.empty_like(x)
    factors = trigonometric.factors(n, 2, "backward", inverse=False, orthogonalize=False, adjoint=False)
    matrix, ones = trigonometric.matrix(n, factors, x.dtype, x.device), (1.0,) * 5

    def kernel(*_: Any) -> Tensor:
        torch.ops.spectral_native.dct(x, matrix, 2, False, 0, *ones, 1, out)
        return out

    def gemm(x: Tensor) -> Tensor:
        return torch.mm(x, matrix.mT, out=their_out)

    exact = baselines.along(baselines.dct_matrix(n, 2, torch.float64), -1)
    args = [x, 2, -1]
    spent = cost.forward("dct", args)
    extra = [scipy_dct(x, 2, -1)]
    return side_by_side("dct", args, {"gemm": gemm}, spent, ours=kernel, baseline_args=[x], extra=extra, exact=exact)


# ---- two dimensions --------------------------------------------------------------------------------------------------
def _images(training: bool) -> Built:
    """Blocks where they lie in the images: two thin GEMMs, one with the Kronecker product after a permuted copy, or a
    convolution of stride 8, which leaves the coefficients in channels."""
    eight = baselines.dct_matrix(8, 2, torch.float32)
    both = torch.kron(eight, eight)

    def kron(x: Tensor) -> Tensor:
        rows = x.permute(0, 1, 3, 2, 4).reshape(-1, 64) @ both.mT
        return rows.view(32, 64, 64, 8, 8).permute(0, 1, 3, 2, 4).contiguous()

    def conv(x: Tensor) -> Tensor:
        y = functional.conv2d(x.view(32, 1, 512, 512), both.view(64, 1, 8, 8), stride=8)
        return y.view(32, 8, 8, 64, 64).permute(0, 3, 1, 4, 2)

    return _planes(JPEG, (2, 4), training, {"kron": kron, "conv": conv})


def _blocks(training: bool) -> Built:
    """Blocks one after the other: the GEMM with the Kronecker product needs no copy."""
    eight = baselines.dct_matrix(8, 2, torch.float32)
    both = torch.kron(eight, eight)
    forms = {"kron": lambda x: (x.view(-1, 64) @ both.mT).view(x.shape)}
    return _planes((1 << 17, 8, 8), (1, 2), training, forms, torch_dct_2d)


def _plane(shape: tuple[int, ...], dim: tuple[int, int], training: bool) -> Built:
    return _planes(shape, dim, training, {})


def _planes(
    shape: tuple[int, ...],
    dim: tuple[int, int],
    training: bool,
    forms: dict[str, Callable[[Tensor], Tensor]],
    wheel: Callable[[Tensor, bool], Contender] | None = None,
) -> Built:
    """DCT-II along two dimensions, beside two products with matrices and the given forms."""
    x = Values("dctn").normal(*shape)

    def products(dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
        first, second = (baselines.along(baselines.dct_matrix(shape[d], 2, dtype), d) for d in dim)
        return lambda x: second(first(x))

    extra = [] if training else [scipy_dctn(x, 2, dim)]
    if training:
        learn(x)
    if wheel is not None:
        extra.append(wheel(x, training))
    args = [x, list(dim)]
    return side_by_side(
        "dctn",
        args,
        {"gemm": products(torch.float32), **forms},
        (cost.training if training else cost.forward)("dctn", args),
        Gradient() if training else None,
        baseline_args=[x],
        extra=extra,
        exact=products(torch.float64),
    )
