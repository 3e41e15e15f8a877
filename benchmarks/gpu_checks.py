"""The checks of `benchmarks/gpu.py`: the samples and bounds of the tests, on the device."""

from __future__ import annotations

import itertools
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from .gpu import ROOT, NoGpu, Report

sys.path.insert(0, str(ROOT / "tests"))
FULL = (torch.float32, torch.float64)
MANY = 20_000  # values of a sample, beyond which only the typical row of an op is taken


# ---- build and facts -----------------------------------------------------------------------------------------------
def build(report: Report) -> None:
    """The native libraries, in a folder of their own, installed beside the package's sources."""
    if report.dry:
        raise NoGpu
    folder = ROOT / "build-gpu"
    link = ROOT / "spectral_ops" / "triton_kernels"
    if not link.exists():
        link.symlink_to(ROOT / "triton_kernels")
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    cores = str(os.cpu_count() or 2)
    for command in (
        ["cmake", "-S", ".", "-B", str(folder), *generator, f"-DSPECTRAL_PYTHON={sys.executable}"],
        ["cmake", "--build", str(folder), "--parallel", cores],
        ["cmake", "--install", str(folder), "--prefix", str(ROOT / "spectral_ops")],
    ):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        print(done.stdout[-4000:], done.stderr[-4000:], flush=True)
        failed = {"failure": (done.stdout + done.stderr)[-1500:]} if done.returncode else {}
        report.add(command=" ".join(command[:2]), **failed)
        if failed:
            return


def facts(report: Report) -> None:
    """What the machine is, and the first things to be sure of on it: the libraries load, streams are torch's."""
    from spectral_ops import native

    report.add(
        python=platform.python_version(), torch=torch.__version__, cuda=torch.version.cuda, native=native.status()
    )
    report.need_gpu()
    p = torch.cuda.get_device_properties(0)
    names = ("name", "major", "minor", "total_memory", "multi_processor_count", "L2_cache_size")
    report.add(**{name: getattr(p, name) for name in names}, shared=p.shared_memory_per_block_optin)
    smi = subprocess.run(
        ["nvidia-smi", "--query-gpu=driver_version,clocks.sm", "--format=csv"], capture_output=True, text=True
    )
    report.add(nvidia_smi=smi.stdout.strip())
    import spectral_ops

    # the work of an op waits for what its stream was given before: 2 is written late, on that stream alone
    x, stream = torch.ones(1, 64, 8, device="cuda"), torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream), spectral_ops.use("cpp"):
        torch.cuda._sleep(50_000_000)
        x.fill_(2)
        y = torch.ops.spectral.branch_linear(x, torch.eye(8, device="cuda")[None])
    stream.synchronize()
    report.add(
        stream="current", **({} if bool((y == 2).all()) else {"failure": "the op did not use the current stream"})
    )


# ---- the samples of the tests --------------------------------------------------------------------------------------
def _rows(report: Report) -> Iterator[Any]:
    """The test's samples of ops with kernels, small ones and one typical of each op."""
    from samples import RIGHT, typical

    from spectral_ops.table import TABLE

    left: dict[str, int] = {}
    for row in RIGHT:
        left[row.op] = left.get(row.op, 0) + 1
        few = row.values <= MANY or row is typical(row.op)
        if len(TABLE[row.op].backends) > 1 and few and (not report.dry or left[row.op] in (2, 5)):
            yield row


def _backends(report: Report) -> tuple[str, ...]:
    return ("cpp",) if report.dry else ("cpp", "triton")


def _reason(op: str, args: list[Any], backend: str) -> str | None:
    import spectral_ops

    with spectral_ops.use(backend):
        return dict(spectral_ops.backends(op, *args)).get(backend, "no such backend")


def _results(op: str, args: list[Any]) -> list[Tensor]:
    from spectral_ops.autograd import flatten

    out = getattr(torch.ops.spectral, op)(*args)
    return flatten(out if isinstance(out, tuple | list) else [out])[0]


def _attempt(report: Report, check: Callable[[], dict[str, Any] | None], **names: Any) -> None:
    """Add a row of what `check` found; what it raised is the row's failure. An error of CUDA itself ends the stage."""
    try:
        report.add(**names, **(check() or {}))
    except Exception as error:
        report.add(**names, failure=f"{type(error).__name__}: {error}"[:500])
        if "CUDA" in str(error):
            raise


def values(report: Report) -> None:
    """Every op in CUDA C++ against float64, under the bounds of tests/bounds.py; complex beside complex128."""
    _values(report, "cpp")
    _complex_values(report, "cpp")


def triton(report: Report) -> None:
    """The same of Triton's kernels, which are compiled for every shape: a second each, so a few rows of each op."""
    report.need_gpu()
    _values(report, "triton", most=3)
    _complex_values(report, "triton", most=1)
    _values(report, "triton", most=1, dtypes=(torch.bfloat16, torch.float16))


# made of several products: what one leaves is rounded to half before the next multiplies it
_CHAINS = ("spectral_", "branch_mlp", "branch_rnn", "tucker_", "csg_conv2d")


def _values(report: Report, backend: str, most: int | None = None, dtypes: tuple[torch.dtype, ...] = FULL) -> None:
    """A row of the report for each op when its samples are done, and one for each failure."""
    import bounds

    import spectral_ops

    torch.backends.cudnn.conv.fp32_precision = "ieee"  # tf32 otherwise, and so are the kernels in their place
    by_op: dict[str, list[Any]] = {}
    for row in _rows(report):
        if most is None or row.values <= 3000:
            by_op.setdefault(row.op, []).append(row)
    for op, rows in by_op.items():
        right = refused = 0
        for row, dtype in itertools.product(rows[:most], dtypes):
            args = row.make(dtype, report.device)
            if _reason(op, args, backend):
                refused += 1
                continue
            try:
                with spectral_ops.use(backend):
                    got = [y.cpu() for y in _results(op, args)]
                rounded = dtype if dtype not in FULL and op.startswith(_CHAINS) else None
                for y, limit in zip(got, bounds.bounded(op, row.make(dtype), dtype, rounded), strict=True):
                    bounds.check(y, limit, op)
                right += 1
            except Exception as error:
                text = f"{type(error).__name__}: {error}"[:400]
                report.add(row=row.id, backend=backend, dtype=str(dtype), failure=text)
                if "CUDA" in text:
                    raise
        report.add(op=op, backend=backend, right=right, refused=refused)


def _complex_values(report: Report, backend: str, most: int | None = None) -> None:
    from complex_samples import COMPLEX

    import spectral_ops
    from spectral_ops.autograd import flatten
    from spectral_ops.op import rule_of
    from spectral_ops.table import TABLE

    taken: dict[str, int] = {}
    for row in COMPLEX[:: 20 if report.dry else 1]:
        args = row.make(torch.float32, report.device)
        if not TABLE[row.op].complex_together or (most is not None and taken.get(row.op, 0) >= most):
            continue
        if _reason(row.op, args, backend):
            continue
        taken[row.op] = taken.get(row.op, 0) + 1

        def check(row: Any = row, args: list[Any] = args) -> dict[str, Any]:
            with spectral_ops.use(backend):
                got = _results(row.op, args)
            wanted = rule_of(row.op).reference(*row.make(torch.float64))
            pairs = zip(got, flatten(wanted if isinstance(wanted, tuple | list) else [wanted])[0], strict=True)
            error = max(
                (float((y.cpu() - w).abs().max() / w.abs().max().clamp_min(1e-30)) for y, w in pairs if w.numel()),
                default=0.0,
            )
            # not `error > 2e-5`, which NaN passes
            return {"error": error} | ({} if error <= 2e-5 else {"failure": "off by more than 2e-5"})

        _attempt(report, check, row=row.id, backend=backend)


def memcheck(report: Report) -> None:
    """A few small samples of each op, under compute-sanitizer (whose exit code counts); CUDA C++ first."""
    for backend in _backends(report):
        _values(report, backend, most=3)


racecheck = memcheck


def gradients(report: Report) -> None:
    """Numerical derivatives in float64 and complex128, which no other kernels than the CUDA C++ ones take."""
    from complex_samples import COMPLEX
    from samples import floating, map_tensors

    from spectral_ops.autograd import flatten, unflatten

    small = [row for row in [*_rows(report), *COMPLEX] if row.small]
    taken: dict[str, int] = {}
    for row in small:
        taken[row.op] = taken.get(row.op, 0) + 1
        args = row.make(torch.float64, report.device)
        if taken[row.op] > (1 if report.dry else 4) or _reason(row.op, args, "cpp"):
            continue
        leaves, structure = flatten(map_tensors(lambda t: t.detach().requires_grad_() if floating(t) else t, args))

        def function(*tensors: Tensor, row: Any = row, structure: Any = structure) -> Any:
            return tuple(y for y in _results(row.op, unflatten(tensors, structure)) if floating(y))

        def check(function: Any = function, leaves: Any = leaves) -> None:
            torch.autograd.gradcheck(function, tuple(leaves), fast_mode=True, nondet_tol=0.0)

        _attempt(report, check, row=row.id)


def dispatch(report: Report) -> None:
    """torch.library.opcheck of the typical call of each op."""
    from samples import typical

    from spectral_ops.table import TABLE

    for op in [name for name in TABLE if len(TABLE[name].backends) > 1][:: 6 if report.dry else 1]:
        args = typical(op).make(torch.float32, report.device)
        tests = ("test_schema", "test_faketensor")

        def check(op: str = op, args: list[Any] = args, tests: Any = tests) -> None:
            torch.library.opcheck(getattr(torch.ops.spectral, op).default, tuple(args), test_utils=tests)

        _attempt(report, check, op=op)


def graphs(report: Report) -> None:
    """Each op captured in a CUDA graph and replayed with other inputs: the bits of a plain call."""
    report.need_gpu()
    from samples import typical

    import spectral_ops
    from spectral_ops.autograd import flatten
    from spectral_ops.table import TABLE

    for op in [name for name in TABLE if len(TABLE[name].backends) > 1]:
        for backend in _backends(report):
            args, others = (typical(op).make(torch.float32, "cuda", seed=s) for s in (0, 1))
            if _reason(op, args, backend):
                continue

            def check(op: str = op, args: list[Any] = args, others: list[Any] = others, backend: str = backend) -> None:
                with spectral_ops.use(backend):
                    for _ in range(3):
                        _results(op, args)
                    torch.cuda.synchronize()
                    graph = torch.cuda.CUDAGraph()
                    with torch.cuda.graph(graph):
                        captured = _results(op, args)
                    for mine, other in zip(flatten(args)[0], flatten(others)[0], strict=True):
                        mine.copy_(other)
                    graph.replay()
                    wanted = _results(op, others)
                assert all(torch.equal(a, b) for a, b in zip(captured, wanted, strict=True)), "other bits"

            _attempt(report, check, op=op, backend=backend)


def determinism(report: Report) -> None:
    """Equal bits in five runs, with other work on the device meanwhile."""
    from samples import typical

    import spectral_ops
    from spectral_ops.table import TABLE

    noise = torch.randn(512 if report.dry else 4096, 512, device=report.device)
    for op in [name for name in TABLE if len(TABLE[name].backends) > 1]:
        for backend in _backends(report):
            args = typical(op).make(torch.float32, report.device)
            if _reason(op, args, backend):
                continue

            def check(op: str = op, args: list[Any] = args, backend: str = backend) -> None:
                with spectral_ops.use(backend):
                    first = _results(op, args)
                    for _ in range(4):
                        noise.mT @ noise
                        again = _results(op, args)
                        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True)), "other bits"

            _attempt(report, check, op=op, backend=backend)


def large(report: Report) -> None:
    """Tensors of more than 2^31 values: the first and the last rows are those of a call with few rows."""
    import spectral_ops

    n = 5000 if report.dry else (1 << 28) + 3
    if not report.dry and torch.cuda.mem_get_info()[0] < 40 << 30:
        return report.add(skipped="less than 40 GiB of free memory")
    x = torch.randn(n, 8, device=report.device)
    m = torch.randn(8, 8, device=report.device)
    calls: dict[str, Callable[[Tensor], Tensor]] = {
        "dct": lambda t: torch.ops.spectral.dct(t),
        "dctn": lambda t: torch.ops.spectral.dctn(t.view(-1, 2, 4), [1, 2]).view(-1, 8),
        "hadamard": lambda t: torch.ops.spectral.hadamard(t),
        "to_branches": lambda t: torch.ops.spectral.to_branches(t[:, None], m).permute(1, 2, 0),
        "branch_linear": lambda t: torch.ops.spectral.branch_linear(t[None], m[None])[0],
    }
    for op, call in calls.items():

        def check(call: Any = call) -> None:
            with spectral_ops.use("cpp"):
                y = call(x)
                for some in (slice(None, 1000), slice(-1000, None)):
                    torch.testing.assert_close(y[some].reshape(-1), call(x[some].contiguous()).reshape(-1))

        _attempt(report, check, op=op, values=x.numel())
        if not report.dry:
            torch.cuda.empty_cache()
