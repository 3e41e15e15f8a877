"""Finds and loads the native libraries, and remembers why when it cannot.

`torch.ops.spectral_native.<op>` are the C++ entry points. Their schemas are defined here from `table.py`, so they exist
in every install; the libraries only add kernels. Nothing outside this file and `op.py` calls them.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib
import json
from collections.abc import Iterator
from pathlib import Path

import torch

from .table import TABLE

# ops that run another op's kernel, with another matrix
ENTRY_OF = {"dct_adjoint": "dct", "dst": "dct", "dst_adjoint": "dct", "mode_product": "dct"}
_HERE = Path(__file__).parent
_LIB = torch.library.Library("spectral_native", "DEF")
for _row in TABLE.values():
    if _row.native is not None:
        _LIB.define(_row.name + _row.native)
    if _row.stages is not None:
        _LIB.define(f"{_row.name}_backward{_row.stages}")
    for _name, _schema in _row.calls:
        _LIB.define(_name + _schema)


def build_facts() -> dict:
    """What the build wrote down: compilers, flags, and why a library is missing. Empty when it was never built."""
    facts = _HERE / "_build_facts.json"
    return json.loads(facts.read_text()) if facts.is_file() else {}


def _load(stem: str) -> tuple[ctypes.CDLL | None, str | None]:
    path = _HERE / f"{stem}.so"
    if not path.is_file():
        reason = build_facts().get("missing", {}).get(stem)
        return None, f"{path.name} was not built" + (f": {reason}" if reason else "")
    try:
        torch.ops.load_library(path)
        return ctypes.CDLL(str(path)), None
    except OSError as error:
        return None, f"{path.name} did not load: {error}"


_cpu, _cpu_reason = _load("libspectral_cpu")
_cuda, _cuda_reason = _load("libspectral_cuda")


def status() -> dict[str, str | None]:
    """Why each native part is missing; None where it is loaded. Keys: "cpu", "cuda", "host"."""
    try:
        importlib.import_module("spectral_ops._host")
        host = None
    except ImportError as error:
        host = str(error)
    return {"cpu": _cpu_reason, "cuda": _cuda_reason, "host": host}


def why_not(device: torch.device, op: str | None = None) -> str | None:
    """Why no native kernel (or not that of `op`) can take a tensor on `device`, or None."""
    kind = device.type
    if kind in ENTRIES:
        reason = _cpu_reason if kind == "cpu" else _cuda_reason
        if reason is None and op is not None and ENTRY_OF.get(op, op) not in ENTRIES[kind]:
            return f"{op} has no {kind.upper()} C++ kernel"
        return reason
    return f"there is no native library for {device.type} tensors"


def signatures(device: str = "cpu") -> dict[str, str]:
    """The C++ argument types of every registered kernel, as `csrc/signature.h` recorded them. device: "cpu", "cuda"."""
    library = {"cpu": _cpu, "cuda": _cuda}[device]
    return {} if library is None else signatures_of(library)


@functools.cache
def signatures_of(library: ctypes.CDLL) -> dict[str, str]:
    """The same, of a library that includes `csrc/signature.h`."""
    library.spectral_signature_name.restype = library.spectral_signature_types.restype = ctypes.c_char_p
    return {
        library.spectral_signature_name(i).decode(): library.spectral_signature_types(i).decode()
        for i in range(library.spectral_signature_count())
    }


# the entry points that each library has
ENTRIES = {kind: frozenset(signatures(kind)) for kind in ("cpu", "cuda")}


def _level_name(index: int) -> str:
    assert _cpu is not None
    _cpu.spectral_cpu_level_name.restype = ctypes.c_char_p
    return _cpu.spectral_cpu_level_name(index).decode()


def _levels() -> dict[str, int]:
    if _cpu is None:
        return {}
    return {_level_name(i): i for i in range(_cpu.spectral_cpu_level_count()) if _cpu.spectral_cpu_level_supported(i)}


def cpu_levels() -> tuple[str, ...]:
    """The SIMD levels of the CPU kernels that this machine can run, best first; empty without the CPU library."""
    return tuple(_levels())


def current_cpu_level() -> str | None:
    """The SIMD level in use, or None without the CPU library."""
    return None if _cpu is None else _level_name(_cpu.spectral_cpu_level())


@contextlib.contextmanager
def cpu_level(name: str) -> Iterator[None]:
    """Run the CPU kernels at one SIMD level: "avx512", "avx2" or "portable".

    The level belongs to the whole process, not to a thread: it is meant for tests and measurements.

    Raises:
        ValueError: the level is unknown, or this machine or build has it not.
    """
    levels = _levels()
    if _cpu is None or name not in levels:
        have = ", ".join(levels) or f"none ({_cpu_reason})"
        raise ValueError(f"cpu_level: name must be one of the levels of this machine, {have}; got {name!r}")
    before = _cpu.spectral_cpu_level()
    _cpu.spectral_set_cpu_level(levels[name])
    try:
        yield
    finally:
        _cpu.spectral_set_cpu_level(before)
