"""What the cosine and the sine transforms share: the meaning of scipy's arguments, exact tables, and the FFT forms.

Unnormalised, with j, k = 0 ... n-1 and scipy.fft's definitions (Ahmed, Natarajan, Rao 1974; Martucci 1994):
    type  D[k, j] of the DCT                   D[k, j] of the DST                       columns of weight 1, others 2
    I     cos(pi k j / (n-1))                  sin(pi (k+1)(j+1) / (n+1))               DCT: the first and the last
    II    cos(pi k (2j+1) / 2n)                sin(pi (k+1)(2j+1) / 2n)                 none
    III   cos(pi (2k+1) j / 2n)                sin(pi (2k+1)(j+1) / 2n)                 DCT: the first; DST: the last
    IV    cos(pi (2k+1)(2j+1) / 4n)            sin(pi (2k+1)(2j+1) / 4n)                none
D_I and D_IV invert themselves, D_II and D_III each other, up to the period of the table: `period`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..autograd import outside_modes, untransformed
from . import checks
from .activations import wide

NORMS = ("backward", "ortho", "forward")
TYPES = (1, 2, 3, 4)
LONGEST_MATRIX = 256  # the reference multiplies by the matrix up to here, and takes an FFT beyond
_PI = np.longdouble("3.14159265358979323846264338327950288")
_INVERSE = {1: 1, 2: 3, 3: 2, 4: 4}
_OPPOSITE = {"backward": "forward", "forward": "backward", "ortho": "ortho"}


class Factors(NamedTuple):
    """A transform as scale * heads_out * D_type * heads_in: D the unnormalised transform, heads as in `heads`."""

    type: int
    head_in: float
    head_out: float
    scale: float
    sine: bool = False


def factors(
    n: int, type: int, norm: str, inverse: bool, orthogonalize: bool, adjoint: bool, sine: bool = False
) -> Factors:
    """What scipy's arguments mean for length n."""
    if inverse:  # with forward and backward norms exchanged
        type, norm = _INVERSE[type], _OPPOSITE[norm]
    p = period(n, type, sine)
    scale = {"backward": 1.0, "ortho": p**-0.5, "forward": 1 / p}[norm]
    cosine_1 = type == 1 and not sine
    head_in = 2**0.5 if orthogonalize and (type == 3 or cosine_1) else 1.0
    head_out = 2**-0.5 if orthogonalize and (type == 2 or cosine_1) else 1.0
    if adjoint:
        # D^T of D_2 is D_3 with its head doubled going in, of D_3 is D_2 with its head halved coming out, and of a
        # DCT-I both; the other types are symmetric
        doubled, halved = type == 2 or cosine_1, type == 3 or cosine_1
        head_in, head_out = head_out * (2 if doubled else 1), head_in * (0.5 if halved else 1)
        type = _INVERSE[type]
    return Factors(type, head_in, head_out, scale, sine)


def period(n: int, type: int, sine: bool) -> int:
    """Of the signal that the transform continues x to, in samples; D times its inverse transform is this number."""
    return 2 * n if type != 1 else 2 * (n + 1) if sine else 2 * (n - 1)


def heads(n: int, f: Factors) -> list[int]:
    """The indices that head_in and head_out multiply: those whose column in D_III (D_I) has weight 1."""
    if f.type == 4 or (f.type == 1 and f.sine):
        return []
    if f.type == 1:
        return [0, n - 1]
    return [n - 1] if f.sine else [0]


def cosines(t: np.ndarray, quarter: int) -> np.ndarray:
    """cos(pi t / (2 quarter)) for integers t, in extended precision where the machine has it, to be rounded once.

    The argument is reduced in integers and folded into the first octant, so that equal magnitudes are equal to the
    last bit.
    """
    t = t % (4 * quarter)
    half = np.where(t > 2 * quarter, 4 * quarter - t, t)
    folded = np.where(half > quarter, 2 * quarter - half, half)
    unit = _PI / (2 * quarter)
    magnitude = np.where(2 * folded <= quarter, np.cos(folded * unit), np.sin((quarter - folded) * unit))
    return np.where(half > quarter, -magnitude, magnitude)


def matrix(n: int, f: Factors, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The (n, n) matrix M of y = M x, with exact integer angles and rounded once."""
    if not outside_modes():
        return _matrix.__wrapped__(n, f, dtype).to(device)
    return _matrix(n, f, dtype) if device.type == "cpu" else _elsewhere(n, f, dtype, device)


@functools.lru_cache(maxsize=256)
def _matrix(n: int, f: Factors, dtype: torch.dtype) -> Tensor:
    odd: np.ndarray = 2 * np.arange(n) + 1
    whole: np.ndarray = np.arange(n) + f.sine
    k, j = {1: (2 * whole, whole), 2: (whole, odd), 3: (odd, whole), 4: (odd, odd)}[f.type]
    quarter = {1: n + 1 if f.sine else n - 1, 2: n, 3: n, 4: 2 * n}[f.type]
    t = k[:, None] * j[None, :]
    m: np.ndarray = 2 * cosines(quarter - t if f.sine else t, quarter)  # sin a = cos(pi/2 - a)
    head = heads(n, f)
    if f.type in (1, 3):
        m[:, head] /= 2
    m[:, head] *= _root(f.head_in)
    m[head] *= _root(f.head_out)
    with untransformed():  # the cache outlives any transform that the caller is in
        return torch.from_numpy((m * _root(f.scale)).astype(np.float64 if dtype == torch.float64 else np.float32))


def rotated(n: int, f: Factors, dtype: torch.dtype) -> Tensor:
    """Type IV of even n = 2h as (h + 2, n): rows a, b; then row k of U and row k + 1 of V side by side, k < h.

    With theta_j = pi (2j+1) / 4n, j < h, and r the reversed x, or x itself where sine (and x the reversed one),
        u_j = x_j cos theta_j + r_j sin theta_j        U_k = 2 sum_j u_j cos(pi k (2j+1) / 2h)
        v_j = r_j cos theta_j - x_j sin theta_j        V_k = 2 sum_j v_j sin(pi k (2j+1) / 2h)
        y_2k = U_k + V_k,  y_(2k-1) = U_k - V_k (sine: V_k - U_k),  V_0 = U_h = 0,
    because (2p+1) / 4n is 2k / 2n plus or minus 1 / 4n. u_j and v_(h-1-j) are rows j and h + j of a x + b reversed x.
    """
    return (_rotated if outside_modes() else _rotated.__wrapped__)(n, f, dtype)


@functools.lru_cache(maxsize=64)
def _rotated(n: int, f: Factors, dtype: torch.dtype) -> Tensor:
    half = n // 2
    odd: np.ndarray = 2 * np.arange(half) + 1
    k: np.ndarray = np.arange(half)[:, None]
    cosine, sine = cosines(odd, 2 * n), cosines(2 * n - odd, 2 * n)
    turns = np.stack([np.concatenate([cosine, cosine[::-1]]), np.concatenate([sine, -sine[::-1]])])
    u = cosines(k * odd, half)
    v = cosines(half - (k + 1) * odd[::-1], half)
    halves = 2 * np.concatenate([u, v], 1) * _root(f.scale)
    table = np.concatenate([turns[::-1] if f.sine else turns, halves])
    with untransformed():  # the cache outlives any transform that the caller is in
        return torch.from_numpy(table.astype(np.float64 if dtype == torch.float64 else np.float32))


def split(n: int, f: Factors, dtype: torch.dtype, device: torch.device, parts: int) -> Tensor:
    """Types II and III in rows of n / parts values, parts a power of two: the matrix itself, or, on a CPU, two halves.

    The even rows of type II (columns of type III) are the same of half the length, the odd ones type IV of half the
    length; of a sine transform the other way round. So the matrix of n / parts comes first, then what n / parts, twice
    that and so on up to n / 2 take as type IV: `rotated`.
    """
    if parts == 1:
        return matrix(n, f, dtype, device)
    return (_split if outside_modes() else _split.__wrapped__)(n, f, dtype, parts)


@functools.lru_cache(maxsize=64)
def _split(n: int, f: Factors, dtype: torch.dtype, parts: int) -> Tensor:
    least = n // parts
    lengths = [least << i for i in range(parts.bit_length() - 1)]
    fourths = [rotated(length, f._replace(type=4), dtype) for length in lengths]
    with untransformed():  # the cache outlives any transform that the caller is in
        return torch.cat([matrix(least, f, dtype, torch.device("cpu")), *(t.view(-1, least) for t in fourths)])


def _root(factor: float) -> np.longdouble:
    """A head or a scale beyond float64: each is the square root of a whole number, or of the inverse of one."""
    if factor < 1:
        return 1 / np.sqrt(np.longdouble(round(factor**-2)))
    return np.sqrt(np.longdouble(round(factor**2)))


@functools.lru_cache(maxsize=256)
def _elsewhere(n: int, f: Factors, dtype: torch.dtype, device: torch.device) -> Tensor:
    """On a GPU: copied once, or every call would wait for the copy, and no graph could capture it."""
    with untransformed():
        return _matrix(n, f, dtype).to(device)


def check(op: str, x: Tensor, type: int, dim: int, norm: str, sine: bool) -> None:
    """Of the arguments of `dct`, `dst` and their adjoints."""
    checks.real(op, x=x)
    if type not in TYPES:
        raise ValueError(f"{op}: type must be one of {TYPES}, got {type}")
    if norm not in NORMS:
        raise ValueError(f"{op}: norm must be one of {', '.join(NORMS)}, got {norm!r}")
    checks.dimension(op, x, dim)
    least = 2 if type == 1 and not sine else 1
    if x.shape[dim] < least:
        raise ValueError(
            f"{op}: x must have length at least {least} along dim {dim} for type {type}, got {x.shape[dim]}"
        )


def rules(op: str, sine: bool) -> tuple[Callable[..., None], Callable[..., Tensor]]:
    """`check` and `empty` of an op of this family: all take the same arguments, and give a result like x."""

    def check_op(x: Tensor, type: int, dim: int, norm: str, inverse: bool, orthogonalize: bool) -> None:
        check(op, x, type, dim, norm, sine)

    def empty(*args: Any) -> Tensor:
        check_op(*args)
        return args[0].new_empty(args[0].shape)

    return check_op, empty


def transform(x: Tensor, dim: int, f: Factors) -> Tensor:
    """Apply what `f` describes along `dim`, in aten ops."""
    if not x.numel():
        return x.clone(memory_format=torch.contiguous_format)  # the library's FFT refuses empty batches
    n = x.shape[dim]
    v = wide(x).movedim(dim, -1)
    if n <= LONGEST_MATRIX:
        y = v @ matrix(n, f, v.dtype, v.device).mT
    else:
        y = _unnormalised(_scaled(v, f, f.head_in, 1.0), f)
        y = _scaled(y, f, f.head_out, f.scale)
    return y.movedim(-1, dim).to(x.dtype).contiguous()


def _scaled(v: Tensor, f: Factors, head: float, rest: float) -> Tensor:
    """v times `rest`, and times `head` at the heads."""
    if head == 1.0:
        return v if rest == 1.0 else v * rest
    weights = np.full(v.shape[-1], rest)
    weights[heads(v.shape[-1], f)] *= head
    return v * torch.tensor(weights, dtype=v.dtype, device=v.device)


def _unnormalised(v: Tensor, f: Factors) -> Tensor:
    """D along the last dimension by one FFT. A sine transform is a cosine transform with signs and order changed:

    S_2 = reverse C_2 signs, S_3 = signs C_3 reverse, S_4 = signs C_4 reverse, signs being (-1)^j: exact, no rounding.
    """
    if f.type == 1:
        # its FFT has twice the length of the others': in float32 that alone would cost accuracy
        exact = v.double() if v.is_cpu else v
        return (_first_sine(exact) if f.sine else _first(exact)).to(v.dtype)
    form = {2: _second, 3: _third, 4: _fourth}[f.type]
    if not f.sine:
        return form(v)
    signs = torch.ones(v.shape[-1], dtype=v.dtype, device=v.device)
    signs[1::2] = -1
    return form(v * signs).flip(-1) if f.type == 2 else form(v.flip(-1)) * signs


def _first(v: Tensor) -> Tensor:
    """C_1: the real FFT of the signal mirrored at both ends, of length 2n - 2."""
    return _fft(torch.cat([v, v[..., 1:-1].flip(-1)], -1), real=True).real


def _first_sine(v: Tensor) -> Tensor:
    """S_1: the real FFT of the odd continuation 0, x, 0, -reversed x, of length 2n + 2."""
    zero = torch.zeros_like(v[..., :1])
    return -_fft(torch.cat([zero, v, zero, -v.flip(-1)], -1), real=True).imag[..., 1:-1]


def _second(v: Tensor) -> Tensor:
    """C_2: an FFT of the even samples followed by the odd ones reversed (Makhoul 1980)."""
    n = v.shape[-1]
    spectrum = _fft(torch.cat([v[..., ::2], v[..., 1::2].flip(-1)], -1))
    turn = _turns(n, 1, 0, 4 * n, v)
    return 2 * (spectrum.real * turn.real + spectrum.imag * turn.imag)


def _third(v: Tensor) -> Tensor:
    """C_3: 2n times the inverse of C_2."""
    n = v.shape[-1]
    mirrored = torch.cat([torch.zeros_like(v[..., :1]), v[..., 1:].flip(-1)], -1)
    spectrum = torch.complex(v, -mirrored) * _turns(n, 1, 0, 4 * n, v)
    if _trusted(n, v.dtype):
        u = torch.fft.irfft(spectrum[..., : n // 2 + 1], n) * n
    else:
        u = _fft(spectrum.conj()).real
    j = torch.arange(n, device=v.device)
    return u.index_select(-1, torch.where(j % 2 == 0, j // 2, n - 1 - j // 2))


def _fourth(v: Tensor) -> Tensor:
    """C_4: for even n the FFT of n/2 complex values x_2j + i x_(n-1-2j), turned before and after.

    For odd n, (2j+1)(2k+1) = 4jk + 2j + 2k + 1: the first n values of an FFT of length 2n, turned likewise.
    """
    n = v.shape[-1]
    if n % 2:
        turned = v * _turns(n, 1, 0, 4 * n, v).conj()
        spectrum = _fft(torch.cat([turned, torch.zeros_like(turned)], -1))[..., :n]
        turn = _turns(n, 2, 1, 8 * n, v)
        return 2 * (spectrum.real * turn.real + spectrum.imag * turn.imag)
    # (4j+1)(4k+1) = 16jk + 4j + (4k+1)
    before, after = _turns(n // 2, 4, 0, 8 * n, v).conj(), _turns(n // 2, 4, 1, 8 * n, v).conj()
    spectrum = _fft(torch.complex(v[..., ::2], v[..., 1::2].flip(-1)) * before) * after
    return 2 * torch.stack([spectrum.real, -spectrum.imag.flip(-1)], -1).flatten(-2)


def _trusted(n: int, dtype: torch.dtype) -> bool:
    """Whether the library's FFT of length n is as accurate as it should be.

    MKL's in float64 is 10 to 100 times off where n has prime factors beyond 13: 2e-14 at 2044 = 4 * 7 * 73, torch 2.13
    """
    if dtype == torch.float32:
        return True
    for p in (2, 3, 5, 7, 11, 13):
        while n % p == 0:
            n //= p
    return n == 1


def _fft(z: Tensor, real: bool = False) -> Tensor:
    """The FFT along the last dimension; of real z where asked for, the n/2 + 1 values that tell the others.

    Lengths that are not trusted go by way of a power of two (Bluestein 1970): jk = (j^2 + k^2 - (k-j)^2) / 2.
    """
    n = z.shape[-1]
    if _trusted(n, torch.float64 if z.dtype in (torch.float64, torch.complex128) else torch.float32):
        return torch.fft.rfft(z) if real else torch.fft.fft(z)
    m = 1 << (2 * n - 2).bit_length()
    j = torch.arange(n, dtype=torch.int64, device=z.device)
    angle = (j * j % (2 * n)).double() * (torch.pi / n)
    chirp = torch.complex(angle.cos(), angle.sin())
    mirrored = torch.cat([chirp, chirp.new_zeros(m - 2 * n + 1), chirp[1:].flip(-1)])
    padded = torch.cat([z * chirp.conj(), z.new_zeros(*z.shape[:-1], m - n)], -1)
    # always beside another row: MKL splits a lone long FFT among threads, at 1.5 times the error
    spectra = torch.fft.fft(torch.cat([padded.reshape(-1, m), mirrored[None]]))
    products = torch.cat([spectra[:-1] * spectra[-1], spectra[-1:]])
    y = torch.fft.ifft(products)[:-1, :n].view(z.shape) * chirp.conj()
    return y[..., : n // 2 + 1] if real else y


def _turns(count: int, step: int, start: int, period: int, v: Tensor) -> Tensor:
    """exp(2 pi i (step k + start) / period), k < count, rounded once from float64."""
    angle = (torch.arange(count, dtype=torch.float64, device=v.device) * step + start) * (2 * torch.pi / period)
    return torch.complex(angle.cos().to(v.dtype), angle.sin().to(v.dtype))
