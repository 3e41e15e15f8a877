"""`python -m benchmarks.report`: measures the cases, prints a table, writes JSON.

Times are milliseconds a call; "ratio" is the best baseline's time divided by ours; "A/A" the larger spread, of ours or
of that baseline, between its turns in the same run; errors are relative to float64 (Euclidean norm, worst result). The
share is that of the ceiling measured in the same run: sgemm, or a copy of as many bytes, whichever bounds the case.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

import spectral_ops
from spectral_ops import native

from . import measure
from .cases import cases
from .contenders import Built, Case
from .measure import FULL, QUICK, WARM_ALLOCATOR, Ceilings, Measured

ROOT = Path(__file__).parent.parent
CODE = ("csrc", "spectral_ops", "triton_kernels")
OUT = ROOT / "runs" / "benchmarks.json"
NAME = 58
HEAD = (
    "ours",
    "eager",
    "compile",
    "scipy",
    "torch-dct",
    "ratio",
    "target",
    "A/A %",
    "error",
    "base err",
    "scipy err",
    "GFLOP/s",
    "GB/s",
    "share",
)
PAGE = """Milliseconds a call; *times faster* than the fastest of the others, turn by turn in the same run; *limits*:
times as long as another run of ours; *A/A noise*: the even turns against the odd ones, of ours or of that other, the
larger; errors relative to float64; *-*: not run, or not there. Made by
`python -m benchmarks.report --rows FILE.json --markdown`.
"""
OTHERS = ("eager", "compile", "scipy", "torch-dct")  # the kinds of contenders that ours is compared with
Row = dict[str, Any]


def main() -> None:
    options = _options()
    if options.rows:
        stored = json.loads(options.rows.read_text())
        rows = [row for row in stored["rows"].values() if wanted(row["case"], options)]
        print(markdown(rows, stored["runs"]) if options.markdown else table(rows))
        return
    if not measure.allocator_is_warm():
        # glibc reads these when a process starts
        module = [sys.executable, "-m", "benchmarks.report", *sys.argv[1:]]
        os.execve(sys.executable, module, {**os.environ, **WARM_ALLOCATOR})
    if options.threads:
        torch.set_num_threads(options.threads)
    known = {case.name: case for case in cases()}
    if unknown := [name for name in options.case or () if name not in known]:
        sys.exit(f"--case must be names that --list prints, got {', '.join(unknown)}")
    chosen = [known[name] for name in options.case or known if wanted(name, options)]
    chosen = [case for case in chosen if not (options.quick and case.large)]
    if options.list:
        print("\n".join(case.name for case in chosen))
        return
    budget = QUICK if options.quick else FULL
    limits = measure.ceilings(budget)
    run = machine(limits, options.quick)
    print(describe(run), heading(), sep="\n", flush=True)
    rows = []
    for case in chosen:
        rows.append(measure_case(case, limits, options))
        rows[-1]["run"] = run["date"]
        print(line(rows[-1]), flush=True)
        write(options.out, run, rows)  # after every case: an interrupted run loses nothing
    print(summary(rows), f"rows written to {options.out}", sep="\n")
    if options.markdown:
        print("\n" + markdown(rows, {run["date"]: run}))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__)
    parser.add_argument("--filter", nargs="+", default=[""], metavar="TEXT", help="only cases whose name holds a text")
    parser.add_argument("--case", nargs="+", metavar="NAME", help="only these cases, in this order")
    parser.add_argument("--quick", action="store_true", help="short timings, no large case: a look, not a measurement")
    out_help = "JSON (default: runs/benchmarks.json); rows of cases measured now replace those in it"
    parser.add_argument("--out", type=Path, metavar="FILE", default=OUT, help=out_help)
    parser.add_argument("--markdown", action="store_true", help="as a Markdown table, too; with --rows alone")
    parser.add_argument("--rows", type=Path, metavar="FILE", help="measure nothing: print the table of a JSON file")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out (it takes most of the time)")
    parser.add_argument("--threads", type=int, help="threads of torch (default: as torch chooses)")
    parser.add_argument("--list", action="store_true", help="print the names of the cases")
    return parser.parse_args()


def wanted(name: str, options: argparse.Namespace) -> bool:
    named = options.case is None or name in options.case
    return named and any(text.lower() in name.lower() for text in options.filter)


def measure_case(case: Case, limits: Ceilings, options: argparse.Namespace) -> Row:
    """Build, check and time one case."""
    built = case.build()
    if options.no_compile:
        for contender in built.contenders:
            contender.failure = "left out (--no-compile)" if contender.kind == "compile" else contender.failure
    result = measure.measure(built.contenders, QUICK if options.quick else FULL)
    return row_of(case, built, result, limits)


def row_of(case: Case, built: Built, result: Measured, limits: Ceilings) -> Row:
    """What the report keeps of a case: plain numbers and texts."""
    kinds = {c.name: c.kind for c in built.contenders}
    ours = next(c.name for c in built.contenders if c.kind == "ours")
    times = result.timings
    baselines = [name for name in times if kinds[name] in ("eager", "compile", "scipy", "torch-dct")]
    best = min(baselines, key=lambda name: times[name].seconds) if baselines else None
    row: Row = {"case": case.name, "op": case.op, "group": case.group, "backend": built.backend, "target": case.target}
    row["ms"] = {("ours" if name == ours else name): t.seconds * 1e3 for name, t in times.items()}
    row["kinds"] = {("ours" if name == ours else name): kind for name, kind in kinds.items()}
    row["noise"] = {("ours" if name == ours else name): t.noise for name, t in times.items()}
    row["samples"] = {("ours" if name == ours else name): t.samples for name, t in times.items()}
    row["noisy"] = sorted("ours" if name == ours else name for name, t in times.items() if t.noisy)
    row["error"] = {("ours" if name == ours else name): e for name, e in result.errors.items()}
    row["failures"] = {("ours" if name == ours else name): text for name, text in result.failures.items()}
    row["baseline"] = best
    row["flops"], row["bytes"] = built.cost.flops, built.cost.bytes
    if ours not in times:
        return row
    seconds = times[ours].seconds
    row["gflops"], row["gbytes"] = built.cost.flops / seconds / 1e9, built.cost.bytes / seconds / 1e9
    row["share"], row["bound"] = limits.share(built.cost, seconds)
    if best is not None:
        row["ratio"] = times[best].over(times[ours])
    row["limits"] = {
        name: {"at most": most, "is": times[ours].over(times[name])}
        for name, most in case.limits.items()
        if name in times
    }
    wanted = [row.get("ratio", 0.0) >= case.target] if case.target else []
    wanted += [limit["is"] <= limit["at most"] for limit in row["limits"].values()]
    row["reached"] = all(wanted) if wanted else None
    return row


def machine(limits: Ceilings, quick: bool) -> dict[str, Any]:
    """Where and with what a run was made."""
    versions = {}
    for package in ("torch", "numpy", "scipy", "triton"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "missing"
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "--short", "HEAD")
        + ("+changes" if _git("status", "--porcelain", "--", *CODE) else ""),
        "machine": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu_model(),
        "cpu level": native.current_cpu_level() or "no native library",
        "threads": torch.get_num_threads(),
        "allocator kept warm": measure.allocator_is_warm(),
        "quick": quick,
        "spectral-ops": spectral_ops.__version__,
        "python": platform.python_version(),
        "versions": versions,
        "ceiling": {
            "noisy": limits.noisy,
            "sgemm GFLOP/s": limits.gemm / 1e9,
            "copy GB/s by bytes": {str(size): speed / 1e9 for size, speed in limits.copy.items()},
        },
    }


def _git(*words: str) -> str:
    try:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown" if words[0] == "rev-parse" else ""
    return done.stdout.strip()


def _cpu_model() -> str:
    facts = Path("/proc/cpuinfo")
    for text in facts.read_text().splitlines() if facts.is_file() else []:
        if text.startswith("model name"):
            return text.split(":", 1)[1].strip()
    return platform.processor() or "unknown"


def write(path: Path, run: dict[str, Any], rows: Iterable[Row]) -> None:
    """Put these rows in the file in place of older ones of the same cases; runs without rows are forgotten."""
    stored = json.loads(path.read_text()) if path.is_file() else {"runs": {}, "rows": {}}
    stored["runs"][run["date"]] = run
    stored["rows"].update({row["case"]: _rounded(row) for row in rows})
    used = {row["run"] for row in stored["rows"].values()}
    stored["runs"] = {date: facts for date, facts in stored["runs"].items() if date in used}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(stored, indent=1) + "\n")


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    return {key: _rounded(item) for key, item in value.items()} if isinstance(value, dict) else value


def describe(run: Mapping[str, Any]) -> str:
    """The lines above the table."""
    copy = run["ceiling"]["copy GB/s by bytes"]
    warm = "kept warm" if run["allocator kept warm"] else "NOT kept warm: large results are timed with page faults"
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    return (
        f"{run['cpu']} ({run['machine']}), {run['threads']} threads, SIMD level {run['cpu level']}; {run['date']}\n"
        f"spectral-ops {run['spectral-ops']} at {run['commit']}; Python {run['python']}, {versions}\n"
        f"allocator {warm}; ceilings: sgemm {run['ceiling']['sgemm GFLOP/s']:.0f} GFLOP/s, copy "
        + ", ".join(f"{speed:.0f} GB/s ({_size(int(size))})" for size, speed in copy.items())
        + (" (measured on a busy machine)" if run["ceiling"]["noisy"] else "")
        + ("\nquick: a look, not a measurement" if run["quick"] else "")
    )


def _size(count: int) -> str:
    return f"{count >> 20} MiB" if count >> 20 else f"{count >> 10} KiB"


def heading() -> str:
    return f"{'case':{NAME}}" + "".join(f"{name:>10}" for name in HEAD) + "  backend"


def line(row: Row) -> str:
    """One row as text, with a line for every limit, and for every contender that could not run."""
    ms, errors = row["ms"], row["error"]
    best = row["baseline"]
    noise = [row["noise"][name] for name in ("ours", best) if name in row["noise"]]
    cells = [
        _number(ms.get("ours"), ".4g"),
        _number(_eager(row), ".4g"),
        _number(ms.get("compile"), ".4g"),
        _number(ms.get("scipy"), ".4g"),
        _number(ms.get("torch-dct"), ".4g"),
        _number(row.get("ratio"), ".2f"),
        _number(row["target"], "g"),
        _percent(noise) + ("!" if row["noisy"] else ""),
        _number(errors.get("ours"), ".1e"),
        _number(errors.get(best) if best else None, ".1e"),
        _number(errors.get("scipy"), ".1e"),
        _number(row.get("gflops"), ".0f"),
        _number(row.get("gbytes"), ".1f"),
        _number(100 * row["share"] if "share" in row else None, ".0f")
        + {"gemm": "%g", "copy": "%c"}.get(row.get("bound", ""), ""),
    ]
    text = f"{row['case']:{NAME}}" + "".join(f"{cell:>10}" for cell in cells) + f"  {row['backend']}"
    for name, limit in row.get("limits", {}).items():
        text += (
            f"\n    {limit['is']:.2f} times the time of ours, {name} ({ms[name]:.4g} ms); at most {limit['at most']:g}"
        )
    return text + "".join(f"\n    {name}: {reason}" for name, reason in row["failures"].items())


def _eager(row: Row) -> float | None:
    return min(
        (row["ms"][name] for name, kind in row["kinds"].items() if kind == "eager" and name in row["ms"]), default=None
    )


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _percent(noise: list[float]) -> str:
    if not noise:
        return "-"
    return f"{100 * max(noise):.1f}" if max(noise) < 1 else ">100"


def table(rows: Iterable[Row]) -> str:
    rows = list(rows)
    return "\n".join([heading(), *(line(row) for row in rows), summary(rows)])


def summary(rows: Iterable[Row]) -> str:
    """How many targets were reached, and what the marks mean."""
    rows = list(rows)
    judged = [row for row in rows if row.get("reached") is not None]
    failed = [row["case"] for row in rows if "ours" in row["failures"]]
    text = f"{sum(row['reached'] for row in judged)} of {len(judged)} targets reached; share of: g sgemm, c copy"
    if any(row["noisy"] for row in rows):
        text += "; !: never quiet enough, faster half of the samples"
    missed = [
        f"  missed: {row['case']} ({_number(row.get('ratio'), '.2f')}, target {_number(row['target'], 'g')})"
        for row in judged
        if not row["reached"]
    ]
    return "\n".join([text, *missed, *(f"  no result of ours: {name}" for name in failed)])


def markdown(rows: Iterable[Row], runs: Mapping[str, Any]) -> str:
    """The page of the papers' shapes, without the odd ones; each row with the commit it was measured at."""
    heads = ("ours", *OTHERS, "times faster", "target", "limits", "A/A noise", "error", "scipy's", "commit")
    lines = [PAGE, f"| case | {' | '.join(heads)} |", "| --- |" + " ---: |" * len(heads)]
    for row in rows:
        if row["group"] != "targets":
            continue
        ms, best, errors = row["ms"], row["baseline"], row["error"]
        times = [ms.get("ours"), _eager(row), *(ms.get(name) for name in OTHERS[1:])]
        noise = [row["noise"][name] for name in ("ours", best) if name in row["noise"]]
        cells = [row["case"], *(_number(t, ".3g") for t in times), f"**{_number(row.get('ratio'), '.2f')}**"]
        own = (f"{limit['is']:.2f} of {name} ({limit['at most']:g})" for name, limit in row.get("limits", {}).items())
        cells += [_number(row["target"], ".3g"), ", ".join(own) or "-", _percent(noise) + " %"]
        cells += [_number(errors.get(name), ".1e") for name in ("ours", "scipy")]
        lines.append("| " + " | ".join([*cells, runs[row["run"]]["commit"]]) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
