"""Convolutions: SpectralConv2d in the place of torch.nn.Conv2d, BranchConv2d for images that stay in branches."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..ops.activations import together
from ..ops.branch_conv2d import layout_of
from ..ops.spectral_conv2d import folded, real_part, through_channels
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
        is_complex: bool,
        complex_weights: bool,
        rank: int | None,
    ) -> None:
        super().__init__(kernel_size, stride, padding, dilation, padding_mode)
        name = type(self).__name__
        self.is_complex, self.complex_weights = is_complex, complex_weights
        self.activation = arguments.activation(name, activation, is_complex)
        self.rank = None if rank is None else arguments.size(name, "rank", rank)
        pair = [2] if complex_weights else []

        def parameter(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(branches, *shape, *pair, device=device, dtype=dtype))

        if self.rank is None:
            self.weight = parameter(out_channels, in_channels, *self.kernel_size)
        else:
            self.weight_in = parameter(self.rank, in_channels, *self.kernel_size)
            self.weight_out = parameter(out_channels, self.rank)
        self.register_parameter("bias", parameter(out_channels) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """New random weights that keep the variance of the features; zero bias."""
        first = self.weight if self.rank is None else self.weight_in
        fan_in = first.shape[2] * self.kernel_size[0] * self.kernel_size[1]
        if self.rank is None:
            arguments.fill(first, fan_in, self.activation, self.complex_weights)
        else:
            arguments.fill(first, fan_in, "none", self.complex_weights)
            arguments.fill(self.weight_out, self.rank, self.activation, self.complex_weights)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def _numbers(self, parameter: Tensor) -> Tensor:
        """A parameter as the ops take it."""
        return arguments.as_complex(type(self).__name__, parameter) if self.complex_weights else parameter

    def _convolved(self, x: Tensor, geometry: list[list[int]]) -> Tensor:
        """x (N, Q', I, H, W) through the convolution of every branch."""
        op, bias = torch.ops.spectral.branch_conv2d, None if self.bias is None else self._numbers(self.bias)
        if self.rank is None:
            return op(x, self._numbers(self.weight), bias, self.activation, *geometry)
        h = op(x, self._numbers(self.weight_in), None, "none", *geometry)
        return op(h, self._numbers(self.weight_out)[..., None, None], bias, self.activation)

    def _layer_repr(self) -> str:
        rank = "" if self.rank is None else f", rank={self.rank}"
        kind = f", complex_weights={self.complex_weights}" if self.is_complex else ""
        return f"{self._geometry_repr()}, bias={self.bias is not None}, activation={self.activation!r}{rank}{kind}"


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
        activation: in the spectral domain: none, relu, gelu, silu, tanh or sigmoid; of complex branches none, crelu,
            modrelu, modrelu:B, zrelu or cardioid.
        complex_weights: whether weight and bias are complex; default: where the transform is. The branches are complex
            where either is, and then y is, but under half a spectrum (`transform.is_half`), whose real part it is.
        rank: R: the matrices (O/Q, C/Q kh kw) of w have that rank, as a convolution to R channels in each branch and
            a product with (O/Q, R) at each pixel. None: full.

    Parameters:
        weight (Q', O/Q, C/Q, kh, kw), bias (Q', O/Q), in the spectral domain and zero at first. Complex ones are kept
        as pairs of real numbers, (..., 2). The weights start uniform, with He's variance for a branch's own fan-in.
        With a rank instead of weight weight_in (Q', R, C/Q, kh, kw) and weight_out (Q', O/Q, R).

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
        complex_weights: bool | None = None,
        rank: int | None = None,
    ) -> None:
        name = type(self).__name__
        arguments.size(name, "branches", branches)
        transform = arguments.transform(name, transform, branches)
        complex_weights = arguments.complex_weights(name, complex_weights, transform, dtype)
        for label, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            if arguments.size(name, label, channels) % branches:
                raise ValueError(f"{name}: branches must divide {label}, {channels}, got {branches}")
        if groups != 1:
            raise ValueError(f"{name}: groups must be 1, got {groups}")
        super().__init__(
            transform.branches, in_channels // branches, out_channels // branches,
            kernel_size, stride, padding, dilation, padding_mode, bias, activation, device, dtype,
            complex_weights or not transform.is_real, complex_weights, rank,
        )  # fmt: skip
        self.in_channels, self.out_channels, self.groups, self.branches = in_channels, out_channels, 1, branches
        self.transform = transform

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, O, H', W')."""
        x, geometry = self._padded(x)
        matrix, inverse = self.transform.matrix_as(x), self.transform.inverse_as(x)
        if self.rank is not None:
            branches = through_channels(x, matrix).unflatten(1, (self.transform.branches, -1))
            h = self._convolved(branches, geometry).flatten(1, 2)
            return through_channels(h, inverse, self.transform.is_half).contiguous(memory_format=layout_of(x))
        weight, bias = self._numbers(self.weight), None if self.bias is None else self._numbers(self.bias)
        y = torch.ops.spectral.spectral_conv2d(x, matrix, weight, bias, self.activation, inverse, *geometry)
        # of one or two branches the op cannot tell half a spectrum from the whole one
        return real_part(y) if y.is_complex() and self.transform.is_half else y

    def operations(self, pixels: int, in_pixels: int | None = None) -> int:
        """Multiply-adds of real numbers for a real image: the convolution at `pixels` places, and the transforms.

        in_pixels: of the input, at each of which a matrix transforms; default as many.
        """
        p = self.transform.branches
        ahead, back = arguments.transform_costs(self.transform, self.is_complex)
        before = ahead * p * self.in_channels * (pixels if in_pixels is None else in_pixels)
        weights = [self.weight] if self.rank is None else [self.weight_in, self.weight_out]
        products = sum(w.numel() for w in weights) * (2 if self.is_complex else 1)
        return before + (products + back * p * self.out_channels) * pixels

    @classmethod
    def from_dense(
        cls, conv: nn.Conv2d, branches: int, transform: Transform | None = None, rank: int | None = None
    ) -> SpectralConv2d:
        """The layer without activation whose weight is nearest to that of a dense convolution, in the Frobenius norm.

        At each place of the window W[q O/Q + o, p C/Q + i] is fitted by sum_k inverse[q, k] matrix[k, p] w_k[o, i];
        under an orthogonal transform w_k is block (k, k) of W transformed on both sides. Geometry and bias are exact.

        Args:
            conv: without groups, padded with zeros, real. branches: Q. transform: of length Q, default DCT(Q); not
                copied. Under a complex one weights are complex; under half a spectrum results stay real.
            rank: at most min(O/Q, C/Q kh kw), or None: full. Each w_k, as a matrix (O/Q, C/Q kh kw), is replaced by its
                best approximation.

        Returns: a layer C -> O of conv's dtype and device. `relative_error(conv)` says how far away it is.
        Raises: ValueError where Q does not divide the channels, for groups, padding_mode and a transform of another
            length; for the rank; TypeError for the wrong type.
        Accuracy: computed in float64, rounded once.
        """
        op = f"{cls.__name__}.from_dense"
        transform = arguments.transform(op, transform, arguments.size(op, "branches", branches))
        structured.check_conv(op, conv)
        for label, channels in (("in_channels", conv.in_channels), ("out_channels", conv.out_channels)):
            if channels % branches:
                raise ValueError(f"{op}: branches must divide the {label} of conv, {channels}, got {branches}")
        most = min(conv.out_channels // branches, conv.weight[0].numel() // branches)
        if rank is not None:
            structured.check_rank(op, arguments.size(op, "rank", rank), most, "min(O/Q, C/Q kh kw)")
        dtype = conv.weight.dtype
        layer = cls(
            conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding, conv.dilation,
            bias=conv.bias is not None, device="meta", dtype=dtype, branches=branches, transform=transform, rank=rank,
        )  # fmt: skip
        with torch.no_grad():
            dense = conv.weight.double()
            blocks = structured.window_blocks_of(dense, transform)
            if rank is None:
                layer.weight = structured.parameter(blocks, dtype)
            else:
                inner, outer = structured.low_rank(blocks.flatten(2), rank)
                layer.weight_in = structured.parameter(inner.unflatten(2, blocks.shape[2:]), dtype)
                layer.weight_out = structured.parameter(outer, dtype)
            if conv.bias is not None:
                matrix = transform.matrix_as(dense)
                layer.bias = structured.parameter(
                    matrix @ conv.bias.double().view(branches, -1).to(matrix.dtype), dtype
                )
        return layer

    def to_dense(self) -> nn.Conv2d:
        """The dense convolution equal to this layer: W[:, :, y, x] is block circulant where the transform is a DFT.

        Returns: torch.nn.Conv2d(C, O) of the parameters' dtype and device, computed in float64 and rounded once;
            complex, and for complex x, where the results of this layer are complex.
        Raises: ValueError with an activation.
        """
        structured.check_none(f"{type(self).__name__}.to_dense", self.activation)
        dense = nn.Conv2d(
            self.in_channels, self.out_channels, self.kernel_size, self.stride, self.padding, self.dilation,
            bias=self.bias is not None, device="meta",
        )  # fmt: skip
        with torch.no_grad():
            weight, dtype = self._exact_weight(), next(self.parameters()).dtype
            matrices = self.transform.matrix_as(weight), self.transform.inverse_as(weight)
            matrix, weight, inverse = together(matrices[0], weight, matrices[1])
            window = folded(matrix, weight, inverse)
            dense.weight = structured.rounded(window.real if self.transform.is_half else window, dtype)
            if self.bias is not None:
                tubes = structured.tubes_of(structured.exact(self.bias, self.complex_weights), self.transform)
                dense.bias = structured.rounded(tubes.flatten(), dtype)
        return dense

    def _exact_weight(self) -> Tensor:
        """w (Q', O/Q, C/Q, kh, kw) in float64 or complex128."""
        if self.rank is None:
            return structured.exact(self.weight, self.complex_weights)
        inner, outer = (structured.exact(w, self.complex_weights) for w in (self.weight_in, self.weight_out))
        return (outer @ inner.flatten(2)).unflatten(2, inner.shape[2:])

    def relative_error(self, conv: nn.Conv2d) -> float:
        """||D - W||_F / ||W||_F, of this layer's dense weight D (`to_dense`) from a convolution's W; of W = 0, ||D||_F.

        Raises: as `to_dense`; ValueError for a weight of another shape, TypeError for anything but a Conv2d.
        """
        op, found = f"{type(self).__name__}.relative_error", self.to_dense().weight
        structured.check_conv(op, conv)
        if conv.weight.shape != found.shape:
            must, got = tuple(found.shape), tuple(conv.weight.shape)
            raise ValueError(f"{op}: the weight of conv must be {must} as this layer's, got {got}")
        return structured.distance(found, conv.weight)

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, branches={self.branches}, {self._layer_repr()}"


class BranchConv2d(_Convolution):
    """One convolution of every branch, of images that are and stay in branches: eq. (26), (27).

    x (N, Q', I, H, W) -> y (N, Q', O, H', W'). Between `ToBranches2d` and `FromBranches2d`: because activation and
    pooling act in the spectral domain, the transforms between the layers of a network cancel, and it needs two.

    Args:
        in_channels: I, of one branch. out_channels: O, of one branch. branches: Q'.
        is_complex: whether the branches are complex. complex_weights: default: where they are. rank: R, or None: full.
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
        is_complex: bool = False,
        complex_weights: bool | None = None,
        rank: int | None = None,
    ) -> None:
        name = type(self).__name__
        complex_weights = arguments.complex_branches(name, is_complex, complex_weights, dtype)
        for label, size in (("in_channels", in_channels), ("out_channels", out_channels), ("branches", branches)):
            arguments.size(name, label, size)
        super().__init__(
            branches, in_channels, out_channels,
            kernel_size, stride, padding, dilation, padding_mode, bias, activation, device, dtype,
            is_complex, complex_weights, rank,
        )  # fmt: skip
        self.in_channels, self.out_channels, self.branches = in_channels, out_channels, branches

    def forward(self, x: Tensor) -> Tensor:
        """(N, Q', I, H, W) -> (N, Q', O, H', W')."""
        x, geometry = self._padded(x)
        return self._convolved(x, geometry)

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, branches={self.branches}, {self._layer_repr()}"
