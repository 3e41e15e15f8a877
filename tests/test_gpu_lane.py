"""`make gpu` without a GPU: stages that fail, hang, die or say "no GPU", and a run of each on the CPU."""

from __future__ import annotations

import importlib.util
import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch

pytestmark = pytest.mark.skipif(importlib.util.find_spec("benchmarks") is None, reason="an installed package")
if importlib.util.find_spec("benchmarks") is not None:
    from benchmarks import gpu


def results(out: Path) -> dict[str, Any]:
    return json.loads((out / "results.json").read_text())


def program(text: str) -> Any:
    return lambda python: [str(python), "-c", text]


def test_a_stage_that_goes_wrong_does_not_stop_the_next(tmp_path: Path) -> None:
    stages = [
        gpu.Stage("facts", gpu.CHECKS, 60, program("import os; os._exit(3)")),
        gpu.Stage("values", gpu.CHECKS, 1, program("import time; time.sleep(60)")),
        gpu.Stage("memcheck", gpu.CHECKS, 60, lambda python: ["no-such-program"]),
        gpu.Stage("dispatch", gpu.CHECKS, 60, program("pass")),
        gpu.Stage("tune", gpu.SPEED, 60),
    ]
    assert not gpu.drive(stages, tmp_path, dry=False)
    statuses = {name: row["status"] for name, row in results(tmp_path).items()}
    assert statuses == {
        "facts": "failed, exit code 3",
        "values": "stopped after 1 s",
        "memcheck": "did not start: No such file or directory",
        "dispatch": "said nothing",
        "tune": statuses["tune"] if torch.cuda.is_available() else "no GPU",
    }
    assert "==== tune" in (tmp_path / "log.txt").read_text()


def test_no_time_left(tmp_path: Path) -> None:
    assert not gpu.drive([gpu.Stage("tune", gpu.SPEED, 60)], tmp_path, dry=False, total=0.5)
    assert results(tmp_path)["tune"]["status"] == "no time left"


def test_stages_leave_time_to_those_after_them(tmp_path: Path) -> None:
    """A check that hangs is stopped in time for the measurements."""
    slow = gpu.Stage("values", gpu.CHECKS, 60, program("import time; time.sleep(60)"))
    last = gpu.Stage("speed", gpu.SPEED, 60, program("pass"), reserved=20)
    assert not gpu.drive([slow, last], tmp_path, dry=False, total=22)
    found = results(tmp_path)
    assert found["values"]["status"] == "stopped after 2 s" and found["speed"]["status"] == "said nothing"


def test_candidates_are_rows_as_they_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `tune` prints is the row that a call takes, ready for triton_kernels/tiles.py."""
    tiles = pytest.importorskip("spectral_ops.triton_kernels.tiles")
    from benchmarks import gpu_speed

    taken = tiles.pick("tubes", torch.float32, 28, 90)
    candidates = dict(gpu_speed._candidates(tiles.ROWS))
    monkeypatch.setattr(tiles, "ROWS", candidates["warps=8, stages=3"])
    (text,) = gpu_speed._picked(lambda *_: tiles.pick("tubes", torch.float32, 28, 90), [])
    assert eval(text, {"Tile": tiles.Tile}) == taken._replace(warps=8, stages=3)


@pytest.mark.parametrize(
    ("fault", "status"), [("raise", "failed"), ("row", "failed"), ("no gpu", "no GPU"), ("", "passed")]
)
def test_rows_are_kept_whatever_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, status: str
) -> None:
    def broken(report: gpu.Report) -> None:
        report.add(number=1)
        if fault == "raise":
            raise ValueError("in the middle")
        if fault == "row":
            report.add(number=2, failure="wrong value")
        if fault == "no gpu":
            report.need_gpu()

    monkeypatch.setitem(sys.modules, "broken_stages", types.SimpleNamespace(broken=broken))
    code = gpu.run_stage(gpu.Stage("broken", "broken_stages", 10), gpu.Report("broken", tmp_path, dry=True))
    found = results(tmp_path)["broken"]
    assert found["status"] == status and found["rows"][0] == {"number": 1}
    assert code == (status == "failed")
    assert ("in the middle" in found.get("error", "")) == (fault == "raise")


def test_the_stages_fit_their_time() -> None:
    """A lease of a GPU is ten minutes a command."""
    assert gpu.TOTAL < 540
    assert len({stage.name for stage in gpu.STAGES}) == len(gpu.STAGES)
    modules = [stage.module for stage in gpu.STAGES]
    assert modules == sorted(modules), "all checks, then the measurements"
    for stage in gpu.STAGES:
        assert callable(getattr(importlib.import_module(stage.module), stage.name))


def test_dry_run_of_some_stages(tmp_path: Path) -> None:
    assert gpu.main([str(tmp_path), "--dry-run", "--only", "build", "facts", "large"]) == 0
    found = results(tmp_path)
    assert {name: row["status"] for name, row in found.items()} == {
        "build": "no GPU", "facts": "no GPU", "large": "passed"
    }  # fmt: skip
    assert len(found["large"]["rows"]) == 5


@pytest.mark.slow
def test_dry_run_of_all_stages(tmp_path: Path) -> None:
    assert gpu.main([str(tmp_path), "--dry-run"]) == 0, (tmp_path / "log.txt").read_text()[-4000:]
    found = results(tmp_path)
    assert found["values"]["status"] == found["speed"]["status"] == found["gradients"]["status"] == "passed"
    # ops that are compositions on the CPU have baselines only
    times = [row["us"]["cpp"] for row in found["speed"]["rows"] if "cpp" in row.get("us", ())]
    assert len(times) > 10 and min(times) > 0
