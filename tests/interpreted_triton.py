"""The Triton kernels through Triton's interpreter, on CPU tensors: run by tests/test_triton.py in its own process.

    TRITON_INTERPRET=1 python -m pytest tests/interpreted_triton.py

The same rows and bounds as in tests/test_backends.py and tests/test_complex.py. What the interpreter cannot tell:
- the rounding of tensor cores: `tl.dot` is numpy's product in float32 whatever the precision asked for; bfloat16 it
  would multiply as the integers that its bits are, so the kernels widen it there (`vocabulary.dot`); and it truncates
  where a GPU rounds to bfloat16, which `interpreter.mend` puts right;
- races between the threads of a block: a GPU's sanitizer will. Accesses out of bounds it makes like any other, so
  tests put guards around a launch's memory (`between_guards`);
- shared memory and registers: tests/test_triton_compile.py holds those.
"""

from __future__ import annotations

from collections.abc import Iterator

import bounds
import interpreter
import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from calls import results
from complex_samples import COMPLEX
from samples import LAYOUTS, RIGHT, Sample, T, floating, make, map_tensors, rows_of
from test_backends import check_extremes, check_values, exact, poisoned_rows

import spectral_ops
from spectral_ops import triton_backend
from spectral_ops.autograd import flatten
from spectral_ops.op import rule_of
from spectral_ops.ops import spectral_conv2d
from spectral_ops.table import TABLE
from spectral_ops.triton_kernels import tiles
from spectral_ops.triton_kernels.launch import Launch

interpreter.mend()
OPS = [name for name, row in TABLE.items() if "triton" in row.backends]
HALF = (torch.bfloat16, torch.float16)
# made of several products: what one leaves is rounded to half before the next multiplies it, as the layers of a
# network under autocast do
CHAINS = ("spectral_", "branch_mlp", "branch_rnn", "tucker_", "csg_conv2d")


@pytest.fixture(autouse=True)
def forced() -> Iterator[None]:
    torch.set_num_threads(1)
    with spectral_ops.use("triton"), np.errstate(all="ignore"):  # numpy warns where infinities meet
        yield


LARGE = 4000  # values of a row from which on the interpreter takes seconds


def ours(rows: list[Sample]) -> list:
    """The rows of the ops with kernels, the large ones marked slow."""
    chosen = [row for row in rows if row.op in OPS]
    return [pytest.param(r, id=r.id, marks=[pytest.mark.slow] * (r.values > LARGE)) for r in chosen]


def filled(rows: list[Sample], op: str, most: int) -> list[Sample]:
    """The rows of an op with at most so many values, and no empty tensor."""
    return [row for row in rows if row.op == op and row.values <= most and "N0" not in row.id.split("-")]


def refused(row: Sample, dtype: torch.dtype) -> bool:
    """Whether the kernels decline a row; then forcing them must raise the reason."""
    args = row.make(dtype)
    reason = dict(spectral_ops.backends(row.op, *args))["triton"]
    if reason is not None:
        with pytest.raises(RuntimeError) as caught:
            results(row.op, args)
        assert str(caught.value) == f"{row.op}: backend 'triton' was asked for, but {reason}"
    return reason is not None


def test_the_interpreter_runs() -> None:
    assert triton_backend.interpreting()


def check_real(row: Sample) -> None:
    check_values(row.op, lambda seed: row.make(torch.float32, seed=seed), torch.float32)


@pytest.mark.parametrize("row", ours(RIGHT))
def test_values(row: Sample) -> None:
    if not refused(row, torch.float32):
        check_real(row)


@pytest.mark.parametrize("row", ours(RIGHT)[::4])
@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_values_in_half(row: Sample, dtype: torch.dtype) -> None:
    """What goes into a product is half, what comes out of it float32."""
    if refused(row, dtype):
        return
    args = row.make(dtype)
    limits = bounds.bounded(row.op, args, dtype, dtype if row.op.startswith(CHAINS) else None)
    for i, (y, limit, e) in enumerate(zip(results(row.op, args), limits, exact(row.op, args), strict=True)):
        assert y.shape == e.shape and y.is_contiguous()
        bounds.check(y, limit, f"result {i}")


def check_complex(row: Sample) -> None:
    args = row.make(torch.float32)
    got = results(row.op, args)
    with spectral_ops.use("reference"):
        plain = results(row.op, args)
        wide = map_tensors(lambda t: t.to(torch.promote_types(t.dtype, torch.float64)) if floating(t) else t, args)
        wanted = results(row.op, wide)
    for y, p, e in zip(got, plain, wanted, strict=True):
        assert y.shape == e.shape and y.dtype == p.dtype and y.is_contiguous()
        if y.numel():
            assert (y - e).norm() <= 40 * torch.finfo(torch.float32).eps * e.norm()


@pytest.mark.parametrize("row", ours(COMPLEX))
def test_complex_values(row: Sample) -> None:
    if not refused(row, torch.float32):
        check_complex(row)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("op", ["from_branches", "branch_linear", "spectral_mlp"])
def test_layouts(op: str, layout: str) -> None:
    """The machine makes tensors dense for every kernel."""
    row = next(row for row in rows_of(op) if 20 < row.values < 1000)
    if refused(row, torch.float32):
        return
    args = map_tensors(LAYOUTS[layout], row.make(torch.float32))
    got = results(op, args)
    wanted = results(op, map_tensors(lambda t: t.contiguous(), args))
    assert all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(got, wanted, strict=True))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")], ids=str)
@pytest.mark.parametrize("row", ours([row for row in poisoned_rows() if row.values < 1500])[::3])
def test_nan_and_inf_pass_through(row: Sample, value: float) -> None:
    if not refused(row, torch.float32):
        check_extremes(row, value)


GUARD = 4096  # values on both sides: more than any block


def between_guards(launches: list[Launch]) -> None:
    """Run launches on copies of their tensors that lie between NaN: what is read there spoils the results, what is
    written there is found. Kernels read what they write, so one copy serves all launches."""
    copies: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def copy(t: torch.Tensor) -> torch.Tensor:
        whole = t.new_empty(0).set_(t.untyped_storage())
        if not t.numel():
            return t
        if whole.data_ptr() not in copies:
            buffer = t.new_full((whole.numel() + 2 * GUARD,), torch.nan if t.is_floating_point() else -1)
            buffer[GUARD:-GUARD] = whole
            copies[whole.data_ptr()] = whole, buffer
        return copies[whole.data_ptr()][1].as_strided(t.shape, t.stride(), GUARD + t.storage_offset())

    for launch in launches:
        launch._replace(arguments={k: map_tensors(copy, value) for k, value in launch.arguments.items()}).run()
    for whole, buffer in copies.values():
        around = torch.cat([buffer[:GUARD], buffer[-GUARD:]])
        assert bool((around.isnan() if around.is_floating_point() else around == -1).all()), "written out of bounds"
        whole.copy_(buffer[GUARD:-GUARD])


@pytest.fixture
def guarded(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """All launches run between guards, and buffers start as NaN: nobody reads what nobody wrote."""
    monkeypatch.setattr(triton_backend, "run", lambda name, args, out: between_guards(
        triton_backend.kernels(name).plan(args, out, 90)
    ))  # fmt: skip
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("guarded")
@pytest.mark.parametrize("op", OPS)
def test_stays_inside_its_memory(op: str) -> None:
    """Every op at the largest size that is quick, real and complex."""
    for check, rows in ((check_real, RIGHT), (check_complex, COMPLEX)):
        by_size = sorted(filled(rows, op, 800), key=lambda row: -row.values)
        row = next((row for row in by_size if not refused(row, torch.float32)), None)
        assert row or rows is COMPLEX
        if row:
            check(row)


@triton.jit
def _faulty_kernel(x_ptr, y_ptr, n, BEFORE: tl.constexpr, BEYOND: tl.constexpr):
    at = tl.arange(0, 16)
    tl.store(y_ptr + at, tl.load(x_ptr + at - BEFORE, mask=at < n, other=0.0), mask=at < n + BEYOND)


@pytest.mark.parametrize(("before", "beyond"), [(0, 0), (1, 0), (0, 1)], ids=["right", "reads", "writes"])
def test_the_guards_find_faults(before: int, beyond: int) -> None:
    x, y = torch.ones(9), torch.zeros(9)
    constants = {"BEFORE": before, "BEYOND": beyond}
    launch = Launch(_faulty_kernel, 1, {"x_ptr": x, "y_ptr": y, "n": 9}, constants, tiles.ROWS[0])
    if beyond:
        with pytest.raises(AssertionError, match="written out of bounds"):
            between_guards([launch])
    else:
        between_guards([launch])
        assert y.isnan().tolist() == [before == 1] + [False] * 8


@pytest.mark.parametrize(
    "name", ["branch_mlp_backward-N33-I57", "spectral_ensemble_backward-N17", "branch_rnn_backward-T5"]
)
def test_a_program_with_several_tiles(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of few samples each tile has a program of its own; of many a program adds the gradients of its tiles."""
    for module in ("network_gradients", "layers"):
        monkeypatch.setattr(triton_backend.kernels(module), "PROGRAMS", 1)
    check_real(next(row for row in RIGHT if row.id.startswith(name)))


CONVOLUTIONS = [*rows_of("tucker_conv2d"), *rows_of("csg_conv2d")]


@pytest.mark.parametrize("row", [row for row in CONVOLUTIONS if row.small], ids=lambda row: row.id)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_convolutions_through_autograd(row: Sample, layout: torch.memory_format) -> None:
    """Forward and backward on the kernels, in both layouts: values, layout and the gradient of every argument."""
    args = row.make(torch.float32)
    args[0] = args[0].contiguous(memory_format=layout)
    leaves = [t.requires_grad_() for t in args if isinstance(t, torch.Tensor) and floating(t)]
    op = getattr(torch.ops.spectral, row.op)
    y = op(*args)
    assert y.is_contiguous(memory_format=layout) and "_Differentiable" in y.grad_fn.name()
    seed = torch.linspace(-1, 1, y.numel()).view(y.shape)
    got = torch.autograd.grad(y, leaves, seed)
    with spectral_ops.use("reference"):
        plain = op(*args)
        wanted = torch.autograd.grad(plain, leaves, seed)
    torch.testing.assert_close(y, plain, rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(got, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=["first", "last"])
@pytest.mark.parametrize("name", ["csg_conv2d-N1-G1-4x3", "csg_conv2d-N2-G2-3x3"])
def test_a_persistent_convolution(
    name: str, memory_format: torch.memory_format, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there are more blocks of pixels than programs, each generates its filters once and takes several blocks."""
    module = triton_backend.kernels("csg_conv2d")
    monkeypatch.setattr(module, "PROGRAMS", 3)
    row = next(row for row in RIGHT if row.id.startswith(name))
    args = row.make(torch.float32)
    x = torch.randn(1024 // args[0][0, 0].numel(), *args[0].shape[1:]).contiguous(memory_format=memory_format)
    args[0] = x
    shape = module.Shape(args[3], args[4], args[10], args[9] == "flat")
    schedule = module.Schedule.of(shape, x.dtype, x[:, 0].numel(), True, 90)
    assert schedule.persistent and schedule.programs <= 3
    (y,), (limit,) = results(row.op, args), bounds.bounded(row.op, args, torch.float32)
    assert y.stride() == y.contiguous(memory_format=memory_format).stride()
    bounds.check(y, limit, row.id)
    given = [torch.randn_like(y), *args[:5], *args[6:], True, False, False]
    limits = bounds.bounded("csg_conv2d_backward", given, torch.float32)
    bounds.check(results("csg_conv2d_backward", given)[0], limits[0], row.id)


@pytest.mark.parametrize("name", ["tucker_conv2d-N2-C12-O18-r2to3", "tucker_conv2d_backward-N2-C12-O18-r2to3"])
def test_a_program_with_several_tiles_of_images(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("tucker_conv2d", "tucker_conv2d_backward"):
        monkeypatch.setattr(triton_backend.kernels(module), "PROGRAMS", 1)
    check_real(next(row for row in RIGHT if row.id.startswith(name)))


def gradients(op: str, args: list) -> list:
    """The op's results and their gradients to all floating tensors, for a fixed gradient of the results."""
    leaves = map_tensors(lambda t: t.detach().requires_grad_(floating(t)), args)
    out = results(op, leaves)
    generator = torch.Generator().manual_seed(0)
    seeds = [torch.randn(y.shape, dtype=y.dtype, generator=generator) for y in out]
    return [*out, *torch.autograd.grad(out, [t for t in flatten(leaves)[0] if t.requires_grad], seeds)]


ENDS = ("branch_conv2d", "branch_linear", "spectral_linear", "spectral_mlp", "branch_rnn")
SMALL = [row for row in RIGHT + COMPLEX if row.op in ENDS and row.small]


@pytest.mark.parametrize("row", SMALL[::2], ids=lambda row: row.id)
def test_gradients_from_end_to_end(row: Sample) -> None:
    """Forcing Triton, every op of a backward pass runs there: a stage without a kernel would raise."""
    if refused(row, torch.float32):
        return
    args = row.make(torch.float32)
    got = gradients(row.op, args)
    with spectral_ops.use("reference"):
        wanted = gradients(row.op, args)
    for y, e in zip(got, wanted, strict=True):
        assert y.dtype == e.dtype
        torch.testing.assert_close(y, e, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("row", [row for row in RIGHT + COMPLEX if row.op == "spectral_conv2d" and row.small][::2])
def test_the_stages_of_a_spectral_convolution(row: Sample) -> None:
    """What the composition does on a GPU, its branches in Triton."""
    args = row.make(torch.float32)
    with spectral_ops.use("reference"):
        wanted = torch.ops.spectral.spectral_conv2d(*args)
    torch.testing.assert_close(spectral_conv2d._on_gpu(*args), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("imaginary", [False, True])
def test_images_stay_in_their_format(imaginary: bool) -> None:
    """The kernels read and write either format, and the result has that of x."""
    x, weight = make([T((2, 3, 4, 5, 6), imaginary=imaginary), T((3, 2, 4, 3, 3), imaginary=imaginary)])
    last = x.flatten(1, 2).contiguous(memory_format=torch.channels_last).unflatten(1, (3, 4))
    geometry = ([2, 1], [1, 1], [1, 1])
    plain, other = (torch.ops.spectral.branch_conv2d(t, weight, None, "none", *geometry) for t in (x, last))
    assert torch.equal(plain, other) and plain.is_contiguous()
    assert other.flatten(1, 2).is_contiguous(memory_format=torch.channels_last)
    for grads in (plain, other):
        a, b = (torch.ops.spectral.branch_conv2d_backward(grads, t, weight, *geometry) for t in (x, last))
        assert torch.equal(a[0], b[0]) and torch.equal(a[1], b[1])
        assert b[0].flatten(1, 2).is_contiguous(memory_format=torch.channels_last)


WIDE = [[T((2, 140, 4), "weight"), T((2, 5, 140), "weight")], [T((2, 140), "bias"), None], ["gelu", "tanh"]]
DATA = [T((3, 4, 2)), T((2, 2), "dct2")]


@pytest.mark.parametrize("op", ["spectral_mlp", "spectral_ensemble", "spectral_mlp_cross_entropy"])
def test_past_one_kernel_networks_go_layer_by_layer(op: str) -> None:
    """Forward, and with the gradients of the op that has them."""
    rest = {"spectral_ensemble": [T((2,), "share"), "logits"], "spectral_mlp_cross_entropy": [T((3,), "class5")]}
    calls = {op: [*DATA, *WIDE, *rest.get(op, [])]}
    if op == "spectral_mlp":
        calls["branch_mlp_backward"] = [T((2, 3, 5)), T((2, 3, 4)), *WIDE, True]
    elif op == "spectral_ensemble":
        calls["spectral_ensemble_backward"] = [T((3, 5)), *calls[op], True]
    else:
        calls["spectral_mlp_cross_entropy_with_grads"] = [*calls[op], True]
    for name, row in calls.items():
        args = make(row)
        assert "-> triton  (layer by layer: a branch with 140 features is past" in spectral_ops.explain(name, *args)
        launches = triton_backend.kernels(name).plan(args, rule_of(name).empty(*args), 90)
        kernels = {launch.kernel.fn.__name__ for launch in launches}
        assert kernels.isdisjoint({"network_kernel", "network_gradients_kernel"}) and len(kernels) > 1
        check_values(name, lambda seed, args=args: args, torch.float32)


CHAIN_GRADIENTS = ("branch_mlp_backward", "spectral_linear_backward", "spectral_ensemble_backward")


@pytest.mark.parametrize("op", [*CHAIN_GRADIENTS, "spectral_mlp_cross_entropy_with_grads"])
def test_gradients_are_one_kernel_and_the_sum_of_its_parts(op: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the transforms; of real and complex networks, of eight layers too."""
    seen: list[list[str]] = []

    def look(name: str, args: list, out: tuple) -> None:
        launches = triton_backend.kernels(name).plan(args, out, 90)
        seen.append([launch.kernel.fn.__name__ for launch in launches if "tubes" not in launch.kernel.fn.__name__])

    monkeypatch.setattr(triton_backend, "run", look)
    for rows in (RIGHT, COMPLEX):
        for row in filled(rows, op, 1 << 30):
            args = row.make(torch.float32)
            if not refused(row, torch.float32) and "layer by layer" not in spectral_ops.explain(op, *args):
                results(op, args)
        assert seen and all(names == ["network_gradients_kernel", "sums_kernel"] for names in seen)
        seen.clear()


def test_a_deep_network_is_one_kernel() -> None:
    """Of nine layers, and its gradients that and the sum of their parts; past 64 layers they go one by one."""
    deep = [[T((2, 4, 4), "weight")] * 9, [T((2, 4), "bias")] * 8 + [None], ["silu"] * 8 + ["tanh"]]
    x = T((2, 3, 4))
    for name, given in {"spectral_mlp": [x, None, *deep], "branch_mlp_backward": [x, x, *deep, True]}.items():
        row = Sample(name, "deep", tuple(given))
        args = row.make(torch.float32)
        launches = triton_backend.kernels(name).plan(args, rule_of(name).empty(*args), 90)
        assert len(launches) == 1 + (name == "branch_mlp_backward")
        assert "layer" not in spectral_ops.explain(name, *args)
        check_real(row)
    layers = [[args[2][0]] * 65, [None] * 65, ["none"] * 65]
    assert "65 layers are past 64" in spectral_ops.explain("spectral_mlp", args[1], None, *layers)
