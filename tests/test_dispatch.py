"""Which backend runs and why; the contexts around a call: use, autocast, inference, fake and meta tensors."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Iterator

import pytest
import torch
from calls import results
from samples import LEVELS, T, floating, make, map_tensors, small, typical
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

import spectral_ops
from spectral_ops import native, op, transforms, triton_backend
from spectral_ops.ops import branch_linear, branch_mlp_backward, trigonometric
from spectral_ops.table import TABLE

ops = torch.ops.spectral
every_op = pytest.mark.parametrize("name", TABLE)


def layer() -> list[Tensor]:
    """x, weight, bias of a branch layer."""
    return make([T((3, 5, 4)), T((3, 6, 4), "weight"), T((3, 6), "bias")])


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter:
    """Counts what runs of branch_linear and its gradient: "cpp" and "reference"."""
    count: Counter = Counter()

    def counted(rule, name: str) -> None:
        function = getattr(rule, name)

        def call(*args):
            count[name] += 1
            return function(*args)

        monkeypatch.setattr(rule, name, call)

    for rule in (branch_linear, branch_mlp_backward):
        counted(rule, "cpp")
        counted(rule, "reference")
    return count


# ---- use -----------------------------------------------------------------------------------------------------------
def test_use_reference(calls: Counter) -> None:
    with spectral_ops.use("reference"):
        ops.branch_linear(*layer())
    assert calls == {"reference": 1}


@pytest.mark.native
@pytest.mark.skipif(not LEVELS, reason=str(native.status()["cpu"]))
def test_the_kernel_is_preferred(calls: Counter) -> None:
    ops.branch_linear(*layer())
    assert calls == {"cpp": 1}


@pytest.mark.native
@pytest.mark.skipif(not LEVELS, reason=str(native.status()["cpu"]))
def test_use_is_repeated_in_backward(calls: Counter) -> None:
    """The backward pass runs where the forward pass did, also outside the context and inside another one."""
    x, w, b = layer()
    w.requires_grad_()
    with spectral_ops.use("reference"):
        y = ops.branch_linear(x, w, b)
    y.sum().backward()
    assert calls == {"reference": 2}
    calls.clear()
    with spectral_ops.use("cpp"):
        y = ops.branch_linear(x, w, b)
    with spectral_ops.use("reference"):
        y.sum().backward()
    assert calls == {"cpp": 2}
    calls.clear()
    ops.branch_linear(x, w, b).sum().backward()
    assert calls == {"cpp": 2}


def test_use_nests_and_ends_with_an_error(calls: Counter) -> None:
    with spectral_ops.use("triton"):
        with spectral_ops.use("reference"):
            ops.branch_linear(*layer())
        with pytest.raises(RuntimeError, match=r"^branch_linear: backend 'triton' was asked for, but"):
            ops.branch_linear(*layer())
    assert calls == {"reference": 1}
    with pytest.raises(ZeroDivisionError), spectral_ops.use("triton"):
        raise ZeroDivisionError
    ops.branch_linear(*layer())


def test_use_belongs_to_its_thread() -> None:
    errors: list[BaseException] = []

    def work() -> None:
        try:
            ops.branch_linear(*layer())
        except RuntimeError as error:
            errors.append(error)

    with spectral_ops.use("triton"):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert not errors


@every_op
def test_a_backend_that_is_missing_raises_its_reason(name: str) -> None:
    reason = "Triton kernels take CUDA tensors, and these are on cpu"
    if "triton" not in TABLE[name].backends:
        reason = f"{name} has no triton kernel"
    text = f"^{name}: backend 'triton' was asked for, but {reason}$"
    with spectral_ops.use("triton"), pytest.raises(RuntimeError, match=text):
        results(name, small(name)[0].make(torch.float32))


# ---- reasons -------------------------------------------------------------------------------------------------------
LIMITS = [
    (
        "dct", [T((7, 65)), 2, -1, "ortho", False, True],
        "7 tubes fill too few lanes, which takes 8",
    ),
    (
        "dst", [T((8, 32771)), 2, -1, "backward", False, False],
        "n = 32771 takes a Fourier transform past the 32768 values whose tile fits the cache",
    ),
    (
        "branch_linear", [T((1, 2, 129)), T((1, 4, 129)), None, "none"],
        "a branch with 129 features is past 128, where the library's batched GEMM is faster",
    ),
    (
        "spectral_mlp", [T((2, 4, 3)), T((3, 3)), [T((3, 200, 4)), T((3, 2, 200))], [None, None], ["relu", "none"]],
        "a branch with 200 features is past 128, where the library's batched GEMM is faster",
    ),
    (
        "to_branches", [T((1, 40, 1700)), T((1700, 1700))],
        "one tile of 32 samples would keep 4352000 values, past the 4194304 that fit the cache",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("name", "args", "reason"), LIMITS, ids=[f"{row[0]}-{i}" for i, row in enumerate(LIMITS)])
def test_limits(name: str, args: list, reason: str) -> None:
    """The next size takes the reference, says why, and is right."""
    made = make(args)
    if not LEVELS:
        reason = str(native.status()["cpu"])
    assert dict(spectral_ops.backends(name, *made))["cpp"] == reason
    lines = spectral_ops.explain(name, *made).splitlines()
    assert (lines[0], lines[1], lines[-1]) == (name, f"   cpp  (no: {reason})", "-> reference")
    with spectral_ops.use("cpp"):
        text = spectral_ops.explain(name, *made)
        with pytest.raises(RuntimeError) as caught:
            getattr(ops, name)(*made)
    assert text.splitlines() == [name, f"-> cpp  (no: {reason})", *lines[2:-1], "   reference"]
    assert str(caught.value) == f"{name}: backend 'cpp' was asked for, but {reason}"
    with spectral_ops.use("reference"):
        torch.testing.assert_close(getattr(ops, name)(*made), results(name, made)[0])


def test_explain_a_forced_backend_that_is_missing() -> None:
    images, weight = torch.ones(1, 2, 1, 3, 3), torch.ones(2, 1, 1, 1, 1)
    with spectral_ops.use("cpp"):
        last = spectral_ops.explain("branch_conv2d", images, weight).splitlines()[-1]
    assert last == "-> cpp  (no: branch_conv2d has no cpp kernel)"


@every_op
def test_an_op_has_kernels_or_says_what_it_is_made_of(name: str) -> None:
    """Of a composition without a kernel for GPUs `explain` names the ops that have one."""
    text = spectral_ops.explain(name, *small(name)[0].make(torch.float32))
    parts = re.findall(r"reference  \(made of (.*): explain these\)$", text)
    assert len(parts) == ("triton" not in TABLE[name].backends)
    assert all(set(part.split(", ")) < TABLE.keys() for part in parts)


@pytest.mark.native
@pytest.mark.skipif(not LEVELS, reason=str(native.status()["cpu"]))
def test_explain_the_usual_case() -> None:
    lines = spectral_ops.explain("dct", torch.ones(4)).splitlines()
    assert (lines[:2], lines[-1]) == (["dct", "-> cpp"], "   reference")


def test_other_layouts_and_devices_have_reasons() -> None:
    sparse = torch.eye(4).to_sparse()
    why = "the native kernels take strided tensors only"
    found = dict(spectral_ops.backends("to_branches", torch.ones(2, 3, 4), sparse))["cpp"]
    assert found == (why if LEVELS else native.status()["cpu"])
    assert native.why_not(torch.device("xpu")) == "there is no native library for xpu tensors"
    assert native.why_not(torch.device("cuda")) == native.status()["cuda"] or LEVELS
    assert (native.why_not(torch.device("cpu")) is None) == bool(LEVELS)


def test_negative_views(backend: str) -> None:
    """A tensor with the negative bit is resolved before a kernel reads its memory."""
    x, w, b = layer()
    y = ops.branch_linear(torch._neg_view(x), w, b)
    torch.testing.assert_close(y, ops.branch_linear(-x, w, b))


@pytest.mark.native
@pytest.mark.skipif(not LEVELS, reason=str(native.status()["cpu"]))
def test_cpu_level_is_put_back() -> None:
    before = native.current_cpu_level()
    assert before == LEVELS[0]
    for name in LEVELS:
        with pytest.raises(ZeroDivisionError), spectral_ops.cpu_level(name):
            assert native.current_cpu_level() == name
            raise ZeroDivisionError
        assert native.current_cpu_level() == before


# ---- fake CUDA, meta -----------------------------------------------------------------------------------------------
@pytest.fixture
def forgetful() -> Iterator[None]:
    before = set(op._warned)
    op._warned.clear()
    yield
    op._warned.clear()
    op._warned.update(before)


@every_op
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_fake_cuda(name: str, dtype: torch.dtype) -> None:
    """The shape rule of the GPU path: shapes and dtypes as on the CPU, device of the arguments."""
    args = typical(name).make(dtype)
    wanted = results(name, args)
    with FakeTensorMode():
        fake = map_tensors(lambda t: torch.empty_strided(t.shape, t.stride(), dtype=t.dtype, device="cuda"), args)
        got = results(name, fake)
    assert [(y.shape, y.dtype, y.stride()) for y in got] == [(y.shape, y.dtype, y.stride()) for y in wanted]
    assert {y.device.type for y in got} == {"cuda"}


def test_fake_cuda_with_a_cpu_tensor() -> None:
    with FakeTensorMode():
        x, w = torch.empty(3, 5, 4, device="cuda"), torch.empty(3, 6, 4)
        with pytest.raises(TypeError, match=r"^branch_linear: weight must be on cuda:0 as x, got cpu$"):
            branch_linear.check(x, w)


@pytest.mark.usefixtures("forgetful")
def test_a_gpu_tensor_on_the_reference_warns_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fake CUDA tensors take the whole road below autograd: checks, choice, reference."""
    monkeypatch.setattr(triton_backend, "missing", lambda: "none here")
    with FakeTensorMode():
        # wider than any kernel takes
        args = [torch.empty(*t.shape[:-1], 500, device="cuda") for t in layer()[:2]]
        text = r"^torch.ops.spectral.branch_linear runs its slow PyTorch reference on cuda \(cpp: "
        with pytest.warns(UserWarning, match=text):
            y = op._OPS["branch_linear"].entry(*args)
        assert y.device.type == "cuda" and y.shape == (3, 5, 6)
        op._OPS["branch_linear"].entry(*args)  # a second warning would be an error
    spectral_ops.backends("branch_linear", *layer())
    with spectral_ops.use("reference"):
        ops.branch_linear(*layer())  # nor on the CPU


HUGE = 1 << 16
META = [
    ("dct", [T((HUGE, HUGE))], (HUGE, HUGE)),
    ("to_branches", [T((HUGE, HUGE, 4)), T((3, 4))], (3, HUGE, HUGE)),
    ("from_branches", [T((4, HUGE, HUGE)), T((3, 4))], (HUGE, HUGE, 3)),
    ("branch_linear", [T((2, HUGE, HUGE)), T((2, HUGE, HUGE)), None, "relu"], (2, HUGE, HUGE)),
    ("spectral_mlp", [T((HUGE, HUGE, 4)), None, [T((HUGE, HUGE, 4))], [None], ["none"]], (HUGE, HUGE, HUGE)),
    ("branch_ensemble", [T((2, HUGE, HUGE)), T((2,)), "logits"], (HUGE, HUGE)),
]


@pytest.mark.parametrize(("name", "args", "shape"), META, ids=[row[0] for row in META])
def test_meta_tensors_beyond_two_to_the_31(name: str, args: list, shape: tuple) -> None:
    def meta(value):
        if isinstance(value, T):
            return torch.empty(value.shape, device="meta", dtype=torch.bfloat16)
        return [meta(v) for v in value] if isinstance(value, list) else value

    y = getattr(ops, name)(*meta(args))
    assert y.shape == shape and y.numel() > 2**31 and y.is_meta and y.dtype == torch.bfloat16


# ---- autocast, no_grad, inference ----------------------------------------------------------------------------------
STAY = {
    "dct", "dct_adjoint", "dst", "dst_adjoint", "hadamard", "to_branches", "from_branches",
    "branch_ensemble", "branch_ensemble_backward",
}  # fmt: skip
LOWER = {"branch_linear": torch.bfloat16, "spectral_mlp": torch.bfloat16, "spectral_ensemble": torch.bfloat16}


@pytest.mark.parametrize("name", sorted(STAY | LOWER.keys() | {"spectral_linear", "spectral_mlp_cross_entropy"}))
@pytest.mark.parametrize("low", [torch.bfloat16, torch.float16], ids=str)
def test_autocast(name: str, low: torch.dtype, backend: str) -> None:
    """Transforms stay in float32, GEMMs follow the dtype of the context, and the values are those of that dtype."""
    args = typical(name).make(torch.float32)
    plain = results(name, args)
    with torch.autocast("cpu", dtype=low):
        got = results(name, args)
    kinds = [y.dtype for y in got]
    if name in STAY:
        assert all(torch.equal(a, b) for a, b in zip(got, plain, strict=True))
        return
    if name == "spectral_linear":
        assert kinds == [torch.float32]  # its inverse transform is in float32
    elif name == "spectral_mlp_cross_entropy":
        assert kinds == [torch.float32, low]  # losses are not rounded
    else:
        assert kinds == [low]
    eps = torch.finfo(low).eps
    for y, p in zip(got, plain, strict=True):
        error = (y.double() - p.double()).norm() / p.double().norm()
        assert 0.01 * eps < error < 12 * eps, "neither float32 nor wrong"


def test_autocast_values_are_those_of_the_lowered_call(backend: str) -> None:
    x, w, b = layer()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = ops.branch_linear(x, w, b, "relu")
    assert torch.equal(y, ops.branch_linear(x.bfloat16(), w.bfloat16(), b.bfloat16(), "relu"))


def test_autocast_leaves_float64_alone(backend: str) -> None:
    x, w, b = (t.double() for t in layer())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert ops.branch_linear(x, w, b).dtype == torch.float64
    with torch.autocast("cpu", enabled=False):
        assert ops.branch_linear(*layer()).dtype == torch.float32


def test_gradients_through_autocast(backend: str) -> None:
    """They arrive in the dtype of the parameters."""
    x, t, weights, biases, activations, target = typical("spectral_mlp_cross_entropy").make(torch.float32)
    leaves = [x.requires_grad_(), *(w.requires_grad_() for w in weights)]
    plain = torch.autograd.grad(
        ops.spectral_mlp_cross_entropy(x, t, weights, biases, activations, target)[0].sum(), leaves
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses, _ = ops.spectral_mlp_cross_entropy(x, t, weights, biases, activations, target)
    got = torch.autograd.grad(losses.sum(), leaves)
    for g, p in zip(got, plain, strict=True):
        assert g.dtype == torch.float32
        assert (g - p).norm() < 0.2 * p.norm()


@every_op
def test_without_gradients(name: str, backend: str) -> None:
    args = map_tensors(lambda t: t.requires_grad_(floating(t)), small(name)[0].make(torch.float32))
    wanted = results(name, args)
    assert any(y.requires_grad for y in wanted)
    with torch.no_grad():
        plain = results(name, args)
    with torch.inference_mode():
        inferred = results(name, args)
    assert not any(y.requires_grad for y in plain + inferred) and all(y.is_inference() for y in inferred)
    for a, b, c in zip(wanted, plain, inferred, strict=True):
        torch.testing.assert_close(b, a.detach(), rtol=1e-5, atol=1e-6, equal_nan=True)
        assert torch.equal(b.nan_to_num(), c.nan_to_num())


def test_tables_made_while_inferring_or_tracing_serve_training_too(backend: str) -> None:
    """The cached matrices may be neither inference tensors nor fake ones."""
    x = torch.randn(3, 28)
    for context in (torch.inference_mode(), FakeTensorMode(allow_non_fake_inputs=True)):
        trigonometric._matrix.cache_clear()
        transform = transforms.DCT(28)
        with context:
            spectral_ops.dct(x.clone() if not isinstance(context, FakeTensorMode) else torch.empty(3, 28))
            transform(torch.empty(2, 5, 28))
        leaf = x.clone().requires_grad_()
        spectral_ops.dct(leaf, norm="ortho").sum().backward()
        assert leaf.grad.isfinite().all()
        images = torch.randn(2, 5, 28, requires_grad=True)
        transform(images).sum().backward()
        assert images.grad.isfinite().all()
