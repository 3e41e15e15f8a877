"""Layers over `torch.ops.spectral.*`: drop-in modules whose branches are independent in the spectral domain.

x is tube-last, (N, I, Q): N samples, I features, Q the length of the transformed dimension. A 28 x 28 image is one
sample with I = 28 rows and Q = 28 columns. Convolutions take images, (N, C, H, W), whose channels are Q slices, and
`BranchConv2d` images in branches, (N, Q', F, H, W). Sequences are (T, N, I, Q).
"""

from .conv import BranchConv2d, SpectralConv2d
from .csg import CSG, CSGConv2d, bake, csg_scope
from .ensemble import BranchEnsemble
from .images import FromBranches2d, SpectralPool, ToBranches2d
from .linear import SpectralLinear, TNNLinear
from .mlp import SpectralMLP
from .rnn import SpectralRNN
from .tucker import TuckerConv2d, TuckerLinear
from .tucker_norm import TuckerNorm2d

__all__ = [
    "CSG",
    "BranchConv2d",
    "BranchEnsemble",
    "CSGConv2d",
    "FromBranches2d",
    "SpectralConv2d",
    "SpectralLinear",
    "SpectralMLP",
    "SpectralPool",
    "SpectralRNN",
    "TNNLinear",
    "ToBranches2d",
    "TuckerConv2d",
    "TuckerLinear",
    "TuckerNorm2d",
    "bake",
    "csg_scope",
]
