"""What the Triton kernels take of a GPU, by compiling them for one that is not there: `triton_kernels/RESOURCES.md`.

    python -m benchmarks.resources    # compiles every tile row and writes the table; a test compares it

A kernel is compiled as the launcher would: pointers aligned to 16 bytes, sizes that are 1 or multiples of 16 known as
such (without the alignment registers nearly double, and asynchronous copies vanish).
"""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from spectral_ops.op import rule_of
from spectral_ops.table import TABLE as op_table
from spectral_ops.triton_backend import kernels
from spectral_ops.triton_kernels import tiles
from spectral_ops.triton_kernels.launch import Launch

from .resource_cases import CASES

TABLE = Path(__file__).parent.parent / "triton_kernels" / "RESOURCES.md"
SHARED_LIMIT = {80: 163 * 1024, 90: 227 * 1024}  # bytes a block may opt in to (CUDA C++ Programming Guide)
POINTERS = {
    torch.float32: "*fp32",
    torch.bfloat16: "*bf16",
    torch.float16: "*fp16",
    torch.int64: "*i64",
    torch.int32: "*i32",
    torch.int8: "*i8",
}


class Built(NamedTuple):
    """A compiled kernel: registers of a thread, spilled bytes, shared memory of a block, its PTX."""

    registers: int
    spills: int
    shared: int
    ptx: str


class Case(NamedTuple):
    """One launch of an op at a tile row, for one architecture. variant: counts those of one kernel."""

    op: str
    dtype: torch.dtype
    row: tiles.Tile
    arch: int
    launch: Launch
    variant: int = 1

    @property
    def id(self) -> str:
        kernel = self.launch.kernel.fn.__name__.removesuffix("_kernel")
        kernel += f" {self.variant}" if self.variant > 1 else ""
        return f"{self.row.id} | {self.op} | {kernel} | {tiles.kind(self.dtype)} | sm_{self.arch}"


def cases() -> Iterator[Case]:
    """Every op at every tile row that it can take, real dtypes as bfloat16 and float32, for each architecture."""
    for row in tiles.ROWS:
        for name in row.dtypes:
            dtype = torch.bfloat16 if name == "half" else getattr(torch, name)
            for op, make in CASES[row.kernel]:
                if dtype.is_complex and not op_table[op].complex_together:
                    continue
                for arch in row.archs:
                    launches: dict[str, list[Launch]] = {}
                    for launch in plan(op, make(min(row.widest, 256), dtype), arch):
                        same = launches.setdefault(launch.kernel.fn.__name__, [])
                        if launch.tile is row and launch.constants not in [other.constants for other in same]:
                            same.append(launch)
                            yield Case(op, dtype, row, arch, launch, len(same))


def plan(op: str, args: list[Any], arch: int) -> list[Launch]:
    """The launches of an op for tensors on device "meta"; float32 in tf32x3, which takes the most registers."""
    convolutions = torch.backends.cudnn.conv
    before, convolutions.fp32_precision = convolutions.fp32_precision, "ieee"
    try:
        return kernels(op).plan(args, rule_of(op).empty(*args), arch)
    finally:
        convolutions.fp32_precision = before


def build(launch: Launch, arch: int) -> Built:
    """Compile a launch for sm_<arch>."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.backends.nvidia.compiler import get_ptxas
    from triton.compiler import ASTSource

    names = launch.kernel.arg_names
    signature: dict[str, Any] = {}
    constants: dict[tuple[int, ...], Any] = {}
    attributes: dict[tuple[int, ...], Any] = {}
    for i, name in enumerate(names):
        if name in launch.constants:
            signature[name], constants[i,] = "constexpr", launch.constants[name]
        else:
            signature[name] = _specialised(launch.arguments[name], (i,), constants, attributes)
    source = ASTSource(fn=launch.kernel, signature=signature, constexprs=constants, attrs=attributes)
    made = triton.compile(source, target=GPUTarget("cuda", arch, 32), options=launch.options())
    ptx = made.asm["ptx"]
    target = re.search(r"\.target (sm_\w+)", ptx)
    assert target is not None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.ptx"
        path.write_text(ptx)
        command = [get_ptxas(arch).path, "-v", f"-arch={target[1]}", path, "-o", Path(folder) / "kernel.cubin"]
        log = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    registers, spills = re.search(r"Used (\d+) registers", log), re.search(r"(\d+) bytes spill stores", log)
    assert registers is not None and spills is not None
    return Built(int(registers[1]), int(spills[1]), made.metadata.shared, ptx)


def _specialised(value: Any, path: tuple[int, ...], constants: dict, attributes: dict) -> Any:
    """The type of an argument as the just-in-time compiler would see it; notes constants and alignment."""
    if isinstance(value, tuple):
        return tuple(_specialised(item, (*path, i), constants, attributes) for i, item in enumerate(value))
    if isinstance(value, Tensor):
        if value.storage_offset() * value.itemsize % 16 == 0:
            attributes[path] = [["tt.divisibility", 16]]
        return POINTERS[value.dtype]
    if value is None or (isinstance(value, int) and value == 1):
        constants[path] = value
        return "constexpr"
    if isinstance(value, float):
        return "fp32"
    if value % 16 == 0:
        attributes[path] = [["tt.divisibility", 16]]
    return "i32" if abs(value) < 2**31 else "i64"


def triton_version() -> str:
    """That of this environment, as the table names it."""
    return f"triton {importlib.metadata.version('triton')}"


def line(case: Case, built: Built) -> str:
    """A line of the table."""
    sizes = " ".join(f"{name}{size}" for name, size in case.row.blocks.items())
    cells = (case.id, sizes, case.row.warps, case.row.stages, built.registers, built.shared)
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def main() -> None:
    """Compile everything, and write the table."""
    head = [
        "# Registers and shared memory of the Triton kernels",
        "",
        f"Compiled ahead of time by {triton_version()} for each tile row, no GPU involved; none spills. Written by",
        "`python -m benchmarks.resources`; `tests/test_triton_compile.py` compares.",
        "",
        "| tile row | op | kernel | dtype | architecture | blocks | warps | stages | registers | shared bytes |",
        "| --- | --- | --- | --- | --- | --- | ---: | ---: | ---: | ---: |",
    ]
    lines = []
    for case in cases():
        built = build(case.launch, case.arch)
        lines.append(line(case, built))
        print(lines[-1], f"{built.spills} bytes spilled" if built.spills else "", flush=True)
    TABLE.write_text("\n".join([*head, *lines]) + "\n")


if __name__ == "__main__":
    main()
