"""The inputs of the tests, as data: rows of right arguments for every op of the table. A row's id is made of its data.

`tests/wrong_samples.py` holds the wrong arguments. Nothing here calls an op.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import tube_samples
from torch import Tensor

import spectral_ops
from spectral_ops.transforms import DCT

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
ACTIVATIONS = ("none", "relu", "gelu", "silu", "tanh", "sigmoid")
LEVELS = spectral_ops.cpu_levels()


@dataclass(frozen=True)
class T:
    """A tensor argument. kind says which values; dtype and device, where given, override those of the call.

    imaginary: the argument is complex, in the precision of the call.
    """

    shape: tuple[int, ...]
    kind: str = "normal"
    dtype: torch.dtype | None = None
    device: str | None = None
    imaginary: bool = False


@dataclass(frozen=True)
class Sample:
    """Arguments of one op: `T` where a tensor stands (also inside lists), the value itself elsewhere."""

    op: str
    id: str
    args: tuple[Any, ...]

    @property
    def values(self) -> int:
        """How many values the tensors have."""
        return sum(torch.Size(t.shape).numel() for t in _tensors(self.args))

    @property
    def small(self) -> bool:
        """Few enough values for numerical differentiation."""
        return all(torch.Size(t.shape).numel() for t in _tensors(self.args)) and self.values <= 150

    def make(self, dtype: torch.dtype, device: str = "cpu", seed: int = 0) -> list[Any]:
        """The arguments. Equal rows, dtypes and seeds give equal values."""
        generator = torch.Generator().manual_seed(zlib.crc32(self.id.encode()) + seed)
        return [_make(value, dtype, device, generator) for value in self.args]


def _tensors(value: Any) -> list[T]:
    if isinstance(value, T):
        return [value]
    return [t for item in value for t in _tensors(item)] if isinstance(value, list | tuple) else []


def make(values: Any, dtype: torch.dtype = torch.float32, device: str = "cpu") -> list[Any]:
    """The arguments of a row that is written out where it is used."""
    return _make(list(values), dtype, device, torch.Generator().manual_seed(0))


def _make(value: Any, dtype: torch.dtype, device: str, generator: torch.Generator) -> Any:
    if isinstance(value, list):
        return [_make(item, dtype, device, generator) for item in value]
    if not isinstance(value, T):
        return value
    data = _values(value.shape, value.kind, generator)
    target = value.dtype or (torch.int64 if value.kind.startswith("class") else dtype)
    if value.imaginary:
        target = dtype.to_complex()
        if not data.is_complex():
            data = torch.complex(data, _values(value.shape, value.kind, generator)) / 2**0.5
    return data.to(target).to(value.device or device)


def _values(shape: tuple[int, ...], kind: str, generator: torch.Generator) -> Tensor:
    """Values of a kind, exact: "normal", "weight", "filter", "bias", "state", "share", "sign", "class<C>", a matrix."""
    normal = torch.randn(shape, dtype=torch.float64, generator=generator)
    if kind.startswith("class"):
        return torch.randint(0, int(kind[5:]), shape, generator=generator)
    if kind in ("weight", "random"):  # keeps the size of what it multiplies
        return normal / max(shape[-1], 1) ** 0.5
    if kind == "filter":
        return normal / max(torch.Size(shape[2:]).numel(), 1) ** 0.5
    if kind == "sign":
        return torch.where(normal < 0, -1.0, 1.0)
    if kind == "bias":
        return normal / 2
    if kind == "state":
        return normal.tanh()
    if kind == "share":
        return normal.exp() / normal.exp().sum(-1, keepdim=True)
    if kind == "identity":
        return torch.eye(*shape, dtype=torch.float64)
    if kind in ("dct2", "dct3", "near_dct"):
        m = DCT(max(shape), type=3 if kind == "dct3" else 2).matrix[: shape[0], : shape[1]].clone()
        if kind == "near_dct":  # one value off: a kernel that assumes the symmetry of the DCT gives wrong results
            m[-1, 0] += 0.25
        return m
    if kind in ("dft", "inverse_dft"):
        return fourier(max(shape), min(shape))[kind == "inverse_dft"]
    assert kind == "normal", kind
    return normal


def fourier(q: int, p: int) -> tuple[Tensor, Tensor]:
    """The orthonormal DFT (p, q), its first p frequencies, and its inverse: for p < q that of a half spectrum."""
    angles = (torch.arange(p)[:, None] * torch.arange(q) % q).double() * (-2 * torch.pi / q)
    matrix = torch.polar(torch.full_like(angles, q**-0.5), angles)
    times = torch.tensor([1.0 if p == q or k == 0 or 2 * k == q else 2.0 for k in range(p)], dtype=torch.float64)
    return matrix, matrix.mH.resolve_conj() * times


def transposed(t: Tensor) -> Tensor:
    order = range(t.dim())[::-1]
    return t.permute(*order).contiguous().permute(*order) if t.dim() else t


def expanded(t: Tensor) -> Tensor:
    """Stride 0: the first entry along dim 0 in every place (other values than t's)."""
    return t[:1].expand_as(t) if t.dim() and t.shape[0] else t


def offset(t: Tensor) -> Tensor:
    """Starts 3 values into its storage: not aligned for vector loads."""
    buffer = t.new_zeros(t.numel() + 5)
    return buffer[3 : 3 + t.numel()].copy_(t.reshape(-1)).view(t.shape)


def strided(t: Tensor) -> Tensor:
    """Every second value of a tensor twice as long."""
    return torch.stack([t, t + 1], -1)[..., 0]


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {f.__name__: f for f in (transposed, expanded, offset, strided)}


def map_tensors(f: Callable[[Tensor], Any], value: Any) -> Any:
    """`value` with f(t) in the place of each tensor, inside lists and tuples too."""
    if isinstance(value, list | tuple):
        return type(value)(map_tensors(f, item) for item in value)
    return f(value) if isinstance(value, Tensor) else value


def floating(t: Any) -> bool:
    return isinstance(t, Tensor) and (t.is_floating_point() or t.is_complex())


def make_row(op: str, args: list[Any], *words: Any) -> Sample:
    return Sample(op, "-".join(str(w) for w in (op, *words)), tuple(args))


# ---- to_branches, from_branches: N, I, Q, Q', matrix ---------------------------------------------------------------
_BRANCHES = [
    (64, 28, 28, 28, "dct2"),
    (64, 28, 28, 28, "random"),
    (1, 7, 8, 8, "random"),
    (1, 1, 1, 1, "identity"),
    (16, 1, 1, 1, "random"),
    (0, 5, 8, 8, "dct2"),
    (5, 0, 4, 4, "random"),
    (17, 10, 15, 9, "random"),
    (17, 10, 15, 9, "dct2"),
    (33, 29, 31, 37, "random"),
    (16, 31, 29, 29, "dct3"),
    (65, 8, 57, 57, "dct2"),
    (5, 3, 64, 64, "dct3"),
    (7, 4, 28, 28, "near_dct"),
    (3, 32, 33, 33, "identity"),
    (2, 2, 3, 3, "dct2"),
    (2, 3, 4, 2, "random"),
]
# ---- branch_linear: Q, N, I, O, bias, activation -------------------------------------------------------------------
_LINEAR = [
    (28, 64, 28, 28, True, "relu"),
    (1, 1, 1, 1, True, "none"),
    (3, 0, 4, 5, True, "relu"),
    (0, 3, 4, 5, False, "none"),
    (2, 3, 4, 0, True, "tanh"),
    (2, 3, 0, 4, True, "sigmoid"),
    (2, 16, 7, 8, False, "gelu"),
    (5, 17, 10, 15, True, "silu"),
    (2, 33, 29, 31, True, "tanh"),
    (3, 65, 32, 33, False, "sigmoid"),
    (1, 13, 57, 64, True, "gelu"),
    (4, 7, 64, 57, True, "none"),
    (3, 128, 1, 28, True, "relu"),
    (3, 5, 28, 1, False, "silu"),
    (2, 9, 128, 128, True, "relu"),
    (2, 3, 4, 2, True, "gelu"),
    (2, 3, 2, 3, True, "silu"),
    (1, 4, 3, 2, False, "tanh"),
]
# ---- networks: N, I, Q, Q', matrix (None: no transform), widths, biases (b or -), activations ----------------------
_DEEP = ([28] * 7 + [10], "b" * 8, ["relu"] * 7 + ["none"])
_LOW_RANK = ([8, 28] * 3 + [8, 10], "-b" * 4, ["none", "relu"] * 3 + ["none", "none"])
_NETWORKS = [
    (64, 28, 28, 28, "dct2", *_DEEP),
    (64, 28, 28, 28, "random", *_DEEP),
    (65, 28, 28, 28, "dct2", *_LOW_RANK),
    (33, 28, 28, 28, None, *_DEEP),
    (1, 1, 1, 1, "identity", [1], "b", ["none"]),
    (1, 28, 28, 28, "dct2", [28, 10], "bb", ["relu", "none"]),
    (16, 7, 1, 1, "random", [8, 3], "b-", ["tanh", "none"]),
    (0, 7, 5, 5, "dct2", [8, 3], "bb", ["relu", "none"]),
    (17, 29, 31, 31, "dct3", [7, 13], "-b", ["sigmoid", "tanh"]),
    (16, 8, 10, 6, "random", [7, 8, 10, 15, 28, 31], "b-b-bb", list(ACTIVATIONS)),
    (33, 57, 3, 3, "near_dct", [64, 33, 15, 1], "bbbb", ["silu", "gelu", "relu", "none"]),
    (5, 32, 2, 2, None, [29, 31, 57, 2], "b--b", ["gelu", "none", "silu", "none"]),
    (129, 10, 4, 4, None, [33, 10], "bb", ["relu", "none"]),
    (3, 2, 3, 3, "random", [3, 2], "b-", ["tanh", "none"]),
    (3, 2, 2, 2, None, [3, 2], "-b", ["gelu", "silu"]),
    (2, 3, 3, 2, "random", [2, 2, 3], "-bb", ["none", "sigmoid", "none"]),
    (3, 2, 2, 2, "dct2", [4, 2], "bb", ["relu", "none"]),
]
# ---- branch_ensemble: Q, N, C, space, weights ----------------------------------------------------------------------
_ENSEMBLES = [
    (28, 64, 10, "probabilities", "share"),
    (28, 65, 10, "logits", "share"),
    (1, 1, 1, "probabilities", "share"),
    (1, 3, 2, "logits", "normal"),
    (3, 0, 5, "probabilities", "share"),
    (5, 17, 2, "logits", "normal"),
    (7, 33, 100, "probabilities", "normal"),
    (4, 16, 15, "probabilities", "normal"),
    (2, 129, 31, "probabilities", "share"),
    (2, 3, 4, "probabilities", "normal"),
]
# ---- spectral_linear: N, I, O, Q, Q', matrix, bias, activation, output activation ----------------------------------
_SPECTRAL_LINEAR = [
    (64, 28, 28, 28, 28, "dct2", True, "relu", "none"),
    (64, 28, 28, 28, 28, "dct2", True, "none", "relu"),
    (64, 28, 28, 28, 28, "random", True, "gelu", "none"),
    (1, 1, 1, 1, 1, "identity", True, "none", "none"),
    (1, 28, 10, 28, 28, "dct2", False, "silu", "tanh"),
    (0, 3, 4, 5, 5, "dct2", True, "relu", "none"),
    (16, 7, 8, 1, 1, "random", True, "tanh", "none"),
    (17, 10, 15, 15, 8, "random", True, "sigmoid", "silu"),
    (33, 31, 29, 13, 17, "random", False, "relu", "gelu"),
    (65, 32, 33, 10, 10, "dct3", True, "none", "sigmoid"),
    (5, 57, 64, 7, 7, "near_dct", True, "relu", "none"),
    (2, 2, 2, 3, 3, "dct2", True, "gelu", "silu"),
    (2, 2, 3, 3, 2, "random", True, "sigmoid", "tanh"),
    (2, 3, 2, 2, 2, "random", False, "none", "gelu"),
    (2, 2, 2, 2, 3, "random", True, "tanh", "relu"),
]
# ---- branch_rnn: T, Q, N, I, P, O, bias, activations, lengths ------------------------------------------------------
_RNN = [
    (7, 28, 64, 28, 28, 28, True, "tanh", "none", False),
    (5, 3, 17, 10, 15, 9, True, "tanh", "sigmoid", True),
    (1, 1, 1, 1, 1, 1, True, "none", "none", False),
    (4, 2, 33, 29, 31, 33, False, "sigmoid", "tanh", False),
    (0, 2, 3, 4, 5, 2, True, "tanh", "none", False),
    (3, 2, 0, 4, 5, 2, True, "relu", "none", True),
    (6, 2, 65, 7, 8, 0, True, "tanh", "none", True),
    (3, 2, 5, 0, 4, 3, True, "tanh", "none", False),
    (2, 2, 29, 57, 64, 16, True, "silu", "gelu", False),
    (3, 1, 13, 5, 128, 3, False, "relu", "relu", False),
    (40, 2, 1, 3, 7, 2, True, "tanh", "none", False),
    (150, 1, 2, 4, 10, 5, True, "sigmoid", "none", True),
    (2, 2, 2, 2, 2, 2, True, "gelu", "silu", True),
    (3, 1, 2, 2, 3, 1, False, "silu", "tanh", False),
    (2, 2, 2, 2, 2, 1, True, "tanh", "sigmoid", False),
]


def _network(n: int, i: int, q: int, p: int, matrix: str | None, widths: list, biases: str, acts: list) -> list[Any]:
    """x, transform, weights, biases, activations. p: Q', the branches."""
    x = T((n, i, q)) if matrix else T((p, n, i))
    inner = [i, *widths[:-1]]
    weights = [T((p, o, w), "weight") for w, o in zip(inner, widths, strict=True)]
    vectors = [T((p, o), "bias") if b == "b" else None for o, b in zip(widths, biases, strict=True)]
    return [x, T((p, q), matrix) if matrix else None, weights, vectors, list(acts)]


def _network_id(n: int, i: int, q: int, p: int, matrix: str | None, widths: list, biases: str, acts: list) -> str:
    layers = ".".join(f"{w}{'b' if b == 'b' else ''}{a[:2]}" for w, b, a in zip(widths, biases, acts, strict=True))
    return f"N{n}-I{i}-Q{q}to{p}-{matrix}-{layers}"


def _rows() -> list[Sample]:
    rows = []
    for family, base in ((tube_samples.DCT, "dct"), (tube_samples.DST, "dst")):
        for shape, dim, type, norm, inverse, orthogonalize in family:
            for op in (base, f"{base}_adjoint"):
                words = ("x".join(map(str, shape)), dim, type, norm, "inverse" * inverse, "head" * orthogonalize)
                rows.append(make_row(op, [T(shape), type, dim, norm, inverse, orthogonalize], *words))
    for shape, *options in tube_samples.PLANES:
        words = ("x".join(map(str, shape)), *(str(o).replace(" ", "") for o in options))
        rows.append(make_row("dctn", [T(shape), *options], *words))
    for shape, dim, normalized in tube_samples.HADAMARD:
        args = [T(shape), dim, normalized]
        rows.append(make_row("hadamard", args, "x".join(map(str, shape)), dim, "normalized" * normalized))
    for n, i, q, p, matrix in _BRANCHES:
        words = (f"N{n}-I{i}-Q{q}to{p}", matrix)
        rows.append(make_row("to_branches", [T((n, i, q)), T((p, q), matrix)], *words))
        rows.append(make_row("from_branches", [T((p, n, i)), T((q, p), matrix)], *words))
    for q, n, i, o, bias, act in _LINEAR:
        args = [T((q, n, i)), T((q, o, i), "weight"), T((q, o), "bias") if bias else None, act]
        rows.append(make_row("branch_linear", args, f"Q{q}-N{n}-I{i}-O{o}", "b" if bias else "0", act))
    for net in _NETWORKS:
        n, p, c, name = net[0], net[3], net[5][-1], _network_id(*net)
        target = T((n,), f"class{c}")
        rows.append(make_row("spectral_mlp", _network(*net), name))
        rows.append(make_row("spectral_mlp_cross_entropy", [*_network(*net), target], name))
        for want in (True, False):
            args = [*_network(*net), target, want]
            rows.append(make_row("spectral_mlp_cross_entropy_with_grads", args, name, f"x{want:d}"))
            x, _, *layers = _network(n, net[1], net[2], p, None, *net[5:])
            rows.append(make_row("branch_mlp_backward", [T((p, n, c)), x, *layers, want], name, f"x{want:d}"))
        for space in ("probabilities", "logits"):
            args = [*_network(*net), T((p,), "share"), space]
            rows.append(make_row("spectral_ensemble", args, name, space))
            for want in (True, False):
                rows.append(make_row("spectral_ensemble_backward", [T((n, c)), *args, want], name, space, f"x{want:d}"))
    for q, n, c, space, kind in _ENSEMBLES:
        args = [T((q, n, c)), T((q,), kind), space]
        rows.append(make_row("branch_ensemble", args, f"Q{q}-N{n}-C{c}", space, kind))
        rows.append(make_row("branch_ensemble_backward", [T((n, c)), *args], f"Q{q}-N{n}-C{c}", space, kind))
    for n, i, o, q, p, matrix, bias, act, out in _SPECTRAL_LINEAR:
        args = [T((n, i, q)), T((p, q), matrix), T((p, o, i), "weight"), T((p, o), "bias") if bias else None]
        args += [act, T((q, p), matrix), out]
        words = (f"N{n}-I{i}-O{o}-Q{q}to{p}", matrix, "b" if bias else "0", act, out)
        rows.append(make_row("spectral_linear", args, *words))
        if out in ("gelu", "silu"):  # their derivatives cannot be told from y
            continue
        y = T((n, o, q))
        for want in (True, False):
            rows.append(make_row("spectral_linear_backward", [y, args[0], y, *args[1:], want], *words, f"x{want:d}"))
    for number, net in enumerate(_RNN):
        rows += _rnn_rows(number, *net)
    from convolution_samples import rows as convolutions  # here, because it is made of this file's parts
    from csg_samples import rows as csg
    from tucker_samples import rows as tuckers

    return [*rows, *convolutions(), *csg(), *tuckers()]


def _rnn_rows(
    number: int, t: int, q: int, n: int, i: int, p: int, o: int, bias: bool, act: str, out: str, ends: bool
) -> Iterator[Sample]:
    x, states, y = T((t, q, n, i)), T((t, q, n, p), "state"), T((t, q, n, o))
    weights = [T((q, p, i), "weight"), T((q, p, p), "weight"), T((q, o, p), "weight")]
    layer = [x, *weights, T((q, p), "bias") if bias else None, T((q, n, p), "state")]
    options = [act, out, T((n,), f"class{t + 1}") if ends else None]
    words = (f"T{t}-Q{q}-N{n}-I{i}-P{p}-O{o}", "b" if bias else "0", act, out, "ends" if ends else "all")
    yield make_row("branch_rnn", [*layer, *options], *words)
    yield make_row("branch_rnn_with_states", [*layer, *options], *words)
    # in turns without the gradient of one result
    grads = [y, T((q, n, p)), states]
    if number % 4:
        grads[number % 4 - 1] = None
    yield make_row("branch_rnn_backward", [*grads, *layer, states, *options, True], *words, "x1")
    if number % 3 == 0:
        yield make_row("branch_rnn_backward", [*grads, *layer, states, *options, False], *words, "x0")


RIGHT: list[Sample] = _rows()


def rows_of(op: str) -> list[Sample]:
    return [row for row in RIGHT if row.op == op]


def typical(op: str) -> Sample:
    """The first row of an op: the sizes that the project is about (64 samples, 28 x 28)."""
    return rows_of(op)[0]


def small(op: str) -> list[Sample]:
    return [row for row in rows_of(op) if row.small]
