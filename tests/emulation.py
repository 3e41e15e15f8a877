"""Runs the CUDA kernels on the host: builds libspectral_emulated.so and puts its entry points in place of the native.

The library holds the sources of csrc/cuda compiled as C++ (csrc/cuda/emulate.h), under the address sanitizer where the
compiler has one. Its ops take tensors of the CPU. A sanitized library runs in a process that had the sanitizer from its
start, so the tests of values are run by tests/test_emulation.py in processes of their own, for which this module is a
plugin of pytest as well: `-p emulation --part 0/2` takes every second test.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import functools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch

import spectral_ops
from spectral_ops import native
from spectral_ops.autograd import flatten
from spectral_ops.op import native_why_not
from spectral_ops.ops import fourier
from spectral_ops.table import TABLE

ROOT = Path(spectral_ops.__file__).parent.parent
NAME = "libspectral_emulated.so"
ENTRIES = {name for name, row in TABLE.items() if row.native is not None and row.stages is None}


def why_not() -> str | None:
    """Why the kernels cannot be emulated here, or None."""
    if _ready_made().exists() or (ROOT / "build" / "build.ninja").exists():
        return None
    return "no build folder: the package is installed, or there is no compiler"


def _ready_made() -> Path:
    return Path(__file__).parent / NAME  # `make sanitize` leaves one with sanitizers


def tool(name: str) -> str:
    """A program beside this interpreter, or on the path."""
    found = shutil.which(str(Path(sys.executable).parent / name)) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


@functools.cache
def path() -> Path:
    """Of the library, built where sources have changed."""
    if _ready_made().exists():
        return _ready_made()
    built, text = _build()
    assert built, text
    return ROOT / "build" / NAME


def sanitizer() -> list[str]:
    """What a process must preload to run the library; empty where it was built without the address sanitizer.

    libstdc++ beside libasan, or the first C++ exception crashes.
    """
    if not sys.platform.startswith("linux"):
        return []
    needed = subprocess.run([tool("ldd"), path()], capture_output=True, text=True, check=True).stdout
    found = dict(re.findall(r"(lib(?:asan|stdc\+\+))\.so\S* => (\S+)", needed))
    return [found["libasan"], found["libstdc++"]] if "libasan" in found else []


def sanitized() -> bool:
    """Whether this process runs under the address sanitizer."""
    return hasattr(ctypes.CDLL(None), "__asan_init")


def run(command: list[Any]) -> subprocess.CompletedProcess:
    """A command of Python's in a process that can run the library. Leaks are Python's and torch's own: not reported."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment |= {"LD_PRELOAD": " ".join(sanitizer()), "ASAN_OPTIONS": "detect_leaks=0", "OMP_NUM_THREADS": "1"}
    here = Path(__file__).parent
    environment["PYTHONPATH"] = os.pathsep.join([str(here), *filter(None, [environment.get("PYTHONPATH")])])
    return subprocess.run([sys.executable, *command], cwd=here.parent, env=environment, capture_output=True, text=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--part", default="0/1", help="I/N: of the tests those whose number is I modulo N")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    first, step = (int(number) for number in config.getoption("--part").split("/"))
    items[:] = items[first::step]


@functools.cache
def library() -> ctypes.CDLL:
    """The library, loaded."""
    if sanitizer() and not sanitized():
        pytest.fail("the emulated kernels are under the address sanitizer: tests/test_emulation.py runs these tests")
    _define()
    torch.ops.load_library(path())
    loaded = ctypes.CDLL(str(path()))
    loaded.spectral_emulated_limits.argtypes = [ctypes.c_int64, ctypes.c_int64]
    return loaded


@functools.cache
def _build() -> tuple[bool, str]:
    """Whether it compiles, and what was said; tried once, not once a test, and by one process at a time."""
    with (ROOT / "build" / "emulation.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = subprocess.run(
            [tool("cmake"), "--build", ROOT / "build", "--target", "libspectral_emulated", "--parallel", "2"],
            capture_output=True,
            text=True,
        )
    return done.returncode == 0, done.stdout + done.stderr


@functools.cache
def _define() -> torch.library.Library:
    schemas = torch.library.Library("spectral_emulated", "DEF")
    for name in ENTRIES:
        schemas.define(name + TABLE[name].native)
    return schemas


@contextlib.contextmanager
def emulated(shared_bytes: int = 99 << 10, multiprocessors: int = 2) -> Iterator[None]:
    """Inside, `rule.cpp` runs the CUDA kernels, on a device with such limits."""
    library().spectral_emulated_limits(shared_bytes, multiprocessors)
    entries, ops = native.ENTRIES["cpu"], torch.ops.spectral_native
    native.ENTRIES["cpu"] = frozenset(native.signatures_of(library()))
    torch.ops.spectral_native = torch.ops.spectral_emulated
    on_gpu = patch.multiple(fourier, for_cpu=lambda x: False, shared_memory=lambda device: shared_bytes)
    try:
        with on_gpu:
            yield
    finally:
        native.ENTRIES["cpu"], torch.ops.spectral_native = entries, ops


def refused(op: str, args: list[Any]) -> str | None:
    """Why op.py would not give these arguments to the CUDA kernel."""
    if native.ENTRY_OF.get(op, op) not in native.signatures_of(library()):
        return f"{op} has no CUDA C++ kernel"
    return native_why_not(TABLE[op], args, flatten(args)[0], "cuda")
