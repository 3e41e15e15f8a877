"""What must agree across folders: table, rule modules, docs, C++ signatures, samples, benchmarks, private names."""

from __future__ import annotations

import inspect
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from torch.autograd import forward_ad

import spectral_ops
from samples import RIGHT
from spectral_ops.op import rule_of
from spectral_ops.table import TABLE

PACKAGE = Path(spectral_ops.__file__).parent
ROOT = PACKAGE.parent


@pytest.mark.parametrize("op", TABLE)
def test_a_rule_module_has_what_the_op_machine_calls(op: str) -> None:
    rule = rule_of(op)
    schema = getattr(torch.ops.spectral, op).default._schema
    names = [argument.name for argument in schema.arguments]
    for function in ("reference", "empty"):
        assert list(inspect.signature(getattr(rule, function)).parameters) == names, function
    for backend in TABLE[op].backends:
        assert backend == "reference" or callable(getattr(rule, backend))
    assert callable(rule.check)


@pytest.mark.parametrize("op", TABLE)
def test_docs_name_every_section(op: str) -> None:
    text = inspect.getdoc(rule_of(op).reference) or ""
    for word in ("Args", "Returns", "Raises", "Accuracy", "Gradient", "Deterministic" if "adjoint" not in op else "Args"):
        if word == "Deterministic" and "Source: as" in text or "Raises, Accuracy, Source: as" in text:
            continue
        assert re.search(rf"\b{word}\b", text), f"{op}: {word}"


def test_every_op_file_is_a_row() -> None:
    files = {p.stem for p in (PACKAGE / "ops").glob("*.py")} - {"__init__", "checks", "activations"}
    assert files == set(TABLE)


def test_every_row_has_samples() -> None:
    assert {row.op for row in RIGHT} == set(TABLE)


@pytest.mark.skipif(not (ROOT / "csrc").is_dir(), reason="not a checkout")
def test_one_name_in_every_folder() -> None:
    files = {p.stem for p in (ROOT / "csrc" / "cpu").glob("*.cpp")} - {"level"}
    # an op without a file of its own: the adjoint is the same kernel with another matrix
    assert set(TABLE) - files == {"dct_adjoint"}
    assert files <= set(TABLE)


@pytest.mark.skipif(not (ROOT / "benchmarks").is_dir(), reason="not a checkout")
def test_every_op_is_measured() -> None:
    cost = (ROOT / "benchmarks" / "cost.py").read_text() + (ROOT / "benchmarks" / "odd_shapes.py").read_text()
    assert [op for op in TABLE if op not in cost] == []


def _types(native: str) -> str:
    inputs, outputs = native.removeprefix("(").split(") -> ")
    assert outputs == "()"
    plain = re.sub(r"\([a-z]!\)", "", inputs)
    return ",".join(argument.strip().rsplit(" ", 1)[0] for argument in plain.split(",")) + "->"


@pytest.mark.native
def test_cpp_signatures_are_the_schemas() -> None:
    found = spectral_ops.native.signatures()
    if not found:
        pytest.skip(str(spectral_ops.native.status()["cpu"]))
    assert {op: _types(row.native) for op, row in TABLE.items()} == found


@pytest.mark.native
def test_no_simd_level_leaks_into_another() -> None:
    """An inline function compiled for AVX-512 must never be the copy that all levels share."""
    objects = sorted((ROOT / "build").glob("CMakeFiles/simd_*/**/*.o"))
    if not objects or shutil.which("nm") is None:
        pytest.skip("no object files (the package was not built here)")
    for path in objects:
        level = re.search(r"simd_(\w+)\.dir", str(path)).group(1)  # type: ignore[union-attr]
        text = subprocess.run(["nm", "-C", "--defined-only", path], capture_output=True, text=True, check=True).stdout
        shared = [line for line in text.splitlines() if line.split(" ")[1] in "WVu" and f"spectral::{level}::" not in line]
        assert shared == [], path


@pytest.mark.native
def test_only_our_c_functions_are_exported() -> None:
    library = PACKAGE / "libspectral_cpu.so"
    if not library.exists() or shutil.which("nm") is None:
        pytest.skip("no library here")
    text = subprocess.run(["nm", "-D", "--defined-only", library], capture_output=True, text=True, check=True).stdout
    names = {line.split()[2] for line in text.splitlines() if line.split()[1] == "T"}
    assert names and {n for n in names if not n.startswith("spectral_")} == set()


def test_the_private_names_of_torch_are_there() -> None:
    """If one of these is gone, spectral_ops/autograd.py must find another way before this torch is supported."""
    assert callable(torch._C._AutoDispatchBelowAutograd)
    assert torch._C._are_functorch_transforms_active() is False
    assert forward_ad._current_level == -1
    assert torch._C._len_torch_dispatch_stack() == 0
    assert torch._C._has_storage(torch.zeros(1)) is True
    assert torch.func.grad(lambda x: float(torch._C._are_functorch_transforms_active()) * x)(torch.ones(())) == 1


def test_private_names_are_in_one_file() -> None:
    users = {p.name for p in PACKAGE.rglob("*.py") if re.search(r"torch\._C\b", p.read_text())}
    assert users == {"autograd.py"}
