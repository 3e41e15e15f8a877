"""Where the tensor algebra computes: the slices of L(A), as a stack of matrices (..., Q', n1, n2)."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from .autograd import outside_modes, transforming
from .ops import checks
from .transforms import Transform

_KINDS = (*checks.REAL, torch.complex64, torch.complex128)


def product(a: Tensor, b: Tensor) -> Tensor:
    """a @ b in the dtype of a, under autocast too."""
    with _exact(a):
        return a @ b


def _exact(x: Tensor) -> AbstractContextManager[object]:
    """Autocast switched off on the device of x."""
    device = x.device.type
    return torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()


def check_numbers(op: str, **tensors: Tensor) -> None:
    """TypeError unless all are floating point or complex, of one dtype, on one device."""
    first = None
    for name, t in tensors.items():
        if not isinstance(t, Tensor) or t.dtype not in _KINDS:
            got = getattr(t, "dtype", type(t).__name__)
            raise TypeError(f"{op}: {name} must be floating point or complex, got {got}")
        first = first or (name, t.dtype, t.device)
        if t.dtype != first[1]:
            raise TypeError(f"{op}: {name} must be {first[1]} as {first[0]}, got {t.dtype}")
        if t.device != first[2]:
            raise TypeError(f"{op}: {name} must be on {first[2]} as {first[0]}, got {t.device}")


@dataclass(frozen=True)
class _Conjugates:
    """Rows of L that stand for all: `keep` one of each conjugate pair; row k is row `source[k]` or its conjugate."""

    own: Tensor  # (kept,) bool: a row that is its own conjugate, so that its slice is real
    keep: Tensor | None = None
    source: Tensor | None = None
    conjugated: Tensor | None = None


_known: WeakKeyDictionary[Transform, tuple[Tensor, int, _Conjugates | None]] = WeakKeyDictionary()  # source, version


def _conjugates(transform: Transform) -> _Conjugates | None:
    """What `_find_conjugates` says of the matrix as it is now."""
    if torch.compiler.is_compiling() or transforming() or not outside_modes():
        return _find_conjugates(transform)  # may belong to the mode: not to be kept
    matrix = transform.matrix
    source, version, value = _known.get(transform, (None, 0, None))
    if source is not matrix or version != matrix._version:
        with torch.inference_mode(False), torch.no_grad():
            value = _find_conjugates(transform)
        _known[transform] = matrix, matrix._version, value
    return value


def _find_conjugates(transform: Transform) -> _Conjugates | None:
    """None unless L turns real tubes into tubes whose products, inverses and conjugates come from real tubes too.

    Those of a square L do exactly when its rows are real or come in conjugate pairs. A transform with fewer branches
    than its length holds one row of each pair.
    """
    matrix = transform.matrix.detach()
    close = 64 * torch.finfo(matrix.dtype).eps * matrix.abs().max()
    if transform.branches < transform.length:
        return _Conjugates(own=(matrix.imag.abs() <= close).all(1))
    # the images of random numbers tell the rows apart
    generator = torch.Generator().manual_seed(0)
    probe = matrix @ torch.rand(transform.length, generator=generator, dtype=torch.float64).to(matrix)
    partner = (probe.conj()[:, None] - probe).abs().argmin(1)
    if not bool(((matrix[partner] - matrix.conj()).abs() <= close).all()):
        return None
    rows = torch.arange(transform.length, device=matrix.device)
    first = torch.minimum(rows, partner)
    keep = (rows == first).nonzero()[:, 0]
    return _Conjugates((rows == partner)[keep], keep, torch.searchsorted(keep, first), rows > partner)


class Faces:
    """The domain of one call: float32 or float64 (or complex), one slice of each conjugate pair, and the way back.

    Of real tensors under a complex L whose rows come in conjugate pairs (the DFT) half of the slices are kept, because
    the others are their conjugates, and what comes back is real. Everything else is computed in full.

    Args:
        op: for messages. transform: L. tensors: the arguments; their last dimension is L's length.
        shape: how messages write that shape.

    Raises: ValueError for shapes, TypeError for dtypes, devices, and complex tensors where L has half a spectrum.
    """

    def __init__(self, op: str, transform: Transform, shape: str = "(..., n1, n2, Q)", **tensors: Tensor) -> None:
        if not isinstance(transform, Transform):
            raise TypeError(f"{op}: transform must be a spectral_ops.transforms.Transform, got {transform!r}")
        check_numbers(op, **tensors)
        for name, t in tensors.items():
            if t.dim() < 3 or t.shape[-1] != transform.length:
                raise checks.wrong_shape(op, name, t, f"{shape} with Q = {transform.length} as the transform")
        (name, x), *_ = tensors.items()
        if x.is_complex() and transform.branches < transform.length:
            raise TypeError(f"{op}: {name} must be real where the transform keeps half a spectrum, got {x.dtype}")
        self.transform = transform
        self.exact = torch.promote_types(x.dtype, torch.float32)
        pairs = None if transform.is_real or x.is_complex() else _conjugates(transform)
        self.pairs = pairs
        self.is_real = not x.is_complex() and (transform.is_real or pairs is not None)
        self.dtype = x.dtype if self.is_real else torch.promote_types(self.exact, torch.complex64)

    def of(self, x: Tensor) -> Tensor:
        """The slices of L(x)."""
        y = _forward(self.transform, x.to(self.exact)).movedim(-1, -3)
        if self.pairs is None or self.pairs.keep is None:
            return y
        return y.index_select(-3, self.pairs.keep.to(y.device))

    def tensor(self, y: Tensor) -> Tensor:
        """L^-1 of slices, in the dtype of the results."""
        pairs = self.pairs
        if pairs is not None and pairs.source is not None and pairs.conjugated is not None:
            y = y.index_select(-3, pairs.source.to(y.device))
            y = torch.where(pairs.conjugated.to(y.device)[:, None, None], y.conj(), y)
        x = _backward(self.transform, y.movedim(-3, -1))
        return (x.real if self.is_real and x.is_complex() else x).to(self.dtype)

    def slices(self) -> int:
        """How many slices are kept."""
        return self.transform.branches if self.pairs is None else len(self.pairs.own)

    def shares(self, like: Tensor) -> Tensor:
        """(slices,): for how many slices each stands, in the real dtype of `like`."""
        if self.pairs is None:
            return torch.ones(self.slices(), dtype=like.real.dtype, device=like.device)
        return (2 - self.pairs.own.to(torch.int64)).to(like.device, like.real.dtype)

    def svd(self, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """U, S, V of each slice, economy size; real ones where the slice is real, so that U, S, V are slices too."""
        if self.pairs is None:
            return _svd(y)
        order = torch.argsort(self.pairs.own.to(torch.int8), descending=True, stable=True)  # the real ones first
        real, back = int(self.pairs.own.sum()), torch.argsort(order).to(y.device)
        sorted_y = y.index_select(-3, order.to(y.device))
        u, s, v = _svd(sorted_y[..., :real, :, :].real)
        u2, s2, v2 = _svd(sorted_y[..., real:, :, :])
        return (
            torch.cat([u.to(u2.dtype), u2], -3).index_select(-3, back),
            torch.cat([s, s2], -2).index_select(-2, back),
            torch.cat([v.to(v2.dtype), v2], -3).index_select(-3, back),
        )


def _svd(y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    u, s, vh = torch.linalg.svd(y, full_matrices=False)
    return u, s, vh.mH


def _forward(transform: Transform, x: Tensor) -> Tensor:
    """L along the last dimension, (..., Q) -> (..., Q'), by the transform's own fast algorithm."""
    with _exact(x):
        return transform.fast(x)


def _backward(transform: Transform, y: Tensor) -> Tensor:
    """L^-1 along the last dimension, (..., Q') -> (..., Q); of half a spectrum the real part is to be taken."""
    with _exact(y):
        return transform.fast_inverse(y)
