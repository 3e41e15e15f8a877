"""The Python front of the transforms: scipy.fft's signatures over `torch.ops.spectral.dct`."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def dct(
    x: Tensor,
    type: int = 2,
    n: int | None = None,
    dim: int = -1,
    norm: str | None = None,
    orthogonalize: bool | None = None,
    *,
    axis: int | None = None,
) -> Tensor:
    """The discrete cosine transform, with the meaning of `scipy.fft.dct`.

    Args:
        x: any shape; integers become the default dtype; of a complex tensor both parts are transformed.
        type: 2 or 3. n: pad with zeros or crop to this length first. dim (or axis): the transformed dimension.
        norm: None or "backward", "ortho", "forward". orthogonalize: default True for "ortho", else False.

    Returns: shape of x with n along dim, dtype of x (half computes in float32).
    Raises: ValueError for type, norm, dim and n < 1; TypeError for bool.
    Accuracy, Gradient, Source: see `spectral_ops.ops.dct.reference`.
    """
    return _transform("dct", x, type, n, dim if axis is None else axis, norm, orthogonalize, inverse=False)


def idct(
    x: Tensor,
    type: int = 2,
    n: int | None = None,
    dim: int = -1,
    norm: str | None = None,
    orthogonalize: bool | None = None,
    *,
    axis: int | None = None,
) -> Tensor:
    """The inverse of `dct` with the same arguments, with the meaning of `scipy.fft.idct`."""
    return _transform("idct", x, type, n, dim if axis is None else axis, norm, orthogonalize, inverse=True)


def _transform(
    op: str,
    x: Tensor,
    type: int,
    n: int | None,
    dim: int,
    norm: str | None,
    orthogonalize: bool | None,
    inverse: bool,
) -> Tensor:
    if x.dtype == torch.bool:
        raise TypeError(f"{op}: x must be a number, got {x.dtype}")
    if x.is_complex():
        parts = torch.view_as_real(x).movedim(-1, 0)
        re, im = (_transform(op, part, type, n, dim, norm, orthogonalize, inverse) for part in parts)
        return torch.complex(re, im)
    if not x.is_floating_point():
        x = x.to(torch.get_default_dtype())
    if n is not None:
        x = _resize(op, x, n, dim)
    norm = norm or "backward"
    orthogonalize = norm == "ortho" if orthogonalize is None else orthogonalize
    return torch.ops.spectral.dct(x, type, dim, norm, inverse, orthogonalize)


def _resize(op: str, x: Tensor, n: int, dim: int) -> Tensor:
    if n < 1:
        raise ValueError(f"{op}: n must be at least 1, got {n}")
    if not -x.dim() <= dim < x.dim():
        raise ValueError(f"{op}: dim must be in [{-x.dim()}, {x.dim() - 1}] for x with {x.dim()} dimensions, got {dim}")
    length = x.shape[dim]
    if n <= length:
        return x.narrow(dim, 0, n)
    return functional.pad(x.movedim(dim, -1), (0, n - length)).movedim(-1, dim)
