"""to_spectral: every layer of a model becomes the nearest spectral one, or stays and says why."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from spectral_ops.compress import FlatSpectralLinear, to_spectral
from spectral_ops.nn import SpectralConv2d, SpectralLinear
from spectral_ops.transforms import Identity, Matrix

pytestmark = pytest.mark.usefixtures("seeded")


class Block(nn.Module):
    """A residual block whose layers are attributes, one of them in a dict and one in two places."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding="same", bias=False)
        self.rest = nn.ModuleDict({"conv2": nn.Conv2d(width, width, (1, 3), padding=(0, 1))})
        self.again = self.rest["conv2"]

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.again(self.rest["conv2"](torch.relu(self.conv1(x)))))


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), Block(8), nn.Conv2d(8, 8, 3, groups=2), nn.Conv2d(8, 12, 3, stride=2),
        nn.Flatten(), nn.Linear(12 * 2 * 2, 32), nn.ReLU(), nn.Linear(32, 10),
    )  # fmt: skip


def test_what_is_converted_and_what_is_kept() -> None:
    model = network()
    before = copy.deepcopy(model.state_dict())
    new, summary = to_spectral(model, branches=4)
    assert all(torch.equal(a, b) for a, b in zip(before.values(), model.state_dict().values(), strict=True))
    assert [layer.name for layer in summary.changed] == ["2.conv1", "2.rest.conv2", "4", "6"]
    kept = {layer.name: layer.kept for layer in summary.layers if layer.kept}
    assert kept == {
        "0": "the first convolution",
        "3": "SpectralConv2d.from_dense: conv must have groups 1, got 2",
        "8": "SpectralLinear.from_dense: branches must divide the out_features of linear, 10, got 4",
    }
    assert new[2].again is new[2].rest["conv2"] and isinstance(new[2].again, SpectralConv2d)
    assert isinstance(new[6], FlatSpectralLinear) and type(new[0]) is nn.Conv2d
    assert summary.parameters == sum(p.numel() for p in new.parameters())
    assert summary.parameters_before == sum(p.numel() for p in model.parameters())
    x = torch.randn(2, 3, 8, 8)
    assert new(x).shape == model(x).shape == (2, 10)
    new(x).square().sum().backward()
    assert all(p.grad is not None for p in new.parameters())


def test_the_summary() -> None:
    _, summary = to_spectral(network(), branches=4, rank=2)
    conv, flat = (next(layer for layer in summary.layers if layer.name == name) for name in ("4", "6"))
    assert (conv.kind, conv.shape) == ("Conv2d", (12, 8, 3, 3))
    weights = 4 * 2 * (2 * 9 + 3)  # to two channels in each branch, and to three
    assert (conv.parameters_before, conv.parameters) == (12 * 8 * 9 + 12, weights + 12)
    # two transforms, the first at each of the four input pixels of an output pixel
    assert (conv.operations_before, conv.operations) == (12 * 8 * 9, weights + 4 * 4 * 8 + 4 * 12)
    assert (flat.parameters_before, flat.parameters) == (48 * 32 + 32, 4 * 2 * (12 + 8) + 32)
    assert flat.operations == 4 * 2 * (12 + 8) + 16 * (12 + 8) and 0.5 < flat.error < 1 and 0.5 < conv.error < 1
    text = str(summary).splitlines()
    assert len(text) == len(summary.layers) + 2 and text[-1].startswith("4 of 7 layers changed, ")
    assert "kept: the first convolution" in text[1] and f"{conv.parameters_before} -> {conv.parameters}" in text[5]


def test_layers_that_have_the_structure_are_converted_exactly() -> None:
    t = Matrix(torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64))[0])
    conv = SpectralConv2d(8, 8, 3, padding=1, branches=4, transform=t).to_dense()
    linear = SpectralLinear(16, 2, 4, t).to_dense()
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), conv, nn.AdaptiveAvgPool2d((4, 2)), nn.Flatten(), linear)
    new, summary = to_spectral(model, t, 4)
    assert [layer.error < 1e-6 for layer in summary.changed] == [True, True]
    x = torch.randn(3, 1, 9, 9)
    torch.testing.assert_close(new(x), model(x), rtol=1e-4, atol=1e-5)


def test_one_branch_changes_nothing() -> None:
    model = network()
    new, summary = to_spectral(model, Identity(1), branches=1)
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(new(x), model(x), rtol=1e-4, atol=1e-5)
    assert max(layer.error for layer in summary.layers) < 1e-6


def test_linear_layers_of_any_shape() -> None:
    new, _ = to_spectral(nn.Linear(12, 8), branches=4)
    assert isinstance(new, FlatSpectralLinear)
    for shape in ((12,), (5, 12), (2, 3, 12), (0, 12)):
        x = torch.randn(shape)
        y = new(x)
        assert y.shape == (*shape[:-1], 8)
        torch.testing.assert_close(y, new.linear.to_dense()(x), rtol=1e-4, atol=1e-5)


def test_select() -> None:
    model = network()
    for select in (["0", "4"], lambda name, module: name in ("0", "4")):
        if callable(select):
            model[0] = nn.Conv2d(4, 8, 3, padding=1)
        with pytest.raises(ValueError, match=r"layer '0' .*branches must divide the in_channels of conv, 3, got 4"):
            to_spectral(network(), branches=4, select=select)
        _, summary = to_spectral(model, branches=4, select=["4"])
        assert [layer.name for layer in summary.layers] == ["4"]
    new, _ = to_spectral(model, branches=4, select=["0"])  # the first convolution too, where it is asked for
    assert isinstance(new[0], SpectralConv2d) and type(new[4]) is nn.Conv2d


def test_dtype_mode_and_frozen_layers_are_kept() -> None:
    model = network().double().eval()
    model[4].weight.requires_grad_(False)
    new, _ = to_spectral(model, branches=4)
    assert {p.dtype for p in new.parameters()} == {torch.float64} and not new[4].training
    assert not new[4].weight.requires_grad and new[4].bias.requires_grad and new[6].linear.weight.requires_grad


def test_layers_whose_weight_somebody_else_reads_stay() -> None:
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    tied = nn.ModuleDict({"embed": nn.Embedding(8, 8), "head": nn.Linear(8, 8, bias=False)})
    tied["head"].weight = tied["embed"].weight
    model = nn.ModuleDict({"attention": attention, "tied": tied})
    new, summary = to_spectral(model, branches=4)
    assert {layer.name: layer.kept for layer in summary.layers} == {
        "attention.out_proj": "a NonDynamicallyQuantizableLinear, whose owner may read its weight",
        "tied.head": "weight must belong to this layer alone, got a shared one",
    }
    x = torch.randn(2, 3, 8)
    torch.testing.assert_close(new["attention"](x, x, x), attention(x, x, x))


def test_a_converted_model_saves_loads_and_trains() -> None:
    new, _ = to_spectral(network(), branches=4, rank=3)
    again, _ = to_spectral(network(), branches=4, rank=3)
    again.load_state_dict(new.state_dict())
    x, y = torch.randn(16, 3, 8, 8), torch.randint(10, (16,))
    torch.testing.assert_close(again(x), new(x))
    optimizer = torch.optim.Adam(new.parameters(), lr=1e-2)
    losses = []
    for _ in range(30):
        loss = nn.functional.cross_entropy(new(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.2 * losses[0]
