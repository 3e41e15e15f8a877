"""Wall-clock of a training step and of inference: ours beside eager PyTorch and torch.compile, in one run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch._dynamo.exc import TorchDynamoException

from .data import Split
from .networks import Recipe, recipe_of

SAMPLES = 1000  # inferences are timed on a batch of so many images


def measure(which: str | Recipe, net: nn.Module, split: Split, batch_size: int, seconds: float, compile: bool) -> dict:
    """Milliseconds of one network: {"step_ms", "inference_ms"} by contender, and why compile is missing if it is.

    Contenders take turns, and the first one runs twice a turn: `noise` is the relative difference of those two medians.
    """
    recipe = recipe_of(which)
    eager = recipe.eager(net) if recipe.eager else net
    contenders = {"eager": eager} if eager is net else {"ours": net, "eager": eager}
    note = "not measured" if not compile else ""
    x, labels = split.images[:batch_size].clone(), split.labels[:batch_size].clone()
    many = split.images[:SAMPLES].clone()
    if len(many) < SAMPLES:
        many = many.repeat(-(-SAMPLES // len(many)), 1, 1)[:SAMPLES].contiguous()
    if compile:
        try:
            contenders["compile"] = _compiled(eager, x, labels, many)
        except (RuntimeError, OSError, ImportError, TorchDynamoException) as error:
            note = f"torch.compile failed: {str(error).strip().splitlines()[0][:200]}"
    steps = {key: _step(contender, x, labels) for key, contender in contenders.items()}
    inferences = {key: _inference(contender, many) for key, contender in contenders.items()}
    return {
        "step_ms": _turns(steps, seconds),
        "inference_ms": _turns(inferences, seconds),
        "compile_note": note,
    }


class _Compiled:
    """A network whose loss and predict are compiled."""

    def __init__(self, net: nn.Module) -> None:
        self.loss = torch.compile(net.loss)  # type: ignore[arg-type]
        self.predict = torch.compile(net.predict)  # type: ignore[arg-type]
        self.parameters = net.parameters


def _compiled(net: nn.Module, x: Tensor, labels: Tensor, many: Tensor) -> _Compiled:
    compiled = _Compiled(net)
    compiled.loss(x, labels)[0].sum().backward()
    net.zero_grad()
    with torch.no_grad():
        compiled.predict(many)
    return compiled


def _step(net: nn.Module | _Compiled, x: Tensor, labels: Tensor) -> Callable[[], None]:
    # lr 0: the whole step runs, and the network that is being timed does not change
    optimizer = torch.optim.Adam(net.parameters(), lr=0.0, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        net.loss(x, labels)[0].sum().backward()  # type: ignore[operator]
        optimizer.step()

    return step


def _inference(net: nn.Module | _Compiled, many: Tensor) -> Callable[[], None]:
    def infer() -> None:
        with torch.no_grad():
            net.predict(many)  # type: ignore[operator]

    return infer


def _turns(contenders: dict[str, Callable[[], None]], seconds: float) -> dict[str, float | None]:
    """Median milliseconds of each contender, over turns that last `seconds` in all."""
    first = next(iter(contenders))
    order = [*contenders, first + " again"]
    calls = {**contenders, first + " again": contenders[first]}
    times: dict[str, list[float]] = {key: [] for key in order}
    for call in contenders.values():
        for _ in range(3):
            call()
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline or len(times[first]) < 5:
        for key in order:
            begin = time.perf_counter()
            calls[key]()
            times[key].append((time.perf_counter() - begin) * 1e3)
    median = {key: statistics.median(values) for key, values in times.items()}
    noise = abs(median[first] - median[first + " again"]) / median[first]
    return {"ours": median.get("ours"), "eager": median["eager"], "compile": median.get("compile"), "noise": noise}
