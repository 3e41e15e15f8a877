"""Every op on fake CUDA tensors, the road to a kernel and no GPU: the choice, `explain`, shapes, the one warning."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from calls import listed
from samples import map_tensors, typical
from torch._subclasses.fake_tensor import FakeTensorMode

import spectral_ops
from spectral_ops import native, op, triton_backend
from spectral_ops.table import TABLE

every_op = pytest.mark.parametrize("name", TABLE)
DTYPES = [torch.float32, torch.float64, torch.bfloat16]


def fake(name: str, dtype: torch.dtype) -> list[Any]:
    """The typical arguments as fake CUDA tensors, made under a fake mode: a torch without CUDA copies none."""
    return map_tensors(
        lambda t: torch.empty_strided(t.shape, t.stride(), dtype=t.dtype, device="cuda"), typical(name).make(dtype)
    )


@pytest.fixture(autouse=True)
def _forgetful(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(op, "_warned", set())
    yield


@pytest.fixture
def road(monkeypatch: pytest.MonkeyPatch, name: str) -> list[str]:
    """What the op runs: "cpp", "triton" or "reference", which do nothing."""
    taken: list[str] = []
    rule = op.rule_of(name)

    def reference(*args: Any) -> Any:
        taken.append("reference")
        return rule.empty(*args)

    monkeypatch.setattr(rule, "cpp", lambda args, out: taken.append("cpp"), raising=False)
    monkeypatch.setattr(rule, "reference", reference)
    monkeypatch.setattr(triton_backend, "run", lambda name, args, out: taken.append("triton"))
    return taken


def marked(name: str, args: list[Any]) -> str:
    """The backend that `explain` says is taken."""
    lines = spectral_ops.explain(name, *args).splitlines()
    assert lines[0] == name and {line.split()[-1] if "(" not in line else line.split()[0] for line in lines[1:]}
    return next(line for line in lines if line.startswith("-> "))[3:].split()[0]


@every_op
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_road_is_what_explain_says(name: str, dtype: torch.dtype, road: list[str]) -> None:
    wanted = [(y.shape, y.dtype, y.stride()) for y in listed(op.rule_of(name).empty(*typical(name).make(dtype)))]
    with FakeTensorMode():
        args = fake(name, dtype)
        taken = marked(name, args)
        assert {backend for backend, _ in spectral_ops.backends(name, *args)} == set(TABLE[name].backends)
        if dtype is torch.bfloat16 and taken == "cpp" and not torch.backends.cuda.is_built():
            return  # C++ widens half first, and a torch without CUDA copies no fake tensor
        got = listed(op._OPS[name].entry(*args))
    assert [(y.shape, y.dtype, y.stride()) for y in got] == wanted and {y.device.type for y in got} == {"cuda"}
    # a tracer, as fake tensors are, sees the parts of what would be one call of C++
    assert road == ["reference" if taken == "cpp" and TABLE[name].composed else taken]


@every_op
@pytest.mark.skipif(native.status()["cuda"] is not None, reason=str(native.status()["cuda"]))
def test_exact_numbers_take_cuda_cpp_wherever_there_is_a_kernel(name: str) -> None:
    """And float32 takes it or Triton."""
    kernel = native.ENTRY_OF.get(name, name) in native.ENTRIES["cuda"]
    with FakeTensorMode():
        args = fake(name, torch.float64)
        reasons = dict(spectral_ops.backends(name, *args))
        assert (reasons.get("cpp", "none") is None) == kernel, reasons
        assert marked(name, args) == ("cpp" if kernel and "cpp" in reasons else "reference")
        if kernel and not TABLE[name].composed:
            assert marked(name, fake(name, torch.float32)) in ("cpp", "triton")


@every_op
def test_a_gpu_tensor_on_the_reference_warns_once(
    name: str, road: list[str], monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    """Of every op that is no composition; the warning names each backend with its reason."""
    monkeypatch.setattr(triton_backend, "missing", lambda: "no triton here")
    monkeypatch.setattr(native, "why_not", lambda device, op=None: "no library here")
    with FakeTensorMode():
        args = fake(name, torch.float32)
        assert marked(name, args) == "reference"
        for _ in range(2):
            op._OPS[name].entry(*args)
    assert road == ["reference"] * 2
    row = TABLE[name]
    why = {"cpp": "no library here", "triton": "no triton here"}
    reasons = "; ".join(f"{backend}: {why[backend]}" for backend in row.backends if backend != "reference")
    text = f"torch.ops.spectral.{name} runs its slow PyTorch reference on cuda ({reasons})"
    assert [str(w.message) for w in recwarn.list] == ([] if row.composed else [text])
