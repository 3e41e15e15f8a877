"""csg_conv2d on the GPU: an implicit matrix product whose tiles of the filter are generated on the chip."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from spectral_ops.ops.checks import convolved

from . import sums, tiles
from .csg_filters import Shape, dense, generated, tile_channels
from .launch import Launch, blocks
from .vocabulary import dot

READS_STRIDES = True  # x in either memory format


@triton.jit
def source(
    row, n_rows, ky, kx, image_ptr, STEPS: tl.constexpr, ROWS: tl.constexpr, SOURCE: tl.constexpr,
    GEOMETRY: tl.constexpr, BACK: tl.constexpr,
):  # fmt: skip
    """Where row (n, h, w) finds its pixel for place (ky, kx) of the window: pointers, and which exist.

    BACK: rows are pixels of the input, and the source is the gradient of the output.
    """
    n, h, w = row // (ROWS[0] * ROWS[1]), row // ROWS[1] % ROWS[0], row % ROWS[1]
    if BACK:
        y, x = h + GEOMETRY[2] - ky * GEOMETRY[4], w + GEOMETRY[3] - kx * GEOMETRY[5]
        there = (row < n_rows) & (y >= 0) & (x >= 0) & (y % GEOMETRY[0] == 0) & (x % GEOMETRY[1] == 0)
        y, x = y // GEOMETRY[0], x // GEOMETRY[1]
        there = there & (y < SOURCE[0]) & (x < SOURCE[1])
    else:
        y, x = h * GEOMETRY[0] - GEOMETRY[2] + ky * GEOMETRY[4], w * GEOMETRY[1] - GEOMETRY[3] + kx * GEOMETRY[5]
        there = (row < n_rows) & (y >= 0) & (x >= 0) & (y < SOURCE[0]) & (x < SOURCE[1])
    return image_ptr + n * STEPS[0] + y * STEPS[2] + x * STEPS[3], there


@triton.jit
def written(row, n_rows, result_ptr, STEPS: tl.constexpr, ROWS: tl.constexpr, channel, first, bias_ptr, split, value):
    """Stores the rows' values, of split 0 with the bias, in the channels first + channel of at least 0."""
    n, h, w = row // (ROWS[0] * ROWS[1]), row // ROWS[1] % ROWS[0], row % ROWS[1]
    if bias_ptr is not None:
        if split == 0:
            bias = tl.load(bias_ptr + first + channel, mask=channel >= 0, other=0.0)
            value += bias.to(tl.float32)[None, :]
    at = (n * STEPS[0] + h * STEPS[2] + w * STEPS[3])[:, None] + (first + channel)[None, :].to(tl.int64) * STEPS[1]
    tl.store(
        result_ptr + at, value.to(result_ptr.dtype.element_ty), mask=(row < n_rows)[:, None] & (channel >= 0)[None, :]
    )


@triton.jit
def csg_conv2d_kernel(
    image_ptr, codes_ptr, generator_ptr, bias_ptr, result_ptr, n_rows, splits, part,
    IMAGE_STEPS: tl.constexpr, RESULT_STEPS: tl.constexpr, ROWS: tl.constexpr, SOURCE: tl.constexpr,
    GEOMETRY: tl.constexpr, WINDOW: tl.constexpr, FILTERS: tl.constexpr, CHANNELS: tl.constexpr,
    O_SLICES: tl.constexpr, GROUPS: tl.constexpr, BACK: tl.constexpr,
    GENERATED: tl.constexpr, FLAT: tl.constexpr, CODE: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_J: tl.constexpr,
):  # fmt: skip
    """A program: a block of pixels, and of filters of one group. BACK: the gradient of x, a block of channels.

    FILTERS, CHANNELS: of a group. splits: programs that share a sum; their results are `part` values apart.
    """
    F: tl.constexpr = GENERATED[0]
    K: tl.constexpr = GENERATED[1]
    FP: tl.constexpr = GENERATED[4]
    KP: tl.constexpr = GENERATED[5]
    SO: tl.constexpr = GENERATED[6]
    SI: tl.constexpr = GENERATED[7]
    GI: tl.constexpr = GENERATED[8]
    PLACES: tl.constexpr = WINDOW[0] * WINDOW[1]
    O_BLOCKS: tl.constexpr = (O_SLICES + SO - 1) // SO
    I_BLOCKS: tl.constexpr = (GI + SI - 1) // SI
    RESULTS: tl.constexpr = I_BLOCKS if BACK else O_BLOCKS
    SUMMED: tl.constexpr = O_BLOCKS if BACK else I_BLOCKS
    pid = tl.program_id(0).to(tl.int64)
    result, group = (pid % RESULTS).to(tl.int32), (pid // RESULTS % GROUPS).to(tl.int32)
    split, block = pid // RESULTS // GROUPS % splits, pid // RESULTS // GROUPS // splits
    row = block * BLOCK_M + tl.arange(0, BLOCK_M)
    sum = tl.zeros((BLOCK_M, SI * KP if BACK else SO * FP), tl.float32)
    start, end = (
        (split * (SUMMED * PLACES) // splits).to(tl.int32),
        ((split + 1) * (SUMMED * PLACES) // splits).to(tl.int32),
    )
    for step in range(start, end):
        ky, kx = step % PLACES // WINDOW[1], step % WINDOW[1]
        if BACK:
            o, i = step // PLACES * SO, result * SI
            summed = tile_channels(o, FP, F, SO, FILTERS)
            first = group * FILTERS
        else:
            o, i = result * SO, step // PLACES * SI
            summed = tile_channels(i, KP, K, SI, CHANNELS)
            first = group * CHANNELS
        filter = generated(
            codes_ptr, generator_ptr, group * O_SLICES + o, (group + 1) * O_SLICES, i, ky, kx,
            not BACK, FLAT, GENERATED, CODE, PRECISION, BLOCK_J,
        )  # fmt: skip
        filter = tl.where((summed >= 0)[:, None], filter, 0.0)
        at, there = source(row, n_rows, ky, kx, image_ptr, IMAGE_STEPS, ROWS, SOURCE, GEOMETRY, BACK)
        channel = (first + summed)[None, :].to(tl.int64) * IMAGE_STEPS[1]
        pixels = tl.load(at[:, None] + channel, mask=there[:, None] & (summed >= 0)[None, :], other=0.0)
        sum = dot(pixels, filter.to(pixels.dtype), sum, PRECISION)
    if BACK:
        channel, into = tile_channels(result * SI, KP, K, SI, CHANNELS), group * CHANNELS
    else:
        channel, into = tile_channels(result * SO, FP, F, SO, FILTERS), group * FILTERS
    written(row, n_rows, result_ptr + split * part, RESULT_STEPS, ROWS, channel, into, bias_ptr, split, sum)


@triton.jit
def csg_conv2d_persistent_kernel(
    image_ptr, codes_ptr, generator_ptr, bias_ptr, result_ptr, n_rows, programs,
    IMAGE_STEPS: tl.constexpr, RESULT_STEPS: tl.constexpr, ROWS: tl.constexpr, SOURCE: tl.constexpr,
    GEOMETRY: tl.constexpr, WINDOW: tl.constexpr, FILTERS: tl.constexpr, CHANNELS: tl.constexpr,
    O_SLICES: tl.constexpr, GROUPS: tl.constexpr, BACK: tl.constexpr,
    GENERATED: tl.constexpr, FLAT: tl.constexpr, CODE: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_J: tl.constexpr,
):  # fmt: skip
    """The same with one tile to sum over: a program generates the whole window once, and goes through its pixels."""
    F: tl.constexpr = GENERATED[0]
    K: tl.constexpr = GENERATED[1]
    FP: tl.constexpr = GENERATED[4]
    KP: tl.constexpr = GENERATED[5]
    SO: tl.constexpr = GENERATED[6]
    SI: tl.constexpr = GENERATED[7]
    PLACES: tl.constexpr = WINDOW[0] * WINDOW[1]
    RESULTS: tl.constexpr = (GENERATED[8] + SI - 1) // SI if BACK else (O_SLICES + SO - 1) // SO
    pid = tl.program_id(0).to(tl.int64)
    result, group = (pid % RESULTS).to(tl.int32), (pid // RESULTS % GROUPS).to(tl.int32)
    if BACK:
        o, i = 0, result * SI
        summed, channel = tile_channels(0, FP, F, SO, FILTERS), tile_channels(i, KP, K, SI, CHANNELS)
        first, into = group * FILTERS, group * CHANNELS
    else:
        o, i = result * SO, 0
        summed, channel = tile_channels(0, KP, K, SI, CHANNELS), tile_channels(o, FP, F, SO, FILTERS)
        first, into = group * CHANNELS, group * FILTERS
    filters = ()
    for place in tl.static_range(PLACES):
        filter = generated(
            codes_ptr, generator_ptr, group * O_SLICES + o, (group + 1) * O_SLICES, i,
            place // WINDOW[1], place % WINDOW[1],
            not BACK, FLAT, GENERATED, CODE, PRECISION, BLOCK_J,
        )  # fmt: skip
        filter = tl.where((summed >= 0)[:, None], filter, 0.0).to(image_ptr.dtype.element_ty)
        filters = filters + (filter,)  # type: ignore[assignment]  # noqa: RUF005  (Triton unpacks no tuples)
    from_channel = (first + summed)[None, :].to(tl.int64) * IMAGE_STEPS[1]
    for block in range(pid // RESULTS // GROUPS, tl.cdiv(n_rows, BLOCK_M), programs):
        row = block * BLOCK_M + tl.arange(0, BLOCK_M)
        sum = tl.zeros((BLOCK_M, SI * KP if BACK else SO * FP), tl.float32)
        for place in tl.static_range(PLACES):
            at, there = source(
                row, n_rows, place // WINDOW[1], place % WINDOW[1], image_ptr, IMAGE_STEPS, ROWS, SOURCE, GEOMETRY, BACK
            )
            pixels = tl.load(at[:, None] + from_channel, mask=there[:, None] & (summed >= 0)[None, :], other=0.0)
            sum = dot(pixels, filters[place], sum, PRECISION)
        written(row, n_rows, result_ptr, RESULT_STEPS, ROWS, channel, into, bias_ptr, 0, sum)


PROGRAMS = 132  # multiprocessors of an H200; a constant, for the order of sums hangs on it
FEW = 9  # places of a window that a persistent program holds


def why_not(*args: Any) -> str | None:
    return reason(args[0], _shape(args))


def _shape(args: Sequence[Any]) -> Shape:
    _, _, _, kernel_shape, slice_shape, *_, layout, groups = args
    return Shape(kernel_shape, slice_shape, groups, layout == "flat")


def reason(x: Tensor, shape: Shape) -> str | None:
    """Why the filter of this convolution of x is not generated on the chip."""
    if not x.numel():
        return "a convolution of nothing is left to the reference"
    return tiles.too_wide("csg_conv2d", x.dtype, 1) or shape.why_not()


def pays(*args: Any) -> bool:
    """Whether the cost model takes the fused form, and not generation and the library's convolution."""
    x, codes, _, kernel_shape, _, _, *geometry, _, _ = args
    shape = _shape(args)
    if reason(x, shape):
        return False
    h, w = convolved(x.shape[2:], kernel_shape[2:], *geometry)
    return fused_pays(Schedule.of(shape, x.dtype, x.shape[0] * h * w, False, 90), codes.shape[1], shape)


def fused_pays(schedule: Schedule, code_size: int, shape: Shape) -> bool:
    """The cost model (DESIGN.md): operations over the share of the chip that is busy, against a launch and bytes."""
    rates = tiles.RATES[tiles.kind(schedule.dtype)]
    size = math.prod(shape.kernel)
    convolution, generation = 2 * schedule.pixels * size, 2 * code_size * size
    fused = (convolution + schedule.generations * generation) / (rates.fused * schedule.busy)
    apart = (
        convolution / rates.library
        + generation / rates.fused
        + tiles.LAUNCH
        + 2 * size * schedule.dtype.itemsize / tiles.BANDWIDTH
    )
    return fused < apart


class Schedule(NamedTuple):
    """How a convolution is cut into programs.

    parts: blocks of results, of all groups. programs: that share the pixels of a part. splits: that share a sum.
    """

    tile: tiles.Tile
    persistent: bool
    parts: int
    programs: int
    splits: int
    pixels: int
    dtype: torch.dtype

    @classmethod
    def of(cls, shape: Shape, dtype: torch.dtype, pixels: int, back: bool, arch: int) -> Schedule:
        (so, si), (kh, kw) = shape.together, shape.kernel[2:]
        results, summed = blocks(shape.o_slices, so), blocks(shape.grid[1], si)
        if back:
            results, summed = summed, results
        parts, width = results * shape.groups, max(so * shape.padded[0], si * shape.padded[1])
        tile = tiles.pick("csg_conv2d", dtype, width, arch)
        wide = tiles.has("csg_conv2d_persistent", dtype, width, arch)
        count = blocks(pixels, tile.blocks["M"])
        if wide and summed == 1 and kh * kw <= FEW and count * parts > PROGRAMS:
            tile = tiles.pick("csg_conv2d_persistent", dtype, width, arch)
            programs = min(blocks(pixels, tile.blocks["M"]), blocks(PROGRAMS, parts))
            return cls(tile, True, parts, programs, 1, pixels, dtype)
        splits = max(1, min(summed * kh * kw, PROGRAMS // (count * parts)))
        return cls(tile, False, parts, count, splits, pixels, dtype)

    @property
    def generations(self) -> int:
        """How often each tile of the filter is generated."""
        return self.programs

    @property
    def busy(self) -> float:
        """The share of the multiprocessors that have work."""
        return min(1.0, self.parts * self.programs * self.splits / PROGRAMS)


def plan(args: Sequence[Any], out: Tensor, arch: int) -> list[Launch]:
    x, codes, generator, kernel, step, bias, *geometry, layout, groups = args
    shape = Shape(kernel, step, groups, layout == "flat")
    return convolution(x, out, codes, generator, shape, bias, geometry, False, arch)


def convolution(
    image: Tensor, out: Tensor, codes: Tensor, generator: Tensor, shape: Shape, bias: Tensor | None,
    geometry: Sequence[Sequence[int]], back: bool, arch: int,
) -> list[Launch]:  # fmt: skip
    """The launches that convolve an image to `out`, or (back) the gradient of the output to that of the input."""
    o, i, *window = shape.kernel
    plan = Schedule.of(shape, image.dtype, out.shape[0] * out.shape[2] * out.shape[3], back, arch)
    parts = out if plan.splits == 1 else out.new_empty(plan.splits, 1, out.numel(), dtype=torch.float32)
    arguments: dict[str, Any] = {
        "image_ptr": image, "codes_ptr": dense(codes), "generator_ptr": dense(generator), "bias_ptr": dense(bias),
        "result_ptr": parts, "n_rows": plan.pixels,
    }  # fmt: skip
    constants = shape.constants(codes.shape[1], plan.tile) | {
        "IMAGE_STEPS": tuple(image.stride()), "RESULT_STEPS": tuple(out.stride()), "ROWS": tuple(out.shape[2:]),
        "SOURCE": tuple(image.shape[2:]), "GEOMETRY": tuple(n for pair in geometry for n in pair),
        "WINDOW": tuple(window), "FILTERS": o // shape.groups, "CHANNELS": i, "O_SLICES": shape.o_slices,
        "GROUPS": shape.groups, "BACK": back,
    }  # fmt: skip
    programs = plan.parts * plan.programs * plan.splits
    if plan.persistent:
        arguments["programs"] = plan.programs
        return [Launch(csg_conv2d_persistent_kernel, programs, arguments, constants, plan.tile)]
    arguments |= {"splits": plan.splits, "part": out.numel()}
    launches = [Launch(csg_conv2d_kernel, programs, arguments, constants, plan.tile)]
    if plan.splits > 1:  # parts lie as the values of `out` do
        launches.append(sums.plan(parts, [out.as_strided((1, out.numel()), (out.numel(), 1))], arch))
    return launches
