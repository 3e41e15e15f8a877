"""What TDLRT is compared with: factored layers of fixed rank, and the matrix form of its own training (Table 1).

A fixed-rank Tucker network is `to_tucker(model, Fraction(kappa))` with any optimiser.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..nn.geometry import Windowed
from ..nn.tucker import TuckerLinear
from .layers import Select, put, wanted


class MatrixConv2d(TuckerLinear, Windowed):
    """A convolution whose kernel, as a matrix (O, C kh kw), is u_out core u_in^T: the layer of matrix DLRT.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, bias: as of torch.nn.Conv2d.
        rank: at most min(O, C kh kw).

    `TDLRT` trains it as a matrix; any other optimiser trains its factors.
    Source: Schotthoefer et al., Low-rank lottery tickets (2022); the matricisation of section 2 of the TDLRT paper.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | str = 0,
        dilation: int | tuple[int, int] = 1,
        bias: bool = True,
        *,
        rank: int,
    ) -> None:
        Windowed.__init__(self, kernel_size, stride, padding, dilation)
        self._matrix(in_channels * math.prod(self.kernel_size), out_channels, bias, (rank, rank), {})
        self.in_channels, self.out_channels = in_channels, out_channels

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, O, H', W')."""
        x, (stride, padding, dilation) = self._padded(x)
        core, u_out, u_in = self.core, self.u_out, self.u_in
        if "multiply" in self.__dict__:  # the first pass of a TDLRT step, which wants x in the matrix's own terms
            sizes = zip(x.shape[2:], self.kernel_size, stride, padding, dilation, strict=True)
            height, width = ((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in sizes)
            rows = functional.unfold(x, self.kernel_size, dilation, padding, stride).mT
            return self.multiply(rows, core, u_out, u_in, self.bias).mT.unflatten(2, (height, width))  # type: ignore[arg-type]
        inner = u_in.mT.view(-1, self.in_channels, *self.kernel_size)  # type: ignore[union-attr]
        h = functional.conv2d(x, inner, None, stride, padding, dilation)
        return functional.conv2d(h, (u_out @ core)[:, :, None, None], self.bias)

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, rank={self.ranks[0]}, {self._geometry_repr()}"


def to_matrix_dlrt(model: nn.Module, kappa: float, skip: Select = ()) -> nn.Module:
    """A copy with new matrix layers of rank ceil(kappa r_max), for `TDLRT`: the baseline "matrix DLRT"."""

    def made(module: Any, rank: int) -> nn.Module:
        bias = module.bias is not None
        if isinstance(module, nn.Linear):
            return TuckerLinear(module.in_features, module.out_features, bias, ranks=(rank, rank))
        channels = (module.in_channels, module.out_channels, module.kernel_size)
        return MatrixConv2d(*channels, module.stride, module.padding, module.dilation, bias, rank=rank)

    return _replaced("to_matrix_dlrt", model, kappa, skip, made)


def to_matrix(model: nn.Module, kappa: float, spectral: bool = True, skip: Select = ()) -> nn.Module:
    """A copy whose layers are W = A B of rank ceil(kappa r_max), W (O, C kh kw): two layers of torch.nn each.

    Args:
        model: of which Conv2d without groups and Linear are replaced where that saves.
        kappa: share of the largest rank. spectral: A, B from the singular vectors of the dense weight, each with the
            square root of the singular values (Khodak et al. 2021); else both as new layers start.
        skip: names, or a function of name and module, of layers to leave.

    Raises: ValueError for kappa outside (0, 1] and unknown names.
    """

    def made(module: Any, rank: int) -> nn.Module:
        outer: Any
        inner: Any
        bias = module.bias is not None
        if isinstance(module, nn.Linear):
            inner, outer = nn.Linear(module.in_features, rank, False), nn.Linear(rank, module.out_features, bias)
        else:
            geometry = (module.kernel_size, module.stride, module.padding, module.dilation)
            inner = nn.Conv2d(module.in_channels, rank, *geometry, bias=False)
            outer = nn.Conv2d(rank, module.out_channels, 1, bias=bias)
        if spectral:
            u, s, v = torch.linalg.svd(module.weight.detach().flatten(1), full_matrices=False)
            root = s[:rank].sqrt()
            inner.weight.data.copy_((root.unsqueeze(1) * v[:rank]).view_as(inner.weight))
            outer.weight.data.copy_((u[:, :rank] * root).view_as(outer.weight))
        if bias:
            outer.bias = module.bias
        return nn.Sequential(inner, outer)

    return _replaced("to_matrix", model, kappa, skip, made)


def to_cp(model: nn.Module, kappa: float, skip: Select = ()) -> nn.Module:
    """A copy whose convolutions are sums of ceil(kappa r_max) products of four vectors: four layers of torch.nn each.

    W[o, c, y, x] = sum_r a[o, r] b[c, r] h[y, r] w[x, r]: a 1 x 1 convolution, one of each channel along the rows, one
    along the columns, and a 1 x 1 convolution, whose outputs vary at first as the dense layer's. r_max is that of
    the matrix (O, C kh kw). Linear layers are two, as of `to_matrix` without spectral start. Args as there.
    Source: Lebedev et al., Speeding-up Convolutional Neural Networks Using Fine-tuned CP-Decomposition (2015).
    """

    def made(module: Any, rank: int) -> nn.Module:
        bias = module.bias is not None
        if isinstance(module, nn.Linear):
            return nn.Sequential(nn.Linear(module.in_features, rank, False), nn.Linear(rank, module.out_features, bias))
        (kh, kw), (sh, sw), (dh, dw) = module.kernel_size, module.stride, module.dilation
        pads = [(module.padding, module.padding)] if isinstance(module.padding, str) else [module.padding]
        ph, pw = pads[0]
        rows = nn.Conv2d(
            rank, rank, (kh, 1), (sh, 1), ph if isinstance(ph, str) else (ph, 0), (dh, 1), rank, bias=False
        )
        columns = nn.Conv2d(
            rank, rank, (1, kw), (1, sw), pw if isinstance(pw, str) else (0, pw), (1, dw), rank, bias=False
        )
        ends = nn.Conv2d(module.in_channels, rank, 1, bias=False), nn.Conv2d(rank, module.out_channels, 1, bias=bias)
        for layer, fan in ((ends[0], module.in_channels), (rows, kh), (columns, kw), (ends[1], rank)):
            nn.init.normal_(layer.weight, std=fan**-0.5)
        ends[1].weight.data.mul_(3**-0.5)  # torch's own start has variance 1 / (3 fan_in)
        if bias:
            ends[1].bias = module.bias
        return nn.Sequential(ends[0], rows, columns, ends[1])

    return _replaced("to_cp", model, kappa, skip, made)


def _replaced(
    op: str, model: nn.Module, kappa: float, skip: Select, make: Callable[[nn.Module, int], nn.Module]
) -> nn.Module:
    if not 0 < kappa <= 1:
        raise ValueError(f"{op}: kappa must be above 0 and at most 1, got {kappa}")
    model = copy.deepcopy(model)
    modules = list(model.named_modules())
    left = wanted(op, modules, skip, "skip")
    for name, module in modules:
        if name in left or type(module) not in (nn.Conv2d, nn.Linear) or getattr(module, "groups", 1) > 1:
            continue
        matrix = module.weight.flatten(1)  # type: ignore[union-attr, operator]
        rank = math.ceil(kappa * min(matrix.shape) - 1e-9)
        new = make(module, rank).to(matrix)
        if sum(p.numel() for p in new.parameters()) < sum(p.numel() for p in module.parameters()):
            model = put(model, name, new.train(module.training))
    return model
