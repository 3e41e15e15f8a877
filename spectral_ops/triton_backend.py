"""Finds Triton and the kernels of `triton_kernels/`, and says why a call cannot take them.

A kernel module `triton_kernels/NAME.py` has `why_not(*args)`, a sentence about sizes or None, and `plan(args, out,
arch)`, the launches that fill `out`; where a cost model chooses, `pays(*args)` (else the kernels come last), or
`slower(*args)`, a sentence or None; where `explain` has more to say, `note(*args, is_complex)`; with READS_STRIDES it
takes tensors as they lie in memory. Only those modules import triton, and only when a CUDA tensor asks for them.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

OLDEST = 80  # sm_80: the first with asynchronous copies, tf32 and bfloat16
_DTYPES = frozenset((torch.float32, torch.bfloat16, torch.float16, torch.complex64, torch.int64, torch.int8))


@functools.cache
def missing() -> str | None:
    """Why there is no Triton here, or None."""
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed (pip install 'spectral-ops[triton]')"
    try:
        importlib.import_module("triton")
    except ImportError as error:  # a wheel for another system
        return f"triton does not load: {error}"
    return None


def interpreting() -> bool:
    """Whether Triton's interpreter runs the kernels, which then take CPU tensors (TRITON_INTERPRET=1)."""
    triton = sys.modules.get("triton")
    return triton is not None and triton.knobs.runtime.interpret


@functools.cache
def kernels(name: str) -> ModuleType:
    """The kernel module of an op."""
    return importlib.import_module(f"spectral_ops.triton_kernels.{name}")


@functools.cache
def architecture(device: torch.device) -> int:
    """80, 90, ...: what the tile rows go by. Without a GPU (interpreter, fake tensors) that of an H200."""
    if device.type != "cuda" or not torch.cuda.is_available():
        return 90
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor


def why_not(name: str, args: Sequence[Any], tensors: Sequence[Tensor]) -> str | None:
    """Why the Triton kernel of an op cannot take these arguments, or None."""
    device = tensors[0].device
    if device.type != "cuda" and not interpreting():
        return f"Triton kernels take CUDA tensors, and these are on {device.type}"
    reason = missing()
    if reason:
        return reason
    if architecture(device) < OLDEST:
        return f"Triton kernels take sm_{OLDEST} or later, and this GPU is sm_{architecture(device)}"
    for t in tensors:
        if t.layout is not torch.strided:
            return "Triton kernels take strided tensors only"
        if t.dtype not in _DTYPES:
            return f"{t.dtype} is exact arithmetic, and Triton's kernels multiply on tensor cores"
    return kernels(name).why_not(*args)


def slower(name: str, args: Sequence[Any]) -> str | None:
    """Why the reference is expected to be faster than an op's kernels, which forcing them overrides, or None."""
    reason = getattr(kernels(name), "slower", None)
    return reason(*args) if reason else None


def note(name: str, args: Sequence[Any], tensors: Sequence[Tensor]) -> str:
    """What `explain` adds about how the kernels take a call, "" where there is nothing to say."""
    say = getattr(kernels(name), "note", None)
    said = say(*args, is_complex=any(t.is_complex() for t in tensors)) if say else None
    return f"  ({said})" if said else ""


def reads_strides(name: str) -> bool:
    """Whether an op's kernels take tensors as they lie in memory; others get them dense."""
    return getattr(kernels(name), "READS_STRIDES", False)


def preferred(name: str, args: Sequence[Any], tensors: Sequence[Tensor]) -> bool:
    """Whether Triton comes before CUDA C++, or before the parts of a composition, where both can."""
    if not tensors[0].is_cuda or missing():
        return False
    if hasattr(kernels(name), "pays"):
        return kernels(name).pays(*args)
    crossovers = importlib.import_module("spectral_ops.triton_kernels.tiles").CROSSOVERS
    return name not in crossovers or max(t.numel() for t in tensors) >= crossovers[name].least


def run(name: str, args: Sequence[Any], out: Any) -> None:
    """Fill `out`; args: dense tensors."""
    results = out if isinstance(out, tuple | list) else (out,)
    device = next(t for t in results if isinstance(t, Tensor)).device
    launches = kernels(name).plan(args, out, architecture(device))
    if device.type != "cuda":
        for launch in launches:
            launch.run()
        return
    with torch.cuda.device(device):
        for launch in launches:
            launch.run()
