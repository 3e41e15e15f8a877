"""Convolutions: SpectralConv2d in the place of torch.nn.Conv2d, BranchConv2d for images that stay in branches."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..ops.spectral_conv2d import folded
from ..transforms import Transform
from . import arguments, structured
from .geometry import Size, Windowed


class _Convolution(Windowed):
    """One convolution a branch: its geometry, weight and bias. in and out: channels of one branch."""

    def __init__(
        self,
        branches: int,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size,
        padding: Size | str,
        dilation: Size,
        padding_mode: str,
        bias: bool,
        activation: str,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__(kernel_size, stride, padding, dilation, padding_mode)
        self.activation = arguments.activation(type(self).__name__, activation)
        shape = (branches, out_channels, in_channels, *self.kernel_size)
        self.weight = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        vector = torch.empty(branches, out_channels, device=device, dtype=dtype)
        self.register_parameter("bias", nn.Parameter(vector) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """New random weights that keep the variance of the features; zero bias."""
        arguments.fill(self.weight, self.weight[0, 0].numel(), self.activation)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def _layer_repr(self) -> str:
        return f"{self._geometry_repr()}, bias={self.bias is not None}, activation={self.activation!r}"


class SpectralConv2d(_Convolution):
    """y = L^-1(act(w_k * L(x)_k + b_k)): a convolution whose channels are Q slices, transformed across the slices.

    x (N, C, H, W) -> y (N, O, H', W'), in x's memory format. Channel q C/Q + i is feature i of slice q. Each branch k
    convolves C/Q with O/Q channels, so that the layer has Q times fewer weights than the convolution it replaces, and
    stands for one whose matrices W[:, :, y, x] are structured: block circulant with the DFT (eq. 23).

    Args:
        in_channels: C. out_channels: O. kernel_size, stride, padding (ints, "same", "valid"), dilation, bias,
            padding_mode: as of torch.nn.Conv2d. groups: 1.
        branches: Q, a divisor of C and O.
        transform: a `spectral_ops.transforms.Transform` of length Q; default DCT(Q).
        activation: in the spectral domain: none, relu, gelu, silu, tanh or sigmoid.

    Parameters:
        weight (Q', O/Q, C/Q, kh, kw), bias (Q', O/Q), in the spectral domain and zero at first. The weights start
        uniform, with He's variance for a branch's own fan-in.

    Raises: ValueError for sizes, names, groups, padding_mode, and a transform of another length; TypeError for types.
    Accuracy, gradient: those of `torch.ops.spectral.spectral_conv2d`.
    Source: Liu et al., Highly Parallel Deep Ensemble Learning, eq. (20)-(23), (27).

    >>> layer = SpectralConv2d(64, 64, 3, padding=1, branches=4, activation="relu")
    >>> layer(torch.rand(2, 64, 32, 32)).shape
    torch.Size([2, 64, 32, 32])
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
        branches: int,
        transform: Transform | None = None,
        activation: str = "none",
    ) -> None:
        name = type(self).__name__
        arguments.size(name, "branches", branches)
        arguments.real_transform(name, transform, branches)
        for label, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            if arguments.size(name, label, channels) % branches:
                raise ValueError(f"{name}: branches must divide {label}, {channels}, got {branches}")
        if groups != 1:
            raise ValueError(f"{name}: groups must be 1, got {groups}")
        super().__init__(
            branches if transform is None else transform.branches, in_channels // branches, out_channels // branches,
            kernel_size, stride, padding, dilation, padding_mode, bias, activation, device, dtype,
        )  # fmt: skip
        self.in_channels, self.out_channels, self.groups, self.branches = in_channels, out_channels, 1, branches
        self.transform = arguments.real_transform(name, transform, branches)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, O, H', W')."""
        x, geometry = self._padded(x)
        matrix, inverse = self.transform.matrix_as(x), self.transform.inverse_as(x)
        return torch.ops.spectral.spectral_conv2d(
            x, matrix, self.weight, self.bias, self.activation, inverse, *geometry
        )

    def operations(self, pixels: int, in_pixels: int | None = None) -> int:
        """Multiply-adds for an image: the convolution at `pixels` places, transforms as matrices at each pixel.

        in_pixels: of the input; default as many.
        """
        q, p = self.transform.length, self.transform.branches
        before = p * self.in_channels * (pixels if in_pixels is None else in_pixels)
        return before + self.weight.numel() * pixels + p * q * self.weight.shape[1] * pixels

    @classmethod
    def from_dense(cls, conv: nn.Conv2d, branches: int, transform: Transform | None = None) -> SpectralConv2d:
        """The layer without activation whose weight is nearest to that of a dense convolution, in the Frobenius norm.

        At each place of the window W[q O/Q + o, p C/Q + i] is fitted by sum_k inverse[q, k] matrix[k, p] w_k[o, i];
        under an orthogonal transform w_k is block (k, k) of W transformed on both sides. Geometry and bias are exact.

        Args:
            conv: without groups, padded with zeros. branches: Q. transform: real, of length Q, default DCT(Q); not
                copied.

        Returns: a layer C -> O of conv's dtype and device. `relative_error(conv)` says how far away it is.
        Raises: ValueError where Q does not divide the channels, for groups, padding_mode and a transform of another
            length; TypeError for the wrong type and for a complex transform.
        Accuracy: computed in float64, rounded once.
        """
        op = f"{cls.__name__}.from_dense"
        transform = arguments.real_transform(op, transform, arguments.size(op, "branches", branches))
        structured.check_real(op, transform)
        structured.check_conv(op, conv)
        for label, channels in (("in_channels", conv.in_channels), ("out_channels", conv.out_channels)):
            if channels % branches:
                raise ValueError(f"{op}: branches must divide the {label} of conv, {channels}, got {branches}")
        layer = cls(
            conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding, conv.dilation,
            bias=conv.bias is not None, device="meta", branches=branches, transform=transform,
        )  # fmt: skip
        with torch.no_grad():
            dense, dtype = conv.weight.double(), conv.weight.dtype
            matrix = transform.matrix_as(dense)
            blocks = structured.window_blocks_of(dense, matrix, transform.inverse_as(dense))
            layer.weight = nn.Parameter(blocks.to(dtype))
            if conv.bias is not None:
                layer.bias = nn.Parameter((matrix @ conv.bias.double().view(branches, -1)).to(dtype))
        return layer

    def to_dense(self) -> nn.Conv2d:
        """The dense convolution equal to this layer: W[:, :, y, x] is block circulant where the transform is a DFT.

        Returns: torch.nn.Conv2d(C, O) of the parameters' dtype and device, computed in float64 and rounded once.
        Raises: ValueError with an activation; TypeError for a complex transform.
        """
        op = f"{type(self).__name__}.to_dense"
        structured.check_real(op, self.transform)
        structured.check_none(op, self.activation)
        dense = nn.Conv2d(
            self.in_channels, self.out_channels, self.kernel_size, self.stride, self.padding, self.dilation,
            bias=self.bias is not None, device="meta",
        )  # fmt: skip
        with torch.no_grad():
            exact = self.weight.double()
            matrix, inverse = self.transform.matrix_as(exact), self.transform.inverse_as(exact)
            dense.weight = nn.Parameter(folded(matrix, exact, inverse).to(self.weight.dtype))
            if self.bias is not None:
                dense.bias = nn.Parameter((inverse @ self.bias.double()).flatten().to(self.weight.dtype))
        return dense

    def relative_error(self, conv: nn.Conv2d) -> float:
        """||D - W||_F / ||W||_F, of this layer's dense weight D (`to_dense`) from a convolution's W; of W = 0, ||D||_F.

        Raises: as `to_dense`; ValueError for a weight of another shape, TypeError for anything but a Conv2d.
        """
        op, found = f"{type(self).__name__}.relative_error", self.to_dense().weight
        structured.check_conv(op, conv)
        if conv.weight.shape != found.shape:
            must, got = tuple(found.shape), tuple(conv.weight.shape)
            raise ValueError(f"{op}: the weight of conv must be {must} as this layer's, got {got}")
        with torch.no_grad():
            wanted = conv.weight.double()
            return float((found.double() - wanted).norm() / (wanted.norm() or 1))

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, branches={self.branches}, {self._layer_repr()}"


class BranchConv2d(_Convolution):
    """One convolution of every branch, of images that are and stay in branches: eq. (26), (27).

    x (N, Q', I, H, W) -> y (N, Q', O, H', W'). Between `ToBranches2d` and `FromBranches2d`: because activation and
    pooling act in the spectral domain, the transforms between the layers of a network cancel, and it needs two.

    Args:
        in_channels: I, of one branch. out_channels: O, of one branch. branches: Q'.
        The others as of `SpectralConv2d`.

    Parameters: weight (Q', O, I, kh, kw), bias (Q', O), zero at first; initial values as of `SpectralConv2d`.
    Raises: ValueError for sizes, names and padding_mode; TypeError for types.
    Accuracy, gradient: those of `torch.ops.spectral.branch_conv2d`.
    Source: Liu et al., Highly Parallel Deep Ensemble Learning, eq. (26), (27).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size | str = 0,
        dilation: Size = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        branches: int,
        activation: str = "none",
    ) -> None:
        name = type(self).__name__
        for label, size in (("in_channels", in_channels), ("out_channels", out_channels), ("branches", branches)):
            arguments.size(name, label, size)
        super().__init__(
            branches, in_channels, out_channels,
            kernel_size, stride, padding, dilation, padding_mode, bias, activation, device, dtype,
        )  # fmt: skip
        self.in_channels, self.out_channels, self.branches = in_channels, out_channels, branches

    def forward(self, x: Tensor) -> Tensor:
        """(N, Q', I, H, W) -> (N, Q', O, H', W')."""
        x, geometry = self._padded(x)
        return torch.ops.spectral.branch_conv2d(x, self.weight, self.bias, self.activation, *geometry)

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, branches={self.branches}, {self._layer_repr()}"
