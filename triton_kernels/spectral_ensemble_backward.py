"""spectral_ensemble_backward on the GPU: the gradients' kernel, which starts from the mixture's gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from . import layers, network_gradients, networks
from .launch import Launch


def why_not(grad_y: Tensor, x: Tensor, transform: Tensor | None, weights: Sequence[Tensor], *_: Any) -> str | None:
    return networks.why_not(x, transform, weights)


def note(
    grad_y: Tensor, x: Tensor, transform: Tensor | None, weights: Sequence[Tensor], *_: Any, is_complex: bool
) -> str | None:
    return networks.layer_by_layer("network_gradients", weights, is_complex)


def plan(args: list[Any], out: tuple[Any, ...], arch: int) -> list[Launch]:
    (grad, x, transform, *network, shares, space, want), (grad_x, grad_weights, grad_biases, grad_shares) = args, out
    net = networks.Network(*network)
    branches, head = layers.transformed(x, transform, net, arch)
    return head + network_gradients.plan(
        branches, net, arch, grad_x if want else None, grad_weights, grad_biases,
        grad=grad, shares=shares, space=space, grad_shares=grad_shares,
    )  # fmt: skip
