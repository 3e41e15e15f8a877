"""Shared fixtures, and the seconds that each test file took."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator

# Read when torch loads OpenMP: idle threads sleep. Where they spin, on a machine that does something else as well,
# these thousands of tiny parallel regions take five times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytest
import torch
from samples import LEVELS

import spectral_ops
from spectral_ops.table import TABLE

_seconds: dict[str, float] = defaultdict(float)
_counts: dict[str, int] = defaultdict(int)

# "reference", or a SIMD level of the C++ kernels
NATIVE = [pytest.param(level, marks=pytest.mark.native) for level in LEVELS or ("cpp",)]


def pytest_configure(config: pytest.Config) -> None:
    """Warnings are errors, but for those that torch gives about itself."""
    for message in (r"`torch\.jit\.\w+` is deprecated",):  # forward-mode AD and inductor script decompositions
        config.addinivalue_line("filterwarnings", f"ignore:{message}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests that force a kernel on an op which has none."""

    def composed(item: pytest.Item) -> bool:
        given = getattr(getattr(item, "callspec", None), "params", {})
        names = {getattr(given.get(key), "op", given.get(key)) for key in ("row", "op", "name")}
        forced = {given.get(key, "reference") for key in ("level", "backend", "chosen")} - {"reference"}
        rows = [
            TABLE[n]
            for n in names
            if isinstance(n, str) and n in TABLE and TABLE[n].composed and TABLE[n].stages is None
        ]
        return any(forced - {"triton"} or "triton" not in row.backends for row in rows if forced)

    out = [item for item in items if composed(item)]
    if out:
        config.hook.pytest_deselected(items=out)
        items[:] = [item for item in items if not composed(item)]


@pytest.fixture(params=NATIVE)
def level(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each SIMD level of this machine, active, with the C++ kernels forced."""
    if not LEVELS:
        pytest.skip(str(spectral_ops.native.status()["cpu"]))
    with spectral_ops.cpu_level(request.param), spectral_ops.use("cpp"):
        yield request.param


@pytest.fixture(params=["reference", *NATIVE])
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """The reference, then each SIMD level of the C++ kernels; forced."""
    if request.param == "reference":
        with spectral_ops.use("reference"):
            yield "reference"
    elif not LEVELS:
        pytest.skip(str(spectral_ops.native.status()["cpu"]))
    else:
        with spectral_ops.cpu_level(request.param), spectral_ops.use("cpp"):
            yield request.param


@pytest.fixture
def threads() -> Iterator[None]:
    """Puts the number of threads back after a test that changes it."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def seeded(threads: None) -> None:
    """One thread, and torch's random numbers from the start."""
    torch.set_num_threads(1)
    torch.manual_seed(0)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    name = report.nodeid.split("::")[0]
    _seconds[name] += report.duration
    _counts[name] += report.when == "call"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for report in terminalreporter.stats.get("skipped", []):
        if "ran without" in str(report.longrepr):  # a check that is weaker here than it should be
            terminalreporter.write_line(f"WARNING: {report.longrepr[2]}", yellow=True)
    terminalreporter.section("seconds per file")
    for name, seconds in sorted(_seconds.items(), key=lambda item: -item[1]):
        terminalreporter.write_line(f"{seconds:8.1f} s  {_counts[name]:5d} tests  {name}")
