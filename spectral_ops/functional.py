"""The Python front of the transforms: scipy.fft's signatures over `torch.ops.spectral.dct` and `dst`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from .ops import checks


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
        type: 1, 2, 3 or 4. n: pad with zeros or crop to this length first. dim (or axis): the transformed dimension.
        norm: None or "backward", "ortho", "forward". orthogonalize: default True for "ortho", else False.

    Returns: shape of x with n along dim, dtype of x (half computes in float32).
    Raises: ValueError for type, norm, dim, n < 1 and length 1 with type 1; TypeError for bool.
    Formula, Accuracy, Gradient, Source: see `spectral_ops.ops.dct.reference`.
    """
    return _along("dct", x, type, n, dim if axis is None else axis, norm, orthogonalize)


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
    return _along("idct", x, type, n, dim if axis is None else axis, norm, orthogonalize)


def dctn(
    x: Tensor,
    type: int = 2,
    s: int | Sequence[int] | None = None,
    dim: int | Sequence[int] | None = None,
    norm: str | None = None,
    orthogonalize: bool | None = None,
    *,
    axes: int | Sequence[int] | None = None,
) -> Tensor:
    """The DCT along several dimensions, one after the other, with the meaning of `scipy.fft.dctn`.

    Args:
        x, type, norm, orthogonalize: as in `dct`.
        s: the length, or lengths, to pad or crop to; -1 keeps one. Without dim: of the last dimensions.
        dim (or axes): the transformed dimensions; None is those of s, or all.

    Returns: shape of x with s along dim, dtype of x (half computes in float32 and is rounded once, on a GPU after each
        dimension).
    Raises: as `dct`, and ValueError for dimensions that repeat and for s that does not fit dim.
    Gradient, Accuracy, Source: see `dct`.
    """
    return _over("dctn", x, type, s, dim if axes is None else axes, norm, orthogonalize)


def idctn(
    x: Tensor,
    type: int = 2,
    s: int | Sequence[int] | None = None,
    dim: int | Sequence[int] | None = None,
    norm: str | None = None,
    orthogonalize: bool | None = None,
    *,
    axes: int | Sequence[int] | None = None,
) -> Tensor:
    """The inverse of `dctn` with the same arguments, with the meaning of `scipy.fft.idctn`."""
    return _over("idctn", x, type, s, dim if axes is None else axes, norm, orthogonalize)


def dst(
    x: Tensor,
    type: int = 2,
    n: int | None = None,
    dim: int = -1,
    norm: str | None = None,
    orthogonalize: bool | None = None,
    *,
    axis: int | None = None,
) -> Tensor:
    """The discrete sine transform, with the meaning of `scipy.fft.dst`.

    Args:
        x: any shape; integers become the default dtype; of a complex tensor both parts are transformed.
        type: 1, 2, 3 or 4. n: pad with zeros or crop to this length first. dim (or axis): the transformed dimension.
        norm: None or "backward", "ortho", "forward". orthogonalize: default True for "ortho", else False.

    Returns: shape of x with n along dim, dtype of x (half computes in float32).
    Raises: ValueError for type, norm, dim, n < 1; TypeError for bool.
    Formula, Accuracy, Gradient, Source: see `spectral_ops.ops.dst.reference`.
    """
    return _along("dst", x, type, n, dim if axis is None else axis, norm, orthogonalize)


def idst(
    x: Tensor,
    type: int = 2,
    n: int | None = None,
    dim: int = -1,
    norm: str | None = None,
    orthogonalize: bool | None = None,
    *,
    axis: int | None = None,
) -> Tensor:
    """The inverse of `dst` with the same arguments, with the meaning of `scipy.fft.idst`."""
    return _along("idst", x, type, n, dim if axis is None else axis, norm, orthogonalize)


def dstn(
    x: Tensor,
    type: int = 2,
    s: int | Sequence[int] | None = None,
    dim: int | Sequence[int] | None = None,
    norm: str | None = None,
    orthogonalize: bool | None = None,
    *,
    axes: int | Sequence[int] | None = None,
) -> Tensor:
    """The DST along several dimensions, one after the other, with the meaning of `scipy.fft.dstn`.

    Args:
        x, type, norm, orthogonalize: as in `dst`.
        s: the length, or lengths, to pad or crop to; -1 keeps one. Without dim: of the last dimensions.
        dim (or axes): the transformed dimensions; None is those of s, or all.

    Returns: shape of x with s along dim, dtype of x (half computes in float32 and is rounded once, on a GPU after each
        dimension).
    Raises: as `dst`, and ValueError for dimensions that repeat and for s that does not fit dim.
    Gradient, Accuracy, Source: see `dst`.
    """
    return _over("dstn", x, type, s, dim if axes is None else axes, norm, orthogonalize)


def idstn(
    x: Tensor,
    type: int = 2,
    s: int | Sequence[int] | None = None,
    dim: int | Sequence[int] | None = None,
    norm: str | None = None,
    orthogonalize: bool | None = None,
    *,
    axes: int | Sequence[int] | None = None,
) -> Tensor:
    """The inverse of `dstn` with the same arguments, with the meaning of `scipy.fft.idstn`."""
    return _over("idstn", x, type, s, dim if axes is None else axes, norm, orthogonalize)


def _along(
    name: str,
    x: Tensor,
    type: int,
    n: int | None,
    dim: int,
    norm: str | None,
    orthogonalize: bool | None,
) -> Tensor:
    """The transform along one dimension."""
    x = checks.number(name, x)
    if n is not None:
        checks.dimension(name, x, dim)
        x = _resize(name, "n", x, n, dim)
    return _apply(name, x, type, [dim], norm, orthogonalize)


def _over(
    name: str,
    x: Tensor,
    type: int,
    s: int | Sequence[int] | None,
    dim: int | Sequence[int] | None,
    norm: str | None,
    orthogonalize: bool | None,
) -> Tensor:
    """The transform along each of several dimensions."""
    x = checks.number(name, x)
    lengths = [s] if isinstance(s, int) else s
    if dim is None:
        if lengths is not None and len(lengths) > x.dim():
            raise ValueError(f"{name}: s must have at most {x.dim()} lengths as x has dimensions, got {len(lengths)}")
        dims = list(range(-(x.dim() if lengths is None else len(lengths)), 0))
    else:
        dims = [dim] if isinstance(dim, int) else list(dim)
        for d in dims:
            checks.dimension(name, x, d)
        checks.once(name, x, dims)
        if lengths is not None and len(lengths) != len(dims):
            raise ValueError(f"{name}: s must have one length for each of {len(dims)} dims, got {len(lengths)}")
    for d, length in zip(dims, lengths or [], strict=False):
        x = _resize(name, "s", x, x.shape[d] if length == -1 else length, d)
    return _apply(name, x, type, dims, norm, orthogonalize)


def _apply(
    name: str,
    x: Tensor,
    type: int,
    dims: Sequence[int],
    norm: str | None,
    orthogonalize: bool | None,
) -> Tensor:
    if x.is_complex():
        re, im = (_apply(name, part, type, dims, norm, orthogonalize) for part in (x.real, x.imag))
        return torch.complex(re, im)
    norm = "backward" if norm is None else norm
    orthogonalize = norm == "ortho" if orthogonalize is None else orthogonalize
    inverse, sine = name.startswith("i"), "dst" in name
    if len(dims) > 1 and x.is_cpu:
        return torch.ops.spectral.dctn(x, dims, type, norm, inverse, orthogonalize, sine)
    op = torch.ops.spectral.dst if sine else torch.ops.spectral.dct
    for d in dims:  # on a GPU each dimension has its own kernel
        x = op(x, type, d, norm, inverse, orthogonalize)
    return x


def _resize(name: str, argument: str, x: Tensor, n: int, dim: int) -> Tensor:
    """x, cropped or padded with zeros to length n along dim."""
    if n < 1:
        raise ValueError(f"{name}: {argument} must be at least 1, got {n}")
    length = x.shape[dim]
    if n <= length:
        return x.narrow(dim, 0, n)
    return functional.pad(x.movedim(dim, -1), (0, n - length)).movedim(-1, dim)
