"""The emulation of csrc/cuda/emulate.h finds what it says it finds, in small kernels and in a real one."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import emulation
import pytest

HERE = Path(__file__).parent
CSRC = emulation.ROOT / "csrc"
pytestmark = pytest.mark.skipif(not CSRC.exists(), reason="an installed package has no csrc")


def compiled(source: Path, csrc: Path, folder: Path) -> Path:
    """A program from `source` and the kernels in `csrc`, under the address sanitizer."""
    program = folder / "program"
    command = [emulation.tool("g++"), "-x", "c++", "-std=c++20", "-O1", "-g", "-fsanitize=address", "-w"]
    done = subprocess.run(
        [*command, "-DSPECTRAL_EMULATE", f"-I{csrc}", source, "-o", program], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return program


def output(program: Path, *arguments: str) -> tuple[int, str]:
    """The exit code and what was printed; of the sanitizer only what it says when it ends the program."""
    done = subprocess.run([program, *arguments], capture_output=True, text=True, env={"ASAN_OPTIONS": "detect_leaks=0"})
    return done.returncode, done.stdout + (done.stderr if done.returncode else "")


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(HERE / "emulated_faults.cpp", CSRC, tmp_path_factory.mktemp("faults"))


RIGHT = {
    "reversed": "64 63 1",
    "neighbours of a warp": "2 1 63",
    "overwritten in time": "1 1 1",
    "all wait": "1 1 1",
    "sum": "528 528 1552",  # of 1 .. 32, and of 33 .. 64
    "wrong shuffle": "136 136 904",  # no error but a wrong sum, which the tests of values see
    "counted": "64 128 -1",
}
WRONG = {
    "missing barrier": "thread 0 of block 0 reads shared memory that no thread has written",
    "neighbours of two warps": "a race, no barrier between",
    "overwritten too early": "a race, no barrier between",
    "all write": "thread 1 of block 0 writes what thread 0 of block 0 writes: a race",
    "unwritten": "thread 5 of block 0 reads shared memory that no thread has written",
    "past the end": "thread 63 of block 0 touches value 63 of 63 in shared memory: out of bounds",
    "past the end of device memory": "heap-buffer-overflow",
    "divergent": "divergent barrier: thread 0 of block 0 waits at a barrier of the block, thread 7 has ended",
    "half at the warp": "divergent barrier",
    "absent lane": "asks for lane 32 of its warp",
    "half a warp": "names only some lanes",
    "too much shared memory": "takes 512 bytes of shared memory where the launch gave 288",
    "launch too large": "asks for 102400 bytes of shared memory, more than the device has",
    "odd block": "multiple of 32",
}


@pytest.mark.parametrize("name", RIGHT)
def test_right_kernels(faults: Path, name: str) -> None:
    assert output(faults, name) == (0, RIGHT[name] + "\n")


@pytest.mark.parametrize("name", WRONG)
def test_planted_faults(faults: Path, name: str) -> None:
    code, text = output(faults, name)
    assert code != 0 and WRONG[name] in text


# ---- a real kernel -------------------------------------------------------------------------------------------------
# what: program, file, text, the text in its place, the occurrence, what is said
CHAIN, PRODUCT, ROWS, TILE = "kernels/chain.cu", "kernels/product.cuh", "kernels/rows.cuh", "tile.cuh"
EDITS = {
    "as it is": ("chain", "", "", "", 0, "right"),
    "a load past the last row": ("chain", ROWS, "n < count ? load_number", "true ? load_number", 1, "fault: thread"),
    "a store one value off": ("chain", ROWS, "(y, places[n] + k,", "(y, places[n] + k + 1,", 1, "heap-buffer-overflow"),
    "tiles too short for the last row": (
        "chain", CHAIN, "take<N>(c.widest * kStep)", "take<N>(c.widest * kStep - 2)", 1, "out of bounds"
    ),
    "weights one input off": ("chain", PRODUCT, "w + k * pitch", "w + (k + 1) * pitch", 1, ""),
    "a missing barrier": ("chain", CHAIN, "barrier();", ";", 1, "fault: thread"),
    "losses as they are": ("losses", "", "", "", 0, "right"),
    "a shuffle within half a warp": ("losses", TILE, "kWarp / 2; lanes", "kWarp / 4; lanes", 1, "wrong"),
    "a shuffle past the warp": ("losses", TILE, "kWarp / 2; lanes", "kWarp; lanes", 1, "of its warp"),
}  # fmt: skip


def _with_edit(folder: Path, name: str, old: str, new: str, occurrence: int) -> Path:
    """A copy of the sources in which one occurrence (from 1) of `old` is `new`."""
    (folder / "cpu").mkdir()
    shutil.copy(CSRC / "cpu" / "kernels.h", folder / "cpu")
    shutil.copytree(CSRC / "cuda", folder / "cuda")
    if occurrence:
        path = folder / "cuda" / name
        parts = path.read_text().split(old)
        assert len(parts) > occurrence
        path.write_text(old.join(parts[:occurrence]) + new + old.join(parts[occurrence:]))
    return folder


@pytest.mark.parametrize("what", EDITS)
def test_a_real_kernel_with_a_planted_fault(what: str, tmp_path: Path) -> None:
    program, *edit, said = EDITS[what]
    csrc = _with_edit(tmp_path, *edit)
    code, text = output(compiled(HERE / f"emulated_{program}.cpp", csrc, tmp_path))
    assert (code == 0) == (said == "right") and said in text, text


def _barriers() -> list[tuple[str, int]]:
    """The barriers that every layer of branches passes."""
    files = ("kernels/chain.cu", "kernels/product.cuh")
    return [(f, i + 1) for f in files for i in range((CSRC / "cuda" / f).read_text().count("barrier();"))]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "occurrence"), _barriers() if CSRC.exists() else [])
def test_no_barrier_can_be_left_out(name: str, occurrence: int, tmp_path: Path) -> None:
    csrc = _with_edit(tmp_path, name, "barrier();", ";", occurrence)
    main = (HERE / "emulated_chain.cpp").read_text()
    # weights in one piece, and in several
    again = "run(c, nullptr); emulated_limits = {18 << 10, 1}; run(c, nullptr);"
    (tmp_path / "main.cpp").write_text(main.replace("run(c, nullptr);", again))
    code, text = output(compiled(tmp_path / "main.cpp", csrc, tmp_path))
    assert code != 0 and re.search("fault: .* (a race, no barrier between|no thread has written)", text), text
