"""The elementwise activations: their definition in PyTorch, their gradient, their number in the native kernels.

Real branches: none, relu, gelu (exact, with erf), silu, tanh, sigmoid. Complex ones: none, and of z = r u with r = |z|
    crelu     relu(Re z) + i relu(Im z)
    zrelu     z where Re z > 0 and Im z > 0, else 0
    modrelu   (r + b) u where r + b > 0, else 0; "modrelu:B" says b = B, "modrelu" alone b = -0.1
    cardioid  (1 + Re u) z / 2
and 0 at z = 0. modrelu and cardioid commute with conjugation, so that a half spectrum stands for the full one; crelu
and zrelu do not.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from .checks import ACTIVATIONS

HALF = (torch.bfloat16, torch.float16)
_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "relu": torch.relu,
    "gelu": functional.gelu,
    "silu": functional.silu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}
_IN_PLACE: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu_,
    "tanh": torch.tanh_,
    "sigmoid": torch.sigmoid_,
}
_CODES = {name: number for number, name in enumerate((*ACTIVATIONS, "crelu", "zrelu", "cardioid", "modrelu"))}


def apply(name: str, x: Tensor) -> Tensor:
    """The activation `name` of x, elementwise."""
    return _apply_complex(name, x) if x.is_complex() else _FUNCTIONS[name](x)


def _apply_complex(name: str, z: Tensor) -> Tensor:
    if name == "none":
        return z
    re, im = z.real, z.imag
    if name == "crelu":
        return torch.complex(torch.relu(re), torch.relu(im))
    if name == "zrelu":
        return torch.where((re <= 0) | (im <= 0), torch.zeros_like(z), z)
    r, divisor = _modulus(z)
    if name == "cardioid":
        scale = 0.5 + 0.5 * re / divisor
    else:
        b = offset(name)
        scale = torch.where((r + b <= 0) | (r == 0), torch.zeros_like(r), 1 + b / divisor)
    return torch.complex(scale * re, scale * im)


def _modulus(z: Tensor) -> tuple[Tensor, Tensor]:
    """|z|, and the same with 1 for 0, to divide by."""
    r = z.abs()
    return r, torch.where(r == 0, torch.ones_like(r), r)


def through(name: str, grad: Tensor, z: Tensor, h: Tensor) -> Tensor:
    """grad * activation'(z), where h = activation(z); of complex numbers the gradient as torch defines it.

    That is d loss / d Re z + i d loss / d Im z. With u = z / |z| = c + i d (0 at z = 0) and <g, u> = Re(g conj(u)):
        crelu     Re g where Re h > 0, and i Im g where Im h > 0
        zrelu     g where Re z > 0 and Im z > 0, else 0
        modrelu   (1 + k) g - k <g, u> u with k = b / |z|, where |z| + b > 0, else (and at z = 0) 0
        cardioid  ((1 + c) g + <g, u> d (d - i c)) / 2; at z = 0 that is g / 2
    """
    if name == "none":
        return grad
    if z.is_complex():
        return _through_complex(name, grad, z, h)
    if name == "relu":  # as in aten: closed where h <= 0, so that NaN passes
        return torch.where(h <= 0, torch.zeros_like(grad), grad)
    if name == "tanh":
        return grad * (1 - h * h)
    if name == "sigmoid":
        return grad * (h * (1 - h))
    if name == "silu":
        s = torch.sigmoid(z)
        return grad * (s * (1 + z * (1 - s)))
    cdf = 0.5 * (1 + torch.erf(z * 2**-0.5))
    return grad * (cdf + z * torch.exp(-0.5 * z * z) * (2 * torch.pi) ** -0.5)


def _through_complex(name: str, grad: Tensor, z: Tensor, h: Tensor) -> Tensor:
    re, im = grad.real, grad.imag
    if name == "crelu":
        nothing = torch.zeros_like(re)
        return torch.complex(torch.where(h.real <= 0, nothing, re), torch.where(h.imag <= 0, nothing, im))
    if name == "zrelu":
        return torch.where((z.real <= 0) | (z.imag <= 0), torch.zeros_like(grad), grad)
    r, divisor = _modulus(z)
    c, d = z.real / divisor, z.imag / divisor
    along = re * c + im * d
    if name == "cardioid":
        return 0.5 * torch.complex((1 + c) * re + along * d * d, (1 + c) * im - along * d * c)
    b = offset(name)
    closed = (r + b <= 0) | (r == 0)
    k = b / divisor
    nothing = torch.zeros_like(r)
    return torch.complex(
        torch.where(closed, nothing, (1 + k) * re - k * along * c),
        torch.where(closed, nothing, (1 + k) * im - k * along * d),
    )


def apply_(name: str, x: Tensor) -> Tensor:
    """The same of real x, in its own memory where that is possible: it is the caller's and nobody else reads it."""
    return _IN_PLACE.get(name, _FUNCTIONS[name])(x)


@functools.cache
def code(name: str) -> int:
    """The activation's number in `csrc/cpu/kernels.h`."""
    return _CODES[name.partition(":")[0]]


@functools.cache
def offset(name: str) -> float:
    """b of a modrelu; 0 for every other activation."""
    head, _, number = name.partition(":")
    return float(number or "-0.1") if head == "modrelu" else 0.0


@functools.lru_cache(256)
def codes(names: tuple[str, ...]) -> tuple[list[int], list[float]]:
    """`code` of each, and `offsets`; to be read only."""
    return [code(name) for name in names], offsets(list(names))


def offsets(names: list[str]) -> list[float]:
    """One `offset` a name, or none at all where no name has one, as the native kernels take them."""
    return [offset(name) for name in names] if any(name.startswith("modrelu") for name in names) else []


def wide(x: Tensor) -> Tensor:
    """x in the dtype in which the ops accumulate: half becomes float32, the rest stays."""
    return x.float() if x.dtype in HALF else x


def together(*values: Any) -> tuple[Any, ...]:
    """Tensors and lists of tensors, in the one dtype in which an op accumulates: complex where one of them is."""
    tensors = [t for value in values for t in (value if isinstance(value, list | tuple) else (value,))]
    given = [t for t in tensors if t is not None]
    dtype = wide(given[0]).dtype
    if any(t.is_complex() for t in given):
        dtype = dtype.to_complex()

    def lifted(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [lifted(t) for t in value]
        return None if value is None else value.to(dtype)

    return tuple(lifted(value) for value in values)


def narrow(y: Tensor, x: Tensor) -> Tensor:
    """The result y of an op on x: rounded to half where x is half."""
    return y.to(x.dtype) if x.dtype in HALF else y


def gradient_of(t: Tensor, grad: Tensor) -> Tensor:
    """The gradient of an argument t in t's dtype: of a complex gradient the real part where t is real."""
    return (grad.real if grad.is_complex() and not t.is_complex() else grad).to(t.dtype)


def conj(t: Tensor) -> Tensor:
    """The conjugate, but no lazy one: vmap has no rule for the imaginary part of a gradient conjugated lazily."""
    return torch.complex(t.real, -t.imag) if t.is_complex() else t


def dense_like(t: Tensor) -> Tensor:
    """A contiguous tensor of t's shape and dtype, not filled (half the cost of new_empty)."""
    return torch.empty_like(t, memory_format=torch.contiguous_format)
