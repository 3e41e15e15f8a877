"""Every Triton kernel at every tile row, compiled for sm_80 and sm_90 without a GPU."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

from spectral_ops import triton_backend

WHY_NOT = triton_backend.missing()
if importlib.util.find_spec("benchmarks") is None:
    WHY_NOT = "an installed package has no benchmarks"
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))
if WHY_NOT is None:
    from benchmarks import resources
    from spectral_ops.triton_kernels import tiles

CASES = [] if WHY_NOT else list(resources.cases())


def _quick(case: Any) -> bool:
    """One op of each row and dtype, on the older and the newer architecture in turns."""
    first = next(c for c in CASES if c.row is case.row and c.dtype == case.dtype)
    return (
        case.op == first.op
        and case.variant == 1
        and case.launch.kernel is first.launch.kernel
        and case.arch == (90 if tiles.ROWS.index(case.row) % 2 else 80)
    )


def _params() -> list[Any]:
    slow = pytest.mark.slow
    return [pytest.param(c, id=c.id.replace(" | ", "-"), marks=() if _quick(c) else slow) for c in CASES]


@pytest.mark.parametrize("case", _params())
def test_a_row_compiles_without_spills_within_the_limits_and_as_the_table_says(case: Any) -> None:
    built = resources.build(case.launch, case.arch)
    assert built.spills == 0
    assert built.shared <= resources.SHARED_LIMIT[case.arch]
    claimed = case.row.tensor.get(case.arch)
    assert claimed is None or claimed in built.ptx, f"no {claimed} in the PTX"
    assert claimed is not None or "mma" not in built.ptx, "the row claims no tensor cores"
    if resources.triton_version() in resources.TABLE.read_text():  # another compiler allocates in another way
        assert resources.line(case, built) in resources.TABLE.read_text().splitlines()


def test_the_table_has_every_case_and_no_other() -> None:
    lines = [line for line in resources.TABLE.read_text().splitlines() if " sm_" in line]
    assert [" | ".join(line.strip("| ").split(" | ")[:5]) for line in lines] == [case.id for case in CASES]


def test_every_kernel_is_compiled_at_every_row_that_names_it() -> None:
    """Each row for each of its dtypes and architectures; and no kernel of the package is left out."""
    wanted = {(row.id, name, arch) for row in tiles.ROWS for name in row.dtypes for arch in row.archs}
    assert wanted == {(case.row.id, tiles.kind(case.dtype), case.arch) for case in CASES}
    modules = [path.stem for path in resources.TABLE.parent.glob("*.py")]
    defined = {name for module in modules for name in vars(triton_backend.kernels(module)) if name.endswith("_kernel")}
    assert defined == {case.launch.kernel.fn.__name__ for case in CASES}


def test_rows_are_in_order_and_say_why() -> None:
    """A narrower row before a wider one of the same kernel and dtype, or it would never be taken."""
    for i, row in enumerate(tiles.ROWS):
        assert row.why and row.warps in (1, 2, 4, 8) and row.stages >= 1
        for later in tiles.ROWS[i + 1 :]:
            if later.kernel == row.kernel and set(later.dtypes) & set(row.dtypes) and set(later.archs) & set(row.archs):
                assert later.widest > row.widest, (row.id, later.id)


def test_alignment_matters() -> None:
    """What the launcher's 16-byte pointers buy: without the attribute there are no wide loads."""
    case = next(c for c in CASES if c.op == "to_branches" and c.row.widest == 32 and c.arch == 80)
    built = resources.build(case.launch, case.arch)
    assert "ld.global.v4" in built.ptx
    moved = {name: t.view(-1)[1:] if name.endswith("_ptr") else t for name, t in case.launch.arguments.items()}
    assert "ld.global.v4" not in resources.build(case.launch._replace(arguments=moved), case.arch).ptx
