"""The transforms made of waves: DCT, DST, DFT."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .. import functional
from ..ops import trigonometric
from ..ops.activations import wide
from .base import Fixed, at_least_one

_CPU = torch.device("cpu")


class _Trigonometric(Fixed):
    """What DCT and DST share."""

    sine: bool

    def __init__(self, length: int, type: int = 2, norm: str = "ortho") -> None:
        name = self.__class__.__name__
        at_least_one(name, length)
        if length == 1 and type == 1 and not self.sine:
            raise ValueError(f"{name}: length must be at least 2 for type 1, got 1")
        trigonometric.check(name, torch.empty(length, device="meta"), type, -1, norm, self.sine)
        super().__init__(*(self._table(length, type, norm, inverse) for inverse in (False, True)))
        self.type, self.norm, self.is_orthogonal = type, norm, norm == "ortho"

    def _table(self, length: int, type: int, norm: str, inverse: bool) -> Tensor:
        f = trigonometric.factors(length, type, norm, inverse, norm == "ortho", adjoint=False, sine=self.sine)
        return trigonometric.matrix(length, f, torch.float64, _CPU)

    def extra_repr(self) -> str:
        return f"{self.length}, type={self.type}, norm={self.norm!r}"


class DCT(_Trigonometric):
    """The discrete cosine transform of type 1 to 4, as `spectral_ops.dct` has it; orthonormal by default.

    The papers' runs used norm "backward": their t-product differs from the orthonormal one by a factor per slice
    (2 sqrt(Q) for k = 0, sqrt(2Q) otherwise).

    Raises:
        ValueError: length < 1, or 1 with type 1; type not 1 to 4; norm not "backward", "ortho" or "forward".
    """

    sine = False

    def fast(self, x: Tensor, dim: int = -1) -> Tensor:
        return functional.dct(self._tubes("fast", x, dim, self.length), self.type, dim=dim, norm=self.norm)

    def fast_inverse(self, y: Tensor, dim: int = -1) -> Tensor:
        return functional.idct(self._tubes("fast_inverse", y, dim, self.length), self.type, dim=dim, norm=self.norm)


class DST(_Trigonometric):
    """The discrete sine transform of type 1 to 4, as `spectral_ops.dst` has it; orthonormal by default.

    Raises:
        ValueError: length < 1; type not 1 to 4; norm not "backward", "ortho" or "forward".
    """

    sine = True

    def fast(self, x: Tensor, dim: int = -1) -> Tensor:
        return functional.dst(self._tubes("fast", x, dim, self.length), self.type, dim=dim, norm=self.norm)

    def fast_inverse(self, y: Tensor, dim: int = -1) -> Tensor:
        return functional.idst(self._tubes("fast_inverse", y, dim, self.length), self.type, dim=dim, norm=self.norm)


class DFT(Fixed):
    """The discrete Fourier transform: y_k = s sum_j x_j exp(-2 pi i jk / Q), in complex128.

    Args:
        length: Q. real: the data are real, whose spectrum is told by its first Q' = Q//2 + 1 values: only those are
            kept. norm: s = 1 ("backward"), Q^-1/2 ("ortho") or 1/Q ("forward").

    With real=True the `inverse` (Q, Q') counts the branches that stand for two of them twice: its columns have weight 1
    at k = 0 and k = Q/2 and 2 elsewhere, and x = Re(inverse @ y). It is unitary only where nothing is left out.

    Raises:
        ValueError: length < 1; norm not "backward", "ortho" or "forward".
        TypeError: (from `fast`) x is complex and real=True.
    """

    is_real = False

    def __init__(self, length: int, real: bool = False, norm: str = "ortho") -> None:
        at_least_one("DFT", length)
        if norm not in trigonometric.NORMS:
            raise ValueError(f"DFT: norm must be one of {', '.join(trigonometric.NORMS)}, got {norm!r}")
        branches = length // 2 + 1 if real else length
        scale = {"backward": 1.0, "ortho": length**-0.5, "forward": 1 / length}[norm]
        columns = torch.full((branches,), 1 / (length * scale), dtype=torch.float64)
        if real:
            columns[1 : (length + 1) // 2] *= 2
        waves = _fourier(length, branches)
        super().__init__(waves * scale, waves.mH * columns)
        self.real, self.norm = real, norm
        self.is_orthogonal = norm == "ortho" and branches == length

    @property
    def is_half(self) -> bool:
        return self.real  # for Q <= 2, where Q' = Q, the shape does not tell

    def fast(self, x: Tensor, dim: int = -1) -> Tensor:
        x = wide(self._tubes("fast", x, dim, self.length))
        if self.real and x.is_complex():
            raise TypeError(f"DFT.fast: x must be real as real=True promises, got {x.dtype}")
        if not x.numel():
            return super().fast(x, dim)  # the library's FFT refuses empty batches
        return (torch.fft.rfft if self.real else torch.fft.fft)(x, dim=dim, norm=self.norm)

    def fast_inverse(self, y: Tensor, dim: int = -1) -> Tensor:
        """x = inverse @ y; with real=True its real part, which is real in dtype too."""
        y = wide(self._tubes("fast_inverse", y, dim, self.branches))
        if not y.numel():
            x = super().fast_inverse(y, dim)
            return x.real if self.real else x
        if self.real:
            return torch.fft.irfft(y, n=self.length, dim=dim, norm=self.norm)
        return torch.fft.ifft(y, dim=dim, norm=self.norm)

    def extra_repr(self) -> str:
        return f"{self.length}, real={self.real}, norm={self.norm!r}"


def _fourier(length: int, branches: int) -> Tensor:
    """exp(-2 pi i jk / Q), (Q', Q), from integer angles."""
    t: np.ndarray = 4 * np.arange(branches)[:, None] * np.arange(length)[None, :]
    parts = trigonometric.cosines(t, length), 0.0 - trigonometric.cosines(length - t, length)
    return torch.complex(*(torch.from_numpy(part.astype(np.float64)) for part in parts))
