"""Convolutions in Tucker form equal the one convolution they stand for, by whatever way they are computed."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from samples import rows_of
from torch import Tensor
from torch.nn import functional

from spectral_ops.compress.k_step import KPass
from spectral_ops.ops import tucker_conv2d, tucker_cost

op = torch.ops.spectral.tucker_conv2d
ROWS = rows_of("tucker_conv2d")
WAYS = list(itertools.product((False, True), repeat=2))
layouts = pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
pytestmark = pytest.mark.usefixtures("seeded")


def kernel(core: Tensor, u_out: Tensor, u_in: Tensor, u_h: Tensor | None, u_w: Tensor | None, groups: int) -> Tensor:
    """W[o, c] of each group, as the formula has it."""
    blocks = []
    for g in range(groups):
        rows = slice(g * u_out.shape[1], (g + 1) * u_out.shape[1])
        own = core[rows] if core.shape[0] > u_out.shape[1] else core
        height = torch.eye(core.shape[2], dtype=core.dtype) if u_h is None else u_h
        width = torch.eye(core.shape[3], dtype=core.dtype) if u_w is None else u_w
        out, inner = u_out.chunk(groups)[g], u_in.chunk(groups)[g]
        blocks.append(torch.einsum("abhw,oa,cb,yh,xw->ocyx", own, out, inner, height, width))
    return torch.cat(blocks)


def dense(args: list[Any]) -> Tensor:
    x, core, u_out, u_in, bias, stride, padding, dilation, u_h, u_w, groups = args
    weight = kernel(core, u_out, u_in, u_h, u_w, groups)
    return functional.conv2d(x, weight, bias, stride, padding, dilation, groups)


@layouts
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
@pytest.mark.parametrize("way", [None, *WAYS], ids=str)
def test_equals_one_convolution(row, way, layout, monkeypatch) -> None:
    """Values and gradients, by each way that the cost model may choose and in both layouts."""
    if way is not None:
        monkeypatch.setattr(tucker_conv2d, "plan", lambda *_: way)
    args = row.make(torch.float64)
    args[0] = args[0].contiguous(memory_format=layout)
    wanted = dense(args)
    leaves = [t.requires_grad_() for t in args if isinstance(t, Tensor)]
    y = op(*args)
    torch.testing.assert_close(y, wanted, rtol=1e-10, atol=1e-12)
    if y.numel():
        assert y.is_contiguous(memory_format=layout)
        g = torch.randn_like(y)
        for ours, exact in zip(
            torch.autograd.grad(y, leaves, g), torch.autograd.grad(dense(args), leaves, g), strict=True
        ):
            torch.testing.assert_close(ours, exact, rtol=1e-9, atol=1e-10)


def _plan(c: int, r_in: int, r_out: int, o: int, image: int, window: int, n: int = 32, stride: int = 1) -> tuple:
    pad, meta = window // 2, {"device": "meta"}
    x, core = torch.empty(n, c, image, image, **meta), torch.empty(r_out, r_in, window, window, **meta)
    geometry = ([stride, stride], [pad, pad], [1, 1])
    return tucker_conv2d.plan(x, core, torch.empty(o, r_out, **meta), *geometry, 1)


def test_the_cost_model_folds_what_is_not_low_rank() -> None:
    assert _plan(256, 40, 40, 256, 8, 3) == (False, False)
    assert _plan(64, 8, 8, 64, 32, 3) == (False, False)
    assert _plan(64, 64, 8, 64, 32, 3) == (True, False)  # u_in is square
    assert _plan(64, 8, 64, 64, 32, 3) == (False, True)
    assert _plan(64, 64, 64, 64, 32, 3) == (True, True)
    assert _plan(3, 3, 16, 64, 32, 3)[0]  # an image's three channels
    assert sum(_plan(256, 32, 32, 256, 32, 1)) == 1  # a 1 x 1 core belongs to one of its neighbours
    assert _plan(256, 200, 40, 256, 8, 3, n=1) == (False, False)  # one small image: making the weight costs more
    assert _plan(256, 200, 40, 256, 56, 3, stride=4) == (True, False)  # few pixels are left after the stride


def test_a_window_without_rank_channels_in_memory() -> None:
    """The kernel's gradient is never made: the largest tensor of a pass is x's or y's, not W's."""
    c, r, pixels = 96, 2, 4
    args = [torch.randn(1, c, pixels, pixels), torch.randn(r, r, 5, 5), torch.randn(c, r), torch.randn(c, r)]
    for t in args:
        t.requires_grad_()
    sizes: list[int] = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            sizes.extend(t.numel() for t in (out if isinstance(out, tuple | list) else [out]) if isinstance(t, Tensor))
            return out

    with Watch():
        y = op(*args, None, [1, 1], [2, 2])
        torch.autograd.grad(y.square().sum(), args)
    assert max(sizes) == c * pixels * pixels < c * c * 25


def test_k_step_gradients_are_those_of_three_kernels() -> None:
    """With Ten_1(Q_1^T) and Ten_2(Q_2^T) as cores: what the first pass of a TDLRT step leaves, and never G."""
    x, grad = torch.randn(3, 6, 7, 5).double(), torch.randn(3, 8, 4, 5).double()
    core, u_out, u_in = torch.randn(2, 3, 3, 3).double(), torch.randn(8, 2).double(), torch.randn(6, 3).double()
    geometry = ([2, 1], [1, 1], [1, 1])
    cores, k = {}, {}
    for i, u in enumerate((u_out, u_in)):
        q, transposed = torch.linalg.qr(core.movedim(i, 0).flatten(1).mT)  # Mat_i(C)^T = Q S^T
        cores[i] = q.mT.unflatten(1, core.movedim(i, 0).shape[1:]).movedim(0, i)
        k[i] = u @ transposed.mT
    run = KPass(cores, k)
    leaf = x.clone().requires_grad_()
    y = run.convolve(leaf, core.clone().requires_grad_(), u_out, u_in, None, *geometry, None, None, 1)
    (wanted,) = torch.autograd.grad(y, leaf, grad)
    taps = [tucker_conv2d.taps_first(c, 1) for c in (core, cores[0], cores[1])]
    found = torch.ops.spectral.tucker_conv2d_backward(grad, x, taps[0], u_out, u_in, *geometry, True, *taps[1:])
    for ours, theirs in zip((found[0], *found[2:4]), (wanted, run.gradients[0], run.gradients[1]), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


# ---- the choice on a GPU -------------------------------------------------------------------------------------------
def _model(c: int, r: int, o: int, image: int, n: int, window: int = 3) -> tucker_cost.Sizes:
    pad = window // 2
    return tucker_cost.Sizes.of(
        (n, c, image, image), (r, r, window, window), (o, r), (1, 1), (pad, pad), (1, 1), 1
    )  # fmt: skip


def test_the_cost_model_of_gpus_fuses_where_memory_is_the_limit() -> None:
    """Small ranks and few channels are bound by bytes and launches; wide ones by products, of which tiles do more."""
    for dtype in (torch.float32, torch.bfloat16):
        for r in (1, 2, 4, 8, 16):
            s = _model(64, r, 64, 32, 32)
            staged = min(tucker_cost.library(s, dtype, *way) for way in WAYS)
            assert tucker_cost.fused(s, dtype) < staged
    target = _model(256, 64, 256, 56, 64)
    assert tucker_cost.fused(target, torch.bfloat16) < tucker_cost.library(target, torch.bfloat16, False, False)
    deep = _model(2048, 64, 2048, 4, 64)
    assert tucker_cost.slower(
        tucker_cost.fused(deep, torch.float64), tucker_cost.library(deep, torch.float64, False, False)
    )
