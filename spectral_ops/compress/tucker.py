"""Tucker decompositions of a tensor: hosvd, hooi, tucker_round."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Tucker:
    """X = core x_m factors[m] over the modes that have a factor: a core and matrices with orthonormal columns.

    core: as many dimensions as X. factors: one entry a mode: (n_m, r_m), or None where the mode was left as it is.
    error: ||X - core x factors||_F / ||X||_F of the tensor X that was decomposed (of X = 0: 0).
    """

    core: Tensor
    factors: tuple[Tensor | None, ...]
    error: float

    @property
    def ranks(self) -> tuple[int, ...]:
        return tuple(self.core.shape)

    @property
    def parameters(self) -> int:
        return self.core.numel() + sum(u.numel() for u in self.factors if u is not None)

    def full(self) -> Tensor:
        """The tensor that core and factors stand for."""
        return multiply(self.core, self.factors)


def unfold_mode(x: Tensor, mode: int) -> Tensor:
    """Mat_m(X): the values along mode m as rows, (n_m, product of the others)."""
    return x.movedim(mode, 0).flatten(1) if x.dim() > 1 else x.unsqueeze(1)


def mode_multiply(x: Tensor, matrix: Tensor, mode: int) -> Tensor:
    """X x_m matrix: the matrix (p, n_m) applied along mode m."""
    return torch.tensordot(matrix, x, ([1], [mode])).movedim(0, mode)


def multiply(core: Tensor, factors: Sequence[Tensor | None]) -> Tensor:
    """core x_m factors[m] over the modes with a factor."""
    for mode, u in enumerate(factors):
        if u is not None:
            core = mode_multiply(core, u, mode)
    return core


def hosvd(x: Tensor, ranks: Sequence[int], modes: Sequence[int] | None = None) -> Tucker:
    """Higher-order SVD: factor m is the r_m leading left singular vectors of Mat_m(X), the core X x_m U_m^T.

    Args:
        x: real floating point, any number of dimensions. ranks: one for each of `modes`, from 1 to its length.
        modes: which are decomposed; default all.

    Returns: a `Tucker` of x's dtype. Its squared error is at most the sum of the modes' tails, and so at most sqrt(d)
        times the best possible error.
    Raises: ValueError for modes and ranks, TypeError for the dtype.
    Accuracy: computed in float64, rounded once.
    Source: De Lathauwer, De Moor, Vandewalle, SIAM J. Matrix Anal. Appl. 21 (2000) 1253.
    """
    modes = _check("hosvd", x, ranks, modes)
    exact = x.detach().double()
    found = {m: leading(unfold_mode(exact, m), r) for m, r in zip(modes, ranks, strict=True)}
    return _made(x, exact, found)


def hooi(
    x: Tensor, ranks: Sequence[int], modes: Sequence[int] | None = None, sweeps: int = 10, tolerance: float = 1e-6
) -> Tucker:
    """Higher-order orthogonal iteration: from the HOSVD, each factor in turn the best for the others.

    Args:
        x, ranks, modes: as of `hosvd`. sweeps: at most so many over the modes; it ends when the core's norm grows by
            less than `tolerance` of itself. The error never grows.

    Returns, Raises, Accuracy: as of `hosvd`.
    Source: De Lathauwer, De Moor, Vandewalle, SIAM J. Matrix Anal. Appl. 21 (2000) 1324; Kim et al., Compression of
    Deep Convolutional Neural Networks (2016), for two modes of a kernel.
    """
    modes = _check("hooi", x, ranks, modes)
    exact = x.detach().double()
    found = {m: leading(unfold_mode(exact, m), r) for m, r in zip(modes, ranks, strict=True)}
    if all(r == x.shape[m] for m, r in zip(modes, ranks, strict=True)):
        return _made(x, exact, found)
    before = -1.0
    for _ in range(sweeps):
        for mode, rank in zip(modes, ranks, strict=True):
            projected = exact
            for other in modes:
                if other != mode:
                    projected = mode_multiply(projected, found[other].mT, other)
            found[mode] = leading(unfold_mode(projected, mode), rank)
        size = float(mode_multiply(projected, found[mode].mT, mode).norm())
        if size - before <= tolerance * size:
            break
        before = size
    return _made(x, exact, found)


def tucker_round(
    x: Tensor,
    tolerance: float,
    modes: Sequence[int] | None = None,
    min_rank: int = 1,
    max_rank: int | None = None,
) -> Tucker:
    """The smallest ranks, mode after mode, whose total relative error is at most `tolerance`.

    Each of the d modes in turn drops the longest tail of singular values of norm <= tolerance ||X||_F / sqrt(d), of
    what the modes before have left. The squared errors add up (each is a projection), to at most tolerance^2.

    Args:
        x, modes: as of `hosvd`. tolerance: relative, at least 0. min_rank, max_rank: bounds of each rank; with
            max_rank the error may exceed the tolerance.

    Returns, Accuracy: as of `hosvd`; `error` is the total, and no rank exceeds the product of the others.
    Raises: ValueError for modes, tolerance and rank bounds, TypeError for the dtype.
    Source: Algorithm 1, line 11 of the TDLRT paper; Vannieuwenhoven et al., SIAM J. Sci. Comput. 34 (2012) A1027.
    """
    op = "tucker_round"
    modes = _check(op, x, None, modes)
    if not tolerance >= 0:
        raise ValueError(f"{op}: tolerance must be at least 0, got {tolerance}")
    if min_rank < 1 or (max_rank is not None and max_rank < min_rank):
        raise ValueError(f"{op}: ranks must have 1 <= min_rank <= max_rank, got {min_rank} and {max_rank}")
    exact = x.detach().double()
    allowed = tolerance * float(exact.norm()) / math.sqrt(max(len(modes), 1))
    core, found = exact, {}
    for mode in modes:
        u, s, _ = torch.linalg.svd(unfold_mode(core, mode), full_matrices=False)
        rank = min(max(kept(s, allowed), min_rank), s.numel() if max_rank is None else max_rank, s.numel())
        found[mode] = u[:, :rank]
        core = mode_multiply(core, found[mode].mT, mode)
    core, turns = attainable(core, modes)
    return _made(x, exact, {m: u @ turns[m] if m in turns else u for m, u in found.items()}, core)


def attainable(core: Tensor, modes: Iterable[int]) -> tuple[Tensor, dict[int, Tensor]]:
    """The same tensor as core x_m turns[m], with no rank beyond the product of the others: one mode's at most is."""
    for mode in modes:
        others = core.numel() // core.shape[mode]
        if core.shape[mode] > others:
            turn, rest = torch.linalg.qr(unfold_mode(core, mode))
            shape = [others, *(n for m, n in enumerate(core.shape) if m != mode)]
            return rest.view(shape).movedim(0, mode), {mode: turn}
    return core, {}


def kept(values: Tensor, allowed: float) -> int:
    """How many of the descending singular values stay when the longest tail of norm <= allowed is dropped; >= 1."""
    tails = values.square().flip(0).cumsum(0).sqrt().flip(0)  # tails[i]: norm of values[i:]
    return max(int((tails > allowed).sum()), 1)


def leading(matrix: Tensor, rank: int) -> Tensor:
    """The leading left singular vectors of a matrix (n, m), as many as asked for, also beyond m."""
    wide = rank <= min(matrix.shape)
    return torch.linalg.svd(matrix, full_matrices=not wide)[0][:, :rank]


def _made(x: Tensor, exact: Tensor, found: dict[int, Tensor], core: Tensor | None = None) -> Tucker:
    factors = tuple(found.get(mode) for mode in range(x.dim()))
    if core is None:
        core = multiply(exact, [None if u is None else u.mT for u in factors])
    size = float(exact.norm())
    # directly: the difference of squared norms would lose half of the digits
    error = float((exact - multiply(core, factors)).norm()) / size if size else 0.0
    rounded = tuple(None if u is None else u.to(x.dtype).contiguous() for u in factors)
    return Tucker(core.to(x.dtype).contiguous(), rounded, error)


def _check(op: str, x: Tensor, ranks: Sequence[int] | None, modes: Sequence[int] | None) -> list[int]:
    if not isinstance(x, Tensor) or not x.is_floating_point():
        raise TypeError(f"{op}: x must be a real floating point tensor, got {getattr(x, 'dtype', x)}")
    chosen = list(range(x.dim())) if modes is None else list(modes)
    if len(set(chosen)) != len(chosen) or not all(0 <= m < x.dim() for m in chosen):
        raise ValueError(f"{op}: modes must be different numbers from 0 to {x.dim() - 1}, got {chosen}")
    if 0 in x.shape or not x.dim():
        raise ValueError(f"{op}: x must not be empty, got {tuple(x.shape)}")
    if ranks is not None:
        if len(ranks) != len(chosen):
            raise ValueError(f"{op}: ranks must have one entry per mode, {len(chosen)}, got {list(ranks)}")
        for mode, rank in zip(chosen, ranks, strict=True):
            if not 1 <= rank <= x.shape[mode]:
                raise ValueError(f"{op}: the rank of mode {mode} must be from 1 to {x.shape[mode]}, got {rank}")
    return chosen
