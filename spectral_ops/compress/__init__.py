"""Structured layers in the place of dense ones, in any model; the decompositions and rank rules behind them."""

from .baselines import MatrixConv2d, to_cp, to_matrix, to_matrix_dlrt
from .csg import CSGSummary, load_published, slices_of_model, to_csg
from .csg_fit import CodeSizeStudy, SliceShape, code_size_study, fit_csg, slice_shape_sweep
from .decompose import DecomposeAt, decompose, reconstruct, to_tucker
from .evbmf import evbmf, evbmf_rank
from .layers import LayerChange, Summary
from .norms import join_norms
from .pruning import prune_grasp, prune_magnitude, prune_snip
from .ranks import Budget, Energy, Evbmf, Fraction, allocate
from .spectral import FlatSpectralLinear, to_spectral
from .swap import swap_parameters
from .tdlrt import TDLRT
from .tucker import Tucker, hooi, hosvd, tucker_round

__all__ = [
    "TDLRT",
    "Budget",
    "CSGSummary",
    "CodeSizeStudy",
    "DecomposeAt",
    "Energy",
    "Evbmf",
    "FlatSpectralLinear",
    "Fraction",
    "LayerChange",
    "MatrixConv2d",
    "SliceShape",
    "Summary",
    "Tucker",
    "allocate",
    "code_size_study",
    "decompose",
    "evbmf",
    "evbmf_rank",
    "fit_csg",
    "hooi",
    "hosvd",
    "join_norms",
    "load_published",
    "prune_grasp",
    "prune_magnitude",
    "prune_snip",
    "reconstruct",
    "slice_shape_sweep",
    "slices_of_model",
    "swap_parameters",
    "to_cp",
    "to_csg",
    "to_matrix",
    "to_matrix_dlrt",
    "to_spectral",
    "to_tucker",
    "tucker_round",
]
