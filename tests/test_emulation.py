"""The CUDA kernels on the host: values of every op under the bounds of the other backends, between guards.

What the emulation itself finds (races, memory out of bounds, divergent barriers) fails these tests as an exception;
`tests/test_emulator.py` shows that it does find them.
"""

from __future__ import annotations

from collections.abc import Iterator

import bounds
import emulation
import pytest
import torch
from complex_samples import COMPLEX
from samples import RIGHT, Sample
from test_native import call

from spectral_ops import native
from spectral_ops.autograd import flatten
from spectral_ops.op import rule_of
from spectral_ops.table import TABLE

pytestmark = [
    pytest.mark.native,
    pytest.mark.skipif(emulation.why_not() is not None, reason=str(emulation.why_not())),
]
native_rows = [row for row in RIGHT if TABLE[row.op].native is not None]
# the shared memory of sm_86 and sm_89, and little enough that weights are read piece by piece
SMALLEST, TIGHT = 99 << 10, 75 << 10


@pytest.fixture(autouse=True)
def _emulated() -> Iterator[None]:
    with emulation.emulated():
        yield


def check(row: Sample, dtype: torch.dtype) -> None:
    args = row.make(dtype)
    if emulation.refused(row.op, args):
        return  # the reason has a test of its own
    for i, (y, limit) in enumerate(zip(call(row.op, args), bounds.bounded(row.op, args, dtype), strict=True)):
        bounds.check(y, limit, f"{row.op}, result {i}")


@pytest.mark.parametrize("row", native_rows, ids=lambda row: row.id)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_values(row: Sample, dtype: torch.dtype) -> None:
    check(row, dtype)


@pytest.mark.parametrize("op", [name for name in TABLE if TABLE[name].native is not None])
def test_with_little_shared_memory(op: str) -> None:
    """Weights that do not fit are read again, a part at a time; the results stay within their bounds."""
    with emulation.emulated(TIGHT, multiprocessors=3):
        for row in [row for row in native_rows if row.op == op and row.values < 60_000][:12]:
            check(row, torch.float32)


@pytest.mark.parametrize("row", [row for row in COMPLEX if TABLE[row.op].complex_together], ids=lambda row: row.id)
def test_complex_values(row: Sample) -> None:
    for dtype, eps in ((torch.float32, 2e-5), (torch.float64, 1e-12)):
        args = row.make(dtype)
        if emulation.refused(row.op, args):
            continue
        wanted = rule_of(row.op).reference(*args)
        for y, w in zip(call(row.op, args), flatten(wanted if isinstance(wanted, tuple) else [wanted])[0], strict=True):
            assert y.dtype == w.dtype and y.shape == w.shape
            size = max(w.abs().max().item(), 1e-30) if w.numel() else 1.0
            assert not y.numel() or (y - w).abs().max().item() <= eps * size, (row.id, dtype)


def test_signatures_equal_those_of_the_cpu() -> None:
    """Which `tests/test_contract.py` compares with the table."""
    signatures = native.signatures_of(emulation.library())
    assert signatures and signatures.items() <= native.signatures().items()
    assert native.signatures("cuda") == ({} if native.status()["cuda"] else signatures)
