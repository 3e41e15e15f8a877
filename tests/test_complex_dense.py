"""The dense networks that complex layers stand for: recurrent ones, chains of layers, layers of the tNN."""

from __future__ import annotations

import pytest
import torch
from complex_samples import ACTIVATIONS, KINDS
from torch import Tensor, nn

from spectral_ops.nn import SpectralLinear, SpectralMLP, SpectralRNN, TNNLinear
from spectral_ops.nn.dense import OneBranch

D = torch.float64
every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(autouse=True)
def _seed(threads) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)


def random(net: nn.Module) -> nn.Module:
    for p in net.parameters():
        nn.init.normal_(p, std=0.3)
    return net


@every_kind
@pytest.mark.parametrize("rank", [None, 2])
@pytest.mark.parametrize("readout", ["real", "abs"])
def test_mlp(kind: str, rank: int | None, readout: str) -> None:
    """All matrices real; with crelu all modules are torch.nn's."""
    transform, complex_weights = KINDS[kind]
    for features, activation in (([4, 5, 3, 2], "crelu"), ([4, 5, 3], "modrelu"), ([4, 2], "cardioid")):
        net = random(
            SpectralMLP(features, 6, transform(6), rank, activation, output_bias=True, dtype=D,
                        complex_weights=complex_weights, readout=readout)
        )  # fmt: skip
        dense = net.to_dense()
        x = torch.randn(5, 4, 6, dtype=D)
        y = net(x)
        close(dense(x).unflatten(1, (features[-1], -1)).permute(2, 0, 1), y)
        assert all(p.dtype == D for p in dense.parameters())
        if activation == "crelu" and readout == "real":
            assert {type(m) for m in dense} == {nn.Flatten, nn.Linear, nn.ReLU}


@every_kind
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_recurrent(kind: str, activation: str) -> None:
    """torch.nn.RNN with crelu, else a layer of one branch; both ways, and with what the output goes through."""
    transform, complex_weights = KINDS[kind]
    options = ((False, None, "none", 1), (True, 2, "none", 2), (True, 2, "cardioid", 1), (False, 3, "crelu", 2))
    for both, output, output_activation, layers in options:
        net = random(
            SpectralRNN(3, 4, 5, output, transform(5), layers, activation, batch_first=both, bidirectional=both,
                        output_activation=output_activation, dtype=D, complex_weights=complex_weights)
        )  # fmt: skip
        rnn, out = net.to_dense()
        assert type(rnn) is (nn.RNN if activation == "crelu" else OneBranch)
        x = torch.randn(4, 6, 3, 5, dtype=D)
        states, h_n = rnn(x.flatten(-2))
        y, wanted = out(states), net(x)[0].flatten(-2)
        close(torch.complex(*y.chunk(2, -1)) if wanted.is_complex() else y, wanted)
        again, _ = rnn(x.flatten(-2), torch.zeros_like(h_n))
        close(again, states)


@pytest.mark.parametrize("activation", ["gelu", "silu", "sigmoid", "none"])
def test_recurrent_without_a_twin_in_torch(activation: str) -> None:
    net = random(SpectralRNN(3, 4, 2, 2, None, 2, activation, bidirectional=True, output_activation="tanh", dtype=D))
    rnn, out = net.to_dense()
    x = torch.randn(5, 3, 3, 2, dtype=D)
    close(out(rnn(x.flatten(-2))[0]), net(x)[0].flatten(-2))
    assert type(rnn) is OneBranch and [type(m) for m in out] == [nn.Linear, nn.Tanh, nn.Linear]


@every_kind
@pytest.mark.parametrize("rank", [None, 2])
def test_tnn(kind: str, rank: int | None) -> None:
    """Its matrix, then its activation, which acts on what comes out."""
    transform, complex_weights = KINDS[kind]
    half = "half" in kind
    for activation in ("none", "tanh") if half else ("none", "modrelu", "crelu"):
        net = random(
            TNNLinear(4, 3, 5, transform(5), activation=activation, rank=rank, dtype=D, complex_weights=complex_weights)
        )
        x = torch.randn(6, 4, 5, dtype=D)
        y, wanted = net.to_dense()(x.flatten(1)), net(x).flatten(1)
        close(torch.complex(*y.chunk(2, -1)) if wanted.is_complex() else y, wanted)


@every_kind
@pytest.mark.parametrize("rank", [None, 2])
def test_linear_with_an_activation(kind: str, rank: int | None) -> None:
    """No matrix: three modules."""
    transform, complex_weights = KINDS[kind]
    for activation in ("crelu", "modrelu"):
        more = {"activation": activation, "rank": rank, "dtype": D, "complex_weights": complex_weights}
        net = random(SpectralLinear(4, 3, 5, transform(5), **more))
        x = torch.randn(6, 4, 5, dtype=D)
        y, wanted = net.to_dense()(x.flatten(1)), net(x).flatten(1)
        close(torch.complex(*y.chunk(2, -1)) if wanted.is_complex() else y, wanted)
    net = random(SpectralLinear(4, 3, 5, activation="gelu", rank=rank, dtype=D))
    close(net.to_dense()(x.flatten(1)), net(x).flatten(1))


def test_tnn_from_dense() -> None:
    """The nearest matrix, as of a `SpectralLinear`, and the activation behind it."""
    linear = nn.Linear(20, 15, dtype=D)
    for kind in ("half", "real-transform"):
        net = TNNLinear.from_dense(linear, 5, KINDS[kind][0](5), activation="tanh" if kind == "half" else None)
        plain = TNNLinear.from_dense(linear, 5, KINDS[kind][0](5), activation="none")
        x = torch.randn(4, 4, 5, dtype=D)
        close(net(x), torch.tanh(plain(x)) if kind == "half" else torch.relu(plain(x)))
        assert plain.relative_error(linear) < 1
