"""csg_kernels_backward: the gradients of all layers' codes and of their generator, a product each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from . import checks
from .activations import wide
from .csg_kernels import check as check_kernels
from .csg_kernels import gathered, slices_of


def check(
    grads: Sequence[Tensor | None],
    codes: Tensor,
    generator: Tensor,
    kernel_shapes: Sequence[int],
    slice_shape: Sequence[int],
    layout: str = "block",
    channels_last: bool = False,
    want_codes: bool = True,
    want_generator: bool = True,
) -> None:
    op = "csg_kernels_backward"
    check_kernels(codes, generator, kernel_shapes, slice_shape, layout, channels_last)
    if len(grads) != len(kernel_shapes) // 4:
        raise ValueError(f"{op}: grads must have one entry per layer, {len(kernel_shapes) // 4}, got {len(grads)}")
    for j, (grad, (shape, _)) in enumerate(zip(grads, slices_of(kernel_shapes, slice_shape), strict=True)):
        o, i, kh, kw = shape
        stored = [o, kh, kw, i] if channels_last else shape
        if grad is not None and list(grad.shape) != stored:
            letters = "(O, kh, kw, I)" if channels_last else "(O, I, kh, kw)"
            raise checks.wrong_shape(op, f"grads[{j}]", grad, f"{letters} = {tuple(stored)} as kernel_shapes")
    checks.real(op, codes=codes, grads=list(grads))
    if want_generator and generator.dtype == torch.int8:
        raise TypeError(f"{op}: generator must be {codes.dtype} where its gradient is wanted, got {generator.dtype}")


def empty(*args: Any) -> tuple[Tensor, Tensor]:
    _, codes, generator, *_, want_codes, want_generator = args
    check(*args)
    return codes.new_empty(codes.shape if want_codes else (0,)), codes.new_empty(
        generator.shape if want_generator else (0,)
    )


def reference(
    grads: Sequence[Tensor | None],
    codes: Tensor,
    generator: Tensor,
    kernel_shapes: Sequence[int],
    slice_shape: Sequence[int],
    layout: str = "block",
    channels_last: bool = False,
    want_codes: bool = True,
    want_generator: bool = True,
) -> tuple[Tensor, Tensor]:
    """The vector-Jacobian product of `csg_kernels`: with the slices G of the filters' gradients as rows, cut as the
    filters were put together and zero where they were cropped, grad codes = G generator, grad generator = G^T codes.

    Args:
        grads: of each layer's filter as it lies in memory, (O, I, kh, kw), or (O, kh, kw, I) where channels_last; or
            None: zero.
        codes, generator, kernel_shapes, slice_shape, layout, channels_last: as in `csg_kernels`.
        want_codes, want_generator: when False, the result is empty, and its product is saved.

    Returns: grad codes (S, n_c), grad generator (F K h w, n_c), dtype of codes (half accumulates in float32).
    Raises: ValueError for shapes and names, TypeError for dtypes, devices, and a wanted gradient of an int8 generator.
    Accuracy: as the products, `tests/test_backends.py`.
    Gradient: to every floating tensor, by differentiating this form.
    Deterministic: bitwise, for any number of threads (sums over slices and over positions run in a fixed order).
    """
    v = wide(codes)
    parts = []
    for grad, (_, count) in zip(grads, slices_of(kernel_shapes, slice_shape), strict=True):
        if grad is None:
            parts.append(v.new_zeros(count, generator.shape[0]))
        else:
            filter = wide(grad).permute(0, 3, 1, 2) if channels_last else wide(grad)
            parts.append(gathered(filter, slice_shape, layout))
    rows = torch.cat(parts)
    grad_codes = (rows @ wide(generator).to(v.dtype)).to(codes.dtype) if want_codes else codes.new_empty(0)
    grad_generator = (rows.mT @ v).to(codes.dtype).contiguous() if want_generator else codes.new_empty(0)
    return grad_codes, grad_generator


def cpp(args: list[Any], out: tuple[Tensor, Tensor]) -> None:
    grads, codes, generator, kernel_shapes, slice_shape, layout, channels_last, want_codes, want_generator = args
    torch.ops.spectral_native.csg_kernels_backward(
        grads, codes, generator, kernel_shapes, slice_shape, layout == "flat", channels_last,
        out[0] if want_codes else None, out[1] if want_generator else None,
    )  # fmt: skip
