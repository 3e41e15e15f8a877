"""Each row of the table has what a row must have; the C++ side agrees with it; the house rules hold."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from samples import LEVELS, rows_of
from wrong_samples import WRONG

import spectral_ops
from spectral_ops import native, triton_backend
from spectral_ops.op import rule_of
from spectral_ops.table import TABLE

PACKAGE = Path(spectral_ops.__file__).parent
ROOT = PACKAGE.parent
SHARED = {"dct_adjoint", "dst", "dst_adjoint", "mode_product"}  # the kernel of dct with another matrix
COMPOSED = {name for name, row in TABLE.items() if row.composed and row.stages is None}  # no CPU kernel
every_op = pytest.mark.parametrize("name", TABLE)
NETWORK = "Tensor[] weights, Tensor?[] biases, str[] activations"
DCT = '(Tensor x, int type=2, int dim=-1, str norm="backward", bool inverse=False, bool orthogonalize=False) -> Tensor'
GEOMETRY = "int[2] stride=1, int[2] padding=0, int[2] dilation=1"
PUBLIC = {
    "dct": DCT,
    "dst": DCT,
    "dctn": '(Tensor x, int[] dim, int type=2, str norm="backward", bool inverse=False, bool orthogonalize=False, '
    "bool sine=False, bool adjoint=False) -> Tensor",
    "hadamard": "(Tensor x, int dim=-1, bool normalized=True) -> Tensor",
    "to_branches": "(Tensor x, Tensor transform) -> Tensor",
    "from_branches": "(Tensor y, Tensor inverse) -> Tensor",
    "branch_linear": '(Tensor x, Tensor weight, Tensor? bias=None, str activation="none") -> Tensor',
    "spectral_linear": "(Tensor x, Tensor transform, Tensor weight, Tensor? bias, str activation, Tensor inverse, "
    'str output_activation="none") -> Tensor',
    "spectral_mlp": f"(Tensor x, Tensor? transform, {NETWORK}) -> Tensor",
    "spectral_mlp_cross_entropy": f"(Tensor x, Tensor? transform, {NETWORK}, Tensor target) -> (Tensor, Tensor)",
    "branch_ensemble": '(Tensor logits, Tensor weights, str space="probabilities") -> Tensor',
    "spectral_ensemble": f"(Tensor x, Tensor? transform, {NETWORK}, Tensor branch_weights, "
    'str space="probabilities") -> Tensor',
    "mode_product": "(Tensor x, Tensor matrix, int dim) -> Tensor",
    "branch_conv2d": f'(Tensor x, Tensor weight, Tensor? bias=None, str activation="none", {GEOMETRY}) -> Tensor',
    "spectral_conv2d": "(Tensor x, Tensor transform, Tensor weight, Tensor? bias, str activation, Tensor inverse, "
    f"{GEOMETRY}) -> Tensor",
    "tucker_conv2d": f"(Tensor x, Tensor core, Tensor u_out, Tensor u_in, Tensor? bias=None, {GEOMETRY}, "
    "Tensor? u_h=None, Tensor? u_w=None, int groups=1) -> Tensor",
    "csg_kernels": "(Tensor codes, Tensor generator, int[] kernel_shapes, int[4] slice_shape, "
    'str layout="block", bool channels_last=False) -> Tensor[]',
    "csg_kernel": "(Tensor codes, Tensor generator, int[4] kernel_shape, int[4] slice_shape, "
    'str layout="block", bool channels_last=False) -> Tensor',
    "csg_conv2d": "(Tensor x, Tensor codes, Tensor generator, int[4] kernel_shape, int[4] slice_shape, "
    f'Tensor? bias=None, {GEOMETRY}, str layout="block", int groups=1) -> Tensor',
    "branch_rnn": "(Tensor x, Tensor weight_x, Tensor weight_h, Tensor weight_y, Tensor? bias, Tensor h0, "
    'str activation_h="tanh", str activation_y="none", Tensor? lengths=None) -> (Tensor, Tensor)',
}


@pytest.mark.parametrize("name", PUBLIC)
def test_public_schemas(name: str) -> None:
    """Users call these by name and order: a change here breaks them."""
    assert str(getattr(torch.ops.spectral, name).default._schema) == f"spectral::{name}{PUBLIC[name]}"


@every_op
def test_a_row_is_complete(name: str) -> None:
    row, rule = TABLE[name], rule_of(name)
    assert row.name == name and row.backends[-1] == "reference"
    assert (row.native is None) == ("cpp" not in row.backends)
    assert row.composed or row.native is not None
    assert row.autocast in ("lower", "float32", "rule")
    arguments = [a.name for a in getattr(torch.ops.spectral, name).default._schema.arguments]
    assert list(inspect.signature(rule.reference).parameters) == arguments
    assert list(inspect.signature(rule.check).parameters)[: len(arguments)] == arguments
    assert list(inspect.signature(rule.empty).parameters) in (arguments, ["args"])  # named, or taken apart inside
    if row.native is not None:
        assert list(inspect.signature(rule.cpp).parameters) == (["args", "out"] if row.stages is None else ["args"])
    if row.autocast == "rule":
        assert list(inspect.signature(rule.autocast).parameters) == ["args", "dtype"]


@every_op
def test_a_row_has_samples(name: str) -> None:
    rows = rows_of(name)
    assert len(rows) >= 8 and len({row.id for row in rows}) == len(rows)
    assert sum(row.small for row in rows) >= 2
    assert len([row for row in WRONG if row.op == name]) >= 4


@every_op
def test_a_row_has_docs(name: str) -> None:
    text = inspect.getdoc(rule_of(name).reference) or ""
    for word in ("Args", "Returns", "Raises", "Accuracy", "Gradient", "Deterministic"):
        assert re.search(rf"\b{word}\b", text), f"{name}: the docstring of reference says nothing about {word}"
    assert name not in PUBLIC or "Source:" in text
    for held_by in re.findall(r"`(tests/\w+\.py)`", text):
        assert (ROOT / held_by).exists() or not (ROOT / "tests").exists(), held_by
    assert (rule_of(name).__doc__ or "").startswith(f"{name}: ")


def test_every_file_of_ops_is_an_op() -> None:
    files = {path.stem for path in (PACKAGE / "ops").glob("*.py")}
    assert files == TABLE.keys() | {
        "__init__",
        "activations",
        "checks",
        "fourier",
        "planes",
        "trigonometric",
        "tucker_cost",
        "tucker_stages",
    }


@pytest.mark.skipif(not (ROOT / "csrc").exists(), reason="an installed package has no csrc")
def test_every_kernel_of_csrc_is_an_op() -> None:
    sources = {path.stem for path in (ROOT / "csrc" / "cpu").glob("*.cpp")} - {"level"}
    called = {name for name in COMPOSED if TABLE[name].calls}  # from between the parts of a composition
    assert sources == (TABLE.keys() - SHARED - COMPOSED) | called
    entries = {path.stem for path in (ROOT / "csrc" / "cuda").glob("*.cpp")}
    fused = {name for name in COMPOSED if TABLE[name].native is not None}
    assert entries == (sources | fused) - {"spectral_conv2d"}  # the library's convolution is another there


@pytest.mark.skipif(triton_backend.missing() is not None, reason=str(triton_backend.missing()))
@pytest.mark.parametrize("name", [name for name, row in TABLE.items() if "triton" in row.backends])
def test_triton_kernels(name: str) -> None:
    """Each has a file, and what the machine asks of it."""
    module = triton_backend.kernels(name)
    assert list(inspect.signature(module.plan).parameters) == ["args", "out", "arch"]
    assert (module.__doc__ or "").startswith(f"{name} on the GPU: ")
    arguments = [a.name for a in getattr(torch.ops.spectral, name).default._schema.arguments]
    kinds = {p.kind for p in inspect.signature(module.why_not).parameters.values()}
    assert inspect.Parameter.VAR_POSITIONAL in kinds or list(inspect.signature(module.why_not).parameters) == arguments


@every_op
def test_benchmarks(name: str) -> None:
    """Each op has a formula of its cost and is measured."""
    if importlib.util.find_spec("benchmarks") is None:
        pytest.skip("an installed package has no benchmarks")
    cases, cost = (importlib.import_module(f"benchmarks.{part}") for part in ("cases", "cost"))
    assert name in cost.FORMULAS
    assert sum(case.op == name for case in cases.cases()) >= 3


def test_doctor_knows_every_op() -> None:
    from spectral_ops import doctor

    for name, devices in doctor.facts()["ops"].items():
        for device, rows in devices.items():
            assert sorted(backend for backend, _ in rows) == sorted(TABLE[name].backends), (name, device)


def test_names() -> None:
    for name in spectral_ops.__all__:
        assert getattr(spectral_ops, name) is not None
    with pytest.raises(AttributeError):
        spectral_ops.no_such_name  # noqa: B018


# ---- torch's private names -----------------------------------------------------------------------------------------
def test_private_names_of_torch_are_there() -> None:
    """When torch drops one of these, this fails first, and says so."""
    from torch.autograd import forward_ad

    assert not torch._C._are_functorch_transforms_active()
    assert forward_ad._current_level == -1
    with forward_ad.dual_level():
        assert forward_ad._current_level == 0
    assert torch._C._len_torch_dispatch_stack() == 0
    with torch._C._AutoDispatchBelowAutograd():
        assert not (torch.ones(2, requires_grad=True) * 2).requires_grad
    seen = []
    torch.func.grad(lambda x: seen.append(torch._C._are_functorch_transforms_active()) or x.sum())(torch.ones(2))
    assert seen == [True]


def test_private_names_of_torch_are_in_one_file() -> None:
    private = re.compile(r"torch\._C|forward_ad\._|_python_dispatch|_functorch")
    files = {p.name for p in PACKAGE.rglob("*.py") if private.search(p.read_text())}
    assert files == {"autograd.py"}


# ---- house rules ---------------------------------------------------------------------------------------------------
def _sources() -> list[Path]:
    folders = [PACKAGE, *(ROOT / name for name in ("csrc", "tests", "benchmarks", "triton_kernels"))]
    suffixes = {".py", ".cpp", ".h", ".cu", ".cuh"}
    return [p for folder in folders if folder.exists() for p in folder.rglob("*") if p.suffix in suffixes]


def test_no_environment_variables_at_run_time() -> None:
    words = re.compile(r"os\.environ|getenv")
    shipped = [p for p in _sources() if p.parent.name != "tests" and "benchmarks" not in p.parts]
    assert [p.name for p in shipped if words.search(p.read_text())] == []


def test_files_are_short_and_well_named() -> None:
    for path in _sources():
        assert path.stem not in ("utils", "helpers", "common", "impl", "misc"), path
        assert len(path.read_text().splitlines()) < 400, path


# ---- the native library --------------------------------------------------------------------------------------------
needs_native = pytest.mark.skipif(not LEVELS, reason=str(native.status()["cpu"]))


def _types(schema: str) -> str:
    """ "(Tensor x, Tensor(a!)? y) -> ()" -> "Tensor,Tensor?->" """
    arguments = schema[1 : schema.index(") ->")].split(", ")
    results = schema.split(") -> ")[1].strip("()").replace(" ", "")
    return ",".join(re.sub(r"\(\w!\)", "", a).split(" ")[0] for a in arguments) + "->" + results


@needs_native
@pytest.mark.native
def test_cpp_signatures_equal_the_schemas() -> None:
    """The stable ABI compares nothing: a float passed as an int64_t would be garbage."""
    found = native.signatures()
    wanted = {name: _types(row.native) for name, row in TABLE.items() if not row.composed or row.stages is not None}
    wanted |= {f"{name}_backward": _types(row.stages) for name, row in TABLE.items() if row.stages is not None}
    wanted |= {name: _types(schema) for row in TABLE.values() for name, schema in row.calls}
    assert found == {name: types for name, types in wanted.items() if name not in SHARED}


def test_the_comparison_of_signatures_can_fail() -> None:
    assert _types("(Tensor x, float y, Tensor(b!)[] z, Tensor? w, Tensor(a!)? out) -> ()") == (
        "Tensor,float,Tensor[],Tensor?,Tensor?->"
    )
    assert _types("(Tensor x, bool y) -> (Tensor, Tensor)") == "Tensor,bool->Tensor,Tensor"


@needs_native
@every_op
@pytest.mark.native
def test_kernels_are_registered_for_the_cpu(name: str) -> None:
    if name not in SHARED | COMPOSED:
        assert torch._C._dispatch_has_kernel_for_dispatch_key(f"spectral_native::{name}", "CPU")
    for key in ("CompositeExplicitAutograd", "Autograd", "FuncTorchBatched", "Batched", "AutocastCPU", "AutocastCUDA"):
        assert torch._C._dispatch_has_kernel_for_dispatch_key(f"spectral::{name}", key)


def _nm(*arguments: str) -> list[str]:
    tool = shutil.which("nm")
    if tool is None:
        pytest.skip("nm (binutils) is not installed")
    return subprocess.run([tool, "-C", *arguments], capture_output=True, text=True, check=True).stdout.splitlines()


@needs_native
@pytest.mark.parametrize("library", ["libspectral_cpu.so", "libspectral_cuda.so"])
def test_libraries_export_their_c_functions_only(library: str) -> None:
    path = PACKAGE / library
    if not path.exists():
        pytest.skip(str(native.status()[library[12:-3]]))
    symbols = [line.split(maxsplit=2)[-1] for line in _nm("-D", "--defined-only", str(path))]
    foreign = [s for s in symbols if not re.match(r"(spectral_\w+$|_init$|_fini$|__bss_start|_edata|_end)", s)]
    assert foreign == []
    assert library != "libspectral_cpu.so" or "spectral_cpu_level_name" in symbols


@pytest.mark.parametrize("level", ["avx512", "avx2"])
def test_simd_objects_leak_no_shared_code(level: str) -> None:
    """A weak function of an AVX object (std::max, say) could be the copy that the linker keeps for everybody."""
    objects = list((ROOT / "build").glob(f"CMakeFiles/simd_{level}.dir/**/*.o"))
    if not objects:
        pytest.skip("no build folder with object files")
    weak = [line for path in objects for line in _nm("--defined-only", str(path)) if re.match(r"\w* [WVu] ", line)]
    assert [line for line in weak if f"spectral::{level}::" not in line] == []


@needs_native
def test_tile_rows() -> None:
    """The tiles fit the registers of their level (csrc/tiles.h also asserts it when it is compiled)."""
    try:
        host = importlib.import_module("spectral_ops._host")
    except ImportError as error:
        pytest.skip(str(error))
    rows = host.cpu_tiles()
    assert {(row["level"], row["scalar_bytes"]) for row in rows} == {
        (level, size) for level in ("avx512", "avx2", "portable") for size in (4, 8)
    }
    for row in rows:
        assert row["registers_used"] <= row["registers"]
        assert row["lanes"] * row["scalar_bytes"] == {"avx512": 64, "avx2": 32, "portable": 16}[row["level"]]
    features = host.cpu_features()
    assert ("avx512" in LEVELS) == all(v for k, v in features.items() if k.startswith("avx512")) or not features
