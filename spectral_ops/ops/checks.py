"""Argument checks shared by the ops: every message names the op, the argument, what it must be and what it is."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

REAL = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
ACTIVATIONS = ("none", "relu", "gelu", "silu", "tanh", "sigmoid")
SPACES = ("probabilities", "logits")
WIDEST = 128  # beyond this feature count a branch's GEMM is the library's: it no longer fits a register-blocked L1 tile
TILE_BUDGET = 1 << 22  # values a work item may keep: 16 MiB of float32, a share of the last-level cache


def shape(op: str, name: str, t: Tensor, must: str, ok: bool) -> None:
    """ValueError unless `ok`; `must` is the shape in letters, with the sizes that fix them."""
    if not ok:
        raise ValueError(f"{op}: {name} must be {must}, got {_shape(t)}")


def _shape(t: Tensor) -> str:
    sizes = tuple(t.shape)
    return f"({', '.join(str(s) for s in sizes)}{',' if len(sizes) == 1 else ''})"


def real(op: str, **tensors: Tensor | Sequence[Tensor | None] | None) -> None:
    """TypeError unless all given tensors are real floating point, of one dtype, on one device."""
    first: tuple[str, Tensor] | None = None
    for name, value in tensors.items():
        for i, t in enumerate(value if isinstance(value, list | tuple) else [value]):
            if t is None:
                continue
            label = f"{name}[{i}]" if isinstance(value, list | tuple) else name
            if t.dtype not in REAL:
                raise TypeError(f"{op}: {label} must be float32, float64, bfloat16 or float16, got {t.dtype}")
            if first is None:
                first = (label, t)
            elif t.dtype != first[1].dtype:
                raise TypeError(f"{op}: {label} must be {first[1].dtype} as {first[0]}, got {t.dtype}")
            elif t.device != first[1].device:
                raise TypeError(f"{op}: {label} must be on {first[1].device} as {first[0]}, got {t.device}")


def activation(op: str, name: str, value: str) -> None:
    """ValueError unless `value` is the name of an activation for real branches."""
    if value not in ACTIVATIONS:
        raise ValueError(f"{op}: {name} must be one of {', '.join(ACTIVATIONS)}, got {value!r}")


def space(op: str, value: str) -> None:
    """ValueError unless `value` names a space in which branches are averaged."""
    if value not in SPACES:
        raise ValueError(f"{op}: space must be one of {', '.join(SPACES)}, got {value!r}")


def matrix(op: str, name: str, t: Tensor, must: str, columns: int | None = None, rows: int | None = None) -> None:
    """ValueError unless t is a matrix with the given numbers of rows and columns (None: any)."""
    ok = t.dim() == 2 and (columns is None or t.shape[1] == columns) and (rows is None or t.shape[0] == rows)
    shape(op, name, t, must, ok)


def branches(op: str, x: Tensor, transform: Tensor | None) -> tuple[int, int, int]:
    """Check x (N, I, Q) with transform (Q', Q), or x (Q', N, I) without; returns Q', N, I."""
    if transform is None:
        shape(op, "x", x, "(Q, N, I) where transform is None", x.dim() == 3)
        return x.shape[0], x.shape[1], x.shape[2]
    shape(op, "x", x, "(N, I, Q)", x.dim() == 3)
    matrix(op, "transform", transform, f"(Q', Q) with Q = {x.shape[2]} as in x", columns=x.shape[2])
    return transform.shape[0], x.shape[0], x.shape[1]


def layers(
    op: str, q: int, width: int, weights: Sequence[Tensor], biases: Sequence[Tensor | None], activations: Sequence[str]
) -> int:
    """Check a chain of branch layers that starts with `width` features in each of q branches; returns its last width."""
    if not weights:
        raise ValueError(f"{op}: weights must hold at least one (Q', O, I) tensor, got none")
    for name, given in (("biases", biases), ("activations", activations)):
        if len(given) != len(weights):
            raise ValueError(f"{op}: {name} must have one entry per weight, {len(weights)}, got {len(given)}")
    for i, (w, b, a) in enumerate(zip(weights, biases, activations, strict=True)):
        source = "x" if i == 0 else f"weights[{i - 1}]"
        ok = w.dim() == 3 and w.shape[0] == q and w.shape[2] == width
        shape(op, f"weights[{i}]", w, f"(Q', O, I) with Q' = {q} and I = {width} as in {source}", ok)
        width = w.shape[1]
        if b is not None:
            ok = b.dim() == 2 and b.shape[0] == q and b.shape[1] == width
            shape(op, f"biases[{i}]", b, f"(Q', O) with Q' = {q} and O = {width} as in weights[{i}]", ok)
        activation(op, f"activations[{i}]", a)
    return width


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
