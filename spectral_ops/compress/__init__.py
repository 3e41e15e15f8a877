"""Structured layers in the place of dense ones, in any model; the decompositions and rank rules behind them."""

from .evbmf import evbmf, evbmf_rank
from .ranks import Budget, Energy, Evbmf, Fraction, allocate
from .spectral import FlatSpectralLinear, LayerChange, Summary, to_spectral
from .tucker import Tucker, hooi, hosvd, tucker_round

__all__ = [
    "Budget",
    "Energy",
    "Evbmf",
    "FlatSpectralLinear",
    "Fraction",
    "LayerChange",
    "Summary",
    "Tucker",
    "allocate",
    "evbmf",
    "evbmf_rank",
    "hooi",
    "hosvd",
    "to_spectral",
    "tucker_round",
]
