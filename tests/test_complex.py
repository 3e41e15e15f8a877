"""Complex branches: values by hand and against loops in numpy, the half spectrum, mixtures of real and complex."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from calls import results
from complex_samples import ACTIVATIONS, COMPLEX, OPS, complex_rows
from samples import Sample, T, floating, fourier, make, map_tensors
from torch import Tensor

import spectral_ops
from spectral_ops.autograd import flatten
from spectral_ops.op import rule_of
from spectral_ops.ops import activations
from spectral_ops.table import TABLE

ops = torch.ops.spectral
D, Z = torch.float64, torch.complex128
every_row = pytest.mark.parametrize("row", COMPLEX, ids=lambda row: row.id)
every_activation = pytest.mark.parametrize("activation", ACTIVATIONS)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = Z) -> Tensor:
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def equal(a: Tensor, b: Tensor, tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


# ---- activations ---------------------------------------------------------------------------------------------------
BY_HAND = [
    ("none", 3 - 4j, 3 - 4j),
    ("crelu", 3 - 4j, 3 + 0j),
    ("crelu", -3 + 4j, 4j),
    ("zrelu", 3 + 4j, 3 + 4j),
    ("zrelu", 3 - 4j, 0j),
    ("zrelu", -3 + 4j, 0j),
    ("zrelu", 3 + 0j, 0j),
    ("modrelu", 3 - 4j, 4.9 * (0.6 - 0.8j)),
    ("modrelu:-0.1", 3 - 4j, 4.9 * (0.6 - 0.8j)),
    ("modrelu:2", 3 - 4j, 7 * (0.6 - 0.8j)),
    ("modrelu:-5", 3 - 4j, 0j),
    ("modrelu:-6", 3 - 4j, 0j),
    ("cardioid", 3 - 4j, 0.8 * (3 - 4j)),
    ("cardioid", -2 + 0j, 0j),
    ("cardioid", 2 + 0j, 2 + 0j),
    *[(name, 0j, 0j) for name in ("none", "crelu", "zrelu", "modrelu", "modrelu:2", "cardioid")],
]


@pytest.mark.parametrize(("activation", "z", "h"), BY_HAND)
def test_activations_by_hand(activation: str, z: complex, h: complex) -> None:
    y = ops.branch_linear(torch.tensor([[[z]]]), torch.ones(1, 1, 1, dtype=torch.float32), None, activation)
    assert y.dtype == torch.complex64
    assert y.item() == pytest.approx(h, abs=1e-6)


def test_codes_and_offsets() -> None:
    names = ("none", "relu", "gelu", "silu", "tanh", "sigmoid", "crelu", "zrelu", "cardioid", "modrelu")
    assert [activations.code(name) for name in names] == list(range(10))
    assert activations.code("modrelu:-1e-3") == 9
    offsets = {"modrelu": -0.1, "modrelu:-0.5": -0.5, "modrelu:2": 2.0, "modrelu:1e-3": 1e-3, "crelu": 0.0, "relu": 0.0}
    assert {name: activations.offset(name) for name in offsets} == offsets


@every_activation
def test_gradient_of_an_activation_is_autograds(activation: str) -> None:
    """`through` is a formula of its own; also where a part is 0, on the axes and at the edge of modrelu."""
    special = torch.tensor([0, 1, -1, 1j, -1j, 0.06 + 0.08j, 0.05j, -0.3, 1 + 1j, -1e-9 + 1e-9j], dtype=Z)
    z = torch.cat([special, normal(200)]).requires_grad_()
    grad = normal(210, seed=1)
    h = activations.apply(activation, z)
    (wanted,) = torch.autograd.grad(h, z, grad, retain_graph=True)
    got = activations.through(activation, grad, z.detach(), h.detach())
    assert bool(torch.view_as_real(got).isfinite().all())
    equal(got, wanted)


@pytest.mark.parametrize(
    ("activation", "at_zero"),
    [("none", 1.0), ("crelu", 0.0), ("zrelu", 0.0), ("modrelu", 0.0), ("modrelu:0.3", 0.0), ("cardioid", 0.5)],
)
def test_gradients_at_zero(activation: str, at_zero: float) -> None:
    z = torch.zeros(2, 3, 2, dtype=Z, requires_grad=True)
    y = ops.branch_linear(z, torch.eye(2, dtype=D).expand(2, 2, 2), None, activation)
    grad = normal(2, 3, 2)
    assert torch.equal(torch.autograd.grad(y, z, grad)[0], at_zero * grad)


@every_activation
def test_which_activations_commute_with_conjugation(activation: str) -> None:
    z = normal(50)
    commutes = torch.equal(activations.apply(activation, z.conj()), activations.apply(activation, z).conj())
    assert commutes == (activation not in ("crelu", "zrelu"))


@every_activation
def test_nan_passes(activation: str) -> None:
    z = torch.tensor([complex(math.nan, 1), complex(1, math.nan)], dtype=Z)
    h = activations.apply(activation, z)
    assert bool(torch.view_as_real(h).isnan().any(-1).all())


# ---- values, against numpy -----------------------------------------------------------------------------------------
def act(name: str, z: np.ndarray) -> np.ndarray:
    head, _, number = name.partition(":")
    r = np.abs(z)
    unit = np.divide(z, r, out=np.zeros_like(z), where=r > 0)
    formulas = {
        "none": lambda: z,
        "crelu": lambda: np.maximum(z.real, 0) + 1j * np.maximum(z.imag, 0),
        "zrelu": lambda: np.where((z.real > 0) & (z.imag > 0), z, 0),
        "modrelu": lambda: np.maximum(r + float(number or -0.1), 0) * unit,
        "cardioid": lambda: (1 + np.cos(np.angle(z))) / 2 * z,
        "tanh": lambda: np.tanh(z.real),
        "gelu": lambda: z.real * np.vectorize(lambda t: 0.5 * (1 + math.erf(t / 2**0.5)))(z.real),
    }
    return formulas[head]()


def numpy_network(args: list[Any]) -> np.ndarray:
    x, transform, weights, biases, acts = args
    h = x.numpy().astype(complex)
    if transform is not None:
        h = np.moveaxis(h @ transform.numpy().T, -1, 0)
    branches = []
    for q, branch in enumerate(h):
        for w, b, a in zip(weights, biases, acts, strict=True):
            branch = branch @ w[q].numpy().T + (0 if b is None else b[q].numpy())
            branch = act(a, branch.astype(complex))
        branches.append(branch)
    return np.stack(branches)


@pytest.mark.parametrize("row", complex_rows("spectral_mlp"), ids=lambda row: row.id)
def test_networks_are_loops_over_branches(row: Sample) -> None:
    args = row.make(D)
    got = ops.spectral_mlp(*args)
    assert got.dtype == Z and got.is_contiguous()
    equal(got, torch.from_numpy(numpy_network(args)), 1e-11)


@pytest.mark.parametrize("row", complex_rows("spectral_linear"), ids=lambda row: row.id)
def test_spectral_linear_is_its_three_stages(row: Sample) -> None:
    x, transform, weight, bias, activation, inverse, output = row.make(D)
    h = numpy_network([x, transform, [weight], [bias], [activation]])
    y = np.moveaxis(h, 0, -1) @ inverse.numpy().T
    half = inverse.is_complex() and inverse.shape[0] > inverse.shape[1]
    wanted = act(output, (y.real if half else y).astype(complex))
    got = ops.spectral_linear(x, transform, weight, bias, activation, inverse, output)
    assert got.dtype == (D if half else Z)
    equal(got, torch.from_numpy(wanted.real.copy() if half else wanted), 1e-11)


@pytest.mark.parametrize("q", [1, 2, 3, 4, 7, 8, 28])
def test_branches_are_numpys_fft(q: int) -> None:
    """Of the whole and of half the spectrum, back and forth."""
    x = normal(5, 3, q, dtype=D)
    for p in (q, q // 2 + 1):
        matrix, inverse = fourier(q, p)
        y = ops.to_branches(x, matrix)
        wanted = np.fft.fft(x.numpy(), norm="ortho")[:, :, :p]
        equal(y, torch.from_numpy(wanted).permute(2, 0, 1))
        back = ops.from_branches(y, inverse)
        assert back.dtype == (D if p < q else Z)
        equal(back.to(Z), x.to(Z))
    spectrum = normal(q, 5, 3)
    equal(ops.from_branches(spectrum, fourier(q, q)[1]), torch.fft.ifft(spectrum, dim=0, norm="ortho").permute(1, 2, 0))


@every_row
def test_single_precision(row: Sample) -> None:
    """complex64 against complex128, of the same arguments: right dtypes, and an error like that of a chain of sums."""
    args = row.make(torch.float32)
    got = results(row.op, args)
    twice = {torch.float32: D, torch.complex64: Z}
    wanted = results(row.op, map_tensors(lambda t: t.to(twice.get(t.dtype, t.dtype)), args))
    allocated = rule_of(row.op).empty(*args)
    made = flatten(allocated if isinstance(allocated, tuple | list) else [allocated])[0]
    for y, w, e in zip(got, wanted, made, strict=True):
        assert y.dtype == e.dtype and y.shape == e.shape and y.is_contiguous() and not y.is_conj()
        assert twice[y.dtype] == w.dtype
        if y.numel():
            assert (y - w).norm() <= 40 * torch.finfo(torch.float32).eps * w.norm()


@pytest.mark.parametrize("op", ["to_branches", "from_branches", "branch_linear"])
def test_products_are_within_the_bound(op: str) -> None:
    """|error| <= 4 eps sqrt(2K) (|a| @ |b|), element by element."""
    for row in complex_rows(op):
        args = [("none" if isinstance(a, str) else a) for a in row.make(torch.float32)]
        exact = results(op, map_tensors(lambda t: t.to(Z), args))[0]
        sizes = map_tensors(lambda t: t.to(Z).abs(), args)
        magnitude = results(op, sizes)[0]
        terms = 2 * (args[1].shape[-1] + (op == "branch_linear"))
        got = results(op, args)[0]
        error = (got - (exact if got.is_complex() else exact.real)).abs()
        assert bool((error <= 4 * torch.finfo(torch.float32).eps * terms**0.5 * magnitude).all()), row.id


# ---- half a spectrum is the whole one ------------------------------------------------------------------------------
def mirrored(t: Tensor, q: int) -> Tensor:
    """The whole spectrum of which t (Q', ...) is the first half: entry Q - k is the conjugate of entry k."""
    return torch.cat([t, t[1 : (q + 1) // 2].conj().flip(0)])


@every_activation
@pytest.mark.parametrize("q", [3, 6, 7, 8])
def test_half_a_spectrum_is_the_whole_one(activation: str, q: int) -> None:
    """Exactly when the activation commutes with conjugation, and W_(Q-k) = conj W_k (the real ones at 0 and Q/2)."""
    p = q // 2 + 1
    x, weight, bias = normal(4, 3, q, dtype=D), normal(p, 2, 3, seed=1), normal(p, 2, seed=2)
    for k in {0, q // 2} if q % 2 == 0 else {0}:
        weight[k], bias[k] = weight[k].real + 0j, bias[k].real + 0j
    (half, half_back), (whole, whole_back) = fourier(q, p), fourier(q, q)
    got = ops.spectral_linear(x, half, weight, bias, activation, half_back)
    wanted = ops.spectral_linear(x, whole, mirrored(weight, q), mirrored(bias, q), activation, whole_back)
    assert got.dtype == D and wanted.dtype == Z
    same = torch.allclose(got + 0j, wanted, rtol=1e-11, atol=1e-11)
    assert same == (activation not in ("crelu", "zrelu"))


def test_t_product_is_block_circulant() -> None:
    """With the DFT, the layer without activation is the circular convolution of tubes (eq. 1-4)."""
    q = 5
    x, weight = normal(4, 3, q, dtype=D), normal(2, 3, q, seed=1, dtype=D)
    for p in (q, q // 2 + 1):
        matrix, inverse = fourier(q, p)
        spectrum = torch.fft.fft(weight)[:, :, :p].permute(2, 0, 1)
        got = ops.spectral_linear(x, matrix, spectrum, None, "none", inverse)
        wanted = sum(
            torch.einsum("oi,ni->no", weight[:, :, s], x[:, :, (t - s) % q])[:, :, None] * (torch.arange(q) == t)
            for s, t in itertools.product(range(q), repeat=2)
        )
        equal(got + 0j, wanted + 0j)


# ---- losses and ensembles read the real part -----------------------------------------------------------------------
@pytest.mark.parametrize("row", complex_rows("spectral_mlp_cross_entropy"), ids=lambda row: row.id)
def test_losses_are_of_the_real_part(row: Sample) -> None:
    *net, target = row.make(D)
    losses, logits = ops.spectral_mlp_cross_entropy(*net, target)
    equal(logits, ops.spectral_mlp(*net))
    wanted = [torch.nn.functional.cross_entropy(z.real, target) for z in logits]
    assert losses.dtype == D
    equal(losses, torch.stack(wanted))
    equal(losses, spectral_ops.ensemble.branch_cross_entropy(logits, target))


@pytest.mark.parametrize("row", complex_rows("spectral_ensemble"), ids=lambda row: row.id)
def test_ensembles_are_of_the_real_part(row: Sample) -> None:
    *net, shares, space = row.make(D)
    logits = ops.spectral_mlp(*net)
    y = ops.spectral_ensemble(*net, shares, space)
    assert y.dtype == D
    equal(y, ops.branch_ensemble(logits.real.contiguous(), shares, space))
    equal(y, ops.branch_ensemble(logits, shares, space))


# ---- any mixture of real and complex -------------------------------------------------------------------------------
def _mixtures() -> list[tuple[bool, ...]]:
    return [m for m in itertools.product((False, True), repeat=5) if any(m)]


@pytest.mark.parametrize("mixture", _mixtures(), ids=lambda m: "".join("rc"[c] for c in m))
@pytest.mark.parametrize("half", [False, True], ids=["whole", "half"])
def test_a_mixture_is_the_promoted_call(mixture: tuple[bool, ...], half: bool) -> None:
    """Values; and gradients, each in its argument's dtype: of a real one the real part of the promoted one's."""
    p = 2 if half else 3
    shapes = ((3, 2, 3), (p, 3), (p, 2, 2), (p, 2), (3, p))
    leaves = [t.requires_grad_() for t in make([T(s, imaginary=c) for s, c in zip(shapes, mixture, strict=True)], D)]
    promoted = [t.detach().to(Z).requires_grad_() for t in leaves]
    if half and not mixture[4]:  # a complex inverse would say that the real part is meant
        promoted[4] = leaves[4].detach().clone().requires_grad_()

    def layer(x: Tensor, transform: Tensor, weight: Tensor, bias: Tensor, inverse: Tensor) -> Tensor:
        return ops.spectral_linear(x, transform, weight, bias, "cardioid", inverse)

    def network(x: Tensor, transform: Tensor, weight: Tensor, bias: Tensor, inverse: Tensor) -> Tensor:
        return ops.spectral_mlp(x, transform, [weight], [bias], ["cardioid"])

    for f in (layer, network) if any(mixture[:4]) else (layer,):
        y, wanted = f(*leaves), f(*promoted)
        equal(y, wanted)
        grad = torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(0))
        for g, w, t in zip(
            torch.autograd.grad(y, leaves, grad, allow_unused=True),
            torch.autograd.grad(wanted, promoted, grad, allow_unused=True),
            leaves,
            strict=True,
        ):
            assert (g is None) == (f is network and t is leaves[4])
            if g is not None:
                assert g.dtype == t.dtype
                equal(g, w if g.is_complex() else w.real, 1e-11)


# ---- dispatch ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("op", [op for op in OPS if TABLE[op].native])
def test_the_kernels_say_why_not(op: str) -> None:
    """Every mixture of real and complex arguments has a kernel; some ops have none."""
    missing = spectral_ops.native.status()["cpu"]
    reasons = {spectral_ops.backends(op, *row.make(torch.float32))[0][1] for row in complex_rows(op)}
    if TABLE[op].stages:  # of a real layer, where that is not one convolution
        reasons -= {"one dense convolution is less work"}
    takes = TABLE[op].complex_together or TABLE[op].stages
    assert reasons == {missing or (None if takes else "the native kernel is for real numbers")}


@pytest.mark.parametrize("op", [op for op in OPS if TABLE[op].complex_together or TABLE[op].stages])
def test_the_kernels_agree_with_the_definition(op: str, level: str) -> None:
    """All rows that a kernel takes, at every SIMD level, in both precisions."""
    for row in complex_rows(op):
        for dtype, eps in ((torch.float32, 2e-5), (torch.float64, 1e-12)):
            args = row.make(dtype)
            if dict(spectral_ops.backends(op, *args))["cpp"]:
                continue
            got = results(op, args)
            with spectral_ops.use("reference"):
                wanted = results(op, args)
            for y, w in zip(got, wanted, strict=True):
                assert y.dtype == w.dtype and y.shape == w.shape
                size = max(w.abs().max().item(), 1e-30) if w.numel() else 1.0
                assert not y.numel() or (y - w).abs().max().item() <= eps * size, (row.id, dtype)


@pytest.mark.parametrize("op", [op for op in OPS if "backward" not in op and "grads" not in op])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast_keeps_single_precision(op: str, dtype: torch.dtype) -> None:
    """Complex has no half: next to it nothing is lowered, and what was lowered before is raised again."""
    args = complex_rows(op)[0].make(torch.float32)
    wanted = results(op, args)
    with torch.autocast("cpu", dtype=dtype):
        got = results(op, args)
        lowered = map_tensors(lambda t: t.to(dtype) if t.is_floating_point() else t, args)
        assert [y.dtype for y in results(op, lowered)] == [y.dtype for y in wanted]
    assert all(torch.equal(a, b) for a, b in zip(got, wanted, strict=True))


def test_conjugate_and_negative_views() -> None:
    """Of lazily conjugated arguments, and their parts."""
    x, w = normal(2, 3, 4), normal(2, 5, 4, seed=1)
    equal(ops.branch_linear(x.conj(), w.conj(), None, "none"), ops.branch_linear(x, w, None, "none").conj())
    equal(ops.branch_linear(x.conj().imag, w, None, "none"), -ops.branch_linear(x.imag.clone(), w, None, "none"))


def test_floating_means_complex_too() -> None:
    assert floating(normal(1)) and not floating(torch.ones(1, dtype=torch.int64))
