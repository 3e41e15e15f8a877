"""Checks and initial values that the layers share; messages name the layer, the argument, what it must be and is."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..ops import activations, checks
from ..transforms import DCT, Transform

# E[act(z)^2] is about 1 / gain^2 for a standard normal z (He et al. 2015 for relu; torch.nn.init.calculate_gain for the
# rest). gelu and silu are close enough to relu that its gain keeps eight layers within a factor of two.
_GAINS = {"relu": math.sqrt(2), "gelu": math.sqrt(2), "silu": math.sqrt(2), "tanh": 5 / 3}
# The same of a standard complex normal z, whose phase is uniform: crelu keeps half of |z|^2, zrelu a quarter, and
# cardioid E[(1 + cos)^2] / 4 = 3/8. Real weights let the phases gather on a line, of which all three keep half.
_COMPLEX_GAINS = {"crelu": math.sqrt(2), "zrelu": 2.0, "cardioid": math.sqrt(8 / 3)}
READOUTS = ("real", "abs")


def size(layer: str, name: str, value: int) -> int:
    """`value`, or the error that says why it is no size: TypeError for a non-integer, ValueError below 1."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{layer}: {name} must be an int, got {value!r}")
    if value < 1:
        raise ValueError(f"{layer}: {name} must be at least 1, got {value}")
    return value


def pair(layer: str, name: str, value: int | tuple[int, int], least: int = 1) -> tuple[int, int]:
    """Rows and columns of `value`, one int for both or two: TypeError for anything else, ValueError below `least`."""
    both = (value, value) if isinstance(value, int) else value
    if not isinstance(both, tuple | list) or len(both) != 2 or not all(type(v) is int for v in both):
        raise TypeError(f"{layer}: {name} must be an int or two, got {value!r}")
    if min(both) < least:
        raise ValueError(f"{layer}: {name} must be at least {least}, got {value}")
    return both[0], both[1]


def activation(layer: str, value: str | None, is_complex: bool = False, name: str = "activation") -> str:
    """`value` if it names an activation of such numbers, else ValueError; None: relu, or crelu of complex ones."""
    if value is None:
        return "crelu" if is_complex else "relu"
    checks.activation(layer, name, value, is_complex)
    return value


def transform_costs(transform: Transform, is_complex: bool) -> tuple[int, int]:
    """Multiply-adds of real numbers for one entry of the matrix (of real data), and of the inverse (of branches)."""
    if transform.is_real:
        return 1, 2 if is_complex else 1
    return 2, 2 if transform.is_half else 4


def readout(layer: str, value: str, is_complex: bool) -> str:
    """`value` if it says how to read the logits, else ValueError."""
    if value not in READOUTS:
        raise ValueError(f"{layer}: readout must be one of {', '.join(READOUTS)}, got {value!r}")
    if value != "real" and not is_complex:
        raise ValueError(f"{layer}: readout must be 'real' where the branches are real, got {value!r}")
    return value


def complex_weights(layer: str, value: bool | None, transform: Transform, dtype: torch.dtype | None) -> bool:
    """Whether weights and biases are complex; None: where the transform is. TypeError for a dtype without complex."""
    chosen = not transform.is_real if value is None else value
    if not isinstance(chosen, bool):
        raise TypeError(f"{layer}: complex_weights must be a bool or None, got {value!r}")
    dtype = torch.get_default_dtype() if dtype is None else dtype
    if (chosen or not transform.is_real) and dtype not in (torch.float32, torch.float64):
        raise TypeError(f"{layer}: dtype must be float32 or float64 where branches are complex, got {dtype}")
    return chosen


def complex_branches(layer: str, is_complex: bool, complex_weights: bool | None, dtype: torch.dtype | None) -> bool:
    """Whether the weights of branches that are given are complex; None: where the branches are."""
    for name, value in (("is_complex", is_complex), ("complex_weights", complex_weights)):
        if not isinstance(value, bool) and (value is not None or name == "is_complex"):
            raise TypeError(f"{layer}: {name} must be a bool, got {value!r}")
    if complex_weights and not is_complex:
        raise ValueError(f"{layer}: is_complex must be True with complex_weights, got False")
    dtype = torch.get_default_dtype() if dtype is None else dtype
    if is_complex and dtype not in (torch.float32, torch.float64):
        raise TypeError(f"{layer}: dtype must be float32 or float64 where branches are complex, got {dtype}")
    return is_complex if complex_weights is None else complex_weights


def as_complex(layer: str, pairs: Tensor) -> Tensor:
    """A parameter, kept as pairs of real numbers (..., 2), as complex numbers (...)."""
    if pairs.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"{layer}: complex parameters must be float32 or float64, got {pairs.dtype}")
    return torch.view_as_complex(pairs)


def transform(layer: str, value: Transform | None, branches: int) -> Transform:
    """The transform of a layer with tubes of length `branches`; None is the orthonormal DCT-II."""
    if value is None:
        return DCT(branches)
    if not isinstance(value, Transform):
        raise TypeError(f"{layer}: transform must be a spectral_ops.transforms.Transform or None, got {value!r}")
    if value.length != branches:
        raise ValueError(f"{layer}: transform must have length {branches} as branches, got {value.length}")
    return value


def _gain(name: str, is_complex: bool) -> float:
    if name.startswith("modrelu"):
        return _modrelu_gain(activations.offset(name))
    if name in _COMPLEX_GAINS and not is_complex:
        return math.sqrt(2)
    return _COMPLEX_GAINS.get(name, _GAINS.get(name, 1.0))


def _modrelu_gain(b: float) -> float:
    """The gain with which modrelu gives back a second moment of 1 (of 4 b^2, where b > 1/2 pushes it past that).

    Of a complex normal z with E|z|^2 = s^2, E[relu(|z| + b)^2] is s^2 + b s sqrt(pi) + b^2 for b >= 0, and
    s^2 exp(-b^2 / s^2) + b s sqrt(pi) erfc(-b / s) below. modrelu is not homogeneous: the gain is that of features of
    size 1.
    """
    aim = max(1.0, 4 * b * b) if b > 0 else 1.0

    def moment(s: float) -> float:
        if b >= 0:
            return s * s + b * s * math.sqrt(math.pi) + b * b
        return s * s * math.exp(-b * b / (s * s)) + b * s * math.sqrt(math.pi) * math.erfc(-b / s)

    low, high = 0.0, 2 * (math.sqrt(aim) + abs(b))
    for _ in range(60):  # bisection: the moment grows with s
        middle = (low + high) / 2
        low, high = (middle, high) if moment(middle) < aim else (low, middle)
    return high / math.sqrt(aim)


def fill(weight: Tensor, fan_in: int, activation: str, is_complex: bool = False) -> None:
    """Uniform values of variance gain^2 / fan_in: the second moment of a branch's features is the same in and out.

    fan_in is that of one branch: the branches do not see each other. is_complex: weight holds pairs (..., 2), of which
    each number has half of the variance.
    """
    bound = _gain(activation, is_complex) * math.sqrt(3 / (2 * fan_in if is_complex else fan_in))
    nn.init.uniform_(weight, -bound, bound)


def fill_low_rank(weight_in: Tensor, weight_out: Tensor, activation: str, is_complex: bool = False) -> None:
    """Both factors of a low-rank weight, (Q', R, I) and (Q', O, R): their product varies as `fill` has it."""
    fill(weight_in, weight_in.shape[2], "none", is_complex)  # variance 1 / I
    # gain^2 / R: the R products of an entry add up to gain^2 / I
    fill(weight_out, weight_out.shape[2], activation, is_complex)
