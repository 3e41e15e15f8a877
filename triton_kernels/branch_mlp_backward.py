"""branch_mlp_backward on the GPU: forward again, back, and the sum of the parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from . import network_gradients, networks
from .launch import Launch


def why_not(grad_y: Tensor, x: Tensor, weights: Sequence[Tensor], *_: Any) -> str | None:
    return networks.why_not(x, None, weights)


def note(grad_y: Tensor, x: Tensor, weights: Sequence[Tensor], *_: Any, is_complex: bool) -> str | None:
    return networks.layer_by_layer("network_gradients", weights, is_complex)


def plan(args: list[Any], out: tuple[Tensor, list[Tensor], list[Tensor]], arch: int) -> list[Launch]:
    (grad, x, *layers, want), (grad_x, grad_weights, grad_biases) = args, out
    net = networks.Network(*layers)
    return network_gradients.plan(x, net, arch, grad_x if want else None, grad_weights, grad_biases, grad=grad)
