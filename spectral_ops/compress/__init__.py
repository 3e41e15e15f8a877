"""Structured layers in the place of dense ones, in any model; the decompositions and rank rules behind them."""

from .decompose import DecomposeAt, decompose, reconstruct, to_tucker
from .evbmf import evbmf, evbmf_rank
from .layers import LayerChange, Summary
from .ranks import Budget, Energy, Evbmf, Fraction, allocate
from .spectral import FlatSpectralLinear, to_spectral
from .swap import swap_parameters
from .tdlrt import TDLRT
from .tucker import Tucker, hooi, hosvd, tucker_round

__all__ = [
    "TDLRT",
    "Budget",
    "DecomposeAt",
    "Energy",
    "Evbmf",
    "FlatSpectralLinear",
    "Fraction",
    "LayerChange",
    "Summary",
    "Tucker",
    "allocate",
    "decompose",
    "evbmf",
    "evbmf_rank",
    "hooi",
    "hosvd",
    "reconstruct",
    "swap_parameters",
    "to_spectral",
    "to_tucker",
    "tucker_round",
]
