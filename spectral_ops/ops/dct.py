"""dct: the discrete cosine transform along one dimension, with scipy's meaning of type, norm and orthogonalize."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..autograd import outside_modes, untransformed
from . import checks
from .activations import wide

NORMS = ("backward", "ortho", "forward")
TYPES = (2, 3)
LONGEST_MATRIX = 256  # the reference multiplies by the matrix up to here, and takes an FFT beyond
LONGEST_CODELET = 64  # the C++ kernel keeps a whole column of the transform in registers and L1 up to here


class Factors(NamedTuple):
    """A DCT as scale * head_out * D_type * head_in: D the unnormalised transform, heads multiply index 0 alone."""

    type: int
    head_in: float
    head_out: float
    scale: float


def factors(n: int, type: int, norm: str, inverse: bool, orthogonalize: bool, adjoint: bool) -> Factors:
    """What scipy's arguments mean for length n."""
    if inverse:  # the inverse of II is III and of III is II, with forward and backward norms exchanged
        type = 5 - type
        norm = {"backward": "forward", "forward": "backward", "ortho": "ortho"}[norm]
    scale = {"backward": 1.0, "ortho": (2 * n) ** -0.5, "forward": 1 / (2 * n)}[norm]
    head_in = 2**0.5 if orthogonalize and type == 3 else 1.0
    head_out = 2**-0.5 if orthogonalize and type == 2 else 1.0
    if adjoint:  # D_2^T = D_3 with its head doubled, D_3^T = D_2 with its head halved
        head_in, head_out = (2 * head_out, head_in) if type == 2 else (head_out, 0.5 * head_in)
        type = 5 - type
    return Factors(type, head_in, head_out, scale)


def matrix(n: int, f: Factors, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The (n, n) matrix M of y = M x, computed in float64 with exact integer angles."""
    return (_matrix if outside_modes() else _matrix.__wrapped__)(n, f, dtype).to(device)


@functools.lru_cache(maxsize=256)
def _matrix(n: int, f: Factors, dtype: torch.dtype) -> Tensor:
    k = np.arange(n)
    angle = (2 * k[None, :] + 1) * k[:, None] % (4 * n)  # of D_2[k, j], in units of pi / 2n
    # fold into the first octant, so that equal magnitudes are equal to the last bit
    quarter = np.where(angle > 2 * n, 4 * n - angle, angle)
    folded = np.where(quarter > n, 2 * n - quarter, quarter)
    unit = np.pi / (2 * n)
    magnitude = np.where(2 * folded <= n, np.cos(folded * unit), np.sin((n - folded) * unit))
    m = 2 * np.where(quarter > n, -magnitude, magnitude)
    if f.type == 3:
        m = m.T.copy()
        m[:, 0] = 1
    m[:, 0] *= f.head_in
    m[0] *= f.head_out
    with untransformed():  # the cache outlives any transform that the caller is in
        return torch.from_numpy((m * f.scale).astype(np.float64 if dtype == torch.float64 else np.float32))


def check(
    x: Tensor,
    type: int = 2,
    dim: int = -1,
    norm: str = "backward",
    inverse: bool = False,
    orthogonalize: bool = False,
    op: str = "dct",
) -> None:
    checks.real(op, x=x)
    if type not in TYPES:
        raise ValueError(f"{op}: type must be one of {TYPES}, got {type}")
    if norm not in NORMS:
        raise ValueError(f"{op}: norm must be one of {', '.join(NORMS)}, got {norm!r}")
    if x.dim() == 0 or not -x.dim() <= dim < x.dim():
        raise ValueError(f"{op}: dim must be in [{-x.dim()}, {x.dim() - 1}] for x with {x.dim()} dimensions, got {dim}")
    if x.shape[dim] < 1:
        raise ValueError(f"{op}: x must have at least one value along dim {dim}, got {x.shape[dim]}")


def empty(
    x: Tensor,
    type: int = 2,
    dim: int = -1,
    norm: str = "backward",
    inverse: bool = False,
    orthogonalize: bool = False,
) -> Tensor:
    check(x, type, dim, norm, inverse, orthogonalize)
    return x.new_empty(x.shape)


def reference(
    x: Tensor,
    type: int = 2,
    dim: int = -1,
    norm: str = "backward",
    inverse: bool = False,
    orthogonalize: bool = False,
) -> Tensor:
    """Type II: y_k = 2 sum_j x_j cos(pi k (2j + 1) / 2n); type III: y_k = x_0 + 2 sum_j>0 x_j cos(pi j (2k + 1) / 2n).

    Args:
        x: any shape, real floating point. dim: the dimension of length n that is transformed; k counts half periods.
        type: 2 or 3. norm: "backward" (as above), "ortho" (times (2n)^-1/2), "forward" (times 1/2n).
        inverse: the inverse of that transform. orthogonalize: scale index 0 so that "ortho" is orthogonal.

    Returns: contiguous, shape and dtype of x (half computes in float32).
    Raises: ValueError for type, norm, dim and empty lengths, TypeError for dtypes.
    Accuracy: no worse than scipy.fft.dct in the same dtype for n <= 64, `tests/test_reference.py`.
    Gradient: to x, any order; it is `dct_adjoint`, again a transform. Deterministic: bitwise.
    Source: scipy.fft; long lengths by one FFT, J. Makhoul, IEEE TASSP 28 (1980) 27-34.
    """
    return transform(x, dim, factors(x.shape[dim], type, norm, inverse, orthogonalize, adjoint=False))


def transform(x: Tensor, dim: int, f: Factors) -> Tensor:
    """Apply the DCT that `f` describes along `dim`, in aten ops."""
    n = x.shape[dim]
    v = wide(x).movedim(dim, -1)
    if n <= LONGEST_MATRIX:
        y = v @ matrix(n, f, v.dtype, v.device).mT
    else:
        head = torch.ones(n, dtype=v.dtype, device=v.device)
        head_in, head_out = head.clone(), head
        head_in[0], head_out[0] = f.head_in, f.head_out
        y = (_second if f.type == 2 else _third)(v * head_in) * head_out * f.scale
    return y.movedim(-1, dim).to(x.dtype).contiguous()


def _second(v: Tensor) -> Tensor:
    """D_2 along the last dimension: an FFT of the even samples followed by the odd ones reversed."""
    n = v.shape[-1]
    spectrum = torch.fft.fft(torch.cat([v[..., ::2], v[..., 1::2].flip(-1)], -1))
    return 2 * (spectrum.real * _twiddle(n, v).real + spectrum.imag * _twiddle(n, v).imag)


def _third(v: Tensor) -> Tensor:
    """D_3 along the last dimension: 2n times the inverse of `_second`."""
    n = v.shape[-1]
    mirrored = torch.cat([torch.zeros_like(v[..., :1]), v[..., 1:].flip(-1)], -1)
    u = torch.fft.irfft((torch.complex(v, -mirrored) * _twiddle(n, v))[..., : n // 2 + 1], n) * n
    j = torch.arange(n, device=v.device)
    return u.index_select(-1, torch.where(j % 2 == 0, j // 2, n - 1 - j // 2))


def _twiddle(n: int, v: Tensor) -> Tensor:
    """exp(i pi k / 2n), k < n, rounded once from float64."""
    angle = torch.arange(n, dtype=torch.float64, device=v.device) * (torch.pi / (2 * n))
    return torch.complex(angle.cos().to(v.dtype), angle.sin().to(v.dtype))


def cpp_why_not(x: Tensor, type: int, dim: int, *_: Any) -> str | None:
    if x.shape[dim] <= LONGEST_CODELET:
        return None
    return f"n = {x.shape[dim]} is past {LONGEST_CODELET}, where an FFT does less work than the codelet"


def cpp(args: list[Any], out: Tensor) -> None:
    native(args, out, adjoint=False)


def native(args: list[Any], out: Tensor, adjoint: bool) -> None:
    """Hand x, seen as (outer, n, inner), and the matrix to the C++ kernel."""
    x, type, dim, norm, inverse, orthogonalize = args
    f = factors(x.shape[dim], type, norm, inverse, orthogonalize, adjoint)
    torch.ops.spectral_native.dct(x, matrix(x.shape[dim], f, x.dtype, x.device), dim % x.dim(), out)


def backward(args: list[Any], grads: Any, needs: list[Any]) -> list[Any]:
    return [torch.ops.spectral.dct_adjoint(grads[0], *args[1:]), *[None] * 5]
