"""Layers over `torch.ops.spectral.*`: drop-in modules whose branches are independent in the spectral domain.

x is tube-last, (N, I, Q): N samples, I features, Q the length of the transformed dimension. A 28 x 28 image is one
sample with I = 28 rows and Q = 28 columns. Sequences are (T, N, I, Q).
"""

from .ensemble import BranchEnsemble
from .linear import SpectralLinear, TNNLinear
from .mlp import SpectralMLP
from .rnn import SpectralRNN

__all__ = ["BranchEnsemble", "SpectralLinear", "SpectralMLP", "SpectralRNN", "TNNLinear"]
