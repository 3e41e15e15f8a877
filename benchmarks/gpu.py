"""Everything to do on a machine with a GPU, in one command of less than nine minutes: `make gpu OUT=folder`.

Needs only that machine's own python3 with torch, cmake, a C++ compiler and nvcc: no network, no pytest. Each stage is a
process of its own with a time limit; its rows are written as soon as they exist, and a stage that fails, hangs or dies
does not stop the next. OUT/results.json holds all rows, OUT/log.txt what the stages printed.

    python3 -m benchmarks.gpu OUT              all stages
    python3 -m benchmarks.gpu OUT --only values speed
    python3 -m benchmarks.gpu OUT --dry-run    a few cases of each stage on the CPU: does the script itself work?
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TOTAL = 530.0  # seconds for all stages
CHECKS, SPEED = "benchmarks.gpu_checks", "benchmarks.gpu_speed"


@dataclass(frozen=True)
class Stage:
    """One step: the module whose function of that name does it, and how many seconds it may take at most.

    reserved: how many of them the stages before must leave.
    """

    name: str
    module: str
    seconds: float
    command: Callable[[Path], list[str]] | None = None  # runs under this program
    environment: dict[str, str] = field(default_factory=dict)
    reserved: float = 0.0


def _sanitizer(tool: str) -> Callable[[Path], list[str]]:
    return lambda python: [
        "compute-sanitizer",
        "--tool",
        tool,
        "--error-exitcode",
        "9",
        "--print-limit",
        "5",
        str(python),
    ]


_UNCACHED = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}  # or the sanitizer sees one big allocation
STAGES = (
    Stage("build", CHECKS, 150),
    Stage("facts", CHECKS, 30),
    Stage("values", CHECKS, 90),
    Stage("gradients", CHECKS, 60),
    Stage("dispatch", CHECKS, 40),
    Stage("triton", CHECKS, 100),
    Stage("graphs", CHECKS, 50),
    Stage("determinism", CHECKS, 40),
    Stage("large", CHECKS, 40),
    Stage("memcheck", CHECKS, 60, _sanitizer("memcheck"), _UNCACHED),
    Stage("racecheck", CHECKS, 60, _sanitizer("racecheck"), _UNCACHED),
    Stage("speed", SPEED, 150, reserved=130),
    Stage("tune", SPEED, 60, reserved=30),
)


class NoGpu(Exception):
    """This stage needs a GPU, and there is none."""


class Report:
    """The rows of one stage. dry: on the CPU, and little of everything."""

    def __init__(self, stage: str, out: Path, dry: bool) -> None:
        self.stage, self.out, self.dry = stage, out, dry
        self.device = "cpu" if dry else "cuda"
        self.rows: list[dict[str, Any]] = []

    def add(self, **row: Any) -> None:
        """One row, on the disk at once."""
        self.rows.append(row)
        print(json.dumps(row), flush=True)
        update(self.out, self.stage, rows=self.rows)

    def need_gpu(self) -> None:
        """For what the CPU cannot stand in for."""
        if self.dry:
            raise NoGpu


def update(out: Path, stage: str, **values: Any) -> None:
    """Write values of a stage into results.json, whole or not at all."""
    path = out / "results.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    results.setdefault(stage, {}).update(values)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(results, indent=1) + "\n")
    partial.replace(path)


def run_stage(stage: Stage, report: Report) -> int:
    """In the stage's own process. Returns its exit code."""
    import torch

    try:
        if not report.dry and stage.name != "build" and not torch.cuda.is_available():
            raise NoGpu
        getattr(importlib.import_module(stage.module), stage.name)(report)
    except NoGpu:
        update(report.out, stage.name, status="no GPU")
        return 0
    except Exception:
        update(report.out, stage.name, status="failed", error=traceback.format_exc()[-2000:])
        traceback.print_exc()
        return 1
    failures = sum("failure" in row for row in report.rows)
    update(report.out, stage.name, status="failed" if failures else "passed", failures=failures)
    return int(failures > 0)


def drive(stages: Sequence[Stage], out: Path, dry: bool, total: float = TOTAL) -> bool:
    """Run the stages one after another; returns whether all passed."""
    out.mkdir(parents=True, exist_ok=True)
    start, good = time.monotonic(), True
    with (out / "log.txt").open("w") as log:
        for number, stage in enumerate(stages):
            began = time.monotonic()
            left = total - (began - start) - sum(later.reserved for later in stages[number + 1 :])
            status = _one(stage, out, dry, min(stage.seconds, left), log) if left > 1 else "no time left"
            seconds = round(time.monotonic() - began, 1)
            update(out, stage.name, status=status, seconds=seconds)
            print(f"{stage.name:12} {status:24} {seconds:6.1f} s", flush=True)
            good &= status in ("passed", "no GPU")
    return good


def _one(stage: Stage, out: Path, dry: bool, seconds: float, log: Any) -> str:
    under = [sys.executable] if dry or stage.command is None else stage.command(Path(sys.executable))
    command = [*under, "-m", "benchmarks.gpu", str(out), "--stage", stage.name, *(["--dry-run"] if dry else [])]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **stage.environment}
    log.write(f"==== {stage.name}\n")
    log.flush()
    try:
        done = subprocess.run(command, cwd=ROOT, env=environment, stdout=log, stderr=log, timeout=seconds)
    except subprocess.TimeoutExpired:
        return f"stopped after {seconds:.0f} s"
    except OSError as error:
        return f"did not start: {error.strerror}"
    found = (
        json.loads((out / "results.json").read_text()).get(stage.name, {}) if (out / "results.json").exists() else {}
    )
    said = found.get("status")
    if done.returncode and said in (None, "passed"):
        return f"failed, exit code {done.returncode}"
    return said or "said nothing"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python3 -m benchmarks.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="the folder for results.json and log.txt")
    parser.add_argument("--only", nargs="+", choices=[s.name for s in STAGES], help="these stages")
    parser.add_argument("--dry-run", action="store_true", help="on the CPU, and little of everything")
    parser.add_argument("--stage", choices=[s.name for s in STAGES], help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    by_name = {stage.name: stage for stage in STAGES}
    if given.stage:
        return run_stage(by_name[given.stage], Report(given.stage, given.out, given.dry_run))
    chosen = [by_name[name] for name in given.only] if given.only else STAGES
    return 0 if drive(chosen, given.out.resolve(), given.dry_run) else 1


if __name__ == "__main__":
    # the stages import this module by its name: run that one, or there would be two classes NoGpu
    sys.exit(importlib.import_module("benchmarks.gpu").main())
