"""Structured layers in the place of dense ones, in any model."""

from .spectral import FlatSpectralLinear, LayerChange, Summary, to_spectral

__all__ = ["FlatSpectralLinear", "LayerChange", "Summary", "to_spectral"]
