"""The CUDA kernels on the host: values of every op under the bounds of the other backends, run by test_emulation.py.

What the emulation itself finds (races, shared memory out of bounds, divergent barriers) fails these tests as an
exception; `tests/test_emulator.py` shows that it does find them. Under the address sanitizer tensors have no guards:
each is an allocation of its own, and a touch of what lies beside it ends the process.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import bounds
import emulation
import pytest
import test_native
import torch
from calls import results
from complex_samples import COMPLEX
from samples import RIGHT, Sample, T, floating, make, make_row, map_tensors, rows_of
from test_native import call
from torch import Tensor

from spectral_ops import native, use
from spectral_ops.autograd import flatten, tensors_of, unflatten
from spectral_ops.compress.k_step import KPass, _Convolution
from spectral_ops.compress.tucker import unfold_mode
from spectral_ops.op import rule_of
from spectral_ops.table import TABLE

pytestmark = [
    pytest.mark.native,
    pytest.mark.skipif(emulation.why_not() is not None, reason=str(emulation.why_not())),
]
native_rows = [row for row in RIGHT if TABLE[row.op].native is not None]
# little enough shared memory that weights are read piece by piece
TIGHT = 75 << 10
MANY = 20_000


@pytest.fixture(autouse=True)
def _emulated(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if emulation.sanitized():
        monkeypatch.setattr(test_native, "GUARD", 0)
    with emulation.emulated():
        yield


def graded(rows: list[Sample]) -> list:
    """The rows as parameters; those with many values, seconds each, are slow."""
    return [pytest.param(r, id=r.id, marks=pytest.mark.slow if r.values > MANY else ()) for r in rows]


def check(row: Sample, dtype: torch.dtype) -> None:
    args = row.make(dtype)
    if emulation.refused(row.op, args):
        return  # the reason has a test of its own
    for i, (y, limit) in enumerate(zip(call(row.op, args), bounds.bounded(row.op, args, dtype), strict=True)):
        bounds.check(y, limit, f"{row.op}, result {i}")


@pytest.mark.parametrize("row", graded(native_rows))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_values(row: Sample, dtype: torch.dtype) -> None:
    check(row, dtype)


@pytest.mark.parametrize("op", [name for name in TABLE if TABLE[name].native is not None])
def test_with_little_shared_memory(op: str) -> None:
    """Weights that do not fit are read again, a part at a time; the results stay within their bounds."""
    with emulation.emulated(TIGHT, multiprocessors=3):
        for row in [row for row in native_rows if row.op == op and row.values < MANY][:12]:
            check(row, torch.float32)


complex_rows = [row for row in COMPLEX if TABLE[row.op].complex_together]


@pytest.mark.parametrize("row", graded(complex_rows))
def test_complex_values(row: Sample) -> None:
    check_complex(row)


@pytest.mark.parametrize("op", dict.fromkeys(row.op for row in complex_rows))
def test_complex_values_with_little_shared_memory(op: str) -> None:
    with emulation.emulated(40 << 10, multiprocessors=3):
        for row in [row for row in complex_rows if row.op == op and row.values < MANY and narrow(row)][:8]:
            check_complex(row)


def narrow(row: Sample) -> bool:
    """Whether tiles of it leave room for weights in so little."""
    return max((t.shape[-1] for t in tensors_of(row.make(torch.float32))), default=0) <= 16


def check_complex(row: Sample) -> None:
    for dtype, eps in ((torch.float32, 2e-5), (torch.float64, 1e-12)):
        args = row.make(dtype)
        if emulation.refused(row.op, args):
            continue
        with use("cpp"):  # which makes mixtures of real and complex arguments complex
            out = getattr(torch.ops.spectral, row.op)(*args)
        wanted = rule_of(row.op).reference(*args)
        for y, w in zip(*(flatten(r if isinstance(r, tuple) else [r])[0] for r in (out, wanted)), strict=True):
            assert y.dtype == w.dtype and y.shape == w.shape
            size = max(w.abs().max().item(), 1e-30) if w.numel() else 1.0
            assert not y.numel() or (y - w).abs().max().item() <= eps * size, (row.id, dtype)


def _small_rows() -> list[Sample]:
    """Of each op two rows small enough for numerical differentiation, real and complex."""
    rows: list[Sample] = []
    for family in (native_rows, [row for row in COMPLEX if TABLE[row.op].complex_together]):
        for op in dict.fromkeys(row.op for row in family):
            rows += [row for row in family if row.op == op and row.small][:2]
    return rows


@pytest.mark.parametrize("row", _small_rows(), ids=lambda row: row.id)
def test_gradients(row: Sample) -> None:
    """Numerical derivatives in float64 of the ops as autograd runs them, forward and backward on these kernels."""
    args = map_tensors(lambda t: t.requires_grad_() if floating(t) else t, row.make(torch.float64))
    if emulation.refused(row.op, args):
        return
    leaves, structure = flatten(args)
    op = getattr(torch.ops.spectral, row.op)

    def function(*tensors: Tensor) -> tuple[Tensor, ...]:
        out = op(*unflatten(tensors, structure))
        found = flatten(out if isinstance(out, tuple | list) else [out])[0]
        return tuple(y for y in found if floating(y) and y.numel())  # with want_grad_x False the first is empty

    # a composed op takes its kernel only where that is forced, and what it is made of may have none
    with use("cpp") if hasattr(rule_of(row.op), "backward") else nullcontext():
        if any(y.requires_grad and y.numel() for y in function(*leaves)):
            torch.autograd.gradcheck(function, tuple(leaves), fast_mode=True, nondet_tol=0.0)


LIMITS = [
    ("branch_linear", [T((1, 2, 129)), T((1, 3, 129)), None, "none"], torch.float32, "129 features of 4 bytes"),
    ("branch_linear", [T((1, 2, 3)), T((1, 65, 3)), None, "none"], torch.float64, "65 features of 8 bytes"),
    ("branch_mlp_backward", [T((1, 2, 3)), T((1, 2, 3)), [T((1, 3, 3))] * 33, [None] * 33, ["none"] * 33, True],
     torch.float32, "33 layers are past the 32"),
    ("to_branches", [T((2, 3, 200)), T((4, 200))], torch.float32, "200 features"),
    ("branch_rnn", [T((2, 1, 2, 113)), T((1, 3, 113)), T((1, 3, 3)), T((1, 2, 3)), None, T((1, 2, 3)), "tanh", "none",
                    None], torch.float32, "113 features of 4 bytes are past the 448"),
    ("dct", [T((9, 8192)), 2, -1, "ortho", False, False], torch.float64, "n = 8192 takes 131072 bytes"),
    ("dct", [T((9, 8194)), 2, -1, "ortho", False, False], torch.float32, "8194 values, past the 8192 of a block"),
    ("mode_product", [T((2, 200)), T((3, 200)), 1], torch.float32, "200 features"),
]  # fmt: skip


@pytest.mark.parametrize(("op", "args", "dtype", "reason"), LIMITS, ids=[f"{row[0]}-{row[3]}" for row in LIMITS])
def test_limits_have_reasons(op: str, args: list, dtype: torch.dtype, reason: str) -> None:
    assert reason in (emulation.refused(op, make(args, dtype)) or "")


# 4093 is a prime, which takes a convolution with a chirp; type I of 4094 values is a transform of 4093 (dst: 4095)
LONG = [
    pytest.param(op, type, n, dtype, marks=() if op == "dct" and dtype == torch.float64 else pytest.mark.slow)
    for op in ("dct", "dst")
    for type, n in ((1, 4096), (1, 4094), (2, 4096), (3, 4096), (4, 4096), (4, 4095), (2, 4093))
    for dtype in (torch.float32, torch.float64)
]


@pytest.mark.parametrize(("op", "type", "n", "dtype"), LONG)
def test_transforms_of_4096_values(op: str, type: int, n: int, dtype: torch.dtype) -> None:
    """Within the shared memory of every GPU, but for a chirp in float64, which takes what sm_80 has after opting in."""
    row = make_row(op, [T((2, n)), type, -1, "backward", False, False], type, n)
    args = row.make(dtype)
    chirped = n in (4093, 4094) and dtype == torch.float64 and not (op == "dst" and n == 4094)
    assert (emulation.refused(op, args) is None) != chirped
    with emulation.emulated(163 << 10):
        assert emulation.refused(op, args) is None
        check(row, dtype)


def test_wide_matrices_of_mode_product() -> None:
    """Which the CPU leaves to the library."""
    args = make([T((3, 70, 5)), T((40, 70)), 1])
    assert emulation.refused("mode_product", args) is None
    for y, limit in zip(call("mode_product", args), bounds.bounded("mode_product", args, torch.float32), strict=True):
        bounds.check(y, limit, "mode_product")


def test_generated_convolution_in_channels_last() -> None:
    """And of images and gradients in either memory format, with gradients of some arguments only."""
    row = next(row for row in native_rows if row.op == "csg_conv2d" and row.values > 3000)
    args = row.make(torch.float64)
    args[0] = args[0].contiguous(memory_format=torch.channels_last)
    wanted = rule_of("csg_conv2d").reference(*args)
    y = rule_of("csg_conv2d").empty(*args)
    assert y.is_contiguous(memory_format=torch.channels_last)
    rule_of("csg_conv2d").cpp(args, y)
    torch.testing.assert_close(y, wanted, rtol=1e-12, atol=1e-12)
    grad = torch.randn_like(y).contiguous()
    rest = [args[0], *args[1:5], *args[6:]]
    for want in ((True, False, False), (False, True, True)):
        found = rule_of("csg_conv2d_backward").empty(grad, *rest, *want)
        rule_of("csg_conv2d_backward").cpp([grad, *rest, *want], found)
        exact = rule_of("csg_conv2d_backward").reference(grad, *rest, *want)
        for t, e in zip(found, exact, strict=True):
            torch.testing.assert_close(t, e, rtol=1e-12, atol=1e-12)


def test_more_filters_than_a_launch_takes() -> None:
    shapes = [size for j in range(200) for size in (2 + j % 3, 2, 1, 1)]
    slices = sum(-(-shapes[j] // 2) for j in range(0, len(shapes), 4))
    codes, generator = torch.randn(slices, 3), torch.randn(4, 3)
    args = [codes, generator, shapes, [2, 2, 1, 1], "block", False]
    for op, given in (
        ("csg_kernels", args),
        ("csg_kernels_backward", [[*rule_of("csg_kernels").reference(*args)], *args, True, True]),
    ):
        for y, limit in zip(call(op, given), bounds.bounded(op, given, torch.float32), strict=True):
            bounds.check(y, limit, op)


def test_a_class_out_of_range_is_nan() -> None:
    """A GPU cannot raise in the middle: the loss of every branch says so, and nothing is read out of bounds."""
    net = [T((3, 2, 4)), None, [T((3, 5, 4))], [None], ["none"]]
    args = make([*net, T((2,), "class5")])
    args[-1][1] = 5
    for op, rest in (("spectral_mlp_cross_entropy", []), ("spectral_mlp_cross_entropy_with_grads", [True])):
        out = rule_of(op).empty(*args, *rest)
        rule_of(op).cpp([*args, *rest], out)
        assert bool(out[0].isnan().all()) and not bool(out[1].isnan().any())


def test_signatures_equal_those_of_the_cpu() -> None:
    """Which `tests/test_contract.py` compares with the table."""
    signatures = native.signatures_of(emulation.library())
    on_cpus_only = {name for op, row in TABLE.items() if row.stages for name in (op, f"{op}_backward")}
    on_cpus_only |= {name for row in TABLE.values() for name, _ in row.calls}
    of_cpu = {op: types for op, types in native.signatures().items() if op not in on_cpus_only}
    assert {op: types for op, types in signatures.items() if not TABLE[op].composed} == of_cpu
    assert native.signatures("cuda") == ({} if native.status()["cuda"] else signatures)


def _few(name: str) -> list[Sample]:
    return [row for row in rows_of(name) if 0 < row.values < 1500]


def _is_image(t: Any) -> bool:
    return isinstance(t, Tensor) and t.dim() == 4


@pytest.mark.parametrize("row", _few("tucker_conv2d") + _few("tucker_conv2d_backward"), ids=lambda row: row.id)
def test_channels_last_stays_in_tucker_form(row: Sample) -> None:
    """It reaches the kernel as it is, and so does the result."""
    args = row.make(torch.float32)
    if emulation.refused(row.op, args):
        return
    given = [t.contiguous(memory_format=torch.channels_last) if _is_image(t) else t for t in args]
    with use("cpp"):
        got = results(row.op, given)
    for y, limit in zip(got, bounds.bounded(row.op, args, torch.float32), strict=True):
        bounds.check(y, limit, row.op)
    image = given[0 if row.op == "tucker_conv2d" else 1]
    assert got[0].dim() != 4 or got[0].is_contiguous(memory_format=torch.channels_last) or image.is_contiguous()


def test_a_block_with_several_tiles_of_a_tucker_convolution_adds_their_gradients() -> None:
    """More tiles than blocks: 300 images, in two groups of 256 blocks each."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((300, 2, 1, 2), (300, 2, 2, 2), (2, 2, 1, 1, 1), (2, 1), (2, 1))
    tensors = [torch.randn(shape, generator=generator) for shape in shapes]
    args = [*tensors, [1, 1], [0, 0], [1, 1], True, None, None]
    assert emulation.refused("tucker_conv2d_backward", args) is None
    limits = bounds.bounded("tucker_conv2d_backward", args, torch.float32)
    for y, limit in zip(call("tucker_conv2d_backward", args), limits, strict=True):
        bounds.check(y, limit, "tucker_conv2d_backward")


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("spatial", [False, True])
def test_k_steps_by_one_kernel(layout: torch.memory_format, spatial: bool) -> None:
    """The first pass of TDLRT where the kernels take the layer: y, grad x and all grad K_i are those by stages."""
    generator = torch.Generator().manual_seed(0)
    normal = functools.partial(torch.randn, generator=generator, dtype=torch.float64)
    core = normal(3, 2, 2, 2) if spatial else normal(3, 2, 3, 3)
    bases = [normal(n, r) for n, r in zip((5, 4, 3, 3), core.shape, strict=True)][: 4 if spatial else 2]
    cores, k = {}, {}
    for i, u in enumerate(bases):
        q, s = torch.linalg.qr(unfold_mode(core, i).mT)
        cores[i] = q.mT.reshape(-1, *(r for j, r in enumerate(core.shape) if j != i)).movedim(0, i)
        k[i] = u @ s.mT
    window = bases[2:] if spatial else [None, None]
    x, grad = (normal(shape).contiguous(memory_format=layout) for shape in ((2, 4, 6, 5), (2, 5, 3, 5)))
    found = []
    for backend in ("reference", "cpp"):
        run = KPass(dict(cores), dict(k))
        leaf = x.clone().requires_grad_()
        with use(backend):
            stages = _Convolution(core, *bases[:2], *window, (2, 1), (1, 1), (1, 1))
            assert stages.fits_one_kernel(run, leaf, core) == (backend == "cpp")
            y = run.convolve(leaf, core, *bases[:2], normal(5) * 0 + 0.5, (2, 1), (1, 1), (1, 1), *window, 1)
            (grad_x,) = torch.autograd.grad(y, leaf, grad)
        assert y.is_contiguous(memory_format=layout)
        found.append([y, grad_x, *(run.gradients[i] for i in range(len(bases)))])
    torch.testing.assert_close(found[1], found[0], rtol=1e-11, atol=1e-11)
