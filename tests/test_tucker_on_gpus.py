"""Which way convolutions in Tucker form go on GPUs, on fake CUDA tensors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

import spectral_ops
from spectral_ops import op, triton_backend
from spectral_ops.autograd import tensors_of
from spectral_ops.compress.k_step import KPass, _Convolution
from spectral_ops.ops import tucker_cost

needs_triton = pytest.mark.skipif(triton_backend.missing() is not None, reason=str(triton_backend.missing()))


def last(n: int, c: int, image: int, **made: Any) -> Tensor:
    """Fake images in channels_last, made so: a torch without CUDA copies none."""
    return torch.empty_strided((n, c, image, image), (c * image * image, 1, image * c, c), **made)


def layer(c: int, r: int, image: int, n: int, dtype: torch.dtype, stride: int = 1) -> list[Any]:
    """A 3 x 3 layer of equal channels and ranks on a fake GPU."""
    made = {"device": "cuda", "dtype": dtype}
    factors = [torch.empty(shape, **made) for shape in ((r, r, 3, 3), (c, r), (c, r))]
    return [last(n, c, image, **made), *factors, None, [stride, stride], [1, 1], [1, 1], None, None, 1]


@needs_triton
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("rank", [1, 2, 4, 8, 16, 32])
def test_small_ranks_take_one_kernel(rank: int, dtype: torch.dtype) -> None:
    """And so does the backward pass; shapes, layout and dtype as on the CPU."""
    with FakeTensorMode():
        args = layer(64, rank, 32, 64, dtype)
        assert spectral_ops.explain("tucker_conv2d", *args).splitlines()[:2] == ["tucker_conv2d", "-> triton"]
        y = torch.ops.spectral.tucker_conv2d(*args)
        assert y.shape == args[0].shape and y.dtype == dtype and y.device.type == "cuda"
        assert y.is_contiguous(memory_format=torch.channels_last)
        assert not op._OPS["tucker_conv2d"].composed(args, tensors_of(args)), "autograd takes the op's own backward"
        core = torch.empty(1, 3, 3, rank, rank, device="cuda", dtype=dtype)
        back = [y, args[0], core, *args[2:4], *args[5:8]]
        assert spectral_ops.explain("tucker_conv2d_backward", *back).splitlines()[1] == "-> triton"
        grads = torch.ops.spectral.tucker_conv2d_backward(*back)
        assert [g.shape for g in grads] == [*(t.shape for t in (args[0], core, *args[2:4])), (64,)]
        assert {(g.dtype, g.device.type) for g in grads} == {(dtype, "cuda")}


@needs_triton
def test_the_library_is_taken_where_it_is_expected_to_be_faster() -> None:
    with FakeTensorMode():
        args = layer(1024, 64, 4, 256, torch.float32, stride=2)
        lines = spectral_ops.explain("tucker_conv2d", *args).splitlines()
        assert lines[-1] == "-> reference"
        assert "one kernel for all stages should take" in lines[1]
        assert op._OPS["tucker_conv2d"].composed(args, tensors_of(args)), "autograd goes through the convolutions"


def test_ranks_past_the_tiles_have_a_reason() -> None:
    with FakeTensorMode():
        args = layer(512, 300, 32, 1, torch.float32)
        for backend, reason in spectral_ops.backends("tucker_conv2d", *args)[:-1]:
            assert reason is not None, backend


def test_a_launch_is_counted_by_its_longer_side() -> None:
    """The formulas of DESIGN.md at the size of the target, and that tf32 goes by torch's setting for convolutions."""
    s = tucker_cost.Sizes.of((64, 256, 56, 56), (64, 64, 3, 3), (256, 64), (1, 1), (1, 1), (1, 1), 1)
    moved = 4 * 2 * 64 * 256 * 56 * 56 / 4.3e12
    products = 1.6875 * 256 * 64 + 64 * 64 * 9 + 64 * 256
    times = {}
    for setting, rate in (("ieee", 130e12), ("tf32", 395e12)):  # last, as torch has it
        torch.backends.cudnn.conv.fp32_precision = setting
        times[setting] = tucker_cost.fused(s, torch.float32)
        tiles = 2 * products * s.tiled * 64 * 56 * 56 / (rate / 2)
        assert times[setting] == pytest.approx(4e-6 + max(moved, tiles))
    assert times["tf32"] < times["ieee"]


@needs_triton
def test_k_steps_take_the_kernels_that_the_layer_takes() -> None:
    """And where these are no choice, or the cores of a K-step have other sizes, the stages of `k_step.py`."""
    with FakeTensorMode():
        for (c, r, image, n), wanted in (((64, 8, 32, 64), True), ((1024, 64, 4, 256), False)):
            x, core, u_out, u_in, _, stride, padding, dilation, *_ = layer(c, r, image, n, torch.float32)
            stages = _Convolution(core, u_out, u_in, None, None, stride, padding, dilation)
            run = KPass({0: core, 1: core}, {0: u_out, 1: u_in})
            assert stages.fits_one_kernel(run, x, core) == wanted
            smaller = torch.empty(r - 1, r, 3, 3, device="cuda")
            assert not stages.fits_one_kernel(KPass({0: smaller}, {0: u_out}), x, core)
            with spectral_ops.use("reference"):
                assert not stages.fits_one_kernel(run, x, core)
