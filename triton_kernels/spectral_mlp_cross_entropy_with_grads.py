"""spectral_mlp_cross_entropy_with_grads on the GPU: the gradients' kernel, which starts from its own softmax.

What it multiplies is softmax minus target, and 1 / N comes at the end: in float16 it would underflow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from . import layers, network_gradients, networks
from .launch import Launch


def why_not(x: Tensor, transform: Tensor | None, weights: Sequence[Tensor], *_: Any) -> str | None:
    return networks.why_not(x, transform, weights)


def note(x: Tensor, transform: Tensor | None, weights: Sequence[Tensor], *_: Any, is_complex: bool) -> str | None:
    return networks.layer_by_layer("network_gradients", weights, is_complex)


def plan(args: list[Any], out: tuple[Any, ...], arch: int) -> list[Launch]:
    (x, transform, *network, target, want), (losses, logits, grad_x, grad_weights, grad_biases) = args, out
    net = networks.Network(*network)
    branches, head = layers.transformed(x, transform, net, arch)
    return head + network_gradients.plan(
        branches, net, arch, grad_x if want else None, grad_weights, grad_biases,
        target=target, losses=losses, logits=logits,
    )  # fmt: skip
