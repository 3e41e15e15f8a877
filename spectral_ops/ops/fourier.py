"""The long transforms of the C++ kernel: which it takes, and the tables of its Fourier transform."""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from torch import Tensor

from .. import native
from ..autograd import outside_modes, untransformed
from . import checks
from .trigonometric import cosines

LONGEST_CODELET = 64  # the kernel multiplies by the matrix, split by its symmetry, up to here
CODELETS = frozenset((4, 8, 16, 32, 64))  # csrc/cuda/kernels/codelets.cu
# from these lengths on, up to that one, the Fourier transform is faster along the last axis where the kernel would
# transpose tiles for the matrix, and no prime factor is beyond 5 (measured)
FASTER = {1: 2 * LONGEST_CODELET + 1, 2: 36, 3: 36, 4: 32}
ROWS = {"avx512": 64, "avx2": 32, "portable": 16}  # the longest tube of csrc/cpu/simd/tube_rows.h: four vectors
# from so many values on, the matrix is faster than a Fourier transform with a large prime factor, by type (measured);
# before that, packing it takes longer
BY_MATRIX = {2: 1 << 17, 3: 1 << 17, 4: 1 << 18}
LINE, LONG_ROW = 16, 256  # of columns whose matrix writes past the caches: TubePass::has_long_rows in csrc/cpu/simd
HALVED = {2: 128, 3: 128, 4: 126}  # columns past the caches take the matrix up to here where it splits into halves
WHOLE = {2: 87, 3: 87, 4: 0}  # and up to here where it does not, by type (measured)
PAST_CACHES = 1 << 21  # values of float32 from which on columns are written so: csrc/cpu/simd/fetch.h
LONGEST = 1 << 15  # values of the Fourier transform: the work tiles of 32 tubes then take 12 MB, a share of the cache
SHORTEST_ROTATED, SHORTEST_ROTATED_ROW = 18, 26  # of type IV by matrix: shorter ones are as fast without (measured)
SHORTEST_SPLIT = {2: 36, 3: 32}  # by type, as measured: from there on two transforms of half the length are faster
FEWEST = 8  # tubes, of the 32 lanes (float32, AVX-512) that a tile has
LARGEST_RADIX = 311  # csrc/cpu/simd/fourier.h
LONGEST_ON_GPUS = 8192  # values of the Fourier transform: 16 in the registers of each of 512 threads


def why_not(x: Tensor, type: int, dim: int, sine: bool) -> str | None:
    """The reason against the C++ kernel for a transform of x along dim."""
    n = x.shape[dim]
    if n <= longest_codelet(x, type):
        return None
    size = length(n, type, sine)
    if max(size, circle(size)) > LONGEST:
        return f"n = {n} takes a Fourier transform past the {LONGEST} values whose tile fits the cache"
    many = tubes(x, dim)
    if type == 1 and x.dtype == torch.float64:
        return None  # slower with one tube, but twice as accurate as the library's FFT
    return f"{many} tubes fill too few lanes, which takes {FEWEST}" if many < FEWEST else None


def longest_codelet(x: Tensor, type: int) -> int:
    """LONGEST_CODELET, and twice that for type I in float64: its FFT of twice the length rounds more than sums do."""
    return 2 * LONGEST_CODELET if type == 1 and x.dtype == torch.float64 and for_cpu(x) else LONGEST_CODELET


def by_matrix(x: Tensor, type: int, dim: int) -> bool:
    """Whether the kernel multiplies by the matrix; else it takes a Fourier transform."""
    n, longest = x.shape[dim], longest_codelet(x, type)
    if n > longest or not for_cpu(x):
        return n <= longest or beats_fourier(x, type, dim)
    if math.prod(x.shape[dim % x.dim() + 1 :]) > 1 or by_rows(x, dim):
        return True
    return n < FASTER[type] or 60**n % n != 0 or tubes(x, dim) < 4 * FEWEST  # 60: of the primes 2, 3, 5


def by_rows(x: Tensor, dim: int) -> bool:
    """Whether csrc/cpu/simd/tube_rows.h takes a short transform."""
    inner = math.prod(x.shape[dim % x.dim() + 1 :])
    return x.dtype == torch.float32 and inner == 1 and x.shape[dim] <= ROWS.get(native.current_cpu_level() or "", 0)


def beats_fourier(x: Tensor, type: int, dim: int) -> bool:
    """Whether the matrix is faster beyond LONGEST_CODELET: up to twice that, as measured in float32 with AVX-512.

    Where a prime factor is large: beyond 7, but 31 where n is long and 64 in type IV, unless columns split into halves.
    Columns past the caches move under the products: there always, where these are few. Short rows of columns are
    stored in the ordinary way, which the Fourier transform avoids: it takes what it takes along the last axis.
    """
    n, values = x.shape[dim], x.numel()
    if n > 2 * LONGEST_CODELET or values < BY_MATRIX.get(type, math.inf) or x.dtype != torch.float32:
        return False
    if not for_cpu(x) or native.current_cpu_level() != "avx512":
        return False
    inner = math.prod(x.shape[dim % x.dim() + 1 :])
    columns = inner % LINE == 0 or inner >= LONG_ROW
    halves = columns and n % (2 if type == 4 else 4) == 0
    if columns and values >= PAST_CACHES and n <= (HALVED if halves else WHOLE)[type]:
        return True
    largest = 7 if halves else 64 if type == 4 else 31 if n > WHOLE[type] else 7
    return pow(math.factorial(largest), n, n) != 0


def by_codelet(x: Tensor, type: int, dim: int) -> bool:
    """Whether the CUDA kernel has a factorised form for this transform (of the type that is computed) in registers."""
    if for_cpu(x) or type not in (2, 3):
        return False
    longest = LONGEST_CODELET if x.element_size() == 4 else LONGEST_CODELET // 2
    return x.shape[dim] in CODELETS and x.shape[dim] <= longest


def rotates(x: Tensor, type: int, dim: int) -> bool:
    """Whether the kernel takes a transform by matrix as a rotation and two of half the length."""
    n = x.shape[dim]
    shortest = SHORTEST_ROTATED_ROW if by_rows(x, dim) else SHORTEST_ROTATED
    return type == 4 and n % 2 == 0 and n >= shortest and for_cpu(x)


def parts(x: Tensor, computed: int, dim: int) -> int:
    """By how much the kernel divides the length before it multiplies by the matrix, in types II and III: `split`."""
    n = least = x.shape[dim]
    in_rows = math.prod(x.shape[dim % x.dim() + 1 :]) == 1 and (n > LONGEST_CODELET or by_rows(x, dim))
    while least % 4 == 0 and least >= SHORTEST_SPLIT.get(computed, n + 1) and for_cpu(x) and not in_rows:
        least //= 2
    return n // least


def form(x: Tensor, type: int, computed: int, dim: int) -> str:
    """How the kernel makes a transform of this type, of an inverse or an adjoint another one: `computed`."""
    if by_codelet(x, computed, dim):
        return "codelet"
    if by_matrix(x, type, dim):
        return "rotated" if rotates(x, type, dim) else "matrix"
    return "fourier" if for_cpu(x) else "folded"


def for_cpu(x: Tensor) -> bool:
    """Whether the CPU kernels take x; the emulation of the CUDA kernels says no."""
    return x.is_cpu


def tubes(x: Tensor, dim: int) -> int:
    """How many there are along dim, which lie in lanes together."""
    return x.numel() // max(x.shape[dim], 1)


def cuda_why_not(x: Tensor, type: int, dim: int, sine: bool) -> str | None:
    """The reason against the CUDA C++ kernel for a transform of x along dim."""
    n = x.shape[dim]
    if n <= LONGEST_CODELET:
        return None
    size = length(n, type, sine, fold=True)
    size = max(size, circle(size))
    if size > LONGEST_ON_GPUS:
        return f"n = {n} takes a Fourier transform of {size} values, past the {LONGEST_ON_GPUS} of a block"
    needed = 2 * size * max(4, x.element_size())
    if needed > checks.SHARED_TUBE and needed > (given := shared_memory(x.device)):
        return f"n = {n} takes {needed} bytes of shared memory, past the {given} of this GPU"
    return None


def shared_memory(device: torch.device) -> int:
    """Bytes that a block of threads may have; without a GPU (fake tensors) those of sm_80, in the emulation its own."""
    if device.type != "cuda" or not torch.cuda.is_available():
        return 163 << 10
    return torch.cuda.get_device_properties(device).shared_memory_per_block_optin


def length(n: int, type: int, sine: bool, fold: bool = False) -> int:
    """Of the complex Fourier transform that gives a transform of n values; fold: type I as half of its even signal."""
    return {1: (1 if fold else 2) * (n + (1 if sine else -1)), 2: n, 3: n, 4: n if n % 2 else n // 2}[type]


def circle(length: int) -> int:
    """The power of two in which Bluestein's convolution gives it, where a prime factor is large; else 0."""
    rest = length
    for p in range(2, LARGEST_RADIX + 1):
        while rest % p == 0:
            rest //= p
    return 0 if rest == 1 else 1 << (2 * length - 2).bit_length()


def table(n: int, type: int, sine: bool, dtype: torch.dtype, device: torch.device, fold: bool = False) -> Tensor:
    """What `LongTubes` in csrc/cpu/kernels.h lists, as pairs one after the other, from exact angles, rounded once.

    Roots exp(-2 pi i j / length) (or of the circle); turns: types 2, 3 exp(i pi k / 2n), 2k <= n, type 4
    of even n exp(-i pi (4j+1) / 4n) and exp(-i pi k / n), type 1 folded exp(i pi k / length), k <= length; with a
    circle the chirp exp(-i pi j^2 / length), and the transform of its inverse over the circle.
    """
    return (_table if outside_modes() else _table.__wrapped__)(n, type, sine, dtype, device, fold)


@functools.lru_cache(maxsize=64)
def _table(n: int, type: int, sine: bool, dtype: torch.dtype, device: torch.device, fold: bool) -> Tensor:
    size = length(n, type, sine, fold)
    around = circle(size)
    parts = [_turns(-4 * np.arange(around or size), around or size)]
    if type in (2, 3):
        parts.append(_turns(np.arange(n // 2 + 1), n))
    elif type == 4 and n % 2 == 0:
        j = np.arange(size)
        parts += [_turns(-(4 * j + 1), 2 * n), _turns(-2 * j, n)]
    elif type == 1 and fold:
        parts.append(_turns(2 * np.arange(size + 1), size))
    if around:
        j = np.arange(size, dtype=np.int64)
        chirp = _turns(-2 * (j * j % (2 * size)), size)
        inverse: np.ndarray = np.zeros(around, np.clongdouble)
        inverse[:size] = chirp.conj()
        inverse[around - size + 1 :] = chirp[:0:-1].conj()
        parts += [chirp, np.fft.fft(inverse) / around]
    pairs = np.concatenate(parts).view(np.longdouble)
    with untransformed():  # the cache outlives any transform that the caller is in
        return torch.from_numpy(pairs.astype(np.float64 if dtype == torch.float64 else np.float32)).to(device)


def _turns(t: np.ndarray, quarter: int) -> np.ndarray:
    """exp(i pi t / (2 quarter)) for integers t."""
    return cosines(t, quarter) + 1j * cosines(quarter - t, quarter)
