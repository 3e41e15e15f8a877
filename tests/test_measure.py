"""How the benchmarks compare: turn by turn, and every contender with itself."""

from __future__ import annotations

import sys
from typing import Any

import pytest

measure = pytest.importorskip("benchmarks.measure", reason="an installed package")
report = pytest.importorskip("benchmarks.report", reason="an installed package")


def timing(turns: list[float]) -> Any:
    return measure.Timing(seconds=turns[0], turns=turns, noisy=False, samples=len(turns))


def test_a_drift_of_the_machine_cancels() -> None:
    drift = [1.0, 2.0, 4.0, 3.0]
    assert timing([2 * t for t in drift]).over(timing(drift)) == 2
    assert timing([9.0, *(2 * t for t in drift), 9.0]).over(timing([1.0, *drift, 1.0])) == 2  # outliers as well
    assert timing(drift).noise == 0 and timing([1.0, 1.5, 1.0, 1.5]).noise == pytest.approx(1 / 3)


def test_turns_go_there_and_back(monkeypatch: pytest.MonkeyPatch) -> None:
    order = []
    monkeypatch.setattr(measure, "time_turn", lambda run, budget: ([run()], True))
    contenders = [measure.Contender(name, "eager", lambda name=name: order.append(name) or 1.0) for name in "AB"]
    contenders.append(measure.Contender("C", "compile", lambda: 1.0, failure="no compiler"))
    monkeypatch.setattr(measure, "first_call", lambda contender: [])
    result = measure.measure(contenders, measure.Budget(seconds=0.1, samples=1, turns=3, deadline=1.0))
    assert order == list("ABBAAB") and result.failures == {"C": "no compiler"}
    assert {name: len(t.turns) for name, t in result.timings.items()} == {"A": 3, "B": 3}


def test_cases_can_be_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """In the order given; "... fwd" does not take "... fwd+bwd" with it; a name that is none is an error."""
    names = ["dct type=2 n=32 last axis fwd", "dct type=2 n=16 last axis fwd"]
    monkeypatch.setattr(measure, "allocator_is_warm", lambda: True)
    monkeypatch.setattr(sys, "argv", ["report", "--list", "--case", *names])
    report.main()
    assert capsys.readouterr().out.splitlines() == names
    monkeypatch.setattr(sys, "argv", ["report", "--list", "--case", names[0], "dct of nothing"])
    with pytest.raises(SystemExit, match="--case must be names that --list prints, got dct of nothing"):
        report.main()


def test_small_cases_can_be_built() -> None:
    """Those that call a kernel past its op know its arguments, which nothing else here would miss."""
    small = [case for case in report.cases() if "rows=1792" in case.name or "kernel alone" in case.name]
    assert len(small) > 3
    for case in small:
        assert all(measure.first_call(contender) for contender in case.build().contenders if contender.kind == "ours")
