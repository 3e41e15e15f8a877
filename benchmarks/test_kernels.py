"""The cases as pytest-benchmark tests: `pytest benchmarks` checks every result once, and times it when given
`--benchmark-enable`; then `--benchmark-group-by=group` shows ours and eager side by side. Small timings without the
care of `benchmarks.report`, but with pytest-benchmark's comparison of saved runs.
"""

from __future__ import annotations

from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from spectral_ops.table import TABLE

from . import cost, measure
from .cases import cases
from .contenders import Case

CASES = cases()
# rounding may differ between two float32 orders of summation; a wrong kernel is off by far more
TIMES_BASELINE, FLOOR = 4.0, 2e-6


@pytest.mark.parametrize("kind", ["ours", "eager"])
@pytest.mark.parametrize(
    "case", [pytest.param(c, id=c.name, marks=[pytest.mark.slow] if c.large else []) for c in CASES]
)
def test_case(benchmark: BenchmarkFixture, case: Case, kind: str) -> None:
    built = case.build()
    contender = next(c for c in built.contenders if c.kind == kind)
    outputs = measure.first_call(contender)
    if outputs is None and case.name.endswith("kernel alone"):
        pytest.skip(contender.failure or "")
    assert outputs is not None, contender.failure
    assert contender.truth is not None
    error = measure.error(outputs, measure.detached(contender.truth()))
    if kind == "ours":
        eager = next(c for c in built.contenders if c.kind == "eager")
        assert eager.truth is not None
        allowed = measure.error(measure.first_call(eager) or [], measure.detached(eager.truth()))
        assert error <= TIMES_BASELINE * allowed + FLOOR
    benchmark.group = case.name
    benchmark.extra_info.update(_facts(case, built.backend, error))
    benchmark(contender.run)


def _facts(case: Case, backend: str, error: float) -> dict[str, Any]:
    warm = measure.allocator_is_warm()
    return {"op": case.op, "backend": backend, "error": error, "allocator kept warm": warm}


def test_every_op_is_measured() -> None:
    for name in TABLE:
        assert name in cost.FORMULAS
        assert sum(case.op == name and case.group == "odd shapes" for case in CASES) >= 3


def test_names_are_unique() -> None:
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)
