"""Generated convolutions: a generator (CSG) shared by CSGConv2d layers, and one generation for a whole model."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..ops.activations import apply
from ..ops.branch_conv2d import layout_of
from ..ops.csg_kernels import LAYOUTS, grid
from . import arguments
from .geometry import Size, Windowed


class CSG(nn.Module):
    """The generator of filters: a slice (F, K, h, w) of a filter is `generator @ code`, reshaped (eq. 1).

    One CSG is shared by the `CSGConv2d` layers of a model, each of which registers it: `parameters()` gives its
    generator once, `state_dict()` under each layer's name.

    Args:
        slice_shape: F, K, h, w. code_size: n_c.
        binary: the generator is fixed signs (-1, +1) of a normal draw, kept as int8 (BCSG).
        trainable: False: the generator is a buffer, not a parameter (pre-trained, or random).
        layout: how slices make a filter: "block", or "flat" as in the published checkpoints.
        hidden: None: linear, as in the paper. A width: codes first pass through a layer of their own,
            activation(code encoder^T), and the generator has `hidden` columns.
        activation: of that layer: relu, gelu, silu, tanh or sigmoid.

    Parameters: generator (F K h w, n_c or hidden), normal with variance 1 / columns; encoder (hidden, n_c) or None.
    Raises: ValueError for sizes and names, TypeError for types.
    Source: Omidvar et al., Associative Convolutional Layers, sections 3.1 and 5 (the non-linear generator).
    """

    encoder: nn.Parameter | None
    generator: Tensor

    def __init__(
        self,
        slice_shape: Sequence[int] = (16, 16, 3, 3),
        code_size: int = 128,
        binary: bool = False,
        trainable: bool = True,
        layout: str = "block",
        hidden: int | None = None,
        activation: str = "relu",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if len(slice_shape) != 4:
            raise ValueError(f"{name}: slice_shape must be four ints (F, K, h, w), got {tuple(slice_shape)}")
        self.slice_shape = tuple(arguments.size(name, "each size of slice_shape", size) for size in slice_shape)
        self.code_size = arguments.size(name, "code_size", code_size)
        if layout not in LAYOUTS:
            raise ValueError(f"{name}: layout must be one of {', '.join(LAYOUTS)}, got {layout!r}")
        self.layout, self.binary = layout, binary
        self.activation = arguments.activation(name, activation)
        columns = code_size if hidden is None else arguments.size(name, "hidden", hidden)
        values = torch.empty(math.prod(self.slice_shape), columns, device=device, dtype=dtype)
        encoder = None if hidden is None else nn.Parameter(torch.empty(hidden, code_size, device=device, dtype=dtype))
        self.register_parameter("encoder", encoder)
        if binary:
            self.register_buffer("generator", values.to(torch.int8))
        elif trainable:
            self.generator = nn.Parameter(values)
        else:
            self.register_buffer("generator", values)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """New random values."""
        with torch.no_grad():
            if self.binary:
                normal = torch.randn(self.generator.shape, device=self.generator.device)
                self.generator.copy_(torch.where(normal < 0, -1, 1))
            else:
                self.generator.normal_(std=self.generator.shape[1] ** -0.5)
            if self.encoder is not None:
                arguments.fill(self.encoder, self.code_size, self.activation)

    def code_std(self, variance: float) -> float:
        """The standard deviation of codes whose filters have this variance."""
        if self.generator.is_meta:
            return 0.0
        power = float(self.generator.detach().double().square().mean())
        return math.sqrt(variance / (self.generator.shape[1] * power)) if power else 0.0

    def features(self, codes: Tensor) -> Tensor:
        """What the generator multiplies: the codes, or what the hidden layer makes of them."""
        if self.encoder is None:
            return codes
        return apply(self.activation, functional.linear(codes, self.encoder))

    def slices(self, kernel_shape: Sequence[int]) -> int:
        """How many codes a filter (O, I, kh, kw) takes."""
        return math.prod(grid(kernel_shape, self.slice_shape))

    def kernels(self, codes: Sequence[Tensor], shapes: Sequence[Sequence[int]], channels_last: bool) -> list[Tensor]:
        """The filters of many layers, by one product."""
        features = self.features(torch.cat(list(codes)) if len(codes) > 1 else codes[0])
        flat = [size for shape in shapes for size in shape]
        step = list(self.slice_shape)
        return torch.ops.spectral.csg_kernels(features, self.generator, flat, step, self.layout, channels_last)

    def save(self, path: str | Path) -> None:
        """Write the generator to a safetensors file, for `load`."""
        from safetensors.torch import save_file

        facts = {"slice_shape": ",".join(map(str, self.slice_shape)), "layout": self.layout}
        facts["activation"] = self.activation
        save_file({name: t.contiguous() for name, t in self.state_dict().items()}, path, facts)

    @classmethod
    def load(cls, path: str | Path, trainable: bool = False) -> CSG:
        """A generator from a file of `save`, fixed unless trainable: the pre-trained CSG of section 4.3.

        Raises: ValueError for a file that `save` did not write.
        """
        from safetensors import safe_open

        with safe_open(path, "pt") as file:
            facts, tensors = file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}
        if "slice_shape" not in facts or "generator" not in tensors:
            raise ValueError(f"{cls.__name__}.load: path must be a file of CSG.save, got {path}")
        generator, encoder = tensors["generator"], tensors.get("encoder")
        binary = generator.dtype == torch.int8
        csg = cls(
            [int(size) for size in facts["slice_shape"].split(",")],
            generator.shape[1] if encoder is None else encoder.shape[1], binary, trainable, facts["layout"],
            None if encoder is None else encoder.shape[0], facts["activation"],
            dtype=None if binary else generator.dtype,
        )  # fmt: skip
        csg.load_state_dict(tensors)
        return csg

    def extra_repr(self) -> str:
        kind = "binary" if self.binary else "trainable" if isinstance(self.generator, nn.Parameter) else "fixed"
        hidden = "" if self.encoder is None else f", hidden={self.encoder.shape[0]}, activation={self.activation!r}"
        return f"{list(self.slice_shape)}, {self.code_size}, {kind}, layout={self.layout!r}{hidden}"


class CSGConv2d(Windowed):
    """A convolution whose filter is generated from codes by a shared `CSG`: in the place of torch.nn.Conv2d.

    x (N, C, H, W) -> y (N, O, H', W'), in x's memory format.

    Args:
        in_channels: C. out_channels: O. kernel_size, stride, padding (ints, "same", "valid"), dilation, groups, bias,
            padding_mode: as of torch.nn.Conv2d.
        csg: the generator.

    Parameters:
        codes (S, n_c) with S = ceil(O/F) ceil(C/groups/K) ceil(kh/h) ceil(kw/w), normal, so that the filter has the
        variance of a new torch.nn.Conv2d's; bias (O,) or None; those of `csg`.
    Raises: ValueError for sizes, groups and padding_mode; TypeError for types.
    Accuracy, gradient: those of `torch.ops.spectral.csg_conv2d`.
    Source: Omidvar et al., Associative Convolutional Layers, section 3.

    >>> layer = CSGConv2d(16, 32, 3, padding=1, csg=CSG((16, 16, 3, 3), 128))
    >>> layer(torch.rand(2, 16, 32, 32)).shape
    torch.Size([2, 32, 32, 32])
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
        csg: CSG,
    ) -> None:
        super().__init__(kernel_size, stride, padding, dilation, padding_mode)
        name = type(self).__name__
        self._divide(in_channels, out_channels, groups)
        if not isinstance(csg, CSG):
            raise TypeError(f"{name}: csg must be a spectral_ops.nn.CSG, got {type(csg).__name__}")
        self.csg = csg
        self.kernel_shape = (out_channels, in_channels // groups, *self.kernel_size)
        like = {"device": device, "dtype": dtype}
        self.codes = nn.Parameter(torch.empty(csg.slices(self.kernel_shape), csg.code_size, **like))
        self.register_parameter("bias", nn.Parameter(torch.empty(out_channels, **like)) if bias else None)
        self._filter: Tensor | None = None  # that of the running forward pass, inside csg_scope
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """New random codes and bias, with the variances that torch.nn.Conv2d gives filter and bias."""
        fan_in = math.prod(self.kernel_shape[1:])
        nn.init.normal_(self.codes, std=self.csg.code_std(1 / (3 * fan_in)))
        if self.bias is not None:
            nn.init.uniform_(self.bias, -(fan_in**-0.5), fan_in**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, O, H', W')."""
        x, geometry = self._padded(x)
        if self._filter is not None:
            return functional.conv2d(x, self._filter, self.bias, *geometry, self.groups)
        features, shapes = self.csg.features(self.codes), (list(self.kernel_shape), list(self.csg.slice_shape))
        return torch.ops.spectral.csg_conv2d(
            x, features, self.csg.generator, *shapes, self.bias, *geometry, self.csg.layout, self.groups
        )

    def weight(self, channels_last: bool = False) -> Tensor:
        """The filter (O, C / groups, kh, kw), differentiable."""
        return self.csg.kernels([self.codes], [self.kernel_shape], channels_last)[0]

    def to_dense(self) -> nn.Conv2d:
        """The torch.nn.Conv2d with this filter and bias."""
        dense = nn.Conv2d(
            self.in_channels, self.out_channels, self.kernel_size, self.stride, self.padding, self.dilation,
            self.groups, self.bias is not None, device="meta",
        )  # fmt: skip
        with torch.no_grad():
            dense.weight = nn.Parameter(self.weight(), requires_grad=self.codes.requires_grad)
            if self.bias is not None:
                dense.bias = nn.Parameter(self.bias.clone(), requires_grad=self.bias.requires_grad)
        return dense.train(self.training)

    def extra_repr(self) -> str:
        groups = f", groups={self.groups}" if self.groups > 1 else ""
        channels = f"{self.in_channels}, {self.out_channels}"
        return f"{channels}, {self._geometry_repr()}{groups}, bias={self.bias is not None}, slices={len(self.codes)}"


class csg_scope:
    """From now on, each call of `model` generates the filters of all its CSGConv2d layers at once, by one product.

    The results are those of the model without it; the time is that of a model with plain convolutions plus one
    product. Filters live from the start of a forward pass to its end (in training autograd keeps them to the backward
    pass). They are made in channels_last where the model's input is, or a convolution's weight.

    `remove()`, or leaving `with csg_scope(model):`, ends it. Copies of the model that are made meanwhile stay in it.
    """

    def __init__(self, model: nn.Module) -> None:
        before = model.register_forward_pre_hook(_generate)
        self._handles = (before, model.register_forward_hook(_forget, always_call=True))

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()

    def __enter__(self) -> csg_scope:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()


def _layers(model: nn.Module) -> list[CSGConv2d]:
    """The generated convolutions in it, each once; `modules()` makes names too, and takes four times as long."""
    found, waiting = dict[CSGConv2d, None](), [model]
    while waiting:
        module = waiting.pop()
        if isinstance(module, CSGConv2d):
            found[module] = None
        else:
            waiting += [child for child in module._modules.values() if child is not None]
    return list(found)


def _generate(model: nn.Module, args: tuple[Any, ...]) -> None:
    groups: dict[CSG, list[CSGConv2d]] = {}
    for layer in _layers(model):
        groups.setdefault(layer.csg, []).append(layer)
    # lazily: the first weight of a model in channels_last tells
    images = (x for x in itertools.chain(args, model.parameters()) if isinstance(x, Tensor) and x.dim() == 4)
    channels_last = any(layout_of(t) is torch.channels_last for t in images)
    for csg, users in groups.items():
        filters = csg.kernels([m.codes for m in users], [m.kernel_shape for m in users], channels_last)
        for layer, filter in zip(users, filters, strict=True):
            layer.__dict__["_filter"] = filter  # past Module.__setattr__, which looks for parameters


def _forget(model: nn.Module, args: Any, results: Any) -> None:
    for layer in _layers(model):
        layer.__dict__["_filter"] = None


def bake(model: nn.Module) -> nn.Module:
    """A copy of `model` with a torch.nn.Conv2d in the place of each CSGConv2d, to deploy without generators."""
    model = copy.deepcopy(model)
    for hooks in (model._forward_pre_hooks, model._forward_hooks):
        for key in [key for key, hook in hooks.items() if hook in (_generate, _forget)]:
            del hooks[key]
    made: dict[int, nn.Conv2d] = {}
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if isinstance(module, CSGConv2d):
            dense = made.setdefault(id(module), module.to_dense())
            if not name:
                return dense
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, dense)
    return model
