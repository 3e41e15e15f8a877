"""Threads, memory, odd shapes and layouts, copies; and fifty steps of training, kernels against reference."""

from __future__ import annotations

import copy
import gc
import pickle
import resource
import threading
from itertools import pairwise
from pathlib import Path
from typing import Any

import bounds
import pytest
import torch
from calls import results
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from samples import ACTIVATIONS, LEVELS, T, floating, make, map_tensors, typical
from torch import Tensor

import spectral_ops
from spectral_ops import transforms
from spectral_ops.autograd import flatten
from spectral_ops.table import TABLE

ops = torch.ops.spectral
every_op = pytest.mark.parametrize("op", TABLE)
native = [pytest.mark.native, pytest.mark.skipif(not LEVELS, reason=str(spectral_ops.native.status()["cpu"]))]
chosen = pytest.mark.parametrize("chosen", ["reference", pytest.param("cpp", marks=native)])


def step(op: str, args: list[Any]) -> list[Tensor]:
    """Results and gradients."""
    leaves = map_tensors(lambda t: t.detach().requires_grad_(floating(t)), args)
    out = [y for y in results(op, leaves) if y.requires_grad]
    wanted = [t for t in flatten(leaves)[0] if t.requires_grad]
    grads = torch.autograd.grad([y.sum() for y in out], wanted, allow_unused=True)
    return [y.detach() for y in out] + [g for g in grads if g is not None]


@every_op
@chosen
def test_eight_threads(op: str, chosen: str) -> None:
    """Python threads that call at the same time get the same bits."""
    args = typical(op).make(torch.float32)
    with spectral_ops.use(chosen):
        alone = step(op, args)
    wrong: list[Any] = []
    start = threading.Barrier(8)

    def work() -> None:
        start.wait()
        try:
            for _ in range(5):
                with spectral_ops.use(chosen):
                    again = step(op, args)
                wrong.extend(i for i, (a, b) in enumerate(zip(alone, again, strict=True)) if not torch.equal(a, b))
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def _resident() -> float:
    """MiB of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
@pytest.mark.parametrize(
    "op", ["dct", "spectral_linear", "spectral_mlp", "spectral_mlp_cross_entropy", "spectral_ensemble"]
)
@chosen
def test_memory_does_not_grow(op: str, chosen: str) -> None:
    """500 forward and backward passes after a warm-up. One lost result a call would be 9 to 40 MiB."""
    args = typical(op).make(torch.float32)
    with spectral_ops.use(chosen):
        for _ in range(50):
            step(op, args)
        gc.collect()
        before = _resident()
        for _ in range(500):
            step(op, args)
        gc.collect()
        assert _resident() - before < 6


def test_memory_of_many_shapes_is_bounded() -> None:
    """Caches of matrices and work memory do not keep something for every shape ever seen."""
    for n in range(1, 200):
        spectral_ops.dct(torch.ones(2, n))
    gc.collect()
    before = _resident()
    for n in range(200, 700):
        x = torch.ones(4, n, 8)
        spectral_ops.dct(x, dim=1)
        ops.branch_linear(x, torch.ones(4, 3, 8), None)
    gc.collect()
    assert _resident() - before < 64


# ---- shapes and layouts by chance ----------------------------------------------------------------------------------
size = st.integers(1, 40)
quick = settings(
    max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


@st.composite
def layouts(draw: st.DrawFn, dims: int):
    """A function that gives a tensor equal strides of any kind: permuted, stepped, offset, repeated."""
    order = draw(st.permutations(range(dims)))
    steps = draw(st.lists(st.sampled_from([1, 2, 3]), min_size=dims, max_size=dims))
    start = draw(st.integers(0, 5))
    repeat = draw(st.sampled_from([None, *range(dims)]))

    def lay(t: Tensor) -> Tensor:
        shape = [t.shape[d] * s for d, s in zip(order, (steps[d] for d in order), strict=True)]
        buffer = torch.full((torch.Size(shape).numel() + start,), torch.nan, dtype=t.dtype)
        back = sorted(range(dims), key=lambda i: order[i])
        view = buffer[start:].view(shape).permute(back)[tuple(slice(None, None, s) for s in steps)]
        view.copy_(t)
        return view if repeat is None else view.narrow(repeat, 0, 1).expand(t.shape)

    return lay


def check(op: str, args: list[Any], dtype: torch.dtype) -> None:
    for backend, reason in spectral_ops.backends(op, *args):
        if reason is None:
            with spectral_ops.use(backend):
                got = results(op, args)
            for y, limit in zip(got, bounds.bounded(op, args, dtype), strict=True):
                bounds.check(y, limit, f"{op}, {backend}")


@quick
@given(n=size, i=size, q=size, p=size, x_layout=layouts(3), m_layout=layouts(2))
def test_any_branches(n, i, q, p, x_layout, m_layout) -> None:
    x, m, y, back = make([T((n, i, q)), T((p, q), "random"), T((p, n, i)), T((q, p), "random")])
    check("to_branches", [x_layout(x), m_layout(m)], torch.float32)
    check("from_branches", [x_layout(y), m_layout(back)], torch.float32)


@quick
@given(
    q=st.integers(1, 6), n=size, i=size, o=size, act=st.sampled_from(ACTIVATIONS), bias=st.booleans(),
    x_layout=layouts(3), w_layout=layouts(3), b_layout=layouts(2),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)  # fmt: skip
def test_any_layer(q, n, i, o, act, bias, x_layout, w_layout, b_layout, dtype) -> None:
    x, w, b, g = make([T((q, n, i)), T((q, o, i), "weight"), T((q, o), "bias"), T((q, n, o))], dtype)
    x, w, b, g = x_layout(x), w_layout(w), b_layout(b) if bias else None, x_layout(g)
    check("branch_linear", [x, w, b, act], dtype)
    check("branch_mlp_backward", [g, x, [w], [b], [act], True], dtype)


@quick
@given(
    n=size, q=st.integers(1, 9), p=st.integers(1, 9), widths=st.lists(size, min_size=2, max_size=5),
    data=st.data(), kind=st.sampled_from(["random", "dct2", "dct3", "near_dct"]), x_layout=layouts(3),
)  # fmt: skip
def test_any_network(n, q, p, widths, data, kind, x_layout) -> None:
    depth = len(widths) - 1
    acts = data.draw(st.lists(st.sampled_from(ACTIVATIONS), min_size=depth, max_size=depth))
    has_bias = data.draw(st.lists(st.booleans(), min_size=depth, max_size=depth))
    weights = [T((p, o, i), "weight") for i, o in pairwise(widths)]
    biases = [T((p, o), "bias") if b else None for o, b in zip(widths[1:], has_bias, strict=True)]
    x, t, ws, bs, target, shares = make(
        [T((n, widths[0], q)), T((p, q), kind), weights, biases, T((n,), f"class{widths[-1]}"), T((p,), "share")]
    )
    x = x_layout(x)
    check("spectral_mlp", [x, t, ws, bs, acts], torch.float32)
    check("spectral_mlp_cross_entropy_with_grads", [x, t, ws, bs, acts, target, True], torch.float32)
    check("spectral_ensemble", [x, t, ws, bs, acts, shares, "probabilities"], torch.float32)


@quick
@given(data=st.data(), shape=st.lists(st.integers(1, 12), min_size=1, max_size=4), type=st.sampled_from([1, 2, 3, 4]))
def test_any_dct_or_dst(data, shape, type) -> None:
    (x,) = make([T(tuple(shape))])
    dim = data.draw(st.integers(-len(shape), len(shape) - 1))
    norm = data.draw(st.sampled_from(["backward", "ortho", "forward"]))
    inverse, head = data.draw(st.booleans()), data.draw(st.booleans())
    x = data.draw(layouts(len(shape)))(x)
    for family in ("dct", "dst"):
        if family == "dst" or type != 1 or x.shape[dim] > 1:
            check(family, [x, type, dim, norm, inverse, head], torch.float32)
            check(f"{family}_adjoint", [x, type, dim, norm, inverse, head], torch.float32)


# ---- training ------------------------------------------------------------------------------------------------------
def _losses(backend: str, low_rank: bool) -> Tensor:
    """50 steps of Adam on fixed random data: the mean loss of each step."""
    torch.manual_seed(0)
    q = n_in = 28
    widths = [n_in, 8, 28, 8, 10] if low_rank else [n_in, 28, 28, 10]
    acts = ["none", "relu", "none", "none"] if low_rank else ["relu", "relu", "none"]
    weights = [torch.nn.Parameter(torch.randn(q, o, i) * i**-0.5) for i, o in pairwise(widths)]
    biases = [
        None if low_rank and j % 2 == 0 else torch.nn.Parameter(torch.zeros(q, o)) for j, o in enumerate(widths[1:])
    ]
    x, target, t = torch.randn(64, n_in, q), torch.randint(0, 10, (64,)), transforms.DCT(q).matrix.float()
    adam = torch.optim.Adam([*weights, *(b for b in biases if b is not None)], lr=1e-3)
    curve = []
    with spectral_ops.use(backend):
        for _ in range(50):
            adam.zero_grad()
            losses, _ = ops.spectral_mlp_cross_entropy(x, t, weights, biases, acts, target)
            losses.sum().backward()
            adam.step()
            curve.append(losses.detach().mean())
    return torch.stack(curve)


@pytest.mark.parametrize("low_rank", [False, True], ids=["full_rank", "low_tubal_rank"])
def test_fifty_steps_of_training(low_rank: bool, level: str) -> None:
    native_curve, reference_curve = _losses("cpp", low_rank), _losses("reference", low_rank)
    assert native_curve[-1] < 0.8 * native_curve[0], "it learns"
    torch.testing.assert_close(native_curve, reference_curve, rtol=1e-4, atol=1e-4)


# ---- copies --------------------------------------------------------------------------------------------------------
MADE = [
    lambda: transforms.DCT(7, 3, "backward"),
    lambda: transforms.Identity(4),
    lambda: transforms.Matrix(torch.tensor([[2.0, 1.0], [1.0, 1.0]])),
    lambda: transforms.Matrix(torch.tensor([[2.0, 1.0], [1.0, 1.0]]), learned=True),
]


@pytest.mark.parametrize("build", MADE, ids=["DCT", "Identity", "Matrix", "learned"])
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))], ids=["copy", "pickle"])
def test_transforms_survive_copies(build, duplicate) -> None:
    t = build()
    x = torch.randn(2, 3, t.length)
    t(x)  # fills the cache
    twin = duplicate(t)
    assert torch.equal(twin.matrix, t.matrix) and repr(twin) == repr(t)
    torch.testing.assert_close(twin(x), t(x))
    assert [p.shape for p in twin.parameters()] == [p.shape for p in t.parameters()]
    if list(t.parameters()):
        with torch.no_grad():
            next(twin.parameters()).add_(1)
        assert not torch.equal(twin.matrix, t.matrix), "the copy shares its parameter"
