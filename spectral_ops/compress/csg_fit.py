"""Codes and a generator whose filters come nearest to given ones, and how many codes real filters take."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..functional import dctn
from ..ops.csg_kernels import gathered

SWEEPS = 30  # of the alternating fit, where filters are cropped


def slices_of_filters(weights: Sequence[Tensor], slice_shape: Sequence[int], layout: str = "block") -> tuple:
    """The slices (S, F K h w) of all filters in float64, zero where they stick out, and where they do not."""
    step = list(slice_shape)
    rows = torch.cat([gathered(w.detach().double(), step, layout) for w in weights])
    there = torch.cat([gathered(torch.ones_like(w, dtype=torch.float64), step, layout) for w in weights]) > 0
    return rows, there


def fit_csg(
    weights: Sequence[Tensor],
    slice_shape: Sequence[int],
    code_size: int,
    generator: Tensor | None = None,
    layout: str = "block",
) -> tuple[list[Tensor], Tensor]:
    """Codes c and a generator A that minimise the sum over the filters' values of (A c - w)^2.

    Without cropping A spans the leading n_c right singular vectors of the matrix of slices (Eckart and Young). Where
    slices stick out, their outer values count nothing: these are filled in from the fit and it is repeated, which
    lowers the sum each time; in the end the codes are the exact least squares solution for the generator.

    Args:
        weights: filters (O, I, kh, kw). slice_shape: F, K, h, w. code_size: n_c.
        generator: (F K h w, n_c), kept as it is; None: found.
        layout: as in `torch.ops.spectral.csg_kernels`.

    Returns: the codes (S, n_c) of each filter, and the generator, in float64; a generator that was found has orthogonal
        columns and the mean square 1 / n_c.
    """
    rows, there = slices_of_filters(weights, slice_shape, layout)
    given = None if generator is None else generator.detach().double()
    filled, found = rows, given
    whole = bool(there.all())
    for _ in range(1 if whole or given is not None else SWEEPS):
        found = _leading(filled, code_size) if given is None else given
        if not whole and given is None:
            filled = torch.where(there, rows, filled @ _projector(found, filled))
    assert found is not None
    codes = _solve(rows, there, found)
    counts = [math.prod(-(-a // b) for a, b in zip(w.shape, slice_shape, strict=True)) for w in weights]
    return list(codes.split(counts)), found


def _leading(rows: Tensor, size: int) -> Tensor:
    """(P, size): orthogonal columns along the leading right singular vectors; beyond their number random ones."""
    small = rows.shape[0] < rows.shape[1]
    _, vectors = torch.linalg.eigh(rows @ rows.mT if small else rows.mT @ rows)
    leading = vectors.flip(-1)[:, :size]
    basis = torch.linalg.qr(rows.mT @ leading)[0] if small else leading
    if basis.shape[1] < size:
        more = torch.randn(rows.shape[1], size - basis.shape[1], dtype=rows.dtype, device=rows.device)
        basis = torch.cat([basis, more / rows.shape[1] ** 0.5], 1)
    return basis * (rows.shape[1] / size) ** 0.5


def _projector(generator: Tensor, rows: Tensor) -> Tensor:
    """(P, P): rows @ it are the nearest rows that the generator makes."""
    basis = torch.linalg.qr(generator)[0]
    return basis @ basis.mT


def _solve(rows: Tensor, there: Tensor, generator: Tensor) -> Tensor:
    """The codes of least squares; slices that stick out in the same way are solved together."""
    codes = rows.new_zeros(rows.shape[0], generator.shape[1])
    patterns, which = torch.unique(there, dim=0, return_inverse=True)
    for j, pattern in enumerate(patterns):
        mine = which == j
        codes[mine] = (torch.linalg.pinv(generator[pattern]) @ rows[mine][:, pattern].mT).mT
    return codes


@dataclass(frozen=True)
class SliceShape:
    """One shape of a sweep: its code size, the parameters of codes and generator, and how near the filters come."""

    shape: tuple[int, ...]
    code_size: int
    parameters: int
    error: float


def slice_shape_sweep(
    weights: Sequence[Tensor], shapes: Sequence[Sequence[int]], ratio: float = 18.0
) -> list[SliceShape]:
    """Fit filters with slices of several shapes, each with a code size `ratio` times smaller than its slice.

    Args:
        weights: filters (O, I, kh, kw). shapes: (F, K, h, w) of each candidate.
        ratio: values of a slice per code entry; 18 in the paper.

    Returns: an entry for each shape, with error = ||filters generated - weights|| / ||weights|| (Frobenius).
    Raises: ValueError for a ratio below 1.
    """
    if not ratio >= 1:
        raise ValueError(f"slice_shape_sweep: ratio must be at least 1, got {ratio}")
    found = []
    for shape in shapes:
        size = max(1, round(math.prod(shape) / ratio))
        codes, generator = fit_csg(weights, shape, size)
        rows, there = slices_of_filters(weights, shape)
        off = torch.where(there, torch.cat(codes) @ generator.mT - rows, 0.0).norm()
        parameters = sum(c.numel() for c in codes) + generator.numel()
        found.append(SliceShape(tuple(shape), size, parameters, float(off / rows.norm())))
    return found


@dataclass(frozen=True)
class CodeSizeStudy:
    """How much of the filters' energy their largest DCT coefficients hold (section 3.3).

    slices: how many were looked at. values: in each, F K h w.
    kept: (values,), the share of the energy that the k + 1 largest coefficients hold, mean over the slices.
    code_size: the fewest coefficients that hold the wanted energy, in the mean. ratio: values / code_size; the paper
        suggests 18 to 20.
    """

    slices: int
    values: int
    energy: float
    kept: Tensor
    code_size: int

    @property
    def ratio(self) -> float:
        return self.values / self.code_size

    def plot(self, path: str | Path) -> None:
        """Draw the curve with matplotlib, and mark the suggestion."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6, 4), layout="constrained")
        axes = figure.subplots()
        axes.plot(range(1, self.values + 1), self.kept.tolist())
        axes.axvline(self.code_size, linestyle=":", color="grey")
        text = f"{self.code_size} of {self.values}: {self.ratio:.1f}x fewer"
        axes.annotate(text, (self.code_size, self.energy), xytext=(8, -14), textcoords="offset points")
        axes.set(xlabel="largest DCT coefficients kept", ylabel="share of the energy", ylim=(0, 1.02))
        axes.set_title(f"{self.slices} slices")
        figure.savefig(path)


def code_size_study(
    weights: Tensor | Sequence[Tensor], energy: float = 0.5, slice_shape: Sequence[int] = (16, 16, 3, 3)
) -> CodeSizeStudy:
    """The orthonormal 4-D DCT-II of the slices of real filters, and how many coefficients hold the wanted energy.

    Args:
        weights: filters (O, I, kh, kw), or one; or slices (S, F K h w) as `slices_of_model` gives them.
            Slices that stick out of a filter are left out.
        energy: the share to be kept, in (0, 1].

    Raises: ValueError for another energy, and where no slice fits the filters.
    Source: Omidvar et al., Associative Convolutional Layers, section 3.3. The paper does not print its share.
    """
    op = "code_size_study"
    if not 0 < energy <= 1:
        raise ValueError(f"{op}: energy must be in (0, 1], got {energy}")
    if isinstance(weights, Tensor) and weights.dim() == 2:
        rows = weights.detach().double()
    else:
        filters = [weights] if isinstance(weights, Tensor) else list(weights)
        rows, there = slices_of_filters(filters, slice_shape)
        rows = rows[there.all(1)]
    if not rows.numel():
        raise ValueError(f"{op}: weights must hold a whole slice of shape {tuple(slice_shape)}, got none")
    spectrum = dctn(rows.view(-1, *slice_shape), dim=(1, 2, 3, 4), norm="ortho").flatten(1).square()
    kept = spectrum.sort(1, descending=True).values.cumsum(1)
    kept = (kept / kept[:, -1:].clamp_min(torch.finfo(kept.dtype).tiny)).mean(0)
    size = int((kept < energy * (1 - 1e-12)).sum()) + 1
    return CodeSizeStudy(rows.shape[0], rows.shape[1], energy, kept, min(size, rows.shape[1]))
