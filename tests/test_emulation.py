"""Runs the tests of tests/emulated_kernels.py, the CUDA kernels on the host, under the address sanitizer.

Each part is a process that preloads the sanitizer, which the interpreter of this one did not. Where the compiler has
none the same tests run without, and the end of the report says so.
"""

from __future__ import annotations

from pathlib import Path

import emulation
import pytest

HERE = Path(__file__).parent
PARTS = 2  # one for each of the two cores that most have; a process takes seconds to start
pytestmark = pytest.mark.skipif(emulation.why_not() is not None, reason=str(emulation.why_not()))


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("size", ["not slow", pytest.param("slow", marks=pytest.mark.slow)])
def test_values(size: str, part: int) -> None:
    options = [
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "-p",
        "emulation",
        "--part",
        f"{part}/{PARTS}",
        "-m",
        size,
    ]
    done = emulation.run(["-m", "pytest", *options, HERE / "emulated_kernels.py"])
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    assert " passed" in done.stdout


def test_under_the_address_sanitizer() -> None:
    if not emulation.sanitizer():
        pytest.skip("no address sanitizer (libasan): the emulated CUDA kernels ran without it")
    done = emulation.run(["-c", "import emulation; emulation.library(); assert emulation.sanitized()"])
    assert done.returncode == 0, done.stderr


OVERFLOW = """
import emulation, torch
from spectral_ops.op import rule_of
x, y = torch.ones(5, 64), torch.empty(5, 64)
with emulation.emulated():
    rule_of("hadamard").cpp([x, -1, False], y)  # right
    {short}.untyped_storage().resize_(4 * 319)  # one value less than the kernel is told
    rule_of("hadamard").cpp([x, -1, False], y)
"""


@pytest.mark.parametrize(("short", "access"), [("y", "WRITE"), ("x", "READ")])
def test_a_kernel_that_leaves_its_tensor_ends_the_process(short: str, access: str) -> None:
    if not emulation.sanitizer():
        pytest.skip("no address sanitizer (libasan)")
    done = emulation.run(["-c", OVERFLOW.format(short=short)])
    assert done.returncode != 0
    assert "heap-buffer-overflow" in done.stderr and f"{access} of size 4" in done.stderr
    assert "hadamard.cu" in done.stderr
