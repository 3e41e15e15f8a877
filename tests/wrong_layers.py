"""Wrong arguments of the convolutional layers, of what stands around them, and of `to_spectral`: each message."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from wrong_samples import COMPLEX_NAMES, NAMES

from spectral_ops.compress import FlatSpectralLinear, to_spectral
from spectral_ops.nn import (
    BranchConv2d,
    FromBranches2d,
    SpectralConv2d,
    SpectralLinear,
    SpectralPool,
    ToBranches2d,
    TuckerConv2d,
)
from spectral_ops.transforms import DCT, DFT

Rows = list[tuple[Callable[[], Any], type[Exception], str]]


def _conv(*args: Any, **more: Any) -> Callable[[], Any]:
    return lambda: SpectralConv2d(*(args or (8, 4, 3)), **{"branches": 4, **more})


def _layers() -> Rows:
    """Wrong arguments of SpectralConv2d and BranchConv2d, and the text after their names."""
    rows: Rows = [
        (_conv(8, 6, 3), ValueError, "branches must divide out_channels, 6, got 4"),
        (_conv(9, 4, 3), ValueError, "branches must divide in_channels, 9, got 4"),
        (_conv(8, 4, 0), ValueError, "kernel_size must be at least 1, got 0"),
        (_conv(8, 4, (3, 3, 3)), TypeError, "kernel_size must be an int or two, got (3, 3, 3)"),
        (_conv(8, 4, 2.0), TypeError, "kernel_size must be an int or two, got 2.0"),
        (_conv(stride=(1, 0)), ValueError, "stride must be at least 1, got (1, 0)"),
        (_conv(dilation="2"), TypeError, "dilation must be an int or two, got '2'"),
        (_conv(padding=-1), ValueError, "padding must be at least 0, got -1"),
        (_conv(padding="full"), ValueError, "padding must be ints, 'valid' or 'same', got 'full'"),
        (_conv(padding="same", stride=2), ValueError, "stride must be 1 with padding 'same', got (2, 2)"),
        (_conv(padding_mode="reflect"), ValueError, "padding_mode must be 'zeros', got 'reflect'"),
        (_conv(groups=2), ValueError, "groups must be 1, got 2"),
        (_conv(activation="elu"), ValueError, f"activation must be one of {NAMES}, got 'elu'"),
        (_conv(transform=DCT(3)), ValueError, "transform must have length 4 as branches, got 3"),
        (_conv(transform=DFT(4), activation="relu"), ValueError,
         f"activation must be, for complex numbers, one of {COMPLEX_NAMES}, got 'relu'"),
        (_conv(complex_weights=1), TypeError, "complex_weights must be a bool or None, got 1"),
        (_conv(transform=DFT(4), dtype=torch.bfloat16), TypeError,
         "dtype must be float32 or float64 where branches are complex, got torch.bfloat16"),
        (_conv(rank=0), ValueError, "rank must be at least 1, got 0"),
        (_conv(branches=0), ValueError, "branches must be at least 1, got 0"),
    ]  # fmt: skip
    rows = [(call, error, f"SpectralConv2d: {text}") for call, error, text in rows]
    more: Rows = [
        (lambda: BranchConv2d(0, 1, 3, branches=2), ValueError, "in_channels must be at least 1, got 0"),
        (lambda: BranchConv2d(1, 1, 3, branches=True), TypeError, "branches must be an int, got True"),
        (lambda: BranchConv2d(1, 1, 3, branches=2, complex_weights=True), ValueError,
         "is_complex must be True with complex_weights, got False"),
        (lambda: BranchConv2d(1, 1, 3, branches=2, is_complex=None), TypeError, "is_complex must be a bool, got None"),
        (lambda: BranchConv2d(1, 1, 3, branches=2, complex_weights=1), TypeError,
         "complex_weights must be a bool, got 1"),
        (lambda: BranchConv2d(1, 1, 3, branches=2, is_complex=True, dtype=torch.float16), TypeError,
         "dtype must be float32 or float64 where branches are complex, got torch.float16"),
    ]  # fmt: skip
    return rows + [(call, error, f"BranchConv2d: {text}") for call, error, text in more]


def _dense() -> Rows:
    """Wrong arguments of the ways from and to a dense convolution."""
    layer, conv, source = SpectralConv2d(8, 4, 3, branches=4), nn.Conv2d(8, 4, 3), SpectralConv2d.from_dense
    bent = SpectralConv2d(8, 4, 3, branches=4, activation="relu")
    start, far = "SpectralConv2d.from_dense", "SpectralConv2d.relative_error"
    none = "activation must be none, for the layer to be a matrix, got 'relu'"
    return [
        (lambda: source(nn.Conv2d(8, 6, 3), 4), ValueError,
         f"{start}: branches must divide the out_channels of conv, 6, got 4"),
        (lambda: source(nn.Linear(8, 4), 4), TypeError, f"{start}: conv must be a torch.nn.Conv2d, got Linear"),
        (lambda: source(nn.Conv2d(8, 4, 3, groups=4), 4), ValueError, f"{start}: conv must have groups 1, got 4"),
        (lambda: source(nn.Conv2d(8, 4, 3, padding_mode="circular"), 4), ValueError,
         f"{start}: conv must have padding_mode 'zeros', got 'circular'"),
        (lambda: source(conv, 4, rank=2), ValueError, f"{start}: rank must be at most min(O/Q, C/Q kh kw) = 1, got 2"),
        (lambda: source(conv, 4, DCT(3)), ValueError, f"{start}: transform must have length 4 as branches, got 3"),
        (bent.to_dense, ValueError, f"SpectralConv2d.to_dense: {none}"),
        (lambda: layer.relative_error(nn.Conv2d(8, 4, 5)), ValueError,
         f"{far}: the weight of conv must be (4, 8, 3, 3) as this layer's, got (4, 8, 5, 5)"),
        (lambda: layer.relative_error(nn.Linear(8, 4)), TypeError,
         f"{far}: conv must be a torch.nn.Conv2d, got Linear"),
    ]  # fmt: skip


def _images() -> Rows:
    """Wrong arguments of the ways into and out of branches, and of the pooling there."""
    image = torch.ones(2, 6, 4, 4)
    return [
        (lambda: ToBranches2d(4, grid=(2, 3)), ValueError,
         "ToBranches2d: grid must have branches = 4 places, got (2, 3)"),
        (lambda: ToBranches2d(3)(image[0]), ValueError, "ToBranches2d: x must be (N, C, H, W), got (6, 4, 4)"),
        (lambda: ToBranches2d(4)(image), ValueError, "ToBranches2d: branches must divide the channels of x, 6, got 4"),
        (lambda: ToBranches2d(6, grid=(2, 3))(image), ValueError,
         "ToBranches2d: grid must divide the 4 x 4 pixels of x, got (2, 3)"),
        (lambda: FromBranches2d(4)(image), ValueError,
         "FromBranches2d: x must be (N, Q', F, H, W) with Q' = 4, got (2, 6, 4, 4)"),
        (lambda: ToBranches2d(4, DCT(3)), ValueError, "ToBranches2d: transform must have length 4 as branches, got 3"),
        (lambda: SpectralPool(2, mode="mean"), ValueError, "SpectralPool: mode must be max or avg, got 'mean'"),
        (lambda: SpectralPool(2, transform=DCT(4)), ValueError,
         "SpectralPool: branches must be given with a transform, got None"),
        (lambda: SpectralPool(2)(image), ValueError, "SpectralPool: x must be (N, Q', F, H, W), got (2, 6, 4, 4)"),
        (lambda: SpectralPool(2, branches=4)(image), ValueError,
         "SpectralPool: x must be (N, C, H, W) with C a multiple of branches = 4, got (2, 6, 4, 4)"),
        (lambda: SpectralPool(0), ValueError, "SpectralPool: kernel_size must be at least 1, got 0"),
    ]  # fmt: skip


def _conversions() -> Rows:
    """Wrong arguments of `to_spectral`."""
    odd = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 10), nn.ReLU())
    tied = nn.Sequential(nn.Embedding(8, 8), nn.Linear(8, 8))
    tied[1].weight = tied[0].weight
    flat = FlatSpectralLinear(SpectralLinear(2, 3, 4))
    divide = "SpectralLinear.from_dense: branches must divide the out_features of linear, 10, got 4"
    return [
        (lambda: to_spectral(8), TypeError, "to_spectral: model must be a torch.nn.Module, got int"),
        (lambda: to_spectral(odd, DCT(3)), ValueError, "to_spectral: transform must have length 4 as branches, got 3"),
        (lambda: to_spectral(odd, DFT(4)), ValueError,
         "to_spectral: transform must be real or half a spectrum, for results to be real, "
         "got DFT(4, real=False, norm='ortho')"),
        (lambda: to_spectral(odd, branches=0), ValueError, "to_spectral: branches must be at least 1, got 0"),
        (lambda: to_spectral(odd, rank=0), ValueError, "to_spectral: rank must be at least 1, got 0"),
        (lambda: to_spectral(odd, select=["1"]), ValueError,
         f"to_spectral: layer '1' cannot be converted: {divide}"),
        (lambda: to_spectral(nn.Sequential(nn.Conv2d(8, 10, 3)), select=["0"]), ValueError,
         "to_spectral: layer '0' cannot be converted: SpectralConv2d.from_dense: branches must divide the out_channels "
         "of conv, 10, got 4"),
        (lambda: to_spectral(odd, select=lambda name, module: True), ValueError,
         f"to_spectral: layer '1' cannot be converted: {divide}"),
        (lambda: to_spectral(odd, select=["3"]), ValueError,
         "to_spectral: select must hold names of modules of the model, got '3'"),
        (lambda: to_spectral(odd, select=["2"]), TypeError,
         "to_spectral: layer '2' must be a Linear or a Conv2d, got ReLU"),
        (lambda: to_spectral(tied, select=["1"]), ValueError,
         "to_spectral: layer '1' cannot be converted: weight must belong to this layer alone, got a shared one"),
        (lambda: flat(torch.ones(2, 7)), ValueError,
         "FlatSpectralLinear: x must be (..., I Q) with I Q = 8, got (2, 7)"),
    ]  # fmt: skip


_GROUPS = "TuckerConv2d: groups must divide in_channels, 9, got 2"
WRONG_LAYERS: Rows = [
    *_layers(), *_dense(), *_images(), *_conversions(),
    (lambda: TuckerConv2d(9, 8, 3, groups=2, ranks=(2, 2)), ValueError, _GROUPS),
]  # fmt: skip
