"""libspectral_cuda.so as nvcc builds it, with and without a GPU: architectures, registers, what it needs to load."""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

import spectral_ops
from spectral_ops import native

PACKAGE = Path(spectral_ops.__file__).parent
LIBRARY, NINJA = PACKAGE / "libspectral_cuda.so", PACKAGE.parent / "build" / "build.ninja"
needs_library = pytest.mark.skipif(not LIBRARY.exists(), reason=str(native.status()["cuda"]))


def _cuobjdump() -> str:
    """The toolkit's, or the one that Triton brings along."""
    triton = importlib.util.find_spec("triton")
    places = [Path(p) / "backends/nvidia/bin/cuobjdump" for p in (triton.submodule_search_locations if triton else [])]
    found = shutil.which("cuobjdump") or next((str(p) for p in places if p.exists()), None)
    if found is None:
        pytest.skip("cuobjdump is not installed")
    return found


@needs_library
def test_architectures() -> None:
    """Machine code for each that the build names, and PTX of the oldest for devices that come later."""
    wanted = set(native.build_facts()["cuda_architectures"].split())
    assert {"sm_80", "sm_90a"} <= wanted
    for flag, architectures in (("-lelf", wanted), ("-lptx", {"sm_80"})):
        listed = subprocess.run([_cuobjdump(), flag, LIBRARY], capture_output=True, text=True, check=True).stdout
        assert set(re.findall(r"sm_\d+a?", listed)) == architectures, flag


@needs_library
def test_needs_no_cuda_to_load() -> None:
    """Neither torch's CUDA library nor the CUDA run time (static) may be named."""
    if shutil.which("readelf") is None:
        pytest.skip("readelf (binutils) is not installed")
    needed = subprocess.run(["readelf", "-d", LIBRARY], capture_output=True, text=True, check=True).stdout
    assert re.findall(r"NEEDED.*\[(lib(?:torch_cuda|cuda|cudart)\S*)\]", needed) == []
    assert native.status()["cuda"] is None


def _nvcc_command() -> list[str]:
    """How the build compiles a kernel, without its file names."""
    if not NINJA.exists() or native.build_facts().get("missing", {}).get("libspectral_cuda"):
        pytest.skip("no build folder, or one without nvcc")
    line = next(
        line for line in NINJA.read_text().splitlines() if "COMMAND = " in line and "-MD -MF" in line and "nvcc" in line
    )
    command = shlex.split(line.split("&&")[1])
    return command[: command.index("-MD")]


def test_a_kernel_that_spills_registers_is_an_error(tmp_path: Path) -> None:
    command = _nvcc_command()
    if "-Werror" not in command:
        pytest.skip("the build folder was made without SPECTRAL_WERROR")
    source = """
        __global__ void __launch_bounds__(1024) hungry(float* x) {
          float values[%d];
          for (int i = 0; i < %d; ++i) values[i] = x[i * 1024 + threadIdx.x];
          for (int i = 0; i < %d; ++i) for (int j = 0; j < %d; ++j) values[i] += values[j] * values[i];
          for (int i = 0; i < %d; ++i) x[i * 1024 + threadIdx.x] = values[i];
        }"""
    one = [part for part in command if not part.startswith("-gencode")] + ["-gencode=arch=compute_80,code=sm_80"]
    for size, spills in ((8, False), (100, True)):
        path = tmp_path / f"hungry{size}.cu"
        path.write_text(source.replace("%d", str(size)).replace("for (", "\n#pragma unroll\nfor ("))
        done = subprocess.run([*one, "-c", path, "-o", tmp_path / "hungry.o"], capture_output=True, text=True)
        assert (done.returncode != 0) == spills, done.stderr
        assert ("Registers are spilled" in done.stderr) == spills
