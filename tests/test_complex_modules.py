"""Layers with complex transforms and weights: their errors, under torch.compile, under autocast."""

from __future__ import annotations

import re

import pytest
import torch
from complex_samples import KINDS, Fourier
from torch import Tensor

from spectral_ops.nn import SpectralLinear, SpectralMLP, TNNLinear

N, I, O, Q = 5, 4, 3, 6
NAMES = "none, crelu, modrelu, modrelu:B, zrelu, cardioid"


# ---- errors --------------------------------------------------------------------------------------------------------
HALF = torch.bfloat16
WRONG = [
    (
        lambda: SpectralLinear(I, O, Q, Fourier(Q), activation="relu"),
        ValueError,
        f"SpectralLinear: activation must be, for complex numbers, one of {NAMES}, got 'relu'",
    ),
    (
        lambda: TNNLinear(I, O, Q, Fourier(Q, real=True), activation="crelu"),
        ValueError,
        "TNNLinear: activation must be one of none, relu, gelu, silu, tanh, sigmoid, got 'crelu'",
    ),
    (
        lambda: SpectralMLP([I, O], Q, Fourier(Q), dtype=HALF),
        TypeError,
        "SpectralMLP: dtype must be float32 or float64 where branches are complex, got torch.bfloat16",
    ),
    (
        lambda: SpectralLinear(I, O, Q, complex_weights=True, dtype=torch.complex64),
        TypeError,
        "SpectralLinear: dtype must be float32 or float64 where branches are complex, got torch.complex64",
    ),
    (
        lambda: SpectralMLP([I, O], Q, Fourier(Q)).to(HALF)(torch.rand(N, I, Q)),
        TypeError,
        "SpectralMLP: complex parameters must be float32 or float64, got torch.bfloat16",
    ),
    (
        lambda: SpectralLinear(I, O, Q, Fourier(Q))(torch.rand(N, I, Q).to(HALF)),
        TypeError,
        "spectral_linear: x must be float32 or float64 where transform is complex, got torch.bfloat16",
    ),
    (
        lambda: SpectralMLP([I, O], Q, Fourier(Q), complex_weights=False)(torch.rand(N, I, Q).half()),
        TypeError,
        "spectral_mlp: x must be float32 or float64 where transform is complex, got torch.float16",
    ),
    (
        lambda: SpectralMLP([I, O], Q, complex_weights=1),
        TypeError,
        "SpectralMLP: complex_weights must be a bool or None, got 1",
    ),
    (
        lambda: SpectralMLP([I, O], Q, Fourier(Q), readout="imag"),
        ValueError,
        "SpectralMLP: readout must be one of real, abs, got 'imag'",
    ),
    (
        lambda: SpectralMLP([I, O], Q, readout="abs"),
        ValueError,
        "SpectralMLP: readout must be 'real' where the branches are real, got 'abs'",
    ),
]


@pytest.mark.parametrize("call, error, message", WRONG, ids=[row[2].split(" must")[0] for row in WRONG])
def test_errors(call, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match="^" + re.escape(message) + "$"):
        call()


# ---- compile, autocast ---------------------------------------------------------------------------------------------
# torch's own: it says so of every graph with a complex tensor in it, though no complex arithmetic is left to inductor
complex_in_inductor = pytest.mark.filterwarnings("ignore:Torchinductor does not support code generation for complex")


@complex_in_inductor
@pytest.mark.parametrize(("kind", "backend"), [("whole", "aot_eager"), ("half", "inductor")])
def test_compiled_training_step(kind: str, backend: str) -> None:
    """Inductor has no code for complex numbers: they stay inside the ops and the views of the parameters."""
    torch._dynamo.reset()
    net = SpectralMLP([I, 5, O], Q, KINDS[kind][0](Q))
    x, target = torch.randn(N, I, Q), torch.randint(O, (N,))

    def loss(x: Tensor) -> Tensor:
        return net.loss(x, target)[0].sum()

    wanted = torch.autograd.grad(loss(x), list(net.parameters()))
    got = torch.autograd.grad(torch.compile(loss, fullgraph=True, backend=backend)(x), list(net.parameters()))
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-6)
    torch._dynamo.reset()


@complex_in_inductor
@pytest.mark.parametrize("layer", [SpectralLinear, TNNLinear])
@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiled_layer(layer: type, backend: str) -> None:
    torch._dynamo.reset()
    net, x = layer(I, O, Q, Fourier(Q, real=True)), torch.randn(N, I, Q)
    torch.testing.assert_close(torch.compile(net, fullgraph=True, backend=backend)(x), net(x))
    torch._dynamo.reset()


@pytest.mark.parametrize("kind", KINDS)
def test_autocast(kind: str) -> None:
    transform, complex_weights = KINDS[kind]
    net = SpectralMLP([I, 5, O], Q, transform(Q), complex_weights=complex_weights)
    x, target = torch.randn(N, I, Q), torch.randint(O, (N,))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses, logits = net.loss(x.to(torch.bfloat16).float(), target)
    assert losses.dtype == logits.dtype == torch.float32
    losses.sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in net.parameters())
