"""csg_kernel: the filter of one convolution, generated from the codes of its slices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .csg_kernels import check_slices
from .csg_kernels import empty as empty_filters

PARTS = ("csg_kernels",)  # for explain


def check(
    codes: Tensor,
    generator: Tensor,
    kernel_shape: Sequence[int],
    slice_shape: Sequence[int],
    layout: str = "block",
    channels_last: bool = False,
) -> None:
    check_filter("csg_kernel", codes, generator, kernel_shape, slice_shape, layout)


def check_filter(
    op: str, codes: Tensor, generator: Tensor, kernel_shape: Sequence[int], slice_shape: Sequence[int], layout: str
) -> None:
    """Check what generates one filter."""
    if len(kernel_shape) != 4 or min(kernel_shape) < 1:
        raise ValueError(f"{op}: kernel_shape must be four ints (O, I, kh, kw) of at least 1, got {list(kernel_shape)}")
    check_slices(op, codes, generator, kernel_shape, slice_shape, layout)


def empty(*args: Any) -> Tensor:
    check(*args)
    return empty_filters(*args)[0]


def reference(
    codes: Tensor,
    generator: Tensor,
    kernel_shape: Sequence[int],
    slice_shape: Sequence[int],
    layout: str = "block",
    channels_last: bool = False,
) -> Tensor:
    """`csg_kernels` of one layer: its slices generator @ codes[s], put together and cropped (eq. 1).

    Args:
        codes: (S, n_c), real floating point, S = ceil(O/F) ceil(I/K) ceil(kh/h) ceil(kw/w).
        generator: (F K h w, n_c), of the dtype of codes, or int8 signs.
        kernel_shape: O, I, kh, kw. slice_shape: F, K, h, w.
        layout, channels_last: as in `csg_kernels`.

    Returns: (O, I, kh, kw), dtype of codes (half accumulates in float32).
    Raises: ValueError for shapes and names, TypeError for dtypes and devices.
    Accuracy, gradient: Gradient and Accuracy of `csg_kernels`. Deterministic: bitwise, for any number of threads.
    Source: Omidvar et al., Associative Convolutional Layers, eq. (1) and section 2.1.1.
    """
    return torch.ops.spectral.csg_kernels(codes, generator, kernel_shape, slice_shape, layout, channels_last)[0]
