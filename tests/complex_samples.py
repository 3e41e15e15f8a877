"""Rows of complex arguments for every op that takes them, in the terms of `tests/samples.py`.

Each row mixes real and complex tensors in its own way: the whole DFT, half a spectrum (a real result), a real
transform with complex weights, a complex transform with real weights. In the small rows no argument of an activation
lies on an axis, where crelu and zrelu have no derivative.
"""

from __future__ import annotations

from typing import Any

import complex_convolution_samples
import complex_recurrent_samples
from samples import Sample, T, fourier
from torch import Tensor

from spectral_ops.transforms import DCT, Transform

ACTIVATIONS = ("none", "crelu", "modrelu", "modrelu:0.3", "zrelu", "cardioid")


def tensor(shape: tuple[int, ...], kind: str = "normal", imaginary: bool = True) -> T:
    return T(shape, kind, imaginary=imaginary)


def _matrix(p: int, q: int, kind: str | None) -> T | None:
    if kind == "complex":
        return tensor((p, q), "random")
    return None if kind is None else T((p, q), kind, imaginary=kind != "random")


# ---- to_branches, from_branches: N, I, Q, Q', matrix, complex data -------------------------------------------------
_BRANCHES = [
    (64, 28, 28, 28, "dft", False),
    (33, 5, 28, 15, "dft", False),
    (3, 2, 4, 4, "dft", True),
    (2, 2, 5, 3, "dft", True),
    (2, 2, 4, 3, "dft", False),
    (2, 3, 3, 3, "random", True),
    (0, 3, 5, 5, "dft", False),
]
# ---- branch_linear: Q, N, I, O, complex x, weight, bias (None: no bias), activation ------------------------------
_LINEAR = [
    (28, 64, 28, 28, True, True, True, "crelu"),
    (5, 17, 10, 15, True, True, True, "none"),
    (2, 27, 5, 40, True, True, True, "modrelu"),
    (3, 14, 33, 7, True, True, True, "cardioid"),
    (1, 30, 9, 21, True, True, None, "zrelu"),
    (2, 3, 4, 2, True, True, True, "cardioid"),
    (2, 3, 2, 3, False, True, False, "modrelu"),
    (2, 3, 2, 2, True, False, None, "zrelu"),
    (2, 2, 2, 2, False, False, True, "modrelu:0.3"),
    (1, 4, 3, 2, True, True, True, "crelu"),
    (3, 0, 4, 5, True, True, True, "modrelu"),
]
# ---- networks: N, I, Q, Q', transform, complex weights, widths, activations ----------------------------------------
_DEEP = ([28] * 7 + [10], ["crelu"] * 7 + ["none"])
_NETWORKS = [
    (64, 28, 28, 15, "dft", True, *_DEEP),
    (17, 7, 10, 10, "dft", True, [8, 5, 9], ["zrelu", "modrelu", "cardioid"]),
    (9, 7, 10, 6, "dft", False, [8, 3], ["cardioid", "none"]),
    (17, 5, 6, 4, "dft", True, [3, 18, 4, 17, 5], ["none", "cardioid", "none", "crelu", "none"]),  # ranks 3, 4
    (3, 2, 3, 3, "dft", True, [3, 2], ["modrelu", "none"]),
    (3, 2, 4, 3, "dft", False, [3, 2], ["cardioid", "none"]),
    (2, 2, 3, 3, "random", True, [2, 3], ["crelu", "modrelu:0.3"]),
    (3, 2, 2, 2, None, True, [3, 2], ["zrelu", "none"]),
]
# ---- spectral_linear: N, I, O, Q, Q', transform, complex weight, inverse, activation, output activation -----------
_SPECTRAL_LINEAR = [
    (64, 28, 28, 28, 15, "dft", True, "inverse_dft", "modrelu", "none"),
    (17, 5, 7, 9, 9, "dft", True, "inverse_dft", "cardioid", "none"),
    (2, 2, 2, 3, 2, "dft", True, "inverse_dft", "modrelu", "tanh"),
    (2, 2, 2, 4, 3, "dft", False, "inverse_dft", "none", "gelu"),
    (2, 3, 2, 3, 3, "dft", True, "inverse_dft", "modrelu", "zrelu"),
    (2, 2, 3, 2, 2, "random", True, "random", "cardioid", "modrelu"),
    (2, 2, 2, 3, 3, "dft", False, "random", "cardioid", "crelu"),
    (2, 2, 2, 3, 3, "random", False, "inverse_dft", "cardioid", "cardioid"),
    (2, 2, 2, 3, 3, "random", False, "complex", "modrelu:0.3", "none"),
]


def _row(op: str, args: list[Any], *words: Any) -> Sample:
    return Sample(op, "-".join(str(w) for w in (op, *words)), tuple(args))


def _network(n: int, i: int, q: int, p: int, matrix: str | None, imaginary: bool, widths: list, acts: list) -> list:
    x = T((n, i, q)) if matrix else tensor((p, n, i))
    inner = [i, *widths[:-1]]
    weights = [tensor((p, o, w), "weight", imaginary) for w, o in zip(inner, widths, strict=True)]
    biases = [None if a == "none" else tensor((p, o), "bias", imaginary) for o, a in zip(widths, acts, strict=True)]
    return [x, _matrix(p, q, matrix), weights, [*biases[:-1], None], list(acts)]


def _rows() -> list[Sample]:
    rows = []
    for n, i, q, p, kind, imaginary in _BRANCHES:
        words = (f"N{n}-I{i}-Q{q}to{p}", kind, "complex" if imaginary else "real")
        rows.append(_row("to_branches", [tensor((n, i, q), imaginary=imaginary), _matrix(p, q, kind)], *words))
        inverse = _matrix(q, p, "inverse_dft" if kind == "dft" else kind)
        rows.append(_row("from_branches", [tensor((p, n, i), imaginary=imaginary), inverse], *words))
    for q, n, i, o, x, w, b, act in _LINEAR:
        bias = None if b is None else tensor((q, o), "bias", b)
        args = [tensor((q, n, i), imaginary=x), tensor((q, o, i), "weight", w), bias, act]
        words = (f"Q{q}-N{n}-I{i}-O{o}", "".join("c" if c else "r" for c in (x, w, b)), act)
        rows.append(_row("branch_linear", args, *words))
    for net in _NETWORKS:
        n, i, q, p, matrix, imaginary, widths, acts = net
        words = (f"N{n}-I{i}-Q{q}to{p}", matrix, "complex" if imaginary else "real", *widths, *acts)
        c, shares = widths[-1], T((p,), "share")
        target = T((n,), f"class{c}")
        rows.append(_row("spectral_mlp", _network(*net), *words))
        rows.append(_row("spectral_mlp_cross_entropy", [*_network(*net), target], *words))
        rows.append(_row("spectral_mlp_cross_entropy_with_grads", [*_network(*net), target, True], *words))
        _, _, *layers = _network(*net)
        x = tensor((p, n, i), imaginary=matrix != "random")
        rows.append(_row("branch_mlp_backward", [tensor((p, n, c)), x, *layers, True], *words))
        for space in ("probabilities", "logits"):
            args = [*_network(*net), shares, space]
            rows.append(_row("spectral_ensemble", args, *words, space))
            rows.append(_row("spectral_ensemble_backward", [T((n, c)), *args, True], *words, space))
            logits = tensor((p, n, c))
            rows.append(_row("branch_ensemble", [logits, shares, space], *words, space))
            rows.append(_row("branch_ensemble_backward", [T((n, c)), logits, shares, space], *words, space))
    for n, i, o, q, p, kind, imaginary, back, act, out in _SPECTRAL_LINEAR:
        args = [T((n, i, q)), _matrix(p, q, kind), tensor((p, o, i), "weight", imaginary)]
        args += [tensor((p, o), "bias", imaginary), act, _matrix(q, p, back), out]
        words = (f"N{n}-I{i}-O{o}-Q{q}to{p}", kind, "complex" if imaginary else "real", back, act, out)
        rows.append(_row("spectral_linear", args, *words))
        if out in ("none", "tanh", "crelu", "zrelu"):  # whose derivatives y tells
            y = tensor((n, o, q), imaginary=p == q)
            rows.append(_row("spectral_linear_backward", [y, args[0], y, *args[1:], True], *words))
    return [*rows, *complex_recurrent_samples.rows(), *complex_convolution_samples.rows()]


COMPLEX: list[Sample] = _rows()
OPS = tuple(dict.fromkeys(row.op for row in COMPLEX))


def complex_rows(op: str) -> list[Sample]:
    return [row for row in COMPLEX if row.op == op]


def small_rows(op: str) -> list[Sample]:
    """Few enough values for numerical differentiation."""
    return [row for row in complex_rows(op) if row.small]


class Fourier(Transform):
    """The DFT; real: of real data, half of it."""

    is_real = False

    def __init__(self, length: int, real: bool = False) -> None:
        super().__init__(length)
        self.real = real
        self.branches = length // 2 + 1 if real else length
        self._matrix = fourier(length, self.branches)[0]

    @property
    def is_half(self) -> bool:
        return self.real

    @property
    def matrix(self) -> Tensor:
        return self._matrix

    @property
    def inverse(self) -> Tensor:
        return fourier(self.length, self.branches)[1]


def half_fourier(length: int) -> Fourier:
    return Fourier(length, real=True)


# transform, complex weights: whole and half spectrum, real weights under it, complex weights under a real transform
KINDS = {
    "whole": (Fourier, None),
    "half": (half_fourier, None),
    "real-weights": (Fourier, False),
    "half-real-weights": (half_fourier, False),
    "real-transform": (DCT, True),
}
