"""Invertible linear maps along the tube dimension, as objects that every layer takes."""

from .base import Transform
from .dyadic import Haar, Hadamard
from .matrix import Identity, Matrix
from .waves import DCT, DFT, DST

__all__ = ["DCT", "DFT", "DST", "Haar", "Hadamard", "Identity", "Matrix", "Transform"]
