"""spectral_ensemble on the GPU: the network's kernel, which mixes the branches of a group; then the groups' sum."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from . import layers, networks
from .launch import Launch
from .networks import note, why_not

__all__ = ["note", "plan", "why_not"]


def plan(args: list[Any], out: Tensor, arch: int) -> list[Launch]:
    x, transform, *network, shares, space = args
    return layers.forward(x, transform, networks.Network(*network), arch, shares=shares, space=space, mixture=out)
