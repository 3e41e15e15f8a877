"""Tile rows: which blocks, warps and pipeline stages a kernel takes, by dtype, size and architecture, and why.

No row was measured on a GPU yet. What stands behind them: registers and shared memory of the compiled kernels
(`RESOURCES.md`, which a test compares), and counts. Nothing is tuned at run time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch

MMA = {80: "mma.sync", 90: "mma.sync"}  # blocks of fewer than 64 rows, which wgmma wants
WGMMA = {80: "mma.sync", 90: "wgmma"}
NONE: Mapping[int, str] = {}
ANY = 1 << 30


class Tile(NamedTuple):
    """A row: the first one with the kernel and dtype, wide enough and for the architecture, is taken.

    kernel: of which kernel. dtypes: "float32", "half" (bfloat16, float16), "complex64". widest: the most features (or
    tube values) that it takes. archs: 80, and 90 for all later ones. blocks: the kernel's BLOCK constants.
    tensor: the tensor-core instruction that the PTX must hold, by architecture. why: the reason for the row.
    """

    kernel: str
    dtypes: tuple[str, ...]
    widest: int
    blocks: Mapping[str, int]
    warps: int
    stages: int
    tensor: Mapping[int, str]
    why: str
    archs: tuple[int, ...] = (80, 90)

    @property
    def id(self) -> str:
        """Its name in `RESOURCES.md`."""
        width = "any" if self.widest == ANY else self.widest
        return f"{self.kernel} {'+'.join(self.dtypes)} to {width}"

    def constants(self) -> dict[str, int]:
        """What the kernel calls its blocks."""
        return {f"BLOCK_{name}": size for name, size in self.blocks.items()}


class Crossover(NamedTuple):
    """From how many values in an op's largest tensor on Triton comes before CUDA C++, and what that rests on."""

    least: int
    why: str


_REAL, _COMPLEX = ("float32", "half"), ("complex64",)

ROWS: tuple[Tile, ...] = (
    # tubes: y[r, p] = sum_q x[r, q] m[p, q]; bound by bytes, so many rows in flight and the matrix in few columns
    Tile("tubes", _REAL, 16, {"R": 128, "P": 16, "Q": 16}, 4, 1, WGMMA, "one product of 16: whole tubes, no loop"),
    Tile("tubes", _REAL, 32, {"R": 128, "P": 32, "Q": 32}, 4, 1, WGMMA, "whole tubes: x is read once"),
    Tile("tubes", _REAL, 64, {"R": 64, "P": 64, "Q": 32}, 8, 1, WGMMA, "64 of Q at a time spill in tf32x3 on sm_80"),
    Tile("tubes", _REAL, ANY, {"R": 64, "P": 128, "Q": 32}, 8, 2, WGMMA, "128 of P a pass over x, Q in a pipeline"),
    Tile("tubes", _COMPLEX, ANY, {"R": 64, "P": 32, "Q": 16}, 8, 1, WGMMA, "32 of Q at a time spill on sm_80"),
    # planes: R planes of two short dimensions, padded to 16 or 32 each way
    Tile("planes", _REAL, 16, {"R": 8}, 4, 1, WGMMA, "128 rows of 16, as tubes"),
    Tile("planes", _REAL, 32, {"R": 4}, 4, 1, WGMMA, "128 rows of 32, as tubes"),
    # branch_linear: a small product per branch; samples in the rows of the block
    Tile("branch_linear", _REAL, 32, {"N": 128, "O": 32, "I": 32}, 4, 1, WGMMA, "all features at once, no loop"),
    Tile("branch_linear", _REAL, 64, {"N": 64, "O": 64, "I": 32}, 8, 2, WGMMA, "64 features twice 32 deep: no spills"),
    Tile("branch_linear", _REAL, 256, {"N": 64, "O": 128, "I": 32}, 8, 3, WGMMA, "128 outputs a pass over x"),
    Tile("branch_linear", _COMPLEX, 256, {"N": 64, "O": 32, "I": 16}, 8, 1, WGMMA, "as tubes of complex64"),
    # network: a tile of N samples through its layers, for G branches at a time; the transform's blocks are R x Q
    Tile("network", ("float32",), 32, {"N": 64, "G": 16, "R": 64, "Q": 32}, 8, 1, WGMMA, "four warps spill on sm_80"),
    Tile("network", ("half",), 32, {"N": 64, "G": 16, "R": 64, "Q": 32}, 4, 1, WGMMA, "all stays in registers"),
    Tile("network", _REAL, 64, {"N": 16, "G": 16, "R": 32, "Q": 32}, 8, 1, MMA, "32 samples spill 4 bytes", (80,)),
    Tile("network", _REAL, 64, {"N": 32, "G": 16, "R": 64, "Q": 32}, 8, 1, MMA, "and not on sm_90", (90,)),
    Tile("network", _REAL, 128, {"N": 16, "G": 16, "R": 32, "Q": 32}, 8, 1, MMA, "32 samples spill in tf32x3"),
    Tile("network", _COMPLEX, 64, {"N": 16, "G": 16, "R": 32, "Q": 16}, 8, 1, MMA, "more samples spill"),
    # network_gradients: the same tiles forward and back, z_j waiting in a buffer; sums are added to once a tile
    Tile("network_gradients", ("float32",), 32, {"N": 32}, 4, 1, MMA, "250 registers; the fewer tiles the fewer sums"),
    Tile("network_gradients", ("half",), 32, {"N": 64}, 8, 1, WGMMA, "four warps spill on sm_80"),
    Tile("network_gradients", _REAL, 64, {"N": 32}, 8, 1, MMA, "as network"),
    Tile("network_gradients", _COMPLEX, 32, {"N": 16}, 8, 1, MMA, "32 samples spill"),
    # layer, weights: the gradients of wider networks, a product at a time
    Tile("layer", _REAL, 256, {"N": 64, "J": 64, "K": 32}, 8, 2, WGMMA, "as branch_linear of 64"),
    Tile("layer", _COMPLEX, 256, {"N": 64, "J": 32, "K": 16}, 8, 1, WGMMA, "as branch_linear"),
    Tile("weights", _REAL, 256, {"N": 32, "O": 64, "I": 64}, 8, 1, WGMMA, "64 x 64 sums over eight warps"),
    Tile("weights", _COMPLEX, 256, {"N": 16, "O": 64, "I": 32}, 8, 1, WGMMA, "two sums of 64 x 32"),
    # branch_conv2d, conv2d_weights: M pixels, pairs K of tap and channel
    Tile("branch_conv2d", _REAL, 16, {"M": 128, "O": 16, "K": 32}, 4, 1, WGMMA, "few channels: many pixels"),
    Tile("branch_conv2d", _REAL, 32, {"M": 128, "O": 32, "K": 32}, 8, 1, WGMMA, "as tubes"),
    Tile("branch_conv2d", _REAL, ANY, {"M": 64, "O": 64, "K": 32}, 8, 2, WGMMA, "64 channels a pass over the image"),
    Tile("branch_conv2d", _COMPLEX, ANY, {"M": 64, "O": 32, "K": 16}, 8, 1, WGMMA, "as tubes of complex64"),
    Tile("conv2d_weights", _REAL, ANY, {"M": 32, "O": 32, "K": 64}, 8, 1, MMA, "sums of 32 channels x 64 pairs"),
    Tile("conv2d_weights", _COMPLEX, ANY, {"M": 16, "O": 32, "K": 32}, 8, 1, MMA, "two sums of 32 x 32"),
    # spectral_linear: N samples with all their branches; blocks as those of tubes and branch_linear
    Tile("spectral_linear", _REAL, 256, {"N": 16, "R": 64, "P": 32, "Q": 32, "O": 64, "I": 32}, 8, 1, MMA, "as tubes"),
    Tile("spectral_linear", _COMPLEX, 256, {"N": 16, "R": 64, "P": 32, "Q": 16, "O": 64, "I": 16}, 8, 1, MMA, "too"),
    # branch_rnn: a step waits for the one before, so few samples a program and many programs
    Tile("branch_rnn", _REAL, 32, {"N": 16}, 4, 1, MMA, "one block of rows; four warps share a step"),
    Tile("branch_rnn", _REAL, 64, {"N": 16}, 8, 1, MMA, "64 features over eight warps"),
    Tile("branch_rnn", _COMPLEX, 32, {"N": 16}, 8, 1, MMA, "four products a product, over eight warps"),
    Tile("branch_rnn_backward", _REAL, 32, {"N": 16}, 4, 1, MMA, "one product a step"),
    Tile("branch_rnn_backward", _REAL, 64, {"N": 16}, 8, 1, MMA, "64 features over eight warps"),
    Tile("branch_rnn_backward", _COMPLEX, 32, {"N": 16}, 8, 1, MMA, "four products a product, over eight warps"),
    Tile("branch_rnn_backward", _COMPLEX, 64, {"N": 16}, 8, 1, MMA, "the same"),
    # tucker_conv2d: P pixels of a tile, H of its halo at a time, C channels at a time; all ranks at once
    Tile("tucker_conv2d", _REAL, 32, {"P": 64, "H": 64, "C": 32}, 4, 1, WGMMA, "the halo is 1.7 times a tile of 3 x 3"),
    Tile("tucker_conv2d", ("float32",), 64, {"P": 32, "H": 32, "C": 32}, 8, 1, MMA, "64 spill in tf32x3", (80,)),
    Tile("tucker_conv2d", ("float32",), 64, {"P": 64, "H": 64, "C": 32}, 8, 1, WGMMA, "and not on sm_90", (90,)),
    Tile("tucker_conv2d", ("half",), 128, {"P": 64, "H": 64, "C": 64}, 8, 1, WGMMA, "lines of 128 bytes"),
    Tile("tucker_conv2d_backward", _REAL, 32, {"P": 64, "H": 64, "C": 32}, 4, 1, WGMMA, "as tucker_conv2d"),
    Tile("tucker_conv2d_backward", ("float32",), 64, {"P": 32, "H": 32, "C": 32}, 8, 1, MMA, "64 spill with core_in"),
    Tile("tucker_conv2d_backward", ("half",), 64, {"P": 64, "H": 64, "C": 32}, 8, 1, WGMMA, "five products in flight"),
    # branch_ensemble, sums: additions in registers, bound by bytes
    Tile("branch_ensemble", (*_REAL, *_COMPLEX), 32, {"N": 64}, 4, 1, NONE, "a warp reads 16 rows of 32 classes"),
    Tile("branch_ensemble", (*_REAL, *_COMPLEX), 1024, {"N": 4}, 4, 1, NONE, "a warp a row of 1024 classes"),
    # csg: slices as products of codes and generator; what is not multiplied is spent on addresses in the filters
    Tile("csg_kernels", _REAL, ANY, {"P": 128, "S": 32, "C": 32}, 4, 2, WGMMA, "128 positions: whole runs of channels"),
    Tile("csg_codes", _REAL, ANY, {"P": 32, "S": 64, "C": 64}, 8, 1, WGMMA, "with four warps the addresses spill"),
    Tile("csg_generator", _REAL, ANY, {"P": 64, "S": 32, "C": 64}, 8, 1, WGMMA, "as csg_codes"),
    # csg_conv2d: pixels by filters; J entries of the codes at a time when a tile of the filter is generated
    Tile("csg_conv2d", ("float32",), ANY, {"M": 64, "J": 16}, 8, 1, WGMMA, "a tile of 64 x 64 beside 64 pixels", (90,)),
    Tile("csg_conv2d", ("half",), ANY, {"M": 128, "J": 32}, 8, 1, WGMMA, "a slice costs what 128 pixels do", (90,)),
    Tile("csg_conv2d", ("float32",), ANY, {"M": 32, "J": 16}, 8, 1, MMA, "64 pixels spill", (80,)),
    Tile("csg_conv2d", ("half",), ANY, {"M": 64, "J": 32}, 8, 1, MMA, "128 pixels spill", (80,)),
    # persistent: nine tiles of the filter wait in shared memory, or (sm_80) in registers
    Tile("csg_conv2d_persistent", ("float32",), 16, {"M": 64, "J": 16}, 8, 1, WGMMA, "32 channels spill in tf32x3"),
    Tile("csg_conv2d_persistent", ("half",), 32, {"M": 128, "J": 32}, 8, 1, WGMMA, "on sm_80 64 channels spill"),
    Tile("csg_conv2d_persistent", ("half",), 64, {"M": 128, "J": 32}, 8, 1, WGMMA, "74 kB of filter", (90,)),
    # their gradients: pixels are what is summed over; J entries of the codes a product (codes) or a program (generator)
    Tile("csg_conv2d_codes", ("half",), ANY, {"M": 32, "J": 16}, 8, 1, WGMMA, "a tile of 64 x 64 in registers"),
    Tile("csg_conv2d_codes", ("float32",), ANY, {"M": 16, "J": 16}, 8, 1, WGMMA, "32 pixels spill"),
    Tile("csg_conv2d_generator", _REAL, ANY, {"M": 32, "J": 32}, 8, 1, WGMMA, "and 256 x 32 sums beside it"),
    Tile("sums", ("float32",), 1, {"S": 256}, 4, 1, NONE, "two values a thread; more programs than multiprocessors"),
)

_WHOLE = "spectral_mlp spectral_mlp_cross_entropy spectral_mlp_cross_entropy_with_grads branch_mlp_backward"
_WHOLE += " spectral_ensemble spectral_ensemble_backward branch_rnn branch_rnn_with_states branch_rnn_backward"
CROSSOVERS: dict[str, Crossover] = dict.fromkeys(
    _WHOLE.split(), Crossover(1 << 20, "unmeasured; small batches of whole networks wait for one launch's latency")
)


class Rate(NamedTuple):
    """Operations a microsecond: of our convolutions, and of the library's."""

    fused: float
    library: float


# csg_conv2d's cost model, unmeasured: half and 0.7 of an H200's tensor cores (tf32x3 for float32), 4.3 TB/s, a launch
RATES = {"float32": Rate(65e6, 90e6), "half": Rate(395e6, 550e6)}
BANDWIDTH, LAUNCH = 4.3e6, 4.0  # bytes a microsecond, microseconds


def kind(dtype: torch.dtype) -> str:
    """The rows' name of a dtype."""
    return "half" if dtype in (torch.bfloat16, torch.float16) else str(dtype).removeprefix("torch.")


def _rows(kernel: str, dtype: torch.dtype, width: int, arch: int) -> Iterator[Tile]:
    name, generation = kind(dtype), 90 if arch >= 90 else 80
    for row in ROWS:
        if row.kernel == kernel and name in row.dtypes and width <= row.widest and generation in row.archs:
            yield row


def pick(kernel: str, dtype: torch.dtype, width: int, arch: int) -> Tile:
    """The row for a call; `why_not` of the op has made sure that there is one."""
    return next(_rows(kernel, dtype, width, arch))


def has(kernel: str, dtype: torch.dtype, width: int, arch: int) -> bool:
    """Whether there is a row."""
    return any(True for _ in _rows(kernel, dtype, width, arch))


def too_wide(kernel: str, dtype: torch.dtype, *widths: int) -> str | None:
    """The reason against branches of these features: no row of the kernel is as wide."""
    rows = [row.widest for row in ROWS if row.kernel == kernel and kind(dtype) in row.dtypes]
    if not rows:
        return f"{kernel} has no tile for {kind(dtype)}"
    widest = max(rows)
    if max(widths) <= widest:
        return None
    return f"a branch with {max(widths)} features is past {widest}, the widest tile of {kernel} for {kind(dtype)}"
