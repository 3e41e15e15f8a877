"""Images into branches, out of them, and pooled there: what stands around `BranchConv2d`.

net = nn.Sequential(
    ToBranches2d(branches=4, grid=(2, 2)),  # (N, 1, 28, 28) -> (N, 4, 1, 14, 14)
    BranchConv2d(1, 8, 3, padding=1, branches=4, activation="relu"),
    SpectralPool(2),
    BranchConv2d(8, 16, 3, padding=1, branches=4, activation="relu"),
    SpectralPool(2),  # (N, 4, 16, 3, 3)
    FromBranches2d(branches=4),  # (N, 64, 3, 3)
)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..ops.branch_conv2d import layout_of
from ..ops.spectral_conv2d import through_channels
from ..transforms import Transform
from . import arguments


class _Passage(nn.Module):
    """The arguments that the way into branches and the way out share."""

    def __init__(self, branches: int, transform: Transform | None, grid: tuple[int, int] | None) -> None:
        super().__init__()
        name = type(self).__name__
        self.branches = arguments.size(name, "branches", branches)
        self.transform = arguments.transform(name, transform, branches)
        self.grid = None if grid is None else arguments.pair(name, "grid", grid)
        if self.grid is not None and self.grid[0] * self.grid[1] != branches:
            raise ValueError(f"{name}: grid must have branches = {branches} places, got {self.grid}")

    def extra_repr(self) -> str:
        return f"{self.branches}" + ("" if self.grid is None else f", grid={self.grid}")


class ToBranches2d(_Passage):
    """Images into the spectral domain: Q slices, and the transform across them at each pixel.

    Args:
        branches: Q. transform: of length Q; default DCT(Q).
        grid: None: the slices are groups of channels, x (N, C, H, W) -> (N, Q', C/Q, H, W). (r, c) with r c = Q: they
            are the sub-images of a pixel-unshuffle, (N, Q', C, H/r, W/c), slice row * c + column, each channel by
            itself: for a first layer, whose channels are few.

    Raises: ValueError for sizes, and for images that do not divide; TypeError for types.
    Gradient: to x and to a learned transform.
    Source: Liu et al., Highly Parallel Deep Ensemble Learning, eq. (22)-(24), section 4.4.
    """

    def __init__(self, branches: int, transform: Transform | None = None, grid: tuple[int, int] | None = None) -> None:
        super().__init__(branches, transform, grid)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, Q', C/Q, H, W), or (N, Q', C, H/r, W/c) with a grid."""
        if x.dim() != 4:
            raise ValueError(f"ToBranches2d: x must be (N, C, H, W), got {tuple(x.shape)}")
        if self.grid is not None:
            x = _unshuffled(x, *self.grid)
        elif x.shape[1] % self.branches:
            raise ValueError(f"ToBranches2d: branches must divide the channels of x, {x.shape[1]}, got {self.branches}")
        return through_channels(x, self.transform.matrix_as(x)).unflatten(1, (self.transform.branches, -1))


class FromBranches2d(_Passage):
    """Images out of the spectral domain: the inverse transform across the branches at each pixel.

    (N, Q', F, H, W) -> (N, Q F, H, W), channel q F + f; with a grid (r, c) the slices are put side by side again,
    (N, F, r H, c W). Arguments, errors, gradient and source as of `ToBranches2d`.
    """

    def __init__(self, branches: int, transform: Transform | None = None, grid: tuple[int, int] | None = None) -> None:
        super().__init__(branches, transform, grid)

    def forward(self, x: Tensor) -> Tensor:
        """(N, Q', F, H, W) -> (N, Q F, H, W), or (N, F, r H, c W) with a grid."""
        _check_branches("FromBranches2d", x, self.transform.branches)
        y = through_channels(x.flatten(1, 2), self.transform.inverse_as(x), self.transform.is_half)
        return y if self.grid is None else _shuffled(y, *self.grid)


class SpectralPool(nn.Module):
    """Pooling of each branch by itself, in the spectral domain (the step between eq. 27 and the next layer).

    Args:
        kernel_size, stride (default: kernel_size), padding: as of torch.nn.MaxPool2d.
        mode: "max" (of complex numbers the one of largest modulus) or "avg" (zeros of the padding counted, as in
            torch.nn.AvgPool2d).
        branches: None: x is in branches, (N, Q', F, H, W). Q: x is (N, C, H, W) in the original domain, whose Q
            channel groups are transformed before and after. An average is the same in both domains, and is taken
            without. transform: of length Q; default DCT(Q).

    Raises: ValueError for sizes, modes and shapes, TypeError for types.
    Gradient: to x and to a learned transform.
    Source: Liu et al., Highly Parallel Deep Ensemble Learning, section 3.4.
    """

    def __init__(
        self,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] | None = None,
        padding: int | tuple[int, int] = 0,
        mode: str = "max",
        branches: int | None = None,
        transform: Transform | None = None,
    ) -> None:
        super().__init__()
        self.kernel_size = arguments.pair("SpectralPool", "kernel_size", kernel_size)
        self.stride = self.kernel_size if stride is None else arguments.pair("SpectralPool", "stride", stride)
        self.padding = arguments.pair("SpectralPool", "padding", padding, least=0)
        if mode not in ("max", "avg"):
            raise ValueError(f"SpectralPool: mode must be max or avg, got {mode!r}")
        if branches is None and transform is not None:
            raise ValueError("SpectralPool: branches must be given with a transform, got None")
        self.mode, self.branches = mode, branches
        self.transform = None
        if branches is not None:
            arguments.size("SpectralPool", "branches", branches)
            self.transform = arguments.transform("SpectralPool", transform, branches)

    def forward(self, x: Tensor) -> Tensor:
        """(N, Q', F, H, W) -> (N, Q', F, H', W'); with `branches` (N, C, H, W) -> (N, C, H', W')."""
        if self.transform is None:
            if x.dim() != 5:
                raise ValueError(f"SpectralPool: x must be (N, Q', F, H, W), got {tuple(x.shape)}")
            return self._pool(x.flatten(1, 2)).unflatten(1, x.shape[1:3])
        if x.dim() != 4 or x.shape[1] % self.transform.length:
            must = f"(N, C, H, W) with C a multiple of branches = {self.branches}"
            raise ValueError(f"SpectralPool: x must be {must}, got {tuple(x.shape)}")
        if self.mode == "avg":
            return self._pool(x)
        branches = through_channels(x, self.transform.matrix_as(x))
        return through_channels(self._pool(branches), self.transform.inverse_as(x), self.transform.is_half)

    def _pool(self, x: Tensor) -> Tensor:
        window = (self.kernel_size, self.stride, self.padding)
        if not x.is_complex():
            return (functional.max_pool2d if self.mode == "max" else functional.avg_pool2d)(x, *window)
        if self.mode == "avg":
            return torch.complex(functional.avg_pool2d(x.real, *window), functional.avg_pool2d(x.imag, *window))
        _, places = functional.max_pool2d(x.abs(), *window, return_indices=True)
        y = x.flatten(2).gather(2, places.flatten(2)).view(places.shape)
        return y.contiguous(memory_format=layout_of(x))

    def extra_repr(self) -> str:
        branches = "" if self.branches is None else f", branches={self.branches}"
        return f"{self.kernel_size}, stride={self.stride}, padding={self.padding}, mode={self.mode!r}{branches}"


def _unshuffled(x: Tensor, rows: int, columns: int) -> Tensor:
    """(N, C, H, W) -> (N, r c C, H/r, W/c): the pixels at row y mod r, column x mod c are sub-image y c + x."""
    n, c, h, w = x.shape
    if h % rows or w % columns:
        raise ValueError(f"ToBranches2d: grid must divide the {h} x {w} pixels of x, got {(rows, columns)}")
    parts = x.reshape(n, c, h // rows, rows, w // columns, columns).permute(0, 3, 5, 1, 2, 4)
    return parts.reshape(n, rows * columns * c, h // rows, w // columns)


def _shuffled(x: Tensor, rows: int, columns: int) -> Tensor:
    """Undo `_unshuffled`."""
    n, c, h, w = x.shape
    c //= rows * columns
    parts = x.reshape(n, rows, columns, c, h, w).permute(0, 3, 4, 1, 5, 2)
    return parts.reshape(n, c, h * rows, w * columns)


def _check_branches(name: str, x: Tensor, branches: int) -> None:
    if x.dim() != 5 or x.shape[1] != branches:
        raise ValueError(f"{name}: x must be (N, Q', F, H, W) with Q' = {branches}, got {tuple(x.shape)}")
