"""Times the contenders of a case side by side on a machine that may be shared.

A contender runs in chunks of 20 to 80 ms. What its threads spent ready to run but without a core during a chunk is read
from /proc/self/task/*/schedstat; a chunk where that is more than 3 % of the wall time is thrown away. The contenders
take turns (A B C C B A ...), and are compared turn by turn: a drift of the machine meets both sides of a ratio. Every
contender is also compared with itself, its even turns with its odd ones: the A/A pair, reported as noise.
"""

from __future__ import annotations

import gc
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .cost import Cost, tensors

# page faults on fresh memory would drown the kernels: glibc keeps what it has, and takes it in large pieces
WARM_ALLOCATOR = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "67108864",
}
FOREIGN_SHARE = 0.03
CHUNK_SECONDS, LONGEST_CHUNK = 0.02, 0.08
SHORTEST_SAMPLE = 1e-4  # shorter calls are timed several at once
SLOW_CALL = 0.2  # calls longer than this are timed once or twice a turn, quiet or not
GEMM_SIZE = 2048
COPY_SIZES = tuple(2**k for k in (16, 18, 20, 22, 24, 26, 29))  # bytes read plus bytes written


@dataclass(frozen=True)
class Budget:
    """How long to measure: clean seconds and fewest clean samples per turn, turns, and when to give up on a turn."""

    seconds: float
    samples: int
    turns: int
    deadline: float


FULL = Budget(seconds=0.1, samples=2, turns=8, deadline=5.0)
QUICK = Budget(seconds=0.025, samples=2, turns=4, deadline=1.0)


@dataclass
class Contender:
    """One way to compute a case: ours, eager, compile, scipy, or ours on something to compare with ("own").

    run: one call; its results, tensors in any nesting. truth: the same in float64. failure: why it cannot run.
    """

    name: str
    kind: str
    run: Callable[[], Any]
    truth: Callable[[], Any] | None = None
    failure: str | None = None


@dataclass
class Timing:
    """seconds: a call's median. turns: the median of each turn. noisy: the machine was never quiet enough."""

    seconds: float
    turns: list[float]
    noisy: bool
    samples: int

    @property
    def noise(self) -> float:
        """How far a ratio of two medians is off that should be 1: the even turns against the odd ones."""
        return abs(statistics.median(self.turns[::2]) / statistics.median(self.turns[1::2]) - 1)

    def over(self, other: Timing) -> float:
        """How many times as long as `other` it takes: the median over the turns."""
        return statistics.median(a / b for a, b in zip(self.turns, other.turns, strict=True))


@dataclass
class Measured:
    """What came out of a case, by contender name."""

    timings: dict[str, Timing] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


def measure(contenders: Sequence[Contender], budget: Budget) -> Measured:
    """Check every contender against the truth, then time those that work."""
    result = Measured()
    truths: dict[int, list[Tensor]] = {}
    working = []
    for contender in contenders:
        outputs = None if contender.failure else first_call(contender)
        if outputs is None:
            result.failures[contender.name] = contender.failure or "failed"
            continue
        working.append(contender)
        if contender.truth is not None:
            key = id(contender.truth)
            if key not in truths:
                truths[key] = detached(contender.truth())
            result.errors[contender.name] = error(outputs, truths[key])
    truths.clear()
    turns: dict[str, list[list[float]]] = {c.name: [] for c in working}
    noisy: dict[str, bool] = {c.name: False for c in working}
    for turn in range(budget.turns):
        for contender in working[:: -1 if turn % 2 else 1]:
            samples, clean = time_turn(contender.run, budget)
            turns[contender.name].append(samples)
            noisy[contender.name] |= not clean
    for name, lists in turns.items():
        medians = [statistics.median(samples) for samples in lists]
        everything = [x for samples in lists for x in samples]
        result.timings[name] = Timing(statistics.median(everything), medians, noisy[name], len(everything))
    return result


def first_call(contender: Contender) -> list[Tensor] | None:
    """The contender's results; None, with `failure` set, when it cannot run (no compiler, no kernel)."""
    try:
        return detached(contender.run())
    except (RuntimeError, OSError) as reason:  # torch's compile errors are RuntimeErrors
        lines = [line.strip() for line in str(reason).splitlines() if line.strip()]
        contender.failure = f"{type(reason).__name__}: {lines[0] if lines else 'no message'}"[:200]
        return None


def detached(results: Any) -> list[Tensor]:
    """All tensors of a result, without their history."""
    return [t.detach() for t in tensors(results)]


def error(outputs: Sequence[Tensor], truth: Sequence[Tensor]) -> float:
    """The largest |y - y64| / |y64| (Euclidean norms) over the results."""
    worst = 0.0
    for y, exact in zip(outputs, truth, strict=True):
        scale = float(exact.norm())
        off = float((y.to(exact.dtype) - exact).norm())
        worst = max(worst, off / scale if scale else off)
    return worst


def time_turn(run: Callable[[], object], budget: Budget) -> tuple[list[float], bool]:
    """Seconds per call in clean chunks; when there were too few, all of the faster half, and False."""
    run()
    start = time.perf_counter()
    run()
    once = max(time.perf_counter() - start, 1e-7)
    inner = max(1, int(SHORTEST_SAMPLE / once))
    per_chunk = max(1, int(CHUNK_SECONDS / (once * inner)))
    fewest, deadline = (budget.samples, budget.deadline) if once < SLOW_CALL else (1, once)
    clean: list[float] = []
    dirty: list[float] = []
    quiet_seconds = 0.0
    gc.collect()
    gc.disable()
    start = time.perf_counter()
    while time.perf_counter() - start < deadline:
        run()  # wakes the threads up
        waited, begin = _waited(), time.perf_counter()
        samples = []
        for _ in range(per_chunk):
            t = time.perf_counter_ns()
            for _ in range(inner):
                run()
            samples.append((time.perf_counter_ns() - t) * 1e-9 / inner)
            if time.perf_counter() - begin > LONGEST_CHUNK:
                break
        wall = time.perf_counter() - begin
        if _waited() - waited <= FOREIGN_SHARE * wall:
            clean += samples
            quiet_seconds += wall
        else:
            dirty += samples
        if quiet_seconds >= budget.seconds and len(clean) >= fewest:
            break
        time.sleep(0.004)
    gc.enable()
    if len(clean) >= fewest:
        return clean, True
    ordered = sorted(clean + dirty)
    return ordered[: max(1, len(ordered) // 2)], False


def _waited() -> float:
    """Seconds that the threads of this process have spent ready to run, but waiting for a core (0 where unknown)."""
    total = 0
    tasks = Path("/proc/self/task")
    for task in os.listdir(tasks) if tasks.is_dir() else []:
        try:
            total += int((tasks / task / "schedstat").read_text().split()[1])
        except OSError:  # the thread ended meanwhile, or the kernel keeps no such file
            continue
    return total * 1e-9


def allocator_is_warm() -> bool:
    """Was the process started with glibc's allocator kept warm?"""
    return all(os.environ.get(name) == value for name, value in WARM_ALLOCATOR.items())


@dataclass(frozen=True)
class Ceilings:
    """What the machine does in this run: operations a second, and bytes a second by the size of a copy."""

    gemm: float
    copy: dict[int, float]
    noisy: bool

    def share(self, cost: Cost, seconds: float) -> tuple[float, str]:
        """The part of the machine's speed that a call reached, and what bounds it: "gemm" or "copy"."""
        compute = cost.flops / self.gemm
        moving = cost.bytes / self.bandwidth(cost.bytes)
        return max(compute, moving) / seconds, "gemm" if compute >= moving else "copy"

    def bandwidth(self, size: float) -> float:
        """The best copy among those that move at least as many bytes; beyond the largest, the largest."""
        return max([speed for copied, speed in self.copy.items() if copied >= size] or [self.copy[max(self.copy)]])


def ceilings(budget: Budget) -> Ceilings:
    """sgemm of 2048 x 2048, and copies from cache to main memory, on all threads."""
    a, b, c = (torch.randn(GEMM_SIZE, GEMM_SIZE) for _ in range(3))
    samples, quiet = time_turn(lambda: torch.mm(a, b, out=c), budget)
    gemm = 2 * GEMM_SIZE**3 / statistics.median(samples)
    copy = {}
    for size in COPY_SIZES:
        source, out = torch.zeros(size // 8), torch.zeros(size // 8)
        samples, clean = time_turn(partial(out.copy_, source), budget)
        copy[size] = size / statistics.median(samples)
        quiet &= clean
    return Ceilings(gemm, copy, noisy=not quiet)
