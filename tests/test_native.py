"""The C++ kernels called directly, with guards around their memory. `make sanitize` runs this file with ASAN and UBSAN.

The results start as a pattern and lie between guards: a kernel must write all of them and nothing beside them. What
lies beside the inputs is NaN: a kernel that uses a value from outside shows it.
"""

from __future__ import annotations

from typing import Any

import bounds
import pytest
import torch
from samples import RIGHT, Sample, T, floating, make, map_tensors, typical
from torch import Tensor

import spectral_ops
from spectral_ops.autograd import flatten, unflatten
from spectral_ops.op import rule_of
from spectral_ops.table import TABLE

pytestmark = pytest.mark.native
GUARD = 4096  # values on both sides: more than any tile
PATTERN = -7.25e33  # no kernel computes this
LARGE = 1 << 21  # values of float32 whose lines go past the caches


def guarded(t: Tensor, value: float) -> Tensor:
    """A copy of t (or of its dense shape) in the middle of a larger buffer that is filled with `value`."""
    buffer = t.new_full((t.numel() + 2 * GUARD,), value)
    return buffer[GUARD : GUARD + t.numel()].as_strided(t.shape, t.stride())


def around(t: Tensor) -> Tensor:
    """What lies before and after a guarded tensor."""
    whole = t.new_empty(0).set_(t.untyped_storage())
    return torch.cat([whole[:GUARD], whole[GUARD + t.numel() :]])


def call(op: str, args: list[Any]) -> list[Tensor]:
    """The kernel's results between guards, checked; the inputs lie between NaN."""
    rule = rule_of(op)
    out = rule.empty(*args)
    results, structure = flatten(out if isinstance(out, tuple) else [out])
    results = [guarded(r, PATTERN) for r in results]
    filled = unflatten(results, structure)
    inputs = map_tensors(lambda t: guarded(t.contiguous(), torch.nan).copy_(t) if floating(t) else t, args)
    if TABLE[op].stages:  # the call allocates its results
        return flatten([rule.cpp(inputs)])[0]
    rule.cpp(inputs, filled[0] if len(filled) == 1 else filled)
    for i, r in enumerate(results):
        assert bool((around(r) == PATTERN).all()), f"{op} wrote beside result {i}"
        assert not bool((r == PATTERN).any()), f"{op} left values of result {i} unwritten"
    return results


@pytest.mark.parametrize("row", RIGHT, ids=lambda row: row.id)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_stays_inside_its_memory(row: Sample, dtype: torch.dtype, level: str) -> None:
    args = row.make(dtype)
    if dict(spectral_ops.backends(row.op, *args))["cpp"] is not None:
        return  # op.py never calls the kernel with these
    results = call(row.op, args)
    if any(r.numel() for r in results):
        for r, limit in zip(results, bounds.bounded(row.op, args, dtype), strict=True):
            bounds.check(r, limit, row.op)


@pytest.mark.parametrize("op", TABLE)
@pytest.mark.parametrize(
    "samples", [1, 2, 3, 5, 8, 13, 15, 16, 17, 31, 32, 33, 34, 47, 63, 64, 65, 127, 128, 129, 256, 257]
)
def test_every_remainder_of_samples(op: str, samples: int, level: str) -> None:
    """The samples are the vector dimension: each remainder of a tile has to be stored right."""
    args = _with_samples(op, samples).make(torch.float32)
    for r, limit in zip(call(op, args), bounds.bounded(op, args, torch.float32), strict=True):
        bounds.check(r, limit, f"{op}, {samples} samples")


def _with_samples(op: str, samples: int) -> Sample:
    """The typical row of an op with fewer branches and another number of samples."""

    def resize(value: Any) -> Any:
        if isinstance(value, list):
            return [resize(v) for v in value]
        if not isinstance(value, T):
            return value
        return T(tuple(samples if s == 64 else s for s in value.shape), value.kind)

    row = typical(op)
    return Sample(op, f"{row.id}-{samples}", tuple(resize(a) for a in row.args))


@pytest.mark.parametrize("width", [*range(1, 34), 57, 63, 64, 65, 127, 128])
def test_every_width(width: int, level: str) -> None:
    """Features in and out of one branch, one at a time, forward and backward: each remainder of a register block."""
    for i, o in ((width, 5), (5, width), (width, width)):
        layer = [[T((2, o, i), "weight")], [T((2, o), "bias")], ["silu"]]
        for op, args in (
            ("spectral_mlp", [T((2, 19, i)), None, *layer]),
            ("branch_mlp_backward", [T((2, 19, o)), T((2, 19, i)), *layer, True]),
        ):
            made = make(args)
            for r, limit in zip(call(op, made), bounds.bounded(op, made, torch.float32), strict=True):
                bounds.check(r, limit, f"{op}, {i} -> {o}")


@pytest.mark.parametrize("length", range(1, 65))
@pytest.mark.parametrize("kind", ["dct2", "dct3", "random"])
def test_every_tube_length(length: int, kind: str, level: str) -> None:
    square = T((length, length), kind)
    calls = [
        ("to_branches", [T((3, 5, length)), square]),
        ("from_branches", [T((length, 3, 5)), square]),
        ("spectral_linear", [T((3, 2, length)), square, T((length, 2, 2), "weight"), None, "none", square, "relu"]),
    ]
    if kind != "random":
        calls += [(op, [T((3, length)), int(kind[3]), 1, "ortho", False, True]) for op in ("dct", "dct_adjoint")]
        calls += [("dct", [T((3, length, 5)), int(kind[3]), 1, "backward", True, False])]
        calls += [("dst", [T((3, length)), int(kind[3]), 1, "ortho", False, True])]
    else:
        calls += [(op, [T((3, length)), 4, 1, "ortho", False, True]) for op in ("dct", "dst")]
        calls += [(op, [T((3, length + 1)), 1, 1, "ortho", False, True]) for op in ("dct", "dst") if length < 64]
    for op, args in calls:
        made = make(args)
        for r, limit in zip(call(op, made), bounds.bounded(op, made, torch.float32), strict=True):
            bounds.check(r, limit, f"{op}, length {length}")


@pytest.mark.parametrize("length", range(16, 65, 2))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_every_even_length_of_type_4(length: int, dtype: torch.dtype, level: str) -> None:
    """A rotation and two transforms of half the length, even or odd: blocks of rows, whole and ragged tiles, planes."""
    along, options = [4, 1, "ortho", False, True], [4, "backward", True, False]
    calls = [(op, [T(shape), *along]) for op in ("dct", "dst") for shape in ((25, length), (2, length, 39))]
    calls += [("dct_adjoint", [T((2, length, 64)), *along]), ("dst_adjoint", [T((25, length)), *along])]
    calls += [("dctn", [T((2, 18, length)), [1, 2], *options, sine, False]) for sine in (False, True)]
    for op, args in calls:
        made = make(args, dtype)
        for r, limit in zip(call(op, made), bounds.bounded(op, made, dtype), strict=True):
            bounds.check(r, limit, f"{op}, length {length}")


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("n", [16, 26, 30, 50, 64])
def test_what_is_not_finite_stays_in_its_tube(n: int, value: float, level: str) -> None:
    for op, type in (("dct", 2), ("dct", 3), ("dct", 4), ("dst", 4)):
        for j in range(n):
            rows = torch.randn(19, n, generator=torch.Generator().manual_seed(n))
            rows[7, j] = value
            for x, dim in ((rows, 1), (rows.mT.contiguous()[None], 1)):
                (y,) = call(op, [x, type, dim, "ortho", False, True])
                tubes = y if x is rows else y[0].mT
                assert not tubes[7].isfinite().any(), f"{op} of type {type}, {value} at {j}"
                assert tubes[:7].isfinite().all() and tubes[8:].isfinite().all()


@pytest.mark.parametrize("stages", range(13))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_every_power_of_two(stages: int, dtype: torch.dtype, level: str) -> None:
    """Tubes shorter and longer than a vector, contiguous and strided, in one part and in several."""
    n = 1 << stages
    for shape, dim in (((5, n), 1), ((2, n, 3), 1), ((n, 37), 0)):
        args = make([T(shape), dim, True], dtype)
        for r, limit in zip(call("hadamard", args), bounds.bounded("hadamard", args, dtype), strict=True):
            bounds.check(r, limit, f"hadamard, {shape}")


@pytest.mark.parametrize("classes", [*range(1, 34), 100, 128])
def test_every_number_of_classes(classes: int, level: str) -> None:
    n, q = 37, 3
    layer = [T((n, 4, q)), T((q, q), "dct2"), [T((q, classes, 4), "weight")], [T((q, classes), "bias")], ["none"]]
    logits, shares = T((q, n, classes)), T((q,), "share")
    for op, args in (
        ("branch_ensemble", [logits, shares, "probabilities"]),
        ("branch_ensemble_backward", [T((n, classes)), logits, shares, "probabilities"]),
        ("spectral_mlp_cross_entropy", [*layer, T((n,), f"class{classes}")]),
        ("spectral_mlp_cross_entropy_with_grads", [*layer, T((n,), f"class{classes}"), True]),
        ("spectral_ensemble", [*layer, shares, "probabilities"]),
        ("spectral_ensemble_backward", [T((n, classes)), *layer, shares, "probabilities", True]),
    ):
        made = make(args)
        for r, limit in zip(call(op, made), bounds.bounded(op, made, torch.float32), strict=True):
            bounds.check(r, limit, f"{op}, {classes} classes")


def test_large_logits_do_not_overflow(level: str) -> None:
    """Softmax subtracts the largest logit: 1e4 and -1e4 side by side stay finite."""
    logits = torch.tensor([[[1e4, -1e4, 0.0]], [[-1e4, -1e4, -1e4]]])
    (mixed,) = call("branch_ensemble", [logits, torch.tensor([0.5, 0.5]), "probabilities"])
    torch.testing.assert_close(mixed, torch.tensor([[0.5 + 1 / 6, 1 / 6, 1 / 6]]))
    w = torch.tensor([[[1e4], [-1e4], [0.0]]])
    losses, _ = call(
        "spectral_mlp_cross_entropy",
        [torch.ones(1, 1, 1), torch.ones(1, 1), [w], [None], ["none"], torch.tensor([1])],
    )
    torch.testing.assert_close(losses, torch.tensor([2e4]))


@pytest.mark.parametrize(
    "op, shape, rest",
    [
        *(("dct", (LARGE // n + 5, n), (type, 1)) for n in (8, 16, 32, 48, 64) for type in (2, 3, 4)),
        *(("dct", (LARGE // n + 5, n), (2, 1)) for n in (2, 3, 4, 5, 6, 7, *range(9, 16))),
        *(("dct", (LARGE // n + 5, n), (type, 1)) for n, type in ((80, 2), (131, 4), (200, 3), (1100, 4))),
        *(("dct", (3, n, LARGE // (48 * n) * 16 + 16), (type, 1)) for n in (8, 16, 21, 32, 50) for type in (2, 3, 4)),
        *(("dctn", (LARGE // 512 // 8 + 1, 8, 66, 8), ([1, 3], type)) for type in (2, 3, 4)),
        *(("dctn", (LARGE // 64 + 3, 8, 8), ([1, 2], type)) for type in (2, 3, 4)),
    ],
    ids=str,
)
def test_results_past_the_caches(op: str, shape: tuple[int, ...], rest: tuple[Any, ...], level: str) -> None:
    """Large results, which are written whole vectors at a time; one that does not start at a vector is the same."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)))
    check_past_the_caches(op, x, rest, 2e-7)


@pytest.mark.parametrize("n", [8, 16, 21, 32, 50])
@pytest.mark.parametrize("type", [2, 3, 4])
def test_columns_past_the_caches_in_float64(n: int, type: int, level: str) -> None:
    x = torch.randn(3, n, LARGE // (96 * n) * 16 + 16, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
    check_past_the_caches("dct", x, (type, 1), 1e-15)


@pytest.mark.parametrize("n, type, inner, dtype", [
    *((n, type, inner, torch.float32) for n, type, inner in (
        (3, 3, 1213), (5, 2, 33), (8, 2, 8191), (8, 4, 17), (9, 4, 31), (16, 3, 1213), (20, 2, 3276), (21, 4, 17),
        (40, 3, 1638), (50, 2, 15), (50, 3, 1), (64, 2, 1022), (65, 3, 33), (72, 2, 910), (96, 4, 15), (131, 2, 2),
        (66, 1, 500), (72, 3, 7), (75, 4, 15), (80, 1, 100), (128, 4, 48),
        (131, 4, 413), (144, 4, 455), (521, 2, 333), (1100, 3, 335), (1100, 2, 336),
    )),
    *((n, type, inner, torch.float64) for n, type, inner in (
        (3, 2, 1213), (16, 4, 33), (40, 3, 17), (72, 2, 911), (72, 4, 3), (100, 4, 168), (144, 3, 455),
    )),
], ids=str)  # fmt: skip
def test_every_inner_size_past_the_caches(n: int, type: int, inner: int, dtype: torch.dtype, level: str) -> None:
    """Rows that begin anywhere in a line of memory, and end anywhere in a tile."""
    outer = LARGE * 4 // (dtype.itemsize * n * inner) + 1
    x = torch.randn(outer, n, inner, generator=torch.Generator().manual_seed(n), dtype=dtype)
    check_past_the_caches("dct", x, (type, 1), 2e-7 if dtype == torch.float32 else 1e-15)


@pytest.mark.parametrize("n, inner, dtype", [
    (8, 8191, torch.float32), (32, 2048, torch.float32), (64, 1021, torch.float32), (128, 33, torch.float32),
    (512, 15, torch.float32), (1024, 130, torch.float32), (2, 17, torch.float64), (64, 1001, torch.float64),
], ids=str)  # fmt: skip
def test_hadamard_columns_past_the_caches(n: int, inner: int, dtype: torch.dtype, level: str) -> None:
    x = torch.randn(LARGE * 4 // (dtype.itemsize * n * inner) + 1, n, inner, dtype=dtype)
    check_past_the_caches("hadamard", x, (1, inner % 2 == 0), 2e-7 if dtype == torch.float32 else 1e-15)


@pytest.mark.parametrize("n", [2, 3, 8, 16, 21, 54, 72, 131])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_every_inner_size(n: int, dtype: torch.dtype, level: str) -> None:
    for outer, inner in ((1, 1), (35, 2), (130, 3), (33, 15), (32, 16), (3, 17), (65, 31), (2, 33), (2, 99), (1, 1213)):
        args = make([T((outer, n, inner)), 2 + inner % 3, 1, "ortho", False, True], dtype)
        for r, limit in zip(call("dct", args), bounds.bounded("dct", args, dtype), strict=True):
            bounds.check(r, limit, f"dct, ({outer}, {n}, {inner})")


def check_past_the_caches(op: str, x: Tensor, rest: tuple[Any, ...], tolerance: float) -> None:
    args = [x, *rest, *{"dct": ("ortho", False, True), "dctn": ("ortho", False, True, False, False)}.get(op, ())]
    (y,) = call(op, args)
    exact = rule_of(op).reference(x.double(), *args[1:])
    assert float((y - exact).norm() / exact.norm()) < tolerance
    aside = torch.full((x.numel() + 2,), PATTERN, dtype=x.dtype)
    beside = torch.full_like(aside, torch.nan)[1:-1].view(x.shape).copy_(x)
    threads = torch.get_num_threads()
    try:
        for count in (1, 3):  # who writes what, and where in a line it lies, leaves every bit as it is
            torch.set_num_threads(count)
            rule_of(op).cpp([beside if count > 1 else x, *args[1:]], aside[1:-1].view(x.shape))
            assert torch.equal(aside[1:-1].view(x.shape), y) and aside[0] == aside[-1] == PATTERN
            aside[1:-1] = PATTERN
    finally:
        torch.set_num_threads(threads)


def test_a_matrix_is_found_again_by_its_numbers() -> None:
    """What a thread keeps of matrices belongs to their values: changed in place, many by turns, of other shapes."""
    x = torch.arange(24.0).view(4, 6)
    matrices = [torch.arange(float(p * 6)).view(p, 6) + p for p in (6, 4, 3, 7, 2, 6)]
    for factor in (1, -2, 3):
        for m in [*matrices, *matrices[::-1], matrices[0], matrices[0]]:
            if m.shape == (6, 6):
                assert torch.equal(call("mode_product", [x, m, 1])[0], x @ m.mT)
            assert torch.equal(call("from_branches", [x.view(6, 2, 2), m])[0], (m @ x.view(6, 4)).mT.reshape(2, 2, -1))
        matrices[0] *= factor
    signs = torch.tensor([[1.0, 0.0], [-0.0, 1.0]])
    for m in (signs, -signs, torch.full((2, 2), torch.nan), signs):
        wanted = torch.zeros(3, 2) @ m.mT
        torch.testing.assert_close(call("mode_product", [torch.zeros(3, 2), m, 1])[0], wanted, equal_nan=True)
