"""csg_kernels: the filters of many convolutions, generated from codes by one product, in their own layouts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..op import kernel_alone
from . import checks
from .activations import wide

LAYOUTS = ("block", "flat")


def check(
    codes: Tensor,
    generator: Tensor,
    kernel_shapes: Sequence[int],
    slice_shape: Sequence[int],
    layout: str = "block",
    channels_last: bool = False,
) -> None:
    if not kernel_shapes or len(kernel_shapes) % 4 or min(kernel_shapes) < 1:
        must = "four ints (O, I, kh, kw) of at least 1 for each layer"
        raise ValueError(f"csg_kernels: kernel_shapes must hold {must}, got {list(kernel_shapes)}")
    check_slices("csg_kernels", codes, generator, kernel_shapes, slice_shape, layout)


def check_slices(
    op: str,
    codes: Tensor,
    generator: Tensor,
    kernel_shapes: Sequence[int],
    slice_shape: Sequence[int],
    layout: str,
) -> None:
    """Check all but the shapes of the filters, which are right."""
    if len(slice_shape) != 4 or min(slice_shape) < 1:
        raise ValueError(f"{op}: slice_shape must be four ints (F, K, h, w) of at least 1, got {list(slice_shape)}")
    rows = math.prod(slice_shape)
    if generator.dim() != 2 or generator.shape[0] != rows:
        must = f"(F K h w, n_c) with F K h w = {rows} as slice_shape"
        raise checks.wrong_shape(op, "generator", generator, must)
    slices = sum(count for _, count in slices_of(kernel_shapes, slice_shape))
    if codes.dim() != 2 or codes.shape[0] != slices or codes.shape[1] != generator.shape[1]:
        must = f"(S, n_c) with S = {slices} slices and n_c = {generator.shape[1]} as in generator"
        raise checks.wrong_shape(op, "codes", codes, must)
    if layout not in LAYOUTS:
        raise ValueError(f"{op}: layout must be one of {', '.join(LAYOUTS)}, got {layout!r}")
    if generator.dtype != torch.int8:
        checks.real(op, codes=codes, generator=generator)
        return
    checks.real(op, codes=codes)
    if generator.device != codes.device:
        raise TypeError(f"{op}: generator must be on {codes.device} as codes, got {generator.device}")


def grid(kernel_shape: Sequence[int], slice_shape: Sequence[int]) -> list[int]:
    """How many slices a filter takes along each of its four dimensions; the last ones may stick out."""
    return [-(-size // step) for size, step in zip(kernel_shape, slice_shape, strict=True)]


def slices_of(kernel_shapes: Sequence[int], slice_shape: Sequence[int]) -> Iterator[tuple[list[int], int]]:
    """Of each layer the shape (O, I, kh, kw) and the number of its slices."""
    for i in range(0, len(kernel_shapes), 4):
        shape = list(kernel_shapes[i : i + 4])
        yield shape, math.prod(grid(shape, slice_shape))


def empty(*args: Any) -> list[Tensor]:
    codes, _, kernel_shapes, _, _, channels_last = args
    check(*args)
    shapes = [kernel_shapes[i : i + 4] for i in range(0, len(kernel_shapes), 4)]
    if not channels_last:
        return [codes.new_empty(shape) for shape in shapes]
    strides = [(kh * kw * i, 1, kw * i, i) for _, i, kh, kw in shapes]
    return [codes.new_empty_strided(shape, step) for shape, step in zip(shapes, strides, strict=True)]


def reference(
    codes: Tensor,
    generator: Tensor,
    kernel_shapes: Sequence[int],
    slice_shape: Sequence[int],
    layout: str = "block",
    channels_last: bool = False,
) -> list[Tensor]:
    """Slice s of all layers is generator @ codes[s], reshaped (F, K, h, w); a filter is its slices, cropped (eq. 1).

    Args:
        codes: (S, n_c), real floating point: the codes of the first layer's slices, then of the second's, and so on.
            A layer has ceil(O/F) ceil(I/K) ceil(kh/h) ceil(kw/w) of them, row-major over this grid of blocks.
        generator: (F K h w, n_c), of the dtype of codes; or int8, signs (-1, +1) in a quarter of the memory.
        kernel_shapes: O, I, kh, kw of each layer, one after another.
        slice_shape: F, K, h, w.
        layout: "block": slice (a, b, c, d) of the grid is filter[a F:, b K:, c h:, d w:]. "flat": a layer's slices
            one after another, read as a filter whose sizes are rounded up to those of whole slices: the layout of the
            published checkpoints, equal to "block" where ceil(I/K) = 1 and the window is that of a slice.
        channels_last: the memory format of the filters.

    Returns: a filter (O, I, kh, kw) of each layer, dtype of codes (half accumulates in float32).
    Raises: ValueError for shapes and names, TypeError for dtypes and devices.
    Accuracy: |error| <= 4 eps sqrt(n_c) (|generator| @ |codes|), `tests/test_backends.py`.
    Gradient: to codes and a floating-point generator, any order. Deterministic: bitwise, for any number of threads.
    Source: Omidvar et al., Associative Convolutional Layers, eq. (1) and section 2.1.1.
    """
    rows = wide(codes) @ wide(generator).to(wide(codes).dtype).mT
    filters, first = [], 0
    for shape, count in slices_of(kernel_shapes, slice_shape):
        filters.append(_in_place(rows[first : first + count], shape, slice_shape, layout, channels_last, codes.dtype))
        first += count
    return filters


def _in_place(
    rows: Tensor, shape: list[int], slice_shape: Sequence[int], layout: str, channels_last: bool, dtype: torch.dtype
) -> Tensor:
    """The filter whose slices are `rows`, cropped to its shape."""
    blocks = grid(shape, slice_shape)
    whole = [b * s for b, s in zip(blocks, slice_shape, strict=True)]
    if layout == "block":
        rows = rows.reshape(*blocks, *slice_shape).permute(0, 4, 1, 5, 2, 6, 3, 7)
    o, i, kh, kw = shape
    cropped = rows.reshape(whole)[:o, :i, :kh, :kw].to(dtype)
    if not channels_last:
        return cropped.clone(memory_format=torch.contiguous_format)
    # permuted, not .contiguous(memory_format=...), which vmap does not know
    return cropped.permute(0, 2, 3, 1).clone(memory_format=torch.contiguous_format).permute(0, 3, 1, 2)


def gathered(filter: Tensor, slice_shape: Sequence[int], layout: str) -> Tensor:
    """The slices (S, F K h w) of a filter (O, I, kh, kw): zero where they stick out."""
    blocks = grid(filter.shape, slice_shape)
    beyond = [0, 0] * 4
    for d, (size, b, s) in enumerate(zip(filter.shape, blocks, slice_shape, strict=True)):
        beyond[7 - 2 * d] = b * s - size
    rows = functional.pad(filter, beyond) if any(beyond) else filter
    if layout == "block":
        parts = [size for pair in zip(blocks, slice_shape, strict=True) for size in pair]
        rows = rows.reshape(parts).permute(0, 2, 4, 6, 1, 3, 5, 7)
    return rows.reshape(math.prod(blocks), math.prod(slice_shape))


def cpp(args: list[Any], out: list[Tensor]) -> None:
    codes, generator, kernel_shapes, slice_shape, layout, channels_last = args
    flat = layout == "flat"
    torch.ops.spectral_native.csg_kernels(codes, generator, kernel_shapes, slice_shape, flat, channels_last, out)


def _gradients(args: list[Any], grads: Any, needs: list[Any]) -> list[Tensor | None]:
    """Those of codes and generator, of filters' gradients that lie as the filters do, or are made to."""
    codes, generator, kernel_shapes, slice_shape, layout, channels_last = args
    order = torch.channels_last if channels_last else torch.contiguous_format
    lying = [None if g is None else g.contiguous(memory_format=order) for g in grads]
    found = [t.new_empty(t.shape) if need else None for t, need in zip((codes, generator), needs[:2], strict=True)]
    torch.ops.spectral_native.csg_kernels_backward(
        lying, codes.contiguous(), generator.contiguous(), kernel_shapes, slice_shape, layout == "flat", channels_last,
        *found,
    )  # fmt: skip
    return found


def backward(args: list[Any], grads: Any, needs: list[Any]) -> list[Any]:
    codes, generator, kernel_shapes, slice_shape, layout, channels_last = args
    if kernel_alone("csg_kernels_backward", [codes, generator, *(g for g in grads if g is not None)]):
        return [*_gradients(args, grads, needs), None, None, None, None]
    if channels_last:
        grads = [None if g is None else g.permute(0, 2, 3, 1) for g in grads]
    grad_codes, grad_generator = torch.ops.spectral.csg_kernels_backward(
        list(grads), codes, generator, kernel_shapes, slice_shape, layout, channels_last, needs[0], needs[1]
    )
    return [grad_codes if needs[0] else None, grad_generator if needs[1] else None, None, None, None, None]
