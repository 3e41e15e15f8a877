"""A whole network in branches: stride, "same", dilation and pooling between two transforms, in either memory order."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spectral_ops.nn import BranchConv2d, FromBranches2d, SpectralConv2d, SpectralPool, ToBranches2d
from spectral_ops.transforms import DCT, DFT, Transform

D = torch.float64
formats = pytest.mark.parametrize(
    "layout", [torch.contiguous_format, torch.channels_last], ids=["NCHW", "channels_last"]
)


def pair(transform: Transform, activation: str, dtype: torch.dtype) -> tuple[nn.Sequential, nn.Sequential]:
    """The network that stays in its branches, and the one that transforms in every layer, with the same weights."""
    torch.manual_seed(0)
    q, p = transform.length, transform.branches
    shapes: list[tuple[int, int, dict[str, Any]]] = [
        (2, 3, {"kernel_size": 3, "padding": "same", "dilation": 2}),
        (3, 2, {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 0)}),
    ]
    stays: list[nn.Module] = [ToBranches2d(q, transform)]
    literal: list[nn.Module] = []
    for i, o, geometry in shapes:
        one = BranchConv2d(
            i, o, **geometry, branches=p, activation=activation, is_complex=not transform.is_real, dtype=dtype
        )
        other = SpectralConv2d(
            q * i, q * o, **geometry, branches=q, transform=transform, activation=activation, dtype=dtype
        )
        one.bias.data.normal_()
        other.weight, other.bias = one.weight, one.bias
        stays += [one, SpectralPool(2, 1)]
        literal += [other, SpectralPool(2, 1, branches=q, transform=transform)]
    return nn.Sequential(*stays, FromBranches2d(q, transform)), nn.Sequential(*literal)


@formats
@pytest.mark.parametrize(
    ("transform", "activation"), [(DCT(4), "relu"), (DFT(5, real=True), "cardioid"), (DFT(4, real=True), "none")]
)
def test_the_transforms_between_layers_cancel(transform: Transform, activation: str, layout: Any) -> None:
    """Values and gradients (eq. 24-27), and the memory order is that of the images after every layer."""
    stays, literal = pair(transform, activation, D)
    if not transform.is_real:  # branches of real data: the numbers of frequency 0, and Q/2, are real
        keep = torch.ones(transform.branches, dtype=D)
        for k in {0, transform.length // 2} if transform.length % 2 == 0 else {0}:
            keep[k] = 0
        for parameter in stays.parameters():
            parameter.data[..., 1] *= keep.view(-1, *[1] * (parameter.dim() - 2))
    x = torch.randn(3, transform.length * 2, 9, 10, dtype=D).contiguous(memory_format=layout).requires_grad_()
    found = []
    for net in (stays, literal):
        h = x
        for layer in net:
            h = layer(h)
            image = h.flatten(1, 2) if h.dim() == 5 else h
            assert image.is_contiguous(memory_format=layout), layer
        found.append((h, *torch.autograd.grad(h.square().sum(), [x, *stays.parameters()])))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@formats
def test_in_bfloat16(layout: Any) -> None:
    """Trained as it is, and under autocast: near float64, with gradients to every parameter."""
    exact, _ = pair(DCT(4), "relu", D)
    x = torch.randn(3, 8, 9, 10, dtype=D).contiguous(memory_format=layout)
    wanted = exact(x)
    for dtype, autocast in ((torch.bfloat16, False), (torch.float32, True)):
        net, _ = pair(DCT(4), "relu", dtype)
        net.load_state_dict(exact.state_dict())
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            y: Tensor = net(x.to(dtype))
        assert y.is_contiguous(memory_format=layout)
        assert (y.double() - wanted).norm() <= 0.03 * wanted.norm()
        y.float().square().sum().backward()
        for parameter in net.parameters():
            assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any()
