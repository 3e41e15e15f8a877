"""Which backend runs, and that nothing falls back in silence: use, explain, levels, autocast, fakes, the one warning."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import spectral_ops
from samples import LEVELS, map_tensors, typical
from spectral_ops import op as op_machine
from spectral_ops.table import TABLE

ops = torch.ops.spectral
native = pytest.mark.skipif(not LEVELS, reason=f"no CPU library: {spectral_ops.native.status()['cpu']}")


def test_use_refuses_unknown_names() -> None:
    with pytest.raises(ValueError, match="use: backend must be one of reference, cpp, triton, got 'cuda'"):
        with spectral_ops.use("cuda"):
            pass


def test_a_forced_backend_raises_its_reason() -> None:
    x = torch.zeros(2, 100)
    with spectral_ops.use("triton"), pytest.raises(RuntimeError, match="dct: backend 'triton' was asked for, but dct has no"):
        ops.dct(x)


@native
def test_a_forced_backend_raises_when_the_size_is_not_for_it() -> None:
    with spectral_ops.use("cpp"), pytest.raises(RuntimeError, match="n = 100 is past 64"):
        ops.dct(torch.zeros(2, 100))


def test_use_ends_with_its_block() -> None:
    with spectral_ops.use("reference"):
        with spectral_ops.use("reference"):
            pass
        assert op_machine._forced.get() == "reference"
    assert op_machine._forced.get() is None


def test_use_is_repeated_in_backward() -> None:
    x = torch.zeros(2, 8, requires_grad=True)
    with spectral_ops.use("reference"):
        y = ops.dct(x)
    seen = []
    original = op_machine._pick
    try:
        op_machine._pick = lambda *a: seen.append(op_machine._forced.get()) or original(*a)
        y.sum().backward()
    finally:
        op_machine._pick = original
    assert seen == ["reference"]


@native
def test_explain_marks_the_backend_that_runs() -> None:
    assert spectral_ops.explain("dct", torch.zeros(2, 8)).splitlines() == ["dct", "-> cpp", "   reference"]
    long = spectral_ops.explain("dct", torch.zeros(2, 100)).splitlines()
    assert long[1].startswith("   cpp  (no: n = 100") and long[2] == "-> reference"
    with spectral_ops.use("reference"):
        assert "-> reference" in spectral_ops.explain("dct", torch.zeros(2, 8))
    with spectral_ops.use("triton"):
        assert "-> triton  (no: dct has no triton kernel)" in spectral_ops.explain("dct", torch.zeros(2, 8))


def test_explain_raises_what_the_call_would() -> None:
    with pytest.raises(ValueError, match="dct: type must be"):
        spectral_ops.explain("dct", torch.zeros(2, 8), 7)
    with pytest.raises(ValueError, match="op must be one of"):
        spectral_ops.backends("fft", torch.zeros(2))


def test_sparse_tensors_are_not_for_the_kernels() -> None:
    assert dict(spectral_ops.backends("dct", torch.zeros(2, 8).to_sparse()))["cpp"] is not None


@native
def test_levels() -> None:
    assert LEVELS[-1] == "portable"
    before = spectral_ops.native.current_cpu_level()
    for level in LEVELS:
        with spectral_ops.cpu_level(level):
            assert spectral_ops.native.current_cpu_level() == level
    assert spectral_ops.native.current_cpu_level() == before
    with pytest.raises(ValueError, match="cpu_level: name must be one of the levels of this machine"):
        with spectral_ops.cpu_level("sse9"):
            pass


@pytest.mark.parametrize("op", TABLE)
def test_fake_cuda_tensors_have_the_shapes_of_real_results(op: str) -> None:
    args = typical(op).make(torch.float32)
    real = getattr(ops, op)(*args)
    with FakeTensorMode():
        fake_args = map_tensors(lambda t: torch.empty(t.shape, dtype=t.dtype, device="cuda"), args)
        fake = getattr(ops, op)(*fake_args)
    reals, fakes = torch.utils._pytree.tree_leaves(real), torch.utils._pytree.tree_leaves(fake)
    assert len(reals) == len(fakes) > 0
    for r, f in zip(reals, fakes, strict=True):
        assert (r.shape, r.dtype, f.device.type) == (f.shape, f.dtype, "cuda")


def test_a_gpu_tensor_on_the_reference_warns_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(op_machine, "_warned", set())
    with FakeTensorMode():
        x = torch.zeros(2, 8, device="cuda")
        with pytest.warns(UserWarning, match=r"spectral.dct runs its slow PyTorch reference on cuda \(cpp: "):
            assert op_machine._pick(TABLE["dct"], op_machine._complete("dct")([x]), [x]) == "reference"
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            op_machine._pick(TABLE["dct"], op_machine._complete("dct")([x]), [x])


def test_meta_tensors_beyond_32_bits() -> None:
    x = torch.empty(2**20, 64, 64, device="meta")
    assert ops.to_branches(x, torch.empty(64, 64, device="meta")).shape == (64, 2**20, 64)
    w = torch.empty(64, 128, 64, device="meta")
    assert ops.branch_linear(torch.empty(64, 2**20, 64, device="meta"), w).numel() == 2**33


@pytest.mark.parametrize("op", ["branch_linear", "spectral_mlp", "spectral_ensemble"])
def test_autocast_lowers_the_gemms(op: str) -> None:
    args = typical(op).make(torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = getattr(ops, op)(*args)
    full = getattr(ops, op)(*args)
    assert low.dtype == torch.bfloat16
    assert torch.allclose(low.float(), full, rtol=0.1, atol=0.1 * full.abs().max().item())


@pytest.mark.parametrize("op", ["dct", "to_branches", "from_branches", "branch_ensemble", "spectral_linear"])
def test_autocast_keeps_transforms_in_float32(op: str) -> None:
    args = typical(op).make(torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert getattr(ops, op)(*args).dtype == torch.float32


def test_autocast_trains_the_fused_loss() -> None:
    args = typical("spectral_mlp_cross_entropy").make(torch.float32)
    args[2] = [w.requires_grad_() for w in args[2]]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses, logits = ops.spectral_mlp_cross_entropy(*args)
    assert (losses.dtype, logits.dtype) == (torch.float32, torch.bfloat16)
    losses.sum().backward()
    exact = ops.spectral_mlp_cross_entropy(*args)[0]
    assert torch.allclose(losses, exact, rtol=0.05, atol=0.02)
    assert all(w.grad is not None and w.grad.dtype == torch.float32 for w in args[2])


@pytest.mark.parametrize("op", TABLE)
def test_inference_mode_and_no_grad(op: str) -> None:
    args = typical(op).make(torch.float32)
    with torch.no_grad():
        expected = torch.utils._pytree.tree_leaves(getattr(ops, op)(*args))
    with torch.inference_mode():
        found = torch.utils._pytree.tree_leaves(getattr(ops, op)(*copy.deepcopy(args)))
    assert all(torch.equal(e, f) for e, f in zip(expected, found, strict=True))
