"""The Triton backend without a GPU: values through the interpreter, choice and reasons on fake CUDA tensors."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from complex_samples import COMPLEX
from samples import RIGHT, floating, map_tensors, typical
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

import spectral_ops
from spectral_ops import op, triton_backend
from spectral_ops.autograd import flatten
from spectral_ops.table import TABLE

OPS = [name for name, row in TABLE.items() if "triton" in row.backends]
needs_triton = pytest.mark.skipif(triton_backend.missing() is not None, reason=str(triton_backend.missing()))
every_op = pytest.mark.parametrize("name", OPS)


@needs_triton
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("size", ["not slow", pytest.param("slow", marks=pytest.mark.slow)])
def test_values_through_the_interpreter(size: str) -> None:
    """In a process of its own: a kernel is interpreted or compiled as the variable says when triton is imported."""
    here = Path(__file__).parent
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment |= {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-m", size]
    command = [sys.executable, "-m", "pytest", *options, here / "interpreted_triton.py"]
    done = subprocess.run(command, cwd=here.parent, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert " passed" in done.stdout


# ---- fake CUDA tensors: the whole road to a launch, and no launch --------------------------------------------------
def on_cuda(args: list, dtype: torch.dtype | None = None) -> list:
    """Fake CUDA tensors like the given ones, made under a fake mode."""

    def fake(t: Tensor) -> Tensor:
        kind = dtype if dtype is not None and floating(t) else t.dtype
        return torch.empty_strided(t.shape, t.stride(), dtype=kind, device="cuda")

    return map_tensors(fake, args)


def planned(name: str, args: list, arch: int) -> list:
    """The launches of a call on device "meta": fake CUDA tensors cannot be copied where torch has no CUDA."""
    meta = map_tensors(lambda t: op._dense(t).to("meta"), args)
    return triton_backend.kernels(name).plan(meta, op.rule_of(name).empty(*meta), arch)


@needs_triton
@every_op
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_a_gpu_tensor_takes_triton(name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """The choice, the arguments of the launches, and results like those on the CPU."""
    asked: list = []
    monkeypatch.setattr(triton_backend, "run", lambda name, args, out: asked.append(name))
    args = typical(name).make(dtype)
    wanted = flatten([getattr(torch.ops.spectral, name)(*args)])[0]
    with FakeTensorMode():
        fake = on_cuda(args)
        assert dict(spectral_ops.backends(name, *fake))["triton"] is None
        with spectral_ops.use("triton"):
            out = op._OPS[name].entry(*fake)
    assert asked == [name]
    got = flatten([out])[0]
    assert [(y.shape, y.dtype, y.device.type) for y in got] == [(y.shape, y.dtype, "cuda") for y in wanted]
    launches = planned(name, args, 90)
    assert launches and all(launch.programs > 0 for launch in launches)
    for launch in launches:
        names = {*launch.arguments, *launch.constants}
        assert names == set(launch.kernel.arg_names), "arguments of the launch and of the kernel"


@needs_triton
@every_op
def test_every_row_can_be_planned_or_has_a_reason(name: str) -> None:
    """For sm_80 and sm_90: sizes that no tile row takes must have been declined before."""
    for row in [row for row in RIGHT + COMPLEX if row.op == name]:
        args = row.make(torch.float32)
        with FakeTensorMode():
            reason = dict(spectral_ops.backends(name, *on_cuda(args)))["triton"]
        if reason is None:
            for arch in (80, 90, 100):
                assert planned(name, args, arch), row.id


def test_every_op_has_kernels_or_is_made_of_ops_that_have() -> None:
    for name in TABLE:
        assert name in OPS or set(op.rule_of(name).PARTS) <= set(OPS), name


@every_op
def test_reasons(name: str) -> None:
    args = typical(name).make(torch.float64)
    found = dict(spectral_ops.backends(name, *args))["triton"]
    assert found == "Triton kernels take CUDA tensors, and these are on cpu"
    with FakeTensorMode():
        found = dict(spectral_ops.backends(name, *on_cuda(args)))["triton"]
    exact = "torch.float64 is exact arithmetic, and Triton's kernels multiply on tensor cores"
    assert found == (triton_backend.missing() or exact)


@needs_triton
def test_explain() -> None:
    args = typical("to_branches").make(torch.float32)
    cpu = "Triton kernels take CUDA tensors, and these are on cpu"
    assert f"   triton  (no: {cpu})" in spectral_ops.explain("to_branches", *args).splitlines()
    with FakeTensorMode():
        assert spectral_ops.explain("to_branches", *on_cuda(args)).splitlines()[:2] == ["to_branches", "-> triton"]


def test_without_triton_a_gpu_tensor_warns_once(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "triton is not installed (pip install 'spectral-ops[triton]')"
    monkeypatch.setattr(triton_backend, "missing", lambda: text)
    monkeypatch.setattr(op, "_warned", set())
    monkeypatch.setattr(op.rule_of("to_branches"), "reference", lambda x, transform: x)  # a CPU torch copies no fakes
    with FakeTensorMode():
        args = on_cuda(typical("to_branches").make(torch.float32))
        reasons = dict(spectral_ops.backends("to_branches", *args))
        assert reasons["triton"] == text
        if reasons["cpp"] is None:
            pytest.skip("CUDA C++ takes the call")
        with pytest.warns(
            UserWarning, match=r"runs its slow PyTorch reference on cuda \(cpp: .*; triton: triton is not"
        ):
            assert op._OPS["to_branches"].entry(*args) is args[0]
        op._OPS["to_branches"].entry(*args)  # a second warning would be an error


def test_an_older_gpu_has_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_backend, "missing", lambda: None)
    monkeypatch.setattr(triton_backend, "architecture", lambda device: 75)
    with FakeTensorMode():
        args = on_cuda(typical("to_branches").make(torch.float32))
        reason = dict(spectral_ops.backends("to_branches", *args))["triton"]
    assert reason == "Triton kernels take sm_80 or later, and this GPU is sm_75"


@needs_triton
def test_crossovers_name_ops_and_their_ground() -> None:
    from spectral_ops.triton_kernels import tiles

    for name, row in tiles.CROSSOVERS.items():
        assert name in OPS and row.least > 0 and row.why


@needs_triton
def test_precision_follows_torch() -> None:
    """float32 products are three in tf32, and one only where torch may do the same."""
    from spectral_ops.triton_kernels.launch import precision

    before = torch.get_float32_matmul_precision()
    try:
        found = {}
        for word in ("highest", "high", "medium"):
            torch.set_float32_matmul_precision(word)
            found[word] = precision()
        assert found == {"highest": "tf32x3", "high": "tf32", "medium": "tf32"}
    finally:
        torch.set_float32_matmul_precision(before)


@needs_triton
def test_the_cost_model_of_generated_convolutions() -> None:
    """Fused where the image is small, for then a launch costs more than to generate; apart where it is large."""
    for name, lead in (("csg_conv2d", 0), ("csg_conv2d_backward", 1)):
        for pixels, taken in ((2, "triton"), (64, "reference")):
            with FakeTensorMode():
                x = torch.empty(16, 64, pixels, pixels, device="cuda", dtype=torch.bfloat16)
                codes = torch.empty(16, 128, device="cuda", dtype=torch.bfloat16)
                generator = torch.empty(2304, 128, device="cuda", dtype=torch.bfloat16)
                tail = [[64, 64, 3, 3], [16, 16, 3, 3]] + [None] * (1 - lead) + [[1, 1], [1, 1], [1, 1]]
                args = [x] * lead + [x, codes, generator, *tail]
                order = [backend for backend, reason in spectral_ops.backends(name, *args) if reason is None]
                assert order[0] == taken and {"reference", "triton"} <= set(order)
                assert f"-> {taken}" in spectral_ops.explain(name, *args)
