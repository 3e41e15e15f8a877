"""What CSG is compared with (paper 2, Table 4): separable filters, group convolutions, hypernetworks, in any network.

Each function gives a copy of a network whose selected convolutions are replaced; `crelu.py` has the fourth method,
whose networks are others.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..compress.layers import put

Select = Callable[[str, nn.Conv2d], bool]


def _replaced(model: nn.Module, select: Select, make: Callable[[nn.Conv2d], nn.Module]) -> nn.Module:
    model = copy.deepcopy(model)
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Conv2d) and select(name, module):
            model = put(model, name, make(module))
    return model


def separable(model: nn.Module, select: Select, bias: bool = False) -> nn.Module:
    """One window a channel, then a 1 x 1 convolution (Jaderberg et al. 2014), which has the stride."""

    def make(conv: nn.Conv2d) -> nn.Module:
        i, o, padding = conv.in_channels, conv.out_channels, conv.kernel_size[0] // 2
        each = nn.Conv2d(i, i, conv.kernel_size, padding=padding, groups=i, bias=bias)  # type: ignore[arg-type]
        return nn.Sequential(each, nn.Conv2d(i, o, 1, conv.stride, bias=bias))  # type: ignore[arg-type]

    return _replaced(model, select, make)


class P4Conv2d(nn.Module):
    """A convolution of functions on the group p4 of translations and quarter turns (Cohen and Welling 2016).

    x (N, 4 I, H, W), channel 4 i + s being the turn s of feature i, -> y (N, 4 O, H', W'). The filter of turn r is the
    weight turned by r quarters, with its turns s moved on by r: turning x by 90 degrees turns y and moves its turns on.

    Parameters: weight (O, I, 4, k, k), bias (O,).
    """

    def __init__(
        self, in_features: int, out_features: int, kernel_size: int, stride: int = 1, padding: int = 0
    ) -> None:
        super().__init__()
        self.stride, self.padding = stride, padding
        self.weight = nn.Parameter(torch.empty(out_features, in_features, 4, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_features))
        nn.init.kaiming_normal_(self.weight.flatten(1, 2), mode="fan_in", nonlinearity="relu")

    def filter(self) -> Tensor:
        """(4 O, 4 I, k, k)."""
        turned = [self.weight.rot90(r, (3, 4)).roll(r, 2) for r in range(4)]
        return torch.stack(turned, 1).flatten(2, 3).flatten(0, 1)

    def forward(self, x: Tensor) -> Tensor:
        bias = self.bias.repeat_interleave(4)
        return functional.conv2d(x, self.filter(), bias, self.stride, self.padding)


def group_equivariant(model: nn.Module, select: Select) -> nn.Module:
    """Quarter turns of a quarter of the filters. The first convolution stays plain, as in the authors' network."""

    def make(conv: nn.Conv2d) -> nn.Module:
        padding = conv.kernel_size[0] // 2
        return P4Conv2d(conv.in_channels // 4, conv.out_channels // 4, conv.kernel_size[0], conv.stride[0], padding)

    return _replaced(model, select, make)


class HyperNetwork(nn.Module):
    """Slices (16, 16, 3, 3) of filters from vectors z by two linear layers with biases (Ha et al. 2017)."""

    slice_shape = (16, 16, 3, 3)

    def __init__(self, size: int = 64) -> None:
        super().__init__()
        self.hidden = nn.Linear(size, size)
        self.out = nn.Linear(size, 16 * 16 * 9)

    def forward(self, z: Tensor, shape: tuple[int, ...]) -> Tensor:
        """The filter (O, I, 3, 3) made of the slices of z (S, size): `csg_kernel`, the bias as one code more of 1."""
        h = self.hidden(z)
        generator = torch.cat((self.out.weight, self.out.bias[:, None]), 1)
        codes = torch.cat((h, torch.ones_like(h[:, :1])), 1)
        return torch.ops.spectral.csg_kernel(codes, generator, list(shape), list(self.slice_shape))


class HyperConv2d(nn.Module):
    """A convolution whose filter comes from a hypernetwork."""

    def __init__(self, conv: nn.Conv2d, network: HyperNetwork) -> None:
        super().__init__()
        self.shape, self.stride, self.padding = tuple(conv.weight.shape), conv.stride, conv.padding
        slices = -(-self.shape[0] // 16) * -(-self.shape[1] // 16)
        self.network = network
        self.z = nn.Parameter(0.1 * torch.randn(slices, network.hidden.in_features))

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(x, self.network(self.z, self.shape), None, self.stride, self.padding)  # type: ignore[arg-type]


def hypernetwork(model: nn.Module, select: Select, size: int = 64) -> nn.Module:
    """One hypernetwork for all selected 3 x 3 convolutions."""
    network = HyperNetwork(size)
    return _replaced(model, select, lambda conv: HyperConv2d(conv, network))
