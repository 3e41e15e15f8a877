"""Convolutions of complex branches: against torch's complex convolution, block circulant weights, half the spectrum."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from complex_samples import ACTIVATIONS
from samples import fourier
from test_complex import equal, mirrored, normal
from torch import Tensor
from torch.nn import functional

from spectral_ops.op import rule_of
from spectral_ops.ops import activations, spectral_conv2d

ops = torch.ops.spectral
D, Z = torch.float64, torch.complex128
GEOMETRY = ([1, 2], [1, 0], [1, 1])
formats = pytest.mark.parametrize(
    "layout", [torch.contiguous_format, torch.channels_last], ids=["NCHW", "channels_last"]
)
mixtures = pytest.mark.parametrize("kinds", ["".join(k) for k in itertools.product("rc", repeat=5)][1:])


@pytest.fixture(autouse=True)
def _one_thread(threads):
    torch.set_num_threads(1)


def branches_of(x: Tensor, weight: Tensor, bias: Tensor, activation: str) -> Tensor:
    """Branch by branch, in torch's own complex numbers."""
    stride, padding, dilation = GEOMETRY
    layers = zip(x.to(Z).unbind(1), weight.to(Z), bias.to(Z), strict=True)
    y = [functional.conv2d(part, w, b, stride, padding, dilation) for part, w, b in layers]
    return activations.apply(activation, torch.stack(y, 1))


@formats
@mixtures
@pytest.mark.parametrize("activation", ["none", "crelu", "cardioid"])
def test_any_mixture_is_torchs_complex_convolution(kinds: str, activation: str, layout: Any) -> None:
    """Of x, transform, weight, bias and inverse; also of a spectrum that is not whole, and folded into one."""
    for q, p, folds in ((3, 3, True), (4, 3, True), (4, 3, False)):
        shapes = ((2, q * 2, 6, 5), (p, q), (p, 3, 2, 3, 2), (p, 3), (q, p))
        x, transform, weight, bias, inverse = (
            normal(*s, seed=k, dtype=Z if kind == "c" else D)
            for k, (s, kind) in enumerate(zip(shapes, kinds, strict=True))
        )
        x = x.contiguous(memory_format=layout)
        args = (x, transform, weight, bias, activation, inverse, *GEOMETRY)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(spectral_conv2d, "_folds", lambda *_, folds=folds: folds)
            got = ops.spectral_conv2d(*args)
        slices = torch.einsum("kp,npihw->nkihw", transform.to(Z), x.to(Z).unflatten(1, (q, 2)))
        h = branches_of(slices, weight, bias, activation)
        wanted = torch.einsum("qk,nkihw->nqihw", inverse.to(Z), h).flatten(1, 2)
        made = rule_of("spectral_conv2d").empty(*args)
        assert got.is_contiguous(memory_format=layout)
        assert (made.dtype, made.shape, made.stride()) == (got.dtype, got.shape, got.stride())
        assert got.is_complex() == (kinds[4] == "r" or p == q)
        equal(got, wanted if got.is_complex() else wanted.real, 1e-11)


@formats
@pytest.mark.parametrize("kinds", ["rc", "cr", "cc"])
@pytest.mark.parametrize(("q", "i", "o"), [(1, 3, 2), (4, 1, 2), (3, 9, 5), (2, 16, 16)])
def test_branches(kinds: str, q: int, i: int, o: int, layout: Any) -> None:
    x, weight = (
        normal(*s, seed=k, dtype=Z if kind == "c" else D)
        for k, (s, kind) in enumerate(zip(((2, q * i, 7, 6), (q, o, i, 3, 2)), kinds, strict=True))
    )
    bias = normal(q, o, seed=2, dtype=weight.dtype)
    x = x.contiguous(memory_format=layout).unflatten(1, (q, i))
    for activation in ACTIVATIONS:
        got = ops.branch_conv2d(x, weight, bias, activation, *GEOMETRY)
        equal(got, branches_of(x, weight, bias, activation), 1e-11)
        assert got.flatten(1, 2).is_contiguous(memory_format=layout)


@pytest.mark.parametrize("q", [2, 5, 6])
def test_the_dft_layer_is_a_convolution_with_block_circulant_weights(q: int) -> None:
    """Eq. (23): W(i, l, :, :) is block circulant, its first block column the inverse transform of the weights."""
    i, o = 3, 2
    x, slices = normal(2, q * i, 6, 5, dtype=D), normal(q, o, i, 3, 2, seed=1, dtype=D)
    dense = torch.stack([slices.roll(shift, 0) for shift in range(q)], 1)  # block (p, s): slice p - s
    wanted = functional.conv2d(x, dense.permute(0, 2, 1, 3, 4, 5).reshape(q * o, q * i, 3, 2), None, *GEOMETRY)
    spectrum = torch.fft.fft(slices, dim=0)
    for p in (q, q // 2 + 1):
        matrix, inverse = fourier(q, p)
        weight = spectrum[:p].contiguous()
        got = ops.spectral_conv2d(x, matrix, weight, None, "none", inverse, *GEOMETRY)
        assert got.is_complex() == (p == q)
        equal(got.to(Z), wanted.to(Z), 1e-11)
        folded = spectral_conv2d.folded(matrix, weight, inverse)
        blocks = (folded if p == q else folded.real + 0j).view(q, o, q, i, 3, 2)
        for shift in range(q):  # W[p, s] depends on p - s alone
            rolled = torch.stack([blocks[(s + shift) % q, :, s] for s in range(q)])
            equal(rolled, slices[shift].expand_as(rolled) + 0j, 1e-11)


@formats
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("q", [3, 6])
def test_half_a_spectrum_is_the_whole_one(activation: str, q: int, layout: Any) -> None:
    """Exactly when the activation commutes with conjugation, and W_(Q-k) = conj W_k (the real ones at 0 and Q/2)."""
    p, i, o = q // 2 + 1, 2, 3
    x = normal(2, q * i, 5, 6, dtype=D).contiguous(memory_format=layout)
    weight, bias = normal(p, o, i, 3, 2, seed=1), normal(p, o, seed=2)
    for k in {0, q // 2} if q % 2 == 0 else {0}:
        weight[k], bias[k] = weight[k].real + 0j, bias[k].real + 0j
    (half, half_back), (whole, whole_back) = fourier(q, p), fourier(q, q)
    got = ops.spectral_conv2d(x, half, weight, bias, activation, half_back, *GEOMETRY)
    wanted = ops.spectral_conv2d(x, whole, mirrored(weight, q), mirrored(bias, q), activation, whole_back, *GEOMETRY)
    assert got.dtype == D and wanted.dtype == Z
    same = torch.allclose(got + 0j, wanted, rtol=1e-11, atol=1e-11)
    assert same == (activation not in ("crelu", "zrelu"))
