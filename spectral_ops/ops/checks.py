"""Argument checks shared by the ops: every message names the op, the argument, what it must be and what it is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

REAL = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
COMPLEX = frozenset((torch.complex64, torch.complex128))
ACTIVATIONS = ("none", "relu", "gelu", "silu", "tanh", "sigmoid")
COMPLEX_ACTIVATIONS = ("none", "crelu", "modrelu", "modrelu:B", "zrelu", "cardioid")  # B: any number
SPACES = ("probabilities", "logits")
WIDEST = 128  # beyond this feature count a branch's GEMM is the library's: it no longer fits a register-blocked L1 tile
TILE_BUDGET = 1 << 22  # values a work item may keep: 16 MiB of float32, a share of the last-level cache


def wrong_shape(op: str, name: str, t: Tensor, must: str) -> ValueError:
    """The error to raise; `must` is the shape in letters, with the sizes that fix them. Built only to be raised."""
    sizes = tuple(t.shape)
    got = f"({', '.join(str(s) for s in sizes)}{',' if len(sizes) == 1 else ''})"
    return ValueError(f"{op}: {name} must be {must}, got {got}")


def real(op: str, **tensors: Tensor | Sequence[Tensor | None] | None) -> None:
    """TypeError unless all given tensors are real floating point, of one dtype, on one device."""
    first, dtype, device = "", None, None
    for name, value in tensors.items():
        for i, t in enumerate(value if isinstance(value, list | tuple) else (value,)):
            if t is None:
                continue
            if dtype is None:
                first, dtype, device = name, t.dtype, t.device
                if dtype not in REAL:
                    raise TypeError(f"{op}: {name} must be float32, float64, bfloat16 or float16, got {dtype}")
            elif t.dtype is not dtype or t.device != device:
                label = f"{name}[{i}]" if isinstance(value, list | tuple) else name
                if t.dtype is not dtype:
                    raise TypeError(f"{op}: {label} must be {dtype} as {first}, got {t.dtype}")
                raise TypeError(f"{op}: {label} must be on {device} as {first}, got {t.device}")


def dimension(op: str, x: Tensor, dim: int) -> None:
    """ValueError unless x has a dimension `dim`."""
    if x.dim() == 0 or not -x.dim() <= dim < x.dim():
        raise ValueError(f"{op}: dim must be in [{-x.dim()}, {x.dim() - 1}] for x with {x.dim()} dimensions, got {dim}")


def once(op: str, x: Tensor, dims: Sequence[int]) -> None:
    """ValueError where two of the dimensions are one."""
    if len({d % x.dim() for d in dims}) < len(dims):
        raise ValueError(f"{op}: dim must name each dimension once, got {tuple(dims)}")


def number(op: str, x: Tensor) -> Tensor:
    """x, integers as the default dtype; TypeError for bool."""
    if x.dtype == torch.bool:
        raise TypeError(f"{op}: x must be a number, got {x.dtype}")
    return x if x.is_floating_point() or x.is_complex() else x.to(torch.get_default_dtype())


_KINDS = "float32, float64, bfloat16, float16, complex64 or complex128"
_PARTNER = {
    torch.float32: torch.complex64,
    torch.float64: torch.complex128,
    torch.complex64: torch.float32,
    torch.complex128: torch.float64,
}


def numbers(op: str, **tensors: Tensor | Sequence[Tensor | None] | None) -> torch.dtype:
    """TypeError unless all given tensors are floating point or complex, of one precision, on one device.

    Real and complex mix, but not with half: complex goes with float32 and float64 only. Returns the dtype of what is
    computed from them all: complex where one of them is.
    """
    first: Tensor | None = None
    result = dtype = torch.float32
    on_cpu = True
    for name, value in tensors.items():
        for t in value if isinstance(value, list | tuple) else (value,):
            if t is None:
                continue
            if first is None:
                first, on_cpu = t, t.is_cpu
                result = dtype = t.dtype
                if dtype not in REAL and dtype not in COMPLEX:
                    raise TypeError(f"{op}: {name} must be {_KINDS}, got {dtype}")
            # is_cpu, because comparing devices takes three times as long
            elif t.dtype is not dtype or t.is_cpu is not on_cpu or (not on_cpu and t.device != first.device):
                _refuse(op, tensors, t, first)
                result = t.dtype if t.dtype in COMPLEX else result
    return result


def _refuse(op: str, tensors: Mapping[str, Any], t: Tensor, first: Tensor) -> None:
    """Raise if t is of another precision, or on another device, than the first of the tensors."""
    dtype, partner = first.dtype, _PARTNER.get(first.dtype)
    name, source = _label(tensors, t), next(iter(tensors))
    if t.dtype is not dtype and t.dtype is not partner:
        if t.dtype in COMPLEX and partner is None:
            raise TypeError(f"{op}: {source} must be float32 or float64 where {name} is complex, got {dtype}")
        must = f"{dtype} or {partner}" if partner else dtype
        raise TypeError(f"{op}: {name} must be {must} as {source}, got {t.dtype}")
    if t.device != first.device:
        raise TypeError(f"{op}: {name} must be on {first.device} as {source}, got {t.device}")


def _label(tensors: Mapping[str, Any], t: Tensor) -> str:
    """What the argument t is called: "weight", or "weights[1]" in a list."""
    found = [name for name, value in tensors.items() if value is t]
    lists = [(name, value) for name, value in tensors.items() if isinstance(value, list | tuple)]
    found += [f"{name}[{i}]" for name, value in lists for i, item in enumerate(value) if item is t]
    return found[0]


def exactly(op: str, dtype: torch.dtype, like: Tensor, **tensors: Tensor) -> None:
    """TypeError unless the tensors have the dtype of the result, and are on the device of `like`."""
    for name, t in tensors.items():
        if t.dtype is not dtype:
            raise TypeError(f"{op}: {name} must be {dtype} as the result, got {t.dtype}")
        if t.device != like.device:
            raise TypeError(f"{op}: {name} must be on {like.device} as the result, got {t.device}")


def activation(op: str, name: str, value: str, is_complex: bool = False) -> None:
    """ValueError unless `value` is the name of an activation for real numbers, or for complex ones."""
    if not is_complex:
        if value not in ACTIVATIONS:
            raise ValueError(f"{op}: {name} must be one of {', '.join(ACTIVATIONS)}, got {value!r}")
    elif value not in COMPLEX_ACTIVATIONS[:3] + COMPLEX_ACTIVATIONS[4:] and not _is_modrelu(value):
        names = ", ".join(COMPLEX_ACTIVATIONS)
        raise ValueError(f"{op}: {name} must be, for complex numbers, one of {names}, got {value!r}")


def _is_modrelu(value: str) -> bool:
    head, _, number = value.partition(":")
    try:
        return head == "modrelu" and math.isfinite(float(number))
    except ValueError:
        return False


def half_spectrum(inverse: Tensor) -> bool:
    """Whether `inverse` (Q, Q') belongs to the half spectrum of real data, so that Re(inverse @ branches) is meant."""
    return inverse.is_complex() and inverse.shape[1] < inverse.shape[0]


def space(op: str, value: str) -> None:
    """ValueError unless `value` names a space in which branches are averaged."""
    if value not in SPACES:
        raise ValueError(f"{op}: space must be one of {', '.join(SPACES)}, got {value!r}")


def branches(op: str, x: Tensor, transform: Tensor | None) -> tuple[int, int, int]:
    """Check x (N, I, Q) with transform (Q', Q), or x (Q', N, I) without; returns Q', N, I."""
    sizes = x.shape
    if len(sizes) != 3:
        raise wrong_shape(op, "x", x, "(Q, N, I) where transform is None" if transform is None else "(N, I, Q)")
    if transform is None:
        return sizes[0], sizes[1], sizes[2]
    if transform.dim() != 2 or transform.shape[1] != sizes[2]:
        raise wrong_shape(op, "transform", transform, f"(Q', Q) with Q = {sizes[2]} as in x")
    return transform.shape[0], sizes[0], sizes[1]


def layers(
    op: str,
    q: int,
    width: int,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor | None],
    activations: Sequence[str],
    is_complex: bool,
) -> int:
    """Check a chain of layers that starts with `width` features in each of q branches; returns its last width."""
    if not weights:
        raise ValueError(f"{op}: weights must hold at least one (Q', O, I) tensor, got none")
    for name, given in (("biases", biases), ("activations", activations)):
        if len(given) != len(weights):
            raise ValueError(f"{op}: {name} must have one entry per weight, {len(weights)}, got {len(given)}")
    for i, (w, b, a) in enumerate(zip(weights, biases, activations, strict=True)):
        sizes = w.shape
        if len(sizes) != 3 or sizes[0] != q or sizes[2] != width:
            source = "x" if i == 0 else f"weights[{i - 1}]"
            raise wrong_shape(op, f"weights[{i}]", w, f"(Q', O, I) with Q' = {q} and I = {width} as in {source}")
        width = sizes[1]
        if b is not None:
            bias = b.shape
            if len(bias) != 2 or bias[0] != q or bias[1] != width:
                raise wrong_shape(op, f"biases[{i}]", b, f"(Q', O) with Q' = {q} and O = {width} as in weights[{i}]")
        if is_complex or a not in ACTIVATIONS:
            activation(op, f"activations[{i}]", a, is_complex)
    return width


def convolution(
    op: str,
    image: Sequence[int],
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> None:
    """Check what is common to the convolutions of branches; image: its height and width, weight: of the right shape."""
    q, o = weight.shape[:2]
    if 0 in weight.shape:
        raise wrong_shape(op, "weight", weight, "(Q', O/Q, C/Q, kh, kw), each at least 1")
    if bias is not None and (bias.dim() != 2 or bias.shape[0] != q or bias.shape[1] != o):
        raise wrong_shape(op, "bias", bias, f"(Q', O/Q) with Q' = {q} and O/Q = {o} as in weight")
    geometry(op, image, weight.shape[3:], "weight", stride, padding, dilation)


def geometry(
    op: str,
    image: Sequence[int],
    window: Sequence[int],
    source: str,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> None:
    """ValueError unless a window, height and width of the argument `source`, fits the image in at least one place."""
    for name, pair, least in (("stride", stride, 1), ("padding", padding, 0), ("dilation", dilation, 1)):
        if len(pair) != 2 or min(pair) < least:
            raise ValueError(f"{op}: {name} must be two ints of at least {least}, got {list(pair)}")
    if min(convolved(image, window, stride, padding, dilation)) < 1:
        least_size = " x ".join(str(d * (k - 1) + 1) for k, d in zip(window, dilation, strict=True))
        got = " x ".join(str(size + 2 * p) for size, p in zip(image, padding, strict=True))
        must = f"at least {least_size} pixels with its padding, as {source} and dilation"
        raise ValueError(f"{op}: x must be {must}, got {got}")


def convolved(
    image: Sequence[int], kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
) -> list[int]:
    """Height and width of a convolution's result."""
    sizes = zip(image, kernel, stride, padding, dilation, strict=True)
    return [(size + 2 * p - d * (k - 1) - 1) // s + 1 for size, k, s, p, d in sizes]


def too_wide(*widths: int) -> str | None:
    """The reason against the C++ kernels when a branch is too wide for an L1 tile."""
    if max(widths) <= WIDEST:
        return None
    return f"a branch with {max(widths)} features is past {WIDEST}, where the library's batched GEMM is faster"


def too_large(values: int) -> str | None:
    """The reason against the C++ kernels when one sample tile would not fit the cache."""
    if values * 32 <= TILE_BUDGET:
        return None
    return f"one tile of 32 samples would keep {values * 32} values, past the {TILE_BUDGET} that fit the cache"


SHARED_ROW = 512  # bytes of a row's features: three tiles of 32 rows then fit the shared memory of every GPU
SHARED_STATE = 448  # the same of recurrent layers, which keep six tiles, beside 12 KB for weights
SHARED_TUBE = 96 << 10  # bytes of shared memory that every GPU gives a block of threads, some less
MOST_LAYERS = 32  # csrc/cuda/kernels.h


def too_wide_for_gpu(widths: Sequence[int], *tensors: Tensor | None, most: int = SHARED_ROW) -> str | None:
    """The reason against the CUDA C++ kernels when a tile of so many features does not fit the shared memory."""
    widest, size = max(widths), max(4, *(t.element_size() for t in tensors if t is not None))  # half: as float32
    if widest * size <= most:
        return None
    return f"{widest} features of {size} bytes are past the {most} bytes of which tiles fit the shared memory"


def network_on_gpu(x: Tensor, transform: Tensor | None, weights: Sequence[Tensor]) -> str | None:
    """The reason against the CUDA C++ kernels of whole networks."""
    if len(weights) > MOST_LAYERS:
        return f"{len(weights)} layers are past the {MOST_LAYERS} that one launch takes"
    widths = [weights[0].shape[2], *(w.shape[1] for w in weights)]
    if transform is not None:
        widths += transform.shape
    return too_wide_for_gpu(widths, x, transform, *weights)
