"""Values of every op against float64: backend x SIMD level x dtype x layout x size; equal bits for any threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import bounds
import pytest
import torch
from calls import listed, results
from samples import DTYPES, LAYOUTS, RIGHT, Sample, T, floating, make, map_tensors, rows_of, typical
from torch import Tensor

import spectral_ops
from spectral_ops.autograd import flatten
from spectral_ops.op import rule_of
from spectral_ops.table import TABLE

FULL, HALF = DTYPES[:2], DTYPES[2:]
rows = pytest.mark.parametrize("row", RIGHT, ids=lambda row: row.id)
dtypes = pytest.mark.parametrize("dtype", FULL, ids=str)
halves = pytest.mark.parametrize("dtype", HALF, ids=str)


def exact(op: str, args: list[Any]) -> list[Tensor]:
    """The reference in float64."""
    wide = map_tensors(lambda t: t.double() if floating(t) else t, args)
    with spectral_ops.use("reference"):  # of the ops that a composition is made of, too
        return listed(rule_of(op).reference(*wide))


def refused(op: str, args: list[Any], backend: str) -> bool:
    """Whether the C++ kernels decline these arguments; then forcing them must raise the reason."""
    reason = None if backend == "reference" else dict(spectral_ops.backends(op, *args))["cpp"]
    if reason is not None:
        with pytest.raises(RuntimeError) as caught:
            results(op, args)
        assert str(caught.value) == f"{op}: backend 'cpp' was asked for, but {reason}"
    return reason is not None


def check_values(op: str, draw: Callable[[int], list[Any]], dtype: torch.dtype) -> None:
    """Within the bound elementwise, and at most twice as far off as the plain composition in the same dtype.

    draw(seed) gives arguments. In one draw of a few values plain rounding may by luck be nearly exact; then the mean of
    32 more decides.
    """
    distances = _distances(op, draw(0), dtype)
    lucky = [i for i, d in enumerate(distances) if d and not _close(*d)]
    if lucky:
        more = [_distances(op, draw(seed), dtype) for seed in range(1, 33)]
        for i in lucky:
            ours, plains = torch.tensor([d[i] for d in more if d[i]], dtype=torch.float64).mean(0).tolist()
            assert _close(ours, plains), f"{op}, result {i}: {ours} off, the plain composition {plains}"


def _close(ours: float, plains: float) -> bool:
    return ours <= 2 * plains + torch.finfo(torch.float32).eps


def _distances(op: str, args: list[Any], dtype: torch.dtype) -> list[tuple[float, float] | None]:
    """How far off each result is, and the plain composition's; None where that says nothing. Checks the bound."""
    got = results(op, args)
    with spectral_ops.use("reference"):
        plain = results(op, args)
    wanted, limits = exact(op, args), bounds.bounded(op, args, dtype)
    assert len(got) == len(plain) == len(wanted) == len(limits)
    distances: list[tuple[float, float] | None] = []
    for i, (y, p, e, limit) in enumerate(zip(got, plain, wanted, limits, strict=True)):
        assert y.shape == p.shape and y.dtype == p.dtype
        assert y.is_contiguous() or y.stride() == p.stride() == y.contiguous(memory_format=torch.channels_last).stride()
        torch.testing.assert_close(limit.v, e, rtol=1e-11, atol=1e-11, equal_nan=True)
        bounds.check(y, limit, f"{op}, result {i}")
        # float64 is its own oracle; and where a slope of relu is unsure, either side may be wrong by one whole term
        unsure = y.numel() == 0 or bool((limit.e > 1e-2 * e.abs().max()).any()) or bool(e.isnan().any())
        skip = dtype == torch.float64 or unsure
        distances.append(None if skip else (bounds.relative(y, e), bounds.relative(p, e)))
    return distances


@rows
@dtypes
def test_values(row: Sample, dtype: torch.dtype, backend: str) -> None:
    if not refused(row.op, row.make(dtype), backend):
        check_values(row.op, lambda seed: row.make(dtype, seed=seed), dtype)


@rows
@halves
def test_values_in_half(row: Sample, dtype: torch.dtype, backend: str) -> None:
    if not refused(row.op, row.make(dtype), backend):
        check_values(row.op, lambda seed: row.make(dtype, seed=seed), dtype)


def _layout_rows() -> list[Sample]:
    """Of each op the typical row and two that are not round."""
    return [row for op in TABLE for row in (rows_of(op)[0], *rows_of(op)[6:9:2])]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("row", _layout_rows(), ids=lambda row: row.id)
@dtypes
def test_layouts(row: Sample, layout: str, dtype: torch.dtype, backend: str) -> None:
    args = map_tensors(LAYOUTS[layout], row.make(dtype))
    before = map_tensors(torch.clone, args)
    check_values(row.op, lambda seed: map_tensors(LAYOUTS[layout], row.make(dtype, seed=seed)) if seed else args, dtype)
    if backend != "reference":  # whose GEMMs are the library's
        again = results(row.op, map_tensors(lambda t: t.contiguous(), args))
        assert all(torch.equal(a, b) for a, b in zip(results(row.op, args), again, strict=True)), "other bits"
    unchanged, _ = flatten(args)
    assert all(torch.equal(a, b) for a, b in zip(unchanged, flatten(before)[0], strict=True)), "an input was written to"


def poisoned_rows() -> list[Sample]:
    keep = ("Q5-N17", "Q2-N33", "N17", "N33", "N16-I8", "5x7", "33x29", "Q4-N16", "N5-I57", "N64-I28-Q28to28-dct2")
    return [row for row in RIGHT if any(word in row.id for word in keep)]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")], ids=str)
@pytest.mark.parametrize("row", poisoned_rows(), ids=lambda row: row.id)
def test_nan_and_inf_pass_through(row: Sample, value: float, level: str) -> None:
    check_extremes(row, value)


def check_extremes(row: Sample, value: float) -> None:
    """One such value in each tensor in turn: NaN and Inf come out exactly where the reference has them."""
    args = row.make(torch.float32)
    for i, t in enumerate(flatten(args)[0]):
        if not floating(t):
            continue
        # the first, the last, one in the middle, and in the middle of a tube: the value that the halves of a DCT share
        for where in {0, t.numel() - 1, t.numel() // 2, t.shape[-1] // 2}:
            poisoned = map_tensors(torch.clone, args)
            flatten(poisoned)[0][i].view(-1)[where] = value
            got = results(row.op, poisoned)
            with spectral_ops.use("reference"):
                wanted = results(row.op, poisoned)
            for j, (y, e) in enumerate(zip(got, wanted, strict=True)):
                # aten's gelu and silu (and their slopes) make NaN of inf * 0, where a kernel may take the limit
                e = torch.where(e.isnan(), y, e) if value == value and _has_limits(row) else e
                _same_extremes(y, e, f"result {j}, {value} at value {where} of tensor {i}")


def _has_limits(row: Sample) -> bool:
    names = [name for arg in row.args for name in (arg if isinstance(arg, list) else [arg])]
    return "gelu" in names or "silu" in names


def _same_extremes(y: Tensor, e: Tensor, what: str) -> None:
    for kind in (torch.isnan, torch.isposinf, torch.isneginf):
        differ = (kind(y) != kind(e)).nonzero()
        if len(differ):
            at = tuple(differ[0].tolist())
            pytest.fail(f"{what}: {len(differ)} of {y.numel()} differ, first {at}: {y[at].item()}, not {e[at].item()}")


# ---- threads -------------------------------------------------------------------------------------------------------
GRADIENT_OPS = tuple(op for op in TABLE if op.endswith(("_backward", "_with_grads")))
MATRICES = {"transform", "inverse", "matrix"}


def _names(op: str) -> list[str]:
    return [argument.name for argument in getattr(torch.ops.spectral, op).default._schema.arguments]


def _with_threads(count: int, op: str, args: list[Any], matrices: bool) -> dict[str, Tensor]:
    """Results and first gradients (of the matrices, or of all others) by name, computed with `count` threads."""
    torch.set_num_threads(count)
    leaves, wanted = [], {}
    for name, value in zip(_names(op), args, strict=True):
        leaves.append(map_tensors(lambda t: t.detach().clone(), value))
        if op not in GRADIENT_OPS and (name in MATRICES) == matrices:
            map_tensors(lambda t: t.requires_grad_(floating(t)), leaves[-1])
        wanted |= {f"grad {name} {i}": t for i, t in enumerate(flatten([leaves[-1]])[0]) if t.requires_grad}
    out = results(op, leaves)
    found = {f"result {i}": y.detach() for i, y in enumerate(out)}
    if wanted:
        seeds = [torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape) for y in out]
        found |= zip(wanted, torch.autograd.grad(out, list(wanted.values()), seeds), strict=True)
    return found


def _check_threads(op: str, args: list[Any], matrices: bool) -> None:
    single = _with_threads(1, op, args, matrices)
    for count in (2, 4):
        several = _with_threads(count, op, args, matrices)
        differ = [name for name in single if not torch.equal(single[name], several[name])]
        assert not differ, f"with {count} threads other bits in {', '.join(differ)} (of {len(single)})"


_N = 1000  # samples: enough pieces of work for every thread
_NET = [
    T((_N, 28, 28)), T((28, 28), "dct2"), [T((28, 28, 28), "weight"), T((28, 10, 28), "weight")],
    [T((28, 28), "bias"), None], ["relu", "none"],
]  # fmt: skip
_LAYER = [_NET[2][0], _NET[3][0]]
_RNN = [
    T((3, 28, _N, 17)), T((28, 28, 17), "weight"), T((28, 28, 28), "weight"), T((28, 10, 28), "weight"),
    T((28, 28), "bias"), T((28, _N, 28), "state"),
]  # fmt: skip
_FILTERS = [T((1704, 70)), T((144, 70), "weight"), [160, 120, 3, 3, 90, 80, 3, 3], [8, 6, 3, 1], "block", True]
_MANY: dict[str, list[Any]] = {
    "dct": [T((_N, 28, 28)), 2, -1, "ortho", False, True],
    "dct_adjoint": [T((_N, 28, 28)), 3, 1, "backward", False, False],
    "dctn": [T((_N, 8, 5, 8)), [1, 3], 2, "ortho", False, True, False, False],
    "mode_product": [T((_N, 28, 28)), T((28, 28), "random"), 1],
    "dst": [T((_N, 28, 28)), 4, -1, "ortho", False, True],
    "dst_adjoint": [T((_N, 28, 28)), 2, 1, "backward", False, False],
    "hadamard": [T((_N, 28, 32)), 2, True],
    "to_branches": [T((_N, 28, 28)), T((28, 28), "random")],
    "from_branches": [T((28, _N, 28)), T((28, 28), "dct3")],
    "branch_linear": [T((3, _N, 31)), T((3, 29, 31), "weight"), T((3, 29), "bias"), "gelu"],
    "branch_mlp_backward": [T((28, _N, 10)), T((28, _N, 28)), *_NET[2:], True],
    "spectral_linear": [*_NET[:2], *_LAYER, "tanh", T((28, 28), "dct3"), "relu"],
    "spectral_linear_backward": [*[_NET[0]] * 3, _NET[1], *_LAYER, "tanh", T((28, 28), "dct3"), "relu", True],
    "spectral_mlp": _NET,
    "spectral_mlp_cross_entropy": [*_NET, T((_N,), "class10")],
    "spectral_mlp_cross_entropy_with_grads": [*_NET, T((_N,), "class10"), True],
    "branch_ensemble": [T((28, _N, 10)), T((28,), "share"), "probabilities"],
    "branch_ensemble_backward": [T((_N, 10)), T((28, _N, 10)), T((28,), "share"), "probabilities"],
    "spectral_ensemble": [*_NET, T((28,), "share"), "logits"],
    "spectral_ensemble_backward": [T((_N, 10)), *_NET, T((28,), "share"), "probabilities", True],
    "branch_rnn": [*_RNN, "tanh", "none", None],
    "branch_rnn_with_states": [*_RNN, "silu", "tanh", T((_N,), "class4")],
    "branch_rnn_backward": [
        T((3, 28, _N, 10)),
        None,
        T((3, 28, _N, 28)),
        *_RNN,
        T((3, 28, _N, 28), "state"),
        "tanh",
        "sigmoid",
        T((_N,), "class4"),
        True,
    ],
    "csg_kernels": _FILTERS,
    "csg_kernels_backward": [[T((160, 3, 3, 120)), T((90, 3, 3, 80))], *_FILTERS, True, True],
}
ALONE = [op for op in TABLE if TABLE[op].stages is None]  # the others' sums over samples are the library's


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("op", ALONE)
@pytest.mark.parametrize("branches", ["all", "one"])
def test_any_number_of_threads_gives_equal_bits(op: str, branches: str, level: str) -> None:
    """Results and gradients; with one branch the samples have to be shared out, weight gradients included."""
    args = make(_MANY[op])
    if branches == "all":
        _check_threads(op, args, matrices=False)
    elif not op.startswith(("csg", "dct", "dst", "hadamard", "mode")):
        _check_threads(op, _first_branch(op, args), matrices=False)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("op", [op for op in ALONE if op not in GRADIENT_OPS and MATRICES & set(_names(op))])
def test_any_number_of_threads_gives_equal_matrix_gradients(op: str, level: str) -> None:
    """The gradients of transform and inverse (learned transforms), which are sums over all samples and features."""
    _check_threads(op, make(_MANY[op]), matrices=True)


def _first_branch(op: str, args: list[Any]) -> list[Any]:
    """The arguments cut down to one branch (Q' = 1); the tube stays 28 long."""
    branched = {"transform", "weight", "bias", "weights", "biases", "branch_weights", "logits"}
    branched |= {"branch_mlp_backward": {"x", "grad_y"}, "branch_linear": {"x"}, "from_branches": {"y"}}.get(op, set())
    if op.startswith("branch_rnn"):  # Q is the second dimension where there is a T
        return map_tensors(lambda t: t[:, :1] if t.dim() == 4 else t[:1] if t.dim() > 1 else t, args)
    cut = [map_tensors(lambda t: t[:1], a) if n in branched else a for n, a in zip(_names(op), args, strict=True)]
    return [a[:, :1] if n == "inverse" else a for n, a in zip(_names(op), cut, strict=True)]


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("row", [row for op in TABLE for row in rows_of(op)[:8]], ids=lambda row: row.id)
def test_threads_at_every_size(row: Sample, level: str) -> None:
    args = row.make(torch.float32)
    if refused(row.op, args, level):
        return
    runs = []
    for count in (1, 2, 4):
        torch.set_num_threads(count)
        runs.append(results(row.op, args))
    for other in runs[1:]:
        assert all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(runs[0], other, strict=True))


def test_a_hundred_thousand_samples(backend: str) -> None:
    n = 100_000
    net = [T((n, 7, 8)), T((8, 8), "dct2"), [T((8, 9, 7), "weight"), T((8, 3, 9), "weight")], [T((8, 9), "bias"), None]]
    args = make([*net, ["relu", "none"], T((n,), "class3"), True])
    op = "spectral_mlp_cross_entropy_with_grads"
    check_values(op, lambda seed: args, torch.float32)
    last = map_tensors(lambda t: t[-3:] if t.shape[0] == n else t, args)
    tail = results("spectral_mlp", last[:5])[0]
    torch.testing.assert_close(results("spectral_mlp", args[:5])[0][:, -3:], tail, rtol=1e-5, atol=1e-6)


# ---- the checks above can fail -------------------------------------------------------------------------------------
@pytest.mark.parametrize("op", TABLE)
def test_the_bound_is_tight_enough_to_see_a_wrong_value(op: str) -> None:
    """One result moved by 1e-3 of the largest is out of bounds, for every op at its typical size."""
    args = typical(op).make(torch.float32)
    for y, limit in zip(exact(op, args), bounds.bounded(op, args, torch.float32), strict=True):
        bounds.check(y.float(), limit, op)
        wrong = y.float().contiguous()
        flat = limit.e.flatten().argsort()[wrong.numel() // 2]  # a value with a middling bound
        wrong.view(-1)[flat] += 1e-3 * wrong.abs().max()
        with pytest.raises(AssertionError, match=r"1 of .* values out of bounds"):
            bounds.check(wrong, limit, op)
