"""SpectralRNN, the convolutions and their surroundings with complex transforms; dense layers and back."""

from __future__ import annotations

import io

import pytest
import torch
from complex_samples import ACTIVATIONS, KINDS
from torch import Tensor, nn
from torch.nn import functional

from spectral_ops.compress import to_spectral
from spectral_ops.nn import BranchConv2d, FromBranches2d, SpectralConv2d, SpectralLinear, SpectralPool, SpectralRNN
from spectral_ops.nn import ToBranches2d as ToBranches
from spectral_ops.ops.activations import apply
from spectral_ops.transforms import DCT, DFT, Transform

ops = torch.ops.spectral
D, Z = torch.float64, torch.complex128
every_kind = pytest.mark.parametrize("kind", KINDS)
LAST = torch.channels_last


@pytest.fixture(autouse=True)
def _seed(threads) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def close(actual: Tensor, expected: Tensor, tolerance: float = 1e-11) -> None:
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def numbers(net: nn.Module, name: str) -> Tensor:
    p = getattr(net, name)
    return (torch.view_as_complex(p) if net.complex_weights else p).to(Z)


def random_biases(net: nn.Module) -> None:
    with torch.no_grad():
        for name, p in net.named_parameters():
            if "bias" in name:
                p.normal_()


def tubes(transform: Transform, y: Tensor) -> Tensor:
    """The inverse transform of complex branches along the last dimension."""
    x = y @ transform.inverse.to(Z).mT
    return x.real if transform.is_half else x


# ---- SpectralRNN ---------------------------------------------------------------------------------------------------
@every_kind
@pytest.mark.parametrize("q", [2, 5])
@pytest.mark.parametrize("activation", [None, "crelu"])
def test_rnn_is_a_loop(kind: str, q: int, activation: str | None) -> None:
    transform, complex_weights = KINDS[kind]
    net = SpectralRNN(3, 4, q, 2, transform(q), 2, activation, dtype=D, complex_weights=complex_weights)
    assert net.nonlinearity == (activation or "modrelu")
    random_biases(net)
    x = torch.randn(4, 6, 3, q, dtype=D)
    below = x.to(Z) @ net.transform.matrix.to(Z).mT  # (T, N, I, Q')
    last = []
    for layer in range(2):
        wx, wh, b = (numbers(net, f"{name}_l{layer}") for name in ("weight_x", "weight_h", "bias"))
        h, states = torch.zeros(6, 4, net.transform.branches, dtype=Z), []
        for step in below:
            z = torch.einsum("qpi,niq->npq", wx, step) + torch.einsum("qpk,nkq->npq", wh, h) + b.mT
            h = apply(net.nonlinearity, z)
            states.append(h)
        below = torch.stack(states)
        last.append(h)
    y = torch.einsum("qop,tnpq->tnoq", numbers(net, "weight_y"), below)
    out, h_n = net(x)
    assert out.dtype == (D if "half" in kind else Z)
    close(out, tubes(net.transform, y))
    close(h_n, tubes(net.transform, torch.stack(last)))
    branches, _ = net.in_branches(x)
    close(branches, y.permute(0, 3, 1, 2))
    parameters = list(net.parameters())
    out.abs().sum().backward()
    assert all(p.grad is not None and p.dtype == D and p.grad.abs().sum() > 0 for p in parameters)


def test_rnn_of_half_a_spectrum_both_ways_packed_and_dropped() -> None:
    net = SpectralRNN(2, 3, 4, 2, DFT(4, real=True), 2, bidirectional=True, dropout=0.5, dtype=D)
    sequences = [torch.randn(length, 2, 4, dtype=D) for length in (5, 3, 1)]
    packed = nn.utils.rnn.pack_sequence(sequences)
    assert not torch.equal(net(packed)[0].data, net(packed)[0].data)
    net.eval()
    out, h_n = net(packed)
    padded, lengths = nn.utils.rnn.pad_packed_sequence(out)
    for n, sequence in enumerate(sequences):
        alone, state = net(sequence.unsqueeze(1))
        close(padded[: lengths[n], n], alone[:, 0])
        close(h_n[:, n], state[:, 0])
    assert out.data.dtype == h_n.dtype == D
    h0 = torch.randn(4, 3, 3, 4, dtype=D, requires_grad=True)
    (grad,) = torch.autograd.grad(net(packed, h0)[1].sum(), h0)
    assert grad.shape == h0.shape and grad.abs().sum() > 0


@pytest.mark.parametrize("activation", ["modrelu", "cardioid", "crelu", "zrelu"])
@pytest.mark.parametrize("kind", ["whole", "half", "real-transform"])
def test_rnn_keeps_the_second_moment(kind: str, activation: str) -> None:
    """Over steps and three layers, of real data of size 1."""
    transform, complex_weights = KINDS[kind]
    net = SpectralRNN(
        32, 64, 8, transform=transform(8), num_layers=3, nonlinearity=activation, complex_weights=complex_weights
    )
    y, _ = net.in_branches(torch.randn(20, 64, 32, 8))
    size = y.abs().square().mean((1, 2, 3))
    assert 0.25 < size[-1] < 4 and 0.25 < size[-1] / size[4] < 4


# ---- convolutions --------------------------------------------------------------------------------------------------
@every_kind
@pytest.mark.parametrize("q", [2, 5])
@pytest.mark.parametrize("rank", [None, 2])
@pytest.mark.parametrize("layout", [torch.contiguous_format, LAST], ids=["NCHW", "channels_last"])
def test_conv_is_its_stages(kind: str, q: int, rank: int | None, layout: torch.memory_format) -> None:
    transform, complex_weights = KINDS[kind]
    more = {"branches": q, "transform": transform(q), "dtype": D, "complex_weights": complex_weights, "rank": rank}
    for activation in ("none", "modrelu"):
        net = SpectralConv2d(3 * q, 2 * q, (3, 2), (1, 2), "valid", activation=activation, **more)
        random_biases(net)
        if rank is None:
            w = numbers(net, "weight")
        else:
            inner, outer = numbers(net, "weight_in"), numbers(net, "weight_out")
            w = torch.einsum("qor,qriyx->qoiyx", outer, inner)
        x = torch.randn(2, 3 * q, 6, 7, dtype=D).contiguous(memory_format=layout)
        slices = torch.einsum("kp,npihw->nkihw", net.transform.matrix.to(Z), x.to(Z).unflatten(1, (q, 3)))
        layers = zip(slices.unbind(1), w, numbers(net, "bias"), strict=True)
        h = apply(activation, torch.stack([functional.conv2d(s, k, b, (1, 2)) for s, k, b in layers], -1))
        y = net(x)
        assert y.dtype == (D if "half" in kind else Z) and y.is_contiguous(memory_format=layout)
        wanted = tubes(net.transform, h)  # (N, O/Q, H, W, Q)
        close(y, wanted.permute(0, 4, 1, 2, 3).flatten(1, 2))
        y.abs().sum().backward()
        assert all(p.grad is not None and p.dtype == D and p.grad.abs().sum() > 0 for p in net.parameters())


@pytest.mark.parametrize("kind", ["whole", "half", "real-transform"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("rank", [None, 32])
def test_conv_keeps_the_second_moment(kind: str, activation: str, rank: int | None) -> None:
    """He's variance over eight layers that stay in their branches, of real data of size 1: a factor of four."""
    t = KINDS[kind][0](4)
    h = ToBranches(4, t)(torch.randn(3, 128, 8, 8))
    size = h.abs().square().mean()
    for _ in range(8):
        layer = BranchConv2d(
            32, 32, 3, branches=t.branches, activation=activation, is_complex=True, complex_weights=True, rank=rank
        )
        pad = functional.pad(
            torch.view_as_real(h.to(torch.complex64)).movedim(-1, 0).flatten(0, 3), (1, 1, 1, 1), "circular"
        )
        h = layer(torch.complex(*pad.view(2, 3, t.branches, 32, 10, 10).unbind(0)))
    ratio = (h.abs().square().mean() / size).item()
    assert 0.25 < ratio < 4, ratio


def test_a_network_in_half_a_spectrum_is_the_composition() -> None:
    """Eq. (24)-(27) under the DFT: the transforms between the layers cancel where its halves are real."""
    q, t = 3, DFT(3, real=True)
    first = BranchConv2d(2, 4, 3, branches=2, is_complex=True, activation="modrelu", dtype=D)
    last = BranchConv2d(4, 3, 2, branches=2, is_complex=True, dtype=D)
    with torch.no_grad():
        for layer in (first, last):
            layer.weight[0, ..., 1], layer.bias[0, :, 1] = 0, 0
            layer.bias[..., 0].normal_()
    x = torch.randn(2, 6, 8, 8, dtype=D)
    stays = nn.Sequential(ToBranches(q, t), first, SpectralPool(2), last, FromBranches2d(q, t))
    y = stays(x)
    assert y.shape == (2, 9, 2, 2) and y.dtype == D
    layers = []
    for layer in (first, last):
        o, i = layer.weight.shape[1:3]
        more = {"branches": q, "transform": t, "activation": layer.activation, "dtype": D}
        layers.append(SpectralConv2d(q * i, q * o, layer.kernel_size, **more))
        layers[-1].weight, layers[-1].bias = layer.weight, layer.bias
    close(y, layers[1](SpectralPool(2, branches=q, transform=t)(layers[0](x))))


def test_pooling_takes_the_number_of_largest_modulus() -> None:
    x = torch.randn(2, 3, 4, 6, 7, dtype=Z)
    pooled = SpectralPool((3, 2), 2, 1)(x)
    padded = functional.pad(torch.view_as_real(x).movedim(-1, 0).flatten(0, 2), (1, 1, 1, 1))
    windows = torch.complex(*padded.view(2, 6, 4, 8, 9).unbind(0)).unfold(2, 3, 2).unfold(3, 2, 2).flatten(4)
    wanted = windows.gather(4, windows.abs().argmax(4, keepdim=True))[..., 0]
    close(pooled.flatten(0, 1), wanted)
    close(SpectralPool(2, mode="avg")(x).real, SpectralPool(2, mode="avg")(x.real))
    assert torch.equal(SpectralPool(2)(x.conj().resolve_conj()), SpectralPool(2)(x).conj())


# ---- dense layers and back -----------------------------------------------------------------------------------------
COMPLEX_TRANSFORMS = {
    "whole": DFT(5), "scaled": DFT(6, norm="forward"), "half": DFT(5, real=True), "even half": DFT(6, real=True),
    "scaled half": DFT(6, real=True, norm="backward"), "half of two": DFT(2, real=True),
}  # fmt: skip
every_transform = pytest.mark.parametrize("name", COMPLEX_TRANSFORMS)


@every_transform
@pytest.mark.parametrize("rank", [None, 2])
def test_to_dense_is_the_same_function(name: str, rank: int | None) -> None:
    t = COMPLEX_TRANSFORMS[name]
    q = t.length
    flat = SpectralLinear(3, 2, q, t, rank=rank, dtype=D)
    conv = SpectralConv2d(3 * q, 2 * q, (3, 2), 2, 1, branches=q, transform=t, rank=rank, dtype=D)
    random_biases(flat), random_biases(conv)
    kind = D if t.is_half else Z
    x, image = torch.randn(4, 3, q, dtype=D), torch.randn(2, 3 * q, 5, 6, dtype=D)
    close(flat.to_dense()(x.flatten(1).to(kind)), flat(x).flatten(1))
    close(conv.to_dense()(image.to(kind)), conv(image))
    real = SpectralConv2d(8, 8, 3, branches=4, complex_weights=True, transform=DCT(4), dtype=D)
    close(real.to_dense()(torch.ones(1, 8, 4, 4, dtype=Z)), real(torch.ones(1, 8, 4, 4, dtype=D)))


@every_transform
def test_from_dense_is_the_nearest(name: str) -> None:
    """No small change of a parameter makes it nearer; on its own range it is exact; results of real layers are real."""
    t = COMPLEX_TRANSFORMS[name]
    q = t.length
    linear, conv = nn.Linear(3 * q, 2 * q, dtype=D), nn.Conv2d(3 * q, 2 * q, (3, 2), 2, 1, dtype=D)
    image, x = torch.randn(2, 3 * q, 5, 6, dtype=D), torch.randn(4, 3, q, dtype=D)
    for dense, cls, given in ((linear, SpectralLinear, x), (conv, SpectralConv2d, image)):
        near = cls.from_dense(dense, q, t)
        for sign in (1, -1):
            for k in range(0, near.weight.numel(), 7):
                moved = cls.from_dense(dense, q, t)
                with torch.no_grad():
                    moved.weight.view(-1)[k] += sign * 1e-3
                assert moved.relative_error(dense) >= near.relative_error(dense) * (1 - 1e-12)
        y = near(given)
        assert not y.is_complex() or y.imag.abs().max() < 1e-12
        again = near.to_dense()
        real = type(dense)(*((3 * q, 2 * q) if dense is linear else (3 * q, 2 * q, (3, 2), 2, 1)), dtype=D)
        with torch.no_grad():
            real.weight.copy_(again.weight.real), real.bias.copy_(again.bias.real)
        assert cls.from_dense(real, q, t).relative_error(real) < 1e-12
        bias = near.to_dense().bias
        close(bias.real, dense.bias)


def test_autocast_leaves_complex_layers_alone() -> None:
    """There is no complex half; a network under a real transform is lowered where it multiplies by weights."""
    x = torch.randn(2, 8, 6, 6)
    for rank in (None, 2):
        for kind in ("whole", "half", "real-transform"):
            transform, complex_weights = KINDS[kind]
            layer = SpectralConv2d(
                8,
                8,
                3,
                branches=4,
                transform=transform(4),
                activation="crelu",
                complex_weights=complex_weights,
                rank=rank,
            )
            wanted = layer(x)
            with torch.autocast("cpu", torch.bfloat16):
                assert torch.equal(layer(x), wanted)
    net = SpectralRNN(3, 4, 5, 2, DFT(5, real=True))
    sequences = torch.randn(4, 2, 3, 5)
    wanted = net(sequences)[0]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(net(sequences)[0], wanted)


def test_to_spectral_with_half_a_spectrum() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 12, 3, padding=1), nn.Flatten(), nn.Linear(12 * 36, 8)
    )
    x = torch.randn(2, 3, 8, 8)
    for rank in (None, 2):
        new, summary = to_spectral(model, DFT(4, real=True), 4, rank)
        assert [layer.name for layer in summary.changed] == ["2", "4"]
        y = new(x)
        assert y.shape == (2, 8) and y.dtype == torch.float32
        y.sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in new.parameters())
        again, _ = to_spectral(model, DFT(4, real=True), 4, rank)
        memory = io.BytesIO()
        torch.save(new.state_dict(), memory)
        memory.seek(0)
        again.load_state_dict(torch.load(memory, weights_only=True))
        assert torch.equal(again(x), y)


def test_text() -> None:
    net = SpectralRNN(3, 4, 5, transform=DFT(5, real=True))
    assert net.extra_repr() == "3, 4, branches=5, nonlinearity='modrelu', complex_weights=True"
    assert net.operations() == 2 * 3 * 5 * 3 + 2 * 4 * 5 * 3 + 4 * 3 * (3 * 4 + 4 * 4)
    assert net.parameter_count() == 2 * 3 * (3 * 4 + 4 * 4 + 4)
    conv = SpectralConv2d(8, 4, 3, branches=4, transform=DFT(4, real=True), rank=1)
    assert conv.extra_repr().endswith("bias=True, activation='none', rank=1, complex_weights=True")
    assert conv.operations(10, 20) == 2 * 3 * 8 * 20 + (4 * 3 * (2 * 9 + 1) + 2 * 3 * 4) * 10
