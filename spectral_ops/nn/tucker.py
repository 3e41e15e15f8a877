"""Layers whose weight is in Tucker form: TuckerConv2d and TuckerLinear."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..ops.tucker_conv2d import fold_into, fold_out_of, whole_core
from . import arguments
from .geometry import Size, Windowed

FACTORS = ("u_out", "u_in", "u_h", "u_w")  # in the order of the core's dimensions


class Ranked(nn.Module):
    """A layer whose weight is a core times a factor a mode; its ranks are the shapes of these parameters.

    A state_dict may have other ranks than the layer: loading it changes the layer's.
    """

    core: nn.Parameter
    bias: nn.Parameter | None
    groups = 1
    _fan_in: int

    @property
    def ranks(self) -> tuple[int, ...]:
        """r_out, r_in and, of a convolution, r_h, r_w (the window's sizes where it has no spatial factors)."""
        return (self.core.shape[0] // self.groups, *self.core.shape[1:])

    @property
    def factors(self) -> tuple[nn.Parameter | None, ...]:
        """One entry for each dimension of the core, None where it has no factor."""
        return tuple(getattr(self, name) for name in FACTORS[: self.core.dim()])

    def set_factors(self, core: Tensor, factors: Sequence[Tensor | None]) -> None:
        """Take other values, of other ranks too, as new parameters: optimisers of the old ones know nothing of them."""
        wanted = self.core.requires_grad
        self.core = nn.Parameter(core, requires_grad=wanted)
        for name, u in zip(FACTORS, factors, strict=False):
            setattr(self, name, None if u is None else nn.Parameter(u, requires_grad=wanted))

    def reset_parameters(self) -> None:
        """Orthonormal factors and a normal core, so that y varies as that of a new layer of torch.nn; its bias too."""
        for name, u in zip(FACTORS, self.factors, strict=False):
            for rows in () if u is None else u.data.chunk(self.groups if name in ("u_out", "u_in") else 1):
                nn.init.orthogonal_(rows)
        # torch draws weights of variance 1 / (3 fan_in): ||W||^2 is O / 3, and orthonormal factors keep the core's norm
        outputs = self.factors[0].shape[0]  # type: ignore[union-attr]
        nn.init.normal_(self.core, std=math.sqrt(outputs / 3 / self.core.numel()))
        if self.bias is not None:
            bound = self._fan_in**-0.5
            nn.init.uniform_(self.bias, -bound, bound)

    def _register(self, core: Sequence[int], factors: Sequence[Sequence[int] | None], bias: int, like: Any) -> None:
        self.core = nn.Parameter(torch.empty(*core, **like))
        for name, shape in zip(FACTORS, factors, strict=False):
            self.register_parameter(name, None if shape is None else nn.Parameter(torch.empty(*shape, **like)))
        self.register_parameter("bias", nn.Parameter(torch.empty(bias, **like)) if bias else None)
        self.reset_parameters()

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *rest: Any) -> None:
        for name in ("core", *FACTORS[: self.core.dim()]):
            given, own = state_dict.get(prefix + name), getattr(self, name)
            if isinstance(given, Tensor) and own is not None and given.dim() == own.dim():
                # of a factor the rows are no rank: where they differ, torch's own error says so
                if name == "core" or given.shape[0] == own.shape[0]:
                    own.data = own.data.new_empty(given.shape)
        super()._load_from_state_dict(state_dict, prefix, *rest)


class TuckerConv2d(Ranked, Windowed):
    """A convolution with the kernel core x_1 u_out x_2 u_in (x_3 u_h x_4 u_w), through its rank channels.

    x (N, C, H, W) -> y (N, O, H', W'), in x's memory format.

    Args:
        in_channels: C. out_channels: O. kernel_size, stride, padding (ints, "same", "valid"), dilation, groups, bias,
            padding_mode: as of torch.nn.Conv2d.
        ranks: (r_out, r_in), or (r_out, r_in, r_h, r_w) for spatial factors as well; with groups of one group.

    Parameters:
        core (groups r_out, r_in, kh or r_h, kw or r_w), u_out (O, r_out), u_in (C, r_in), u_h (kh, r_h) or None,
        u_w (kw, r_w) or None, bias (O,) or None. Factors start with orthonormal columns, the core normal, so that y
        varies as that of a new torch.nn.Conv2d. `load_state_dict` takes over the ranks of what it is given.

    Raises: ValueError for sizes, groups, padding_mode and ranks beyond their dimension; TypeError for types.
    Accuracy, gradient: those of `torch.ops.spectral.tucker_conv2d`.
    Source: Elhoushi et al., Accelerating Training using Tensor Decomposition, eq. (7)-(9); Rank-adaptive spectral
    pruning of convolutional layers during training, eq. (2).

    >>> layer = TuckerConv2d(64, 128, 3, padding=1, ranks=(24, 16))
    >>> layer(torch.rand(2, 64, 32, 32)).shape
    torch.Size([2, 128, 32, 32])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size | str = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        ranks: Sequence[int],
    ) -> None:
        super().__init__(kernel_size, stride, padding, dilation, padding_mode)
        name = type(self).__name__
        self._divide(in_channels, out_channels, groups)
        full = (out_channels // groups, in_channels // groups, *self.kernel_size)
        if len(ranks) not in (2, 4):
            raise ValueError(f"{name}: ranks must be two, or four with those of the window, got {tuple(ranks)}")
        for rank, most in zip(ranks, full, strict=False):
            if arguments.size(name, "each rank", rank) > most:
                raise ValueError(f"{name}: ranks must be at most {full[: len(ranks)]}, got {tuple(ranks)}")
        self._fan_in = math.prod(full[1:])
        window = ranks[2:] or self.kernel_size
        spatial = zip(self.kernel_size, ranks[2:], strict=True) if ranks[2:] else (None, None)
        factors = [(out_channels, ranks[0]), (in_channels, ranks[1]), *spatial]
        like = {"device": device, "dtype": dtype}
        self._register((groups * ranks[0], ranks[1], *window), factors, out_channels if bias else 0, like)

    # what forward calls: the op, or what a training method puts in its place for a pass of its own
    convolve = staticmethod(torch.ops.spectral.tucker_conv2d)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, O, H', W')."""
        x, geometry = self._padded(x)
        u_out, u_in, u_h, u_w = self.factors
        return self.convolve(x, self.core, u_out, u_in, self.bias, *geometry, u_h, u_w, self.groups)

    def weight(self, dtype: torch.dtype | None = None) -> Tensor:
        """The kernel (O, C / groups, kh, kw), differentiable; computed in `dtype`, default that of the parameters."""
        u_out, u_in, u_h, u_w = (u if u is None else u.to(dtype) for u in self.factors)
        assert u_out is not None and u_in is not None
        core = whole_core(self.core.to(dtype), u_out.shape[1], u_h, u_w, self.groups)
        return fold_out_of(fold_into(core, u_in, self.groups), u_out, self.groups)

    def to_dense(self) -> nn.Conv2d:
        """The torch.nn.Conv2d that computes the same: its weight computed in float64 and rounded, this layer's bias."""
        dense = nn.Conv2d(
            self.in_channels, self.out_channels, self.kernel_size, self.stride, self.padding, self.dilation,
            self.groups, self.bias is not None, device="meta",
        )  # fmt: skip
        return _dense(self, dense)

    def operations(self, pixels: int, in_pixels: int | None = None) -> int:
        """Multiply-adds for an image by the three stages, at `pixels` places: the denominator of eq. (11).

        in_pixels: of the input; default as many.
        """
        u_out, u_in = (u.numel() for u in self.factors[:2] if u is not None)
        core = self.groups * self.ranks[0] * self.ranks[1] * math.prod(self.kernel_size)
        return u_in * (pixels if in_pixels is None else in_pixels) + (core + u_out) * pixels

    def extra_repr(self) -> str:
        groups = f", groups={self.groups}" if self.groups > 1 else ""
        shape = f"{self.in_channels}, {self.out_channels}, ranks={self.ranks}"
        return f"{shape}, {self._geometry_repr()}{groups}, bias={self.bias is not None}"


class TuckerLinear(Ranked):
    """y = x W^T + bias with W = u_out core u_in^T: a matrix in Tucker form.

    Args:
        in_features: I. out_features: O. bias: as of torch.nn.Linear. ranks: (r_out, r_in).

    Parameters: core (r_out, r_in), u_out (O, r_out), u_in (I, r_in), bias (O,) or None; they start as those of
        `TuckerConv2d`. `load_state_dict` takes over the ranks of what it is given.
    Raises: ValueError for sizes and ranks, TypeError for types.
    Gradient: to x and every parameter.
    Source: the case of two modes of eq. (2) of the TDLRT paper.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        ranks: Sequence[int],
    ) -> None:
        super().__init__()
        self._matrix(in_features, out_features, bias, ranks, {"device": device, "dtype": dtype})

    def _matrix(self, in_features: int, out_features: int, bias: bool, ranks: Sequence[int], like: Any) -> None:
        name = type(self).__name__
        full = (
            arguments.size(name, "out_features", out_features),
            arguments.size(name, "in_features", in_features),
        )
        if len(ranks) != 2:
            raise ValueError(f"{name}: ranks must be two, got {tuple(ranks)}")
        for rank, most in zip(ranks, full, strict=True):
            if arguments.size(name, "each rank", rank) > most:
                raise ValueError(f"{name}: ranks must be at most {full}, got {tuple(ranks)}")
        self.in_features, self.out_features, self._fan_in = in_features, out_features, in_features
        factors = [(out_features, ranks[0]), (in_features, ranks[1])]
        self._register(tuple(ranks), factors, out_features if bias else 0, like)

    def forward(self, x: Tensor) -> Tensor:
        """(..., I) -> (..., O)."""
        return self.multiply(x, self.core, self.u_out, self.u_in, self.bias)  # type: ignore[arg-type]

    @staticmethod
    def multiply(x: Tensor, core: Tensor, u_out: Tensor, u_in: Tensor, bias: Tensor | None) -> Tensor:
        """((x u_in) core^T) u_out^T + bias."""
        return functional.linear(functional.linear(x @ u_in, core), u_out, bias)

    def weight(self, dtype: torch.dtype | None = None) -> Tensor:
        """The matrix (O, I), differentiable; computed in `dtype`, default that of the parameters."""
        core, u_out, u_in = (p.to(dtype) for p in (self.core, self.u_out, self.u_in))
        return u_out @ core @ u_in.mT

    def to_dense(self) -> nn.Linear:
        """The torch.nn.Linear that computes the same: its weight computed in float64 and rounded, this layer's bias."""
        return _dense(self, nn.Linear(self.in_features, self.out_features, self.bias is not None, device="meta"))

    def operations(self, pixels: int = 1, in_pixels: int | None = None) -> int:
        """Multiply-adds for a sample of so many rows."""
        return sum(p.numel() for name, p in self.named_parameters() if name != "bias") * pixels

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, ranks={self.ranks}, bias={self.bias is not None}"


def _dense(layer: TuckerConv2d | TuckerLinear, dense: Any) -> Any:
    """`dense` with the weight and bias of a layer."""
    weight = layer.weight(torch.float64).detach().to(layer.core.dtype)
    dense.weight = nn.Parameter(weight, requires_grad=layer.core.requires_grad)
    dense.bias = layer.bias
    return dense.train(layer.training)
