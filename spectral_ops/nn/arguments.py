"""Checks and initial values that the layers share; messages name the layer, the argument, what it must be and is."""

from __future__ import annotations

import math

from torch import Tensor, nn

from ..ops import checks
from ..transforms import DCT, Transform

# E[act(z)^2] is about 1 / gain^2 for a standard normal z (He et al. 2015 for relu; torch.nn.init.calculate_gain for the
# rest). gelu and silu are close enough to relu that its gain keeps eight layers within a factor of two.
_GAINS = {"relu": math.sqrt(2), "gelu": math.sqrt(2), "silu": math.sqrt(2), "tanh": 5 / 3}


def size(layer: str, name: str, value: int) -> int:
    """`value`, or the error that says why it is no size: TypeError for a non-integer, ValueError below 1."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{layer}: {name} must be an int, got {value!r}")
    if value < 1:
        raise ValueError(f"{layer}: {name} must be at least 1, got {value}")
    return value


def activation(layer: str, value: str, name: str = "activation") -> str:
    """`value` if it names an activation, else ValueError."""
    checks.activation(layer, name, value)
    return value


def transform(layer: str, value: Transform | None, branches: int) -> Transform:
    """The transform of a layer with tubes of length `branches`; None is the orthonormal DCT-II."""
    if value is None:
        return DCT(branches)
    if not isinstance(value, Transform):
        raise TypeError(f"{layer}: transform must be a spectral_ops.transforms.Transform or None, got {value!r}")
    if value.length != branches:
        raise ValueError(f"{layer}: transform must have length {branches} as branches, got {value.length}")
    return value


def fill(weight: Tensor, fan_in: int, activation: str) -> None:
    """Uniform values of variance gain^2 / fan_in: the second moment of a branch's features is the same in and out.

    fan_in is that of one branch: the branches do not see each other.
    """
    bound = _GAINS.get(activation, 1.0) * math.sqrt(3 / fan_in)
    nn.init.uniform_(weight, -bound, bound)


def fill_low_rank(weight_in: Tensor, weight_out: Tensor, activation: str) -> None:
    """Both factors of a low-rank weight, (Q', R, I) and (Q', O, R): their product varies as `fill` has it."""
    fill(weight_in, weight_in.shape[2], "none")  # variance 1 / I
    fill(weight_out, weight_out.shape[2], activation)  # gain^2 / R: the R products of an entry add up to gain^2 / I
