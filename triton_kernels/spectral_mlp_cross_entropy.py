"""spectral_mlp_cross_entropy on the GPU: the network's kernel, which also adds each tile's losses up."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from . import layers, networks
from .launch import Launch
from .networks import note, why_not

__all__ = ["note", "plan", "why_not"]


def plan(args: list[Any], out: tuple[Tensor, Tensor], arch: int) -> list[Launch]:
    (x, transform, *network, target), (losses, logits) = args, out
    return layers.forward(x, transform, networks.Network(*network), arch, logits=logits, target=target, losses=losses)
