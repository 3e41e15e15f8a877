"""The package without its native libraries, what `doctor` says, and that an import is quick and quiet."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from samples import LEVELS

import spectral_ops
from spectral_ops import doctor
from spectral_ops.table import TABLE

PACKAGE = Path(spectral_ops.__file__).parent


def python(folder: Path, code: str) -> str:
    """What a fresh interpreter prints; warnings are errors there too."""
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a copy of the package as an install without a compiler leaves it."""
    folder = tmp_path_factory.mktemp("bare")
    ignore = shutil.ignore_patterns("*.so", "__pycache__", "_build_facts.json")
    shutil.copytree(PACKAGE, folder / "spectral_ops", ignore=ignore)
    return folder


def test_works_without_native_libraries(bare: Path) -> None:
    code = """
import torch, spectral_ops
assert spectral_ops.__file__.startswith(%r), spectral_ops.__file__
assert spectral_ops.cpu_levels() == ()
print(spectral_ops.native.status()["cpu"])
x = torch.randn(4, 5, 6, requires_grad=True)
t = spectral_ops.transforms.DCT(6)
w = torch.randn(6, 3, 5, requires_grad=True)
losses, logits = torch.ops.spectral.spectral_mlp_cross_entropy(
    x, t.matrix_as(x), [w], [None], ["none"], torch.tensor([0, 1, 2, 0]))
losses.sum().backward()
assert x.grad.shape == x.shape and w.grad.abs().sum() > 0
print(spectral_ops.explain("dct", x))
try:
    with spectral_ops.use("cpp"):
        spectral_ops.dct(x)
except RuntimeError as error:
    print(error)
"""
    lines = python(bare, code % str(bare)).splitlines()
    reason = "libspectral_cpu.so was not built"
    assert lines == [
        reason, "dct", f"   cpp  (no: {reason})",
        "   triton  (no: Triton kernels take CUDA tensors, and these are on cpu)", "-> reference",
        f"dct: backend 'cpp' was asked for, but {reason}",
    ]  # fmt: skip


def test_doctor_without_native_libraries(bare: Path) -> None:
    text = python(bare, "from spectral_ops import doctor; print(doctor.report())")
    assert "libspectral_cpu.so was not built" in text
    assert "none: without the CPU library torch's own kernels run" in text
    rows = [line.split() for line in text.splitlines() if line.split() and line.split()[0] in TABLE]
    assert {row[0]: row[1] for row in rows} == dict.fromkeys(TABLE, "reference")


def test_a_library_that_does_not_load_is_no_error(bare: Path, tmp_path: Path) -> None:
    shutil.copytree(bare / "spectral_ops", tmp_path / "spectral_ops")
    (tmp_path / "spectral_ops" / "libspectral_cpu.so").write_bytes(b"not a library")
    code = "import spectral_ops, torch; print(spectral_ops.native.status()['cpu']); spectral_ops.dct(torch.ones(3))"
    assert python(tmp_path, code).startswith("libspectral_cpu.so did not load: ")


def test_doctor() -> None:
    text = doctor.report()
    assert text.splitlines()[0].startswith("spectral-ops ")
    assert torch.__version__ in text and "Native libraries" in text
    for level in LEVELS:
        assert level in text
    rows = {line.split()[0]: line.split()[1] for line in text.splitlines() if line.split() and line.split()[0] in TABLE}
    assert rows.keys() == TABLE.keys()
    if LEVELS:
        composed = {name for name, row in TABLE.items() if row.composed and row.stages is None}
        assert rows == {name: "reference" if name in composed else "cpp" for name in TABLE}
        assert f"{LEVELS[0]} (in use)" in text
    assert max(map(len, text.splitlines())) <= 120


def test_importing_is_light() -> None:
    """No demo or data package comes with `import spectral_ops`, and nothing is printed."""
    code = """
import sys, torch
before = set(sys.modules)
import spectral_ops
new = {name.split(".")[0] for name in set(sys.modules) - before}
print(sorted(new & {"matplotlib", "rich", "scipy", "mlxtend", "torchvision", "triton", "safetensors", "pandas"}))
"""
    assert python(PACKAGE.parent, code) == "[]\n"


def test_version() -> None:
    import importlib.metadata

    try:
        installed = importlib.metadata.version("spectral-ops")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("the package is used from its folder, not installed")
    assert installed == spectral_ops.__version__


def test_typing_marker_is_shipped() -> None:
    assert (PACKAGE / "py.typed").exists()
