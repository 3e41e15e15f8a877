"""decompose, reconstruct, to_tucker and the optimiser between them."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from spectral_ops import compress
from spectral_ops.compress import (
    Budget,
    DecomposeAt,
    Energy,
    Fraction,
    decompose,
    reconstruct,
    swap_parameters,
    to_tucker,
)
from spectral_ops.nn import TuckerConv2d, TuckerLinear

pytestmark = pytest.mark.usefixtures("seeded")


class Net(nn.Module):
    """One of everything: groups, dilation, stride, 1 x 1, biases or none, a layer in two places, attributes, lists."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.body = nn.ModuleList([
            nn.Conv2d(16, 24, 3, stride=2, padding="valid"),
            nn.Conv2d(24, 24, 3, padding=2, dilation=2, groups=2),
            nn.Conv2d(24, 16, 1, bias=False),
        ])  # fmt: skip
        self.norm = nn.BatchNorm2d(16)
        self.twice = nn.Conv2d(16, 16, (1, 3), padding="same")
        self.again = self.twice
        self.head = nn.Sequential(nn.Linear(16, 40), nn.ReLU(), nn.Linear(40, 10, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        for layer in self.body:
            x = torch.relu(layer(x))
        return self.head(self.again(self.twice(self.norm(x))).mean((2, 3)))


def low_rank(model: nn.Module, ranks: int = 3, noise: float = 0.01) -> nn.Module:
    """Weights of low rank in noise, so that there is something to find."""
    small, _ = to_tucker(model, (ranks, ranks))
    dense, _ = reconstruct(small)
    with torch.no_grad():
        for m in dense.modules():
            if isinstance(m, nn.Conv2d | nn.Linear):
                m.weight += noise * m.weight.std() * torch.randn_like(m.weight)
    return dense


X = torch.randn(2, 3, 11, 12)


@pytest.mark.parametrize("spatial", [False, True])
def test_decompose_then_reconstruct(spatial: bool) -> None:
    model = low_rank(Net()).eval()
    before = copy.deepcopy(model.state_dict())
    y = model(X)
    small, summary = decompose(model, (3, 3), spatial=spatial)
    assert all(torch.equal(a, b) for a, b in zip(before.values(), model.state_dict().values(), strict=True))
    kinds = {name: type(m) for name, m in small.named_modules() if isinstance(m, TuckerConv2d | TuckerLinear)}
    assert set(kinds) == {"first", "body.0", "body.1", "body.2", "twice", "head.0", "head.2"}
    assert small.again is small.twice
    assert (small(X) - y).norm() < 0.2 * y.norm()
    assert [layer.ranks for layer in summary.layers][:2] == [(3, 3, 3, 3)] * 2
    assert max(layer.error for layer in summary.layers) < 0.03
    assert summary.parameters + 32 == sum(p.numel() for p in small.parameters())  # 32 of the BatchNorm
    assert small.first.bias is None and small.head[2].bias is None and small.body[0].bias is not None
    back, _ = reconstruct(small)
    assert (back(X) - small(X)).norm() < 1e-5 * y.norm()
    assert list(back.state_dict()) == list(model.state_dict())
    assert not any(isinstance(m, TuckerConv2d | TuckerLinear) for m in back.modules())


@pytest.mark.parametrize("spatial", [False, True])
def test_decompose_then_reconstruct_at_full_rank_is_exact(spatial: bool) -> None:
    """At all the rank that each weight has: groups, dilation, 1 x 1, Linear."""
    model = low_rank(Net(), noise=0.0).eval()
    back, summary = reconstruct(decompose(model, (3, 3), spatial=spatial)[0])
    assert len(summary.changed) == 7
    for (name, a), b in zip(model.named_parameters(), back.parameters(), strict=True):
        assert (a - b).norm() <= 1e-6 * a.norm(), name
    y = model(X)
    assert (back(X) - y).norm() <= 1e-5 * y.norm()


def test_full_rank_is_exact_and_would_not_save() -> None:
    conv = nn.Conv2d(12, 12, 3, groups=2)
    with torch.no_grad():
        conv.weight[:, 3:] = 0
        conv.weight[6:][2:] = 0
    model = nn.Sequential(conv, nn.Linear(8, 8))
    same, summary = decompose(model, (6, 6))
    assert [layer.kept for layer in summary.layers] == [
        "ranks 6, 6 would not save parameters", "ranks 6, 6 would not save parameters",
    ]  # fmt: skip
    assert type(same[0]) is nn.Conv2d
    wide = nn.Conv2d(4, 64, 5)  # whose weight has rank 4 in one mode at most
    small, summary = decompose(nn.Sequential(wide), (60, 4))
    assert summary.changed == [] and torch.equal(small[0].weight, wide.weight)
    _, summary = decompose(nn.Sequential(nn.Conv2d(64, 64, 5)), (60, 56))
    assert len(summary.changed) == 1 and summary.layers[0].error < 0.4
    layer = TuckerConv2d(6, 9, 3, groups=3, ranks=(3, 2, 3, 3))
    dense = layer.to_dense()
    _, summary = decompose(nn.Sequential(dense, nn.Identity()), (3, 2), spatial=True)
    assert summary.layers[0].kept == "ranks 3, 2, 3, 3 would not save parameters"


def test_ranks_of_each_rule() -> None:
    model = low_rank(Net())
    _, summary = decompose(model)  # evbmf
    found = {layer.name: layer.ranks and layer.ranks[:2] for layer in summary.layers}
    assert found["body.0"] == (3, 3) and found["head.0"] == (3, 3)
    _, summary = decompose(Net())
    kept = {layer.kept for layer in summary.layers if layer.kept}
    assert any("rises above noise: ranks 0" in text for text in kept)
    _, summary = decompose(model, Energy(0.99))
    assert summary.layers[1].ranks == (3, 3, 3, 3)
    _, summary = decompose(model, Fraction(0.25))
    assert summary.layers[1].ranks == (6, 4, 3, 3)
    _, summary = decompose(model, {"twice": (2, 4)}, skip=["first"])
    assert [layer.name for layer in summary.changed] == ["twice"] and summary.changed[0].ranks == (2, 4, 1, 3)
    assert {layer.name: layer.kept for layer in summary.layers}["first"] == "left out by skip"
    _, summary = decompose(model, lambda weight: (1, 2), skip=lambda name, module: "body" in name)
    assert all(layer.ranks[:2] == (1, 2) for layer in summary.changed) and len(summary.changed) == 4


@pytest.mark.parametrize("of", ["parameters", "operations"])
def test_budget(of: str) -> None:
    model = low_rank(Net(), 5, 0.3)
    total = sum(p.numel() for p in model.parameters())
    errors = []
    for share in (0.5, 0.7, 0.9):
        small, summary = decompose(model, Budget(share, of), example=X)
        if of == "parameters":
            assert sum(p.numel() for p in small.parameters()) <= share * total
        else:
            after = sum(layer.operations for layer in summary.layers)
            assert after <= share * sum(layer.operations_before for layer in summary.layers)
        errors.append(sum(layer.error**2 for layer in summary.layers))
    assert errors == sorted(errors, reverse=True) and errors[0] > errors[-1]
    if of == "operations":
        with pytest.raises(ValueError, match=r"^decompose: example must be given for a budget of operations"):
            decompose(model, Budget(0.5, of))


def test_operations_are_those_of_the_paper() -> None:
    """Eq. (10) and (11), for one layer by hand."""
    model = low_rank(Net())
    _, summary = decompose(model, (3, 2), example=X)
    layer = {found.name: found for found in summary.layers}["body.0"]  # 11 x 12 pixels to 5 x 5
    assert (layer.parameters_before - 24, layer.parameters - 24) == (9 * 16 * 24, 16 * 2 + 9 * 2 * 3 + 24 * 3)
    assert layer.operations_before == 9 * 16 * 24 * 25
    assert layer.operations == 16 * 2 * 132 + (9 * 2 * 3 + 24 * 3) * 25
    twice = {found.name: found for found in summary.layers}["twice"]
    assert twice.operations_before == 2 * 16 * 16 * 3 * 25
    _, summary = decompose(model, (3, 2))
    layer = {found.name: found for found in summary.layers}["body.0"]
    assert layer.operations == 16 * 2 * 4 + 9 * 2 * 3 + 24 * 3
    assert "ranks 3, 2, 3, 3" in str(summary)


def test_what_cannot_be_decomposed_stays() -> None:
    tied = nn.Linear(30, 30)
    embedding = nn.Embedding(30, 30)
    tied.weight = embedding.weight
    normed = nn.utils.parametrizations.weight_norm(nn.Linear(30, 30))
    attention = nn.MultiheadAttention(30, 2)
    model = nn.ModuleDict({
        "embedding": embedding, "tied": tied, "normed": normed, "attention": attention,
        "reflect": nn.Conv2d(30, 30, 3, padding=1, padding_mode="reflect"),
        "transposed": nn.ConvTranspose2d(30, 30, 3), "plain": nn.Linear(30, 30),
        "depthwise": nn.Conv2d(30, 30, 3, groups=30),
    })  # fmt: skip
    small, summary = decompose(model, (2, 2))
    assert [layer.name for layer in summary.changed] == ["plain"]
    kept = {layer.name: layer.kept for layer in summary.layers if layer.kept}
    assert kept["tied"] == "weight must belong to this layer alone, got a shared one"
    assert kept["reflect"] == "padding_mode must be 'zeros', got 'reflect'"
    assert "whose owner may read its weight" in kept["normed"]
    assert "whose owner may read its weight" in kept["attention.out_proj"]
    assert kept["depthwise"] == "ranks 1, 1 would not save parameters"
    assert "transposed" not in kept
    assert torch.equal(small["reflect"].weight, model["reflect"].weight)


def test_dtype_mode_and_frozen_weights_are_kept() -> None:
    model = low_rank(Net()).double().eval()
    model.first.weight.requires_grad_(False)
    small, _ = decompose(model, (3, 3))
    assert not small.training and all(p.dtype == torch.float64 for p in small.parameters())
    assert not small.first.core.requires_grad and not small.first.u_in.requires_grad and small.twice.core.requires_grad
    back, _ = reconstruct(small)
    assert not back.first.weight.requires_grad and not back.training


def test_to_tucker_keeps_the_variance() -> None:
    model = nn.Sequential(nn.Conv2d(64, 96, 3, bias=False), nn.Conv2d(64, 96, 3, groups=4, bias=False))
    for spatial in (False, True):
        small, summary = to_tucker(model, Fraction(0.25), spatial=spatial)
        assert all(layer.error == 1.0 and layer.kept is None for layer in summary.layers)
        for layer, dense in zip(small, model, strict=True):
            for u in layer.factors:
                for rows in () if u is None else u.chunk(layer.groups if len(u) > 3 else 1):
                    torch.testing.assert_close(rows.mT @ rows, torch.eye(rows.shape[1]), atol=1e-5, rtol=0)
            assert layer.weight().detach().norm() == pytest.approx(float(dense.weight.detach().norm()), rel=0.1)
            assert layer.weight().shape == dense.weight.shape


def test_to_tucker_at_full_rank() -> None:
    small, summary = to_tucker(Net(), Fraction(1.0), spatial=True, always=True)
    assert len(summary.changed) == len(summary.layers) == 7 and small.first.ranks == (16, 3, 3, 3)
    assert small(X).shape == (2, 10)


def _step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    model(X).square().sum().backward()
    optimizer.step()


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam, torch.optim.RMSprop])
def test_the_optimiser_goes_on(kind: type) -> None:
    model = low_rank(Net())
    options = {"lr": 1e-3} | ({"momentum": 0.9} if kind is torch.optim.SGD else {})
    groups = [{"params": list(model.body.parameters())}, {"params": list(model.first.parameters()), "lr": 0.0}]
    rest = [p for n, p in model.named_parameters() if not n.startswith(("body", "first"))]
    optimizer = kind([*groups, {"params": rest}], **options)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    _step(model, optimizer)
    kept = {p: copy.deepcopy(optimizer.state[p]) for p in (model.norm.weight, model.body[0].bias, model.head[0].bias)}
    schedule = DecomposeAt(1, reconstruct_at=3, rank=(3, 3))
    assert schedule(model, optimizer, 0) is None
    summary = schedule(model, optimizer, 1)
    assert summary is not None and isinstance(model.first, TuckerConv2d)
    held = [{id(p) for p in group["params"]} for group in optimizer.param_groups]
    assert held[1] == {id(p) for p in model.first.parameters()}
    assert held[0] == {id(p) for p in model.body.parameters()}
    assert set().union(*held) == {id(p) for p in model.parameters()}
    for p, state in kept.items():
        for key, value in state.items():
            assert value is optimizer.state[p][key] or torch.equal(
                torch.as_tensor(value), torch.as_tensor(optimizer.state[p][key])
            )
    assert all(any(p is q for q in model.parameters()) for p in optimizer.state)
    frozen = model.first.core.detach().clone()
    before = model.body[0].core.detach().clone()
    _step(model, optimizer)
    scheduler.step()
    assert torch.equal(model.first.core, frozen) and not torch.equal(model.body[0].core, before)
    y = model.eval()(X)
    assert schedule(model, optimizer, 3) is not None
    torch.testing.assert_close(model(X), y, rtol=1e-4, atol=1e-5)
    model.train()
    _step(model, optimizer)
    assert {id(p) for g in optimizer.param_groups for p in g["params"]} == {id(p) for p in model.parameters()}
    copy.deepcopy(optimizer).load_state_dict(optimizer.state_dict())


def test_swapping_what_an_optimiser_does_not_have() -> None:
    a, b = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([a], lr=1.0)
    swap_parameters(optimizer, [([b], [nn.Parameter(torch.ones(4))])])
    assert optimizer.param_groups[0]["params"] == [a]


@pytest.mark.parametrize("layer", [
    TuckerConv2d(6, 4, 3, padding="same", ranks=(2, 3)),
    TuckerConv2d(6, 4, (3, 2), groups=2, bias=False, ranks=(1, 2, 2, 1)),
    TuckerConv2d(6, 4, 2, padding="same", ranks=(4, 6)), TuckerConv2d(6, 4, 3, 2, 1, 2, ranks=(1, 1)),
])  # fmt: skip
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")  # torch's layer copies, ours does not
def test_layers(layer: TuckerConv2d, layout) -> None:
    x = torch.randn(2, 6, 9, 8).contiguous(memory_format=layout)
    dense = layer.to_dense()
    y = layer(x)
    torch.testing.assert_close(y, dense(x), rtol=1e-4, atol=1e-5)
    assert y.is_contiguous(memory_format=layout)
    torch.testing.assert_close(layer.weight(), dense.weight)
    torch.testing.assert_close(torch.compile(layer, backend="eager", fullgraph=True)(x), y)
    assert dense.bias is layer.bias and "ranks=" in repr(layer)


def test_linear_layers_and_checkpoints_of_other_ranks() -> None:
    layer = TuckerLinear(7, 5, ranks=(3, 2))
    x = torch.randn(2, 3, 7)
    torch.testing.assert_close(layer(x), layer.to_dense()(x))
    torch.testing.assert_close(layer(x), x @ layer.weight().mT + layer.bias)
    other = TuckerLinear(7, 5, ranks=(1, 4))
    layer.load_state_dict(other.state_dict())
    assert layer.ranks == (1, 4) and torch.equal(layer(x), other(x))
    conv, wider = (
        TuckerConv2d(6, 4, 3, groups=2, ranks=(1, 2, 1, 1)),
        TuckerConv2d(6, 4, 3, groups=2, ranks=(2, 3, 2, 3)),
    )
    conv.load_state_dict(wider.state_dict())
    assert conv.ranks == (2, 3, 2, 3)
    assert torch.equal(conv(torch.ones(1, 6, 3, 3)), wider(torch.ones(1, 6, 3, 3)))
    with pytest.raises(RuntimeError, match="size mismatch for u_out"):
        layer.load_state_dict(TuckerLinear(7, 6, ranks=(1, 4)).state_dict())


WRONG = [
    (
        lambda: TuckerConv2d(6, 4, 3, ranks=(5, 2)),
        ValueError,
        r"TuckerConv2d: ranks must be at most \(4, 6\), got \(5, 2\)",
    ),
    (lambda: TuckerConv2d(6, 4, 3, ranks=(2,)), ValueError, r"TuckerConv2d: ranks must be two, or four with those of"),
    (lambda: TuckerConv2d(6, 4, 3, ranks=(0, 2)), ValueError, "TuckerConv2d: each rank must be at least 1, got 0"),
    (
        lambda: TuckerConv2d(6, 4, 3, groups=4, ranks=(1, 1)),
        ValueError,
        "TuckerConv2d: groups must divide in_channels, 6",
    ),
    (
        lambda: TuckerConv2d(6, 4, 3, padding_mode="circular", ranks=(1, 1)),
        ValueError,
        "TuckerConv2d: padding_mode must",
    ),
    (
        lambda: TuckerLinear(6, 4, ranks=(5, 1)),
        ValueError,
        r"TuckerLinear: ranks must be at most \(4, 6\), got \(5, 1\)",
    ),
    (lambda: TuckerLinear(6, 4, ranks=(1, 1, 1)), ValueError, r"TuckerLinear: ranks must be two, got \(1, 1, 1\)"),
    (lambda: decompose(3), TypeError, "decompose: model must be a torch.nn.Module, got int"),
    (lambda: decompose(Net(), 0.5), TypeError, "decompose: rank must be 'evbmf', two ranks, a mapping"),
    (lambda: decompose(Net(), "svd"), TypeError, "decompose: rank must be 'evbmf', two ranks, a mapping"),
    (lambda: decompose(Net(), skip=["nothing"]), ValueError, "decompose: skip must hold names of modules of the model"),
    (lambda: decompose(Net(), {"norm": (1, 1)}), ValueError, "decompose: rank must name layers that can be decomposed"),
    (lambda: decompose(nn.Linear(2, 2), inplace=True), ValueError, "decompose: model must hold the layer where it is"),
    (lambda: DecomposeAt(5, 5), ValueError, "DecomposeAt: reconstruct_at must be after epoch 5, got 5"),
]


@pytest.mark.parametrize(("call", "error", "text"), WRONG, ids=[text for *_, text in WRONG])
def test_errors(call, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match="^" + text):
        call()


def test_the_layer_itself_may_be_the_model() -> None:
    layer = TuckerLinear(40, 40, ranks=(3, 3)).to_dense()
    small, summary = decompose(layer)
    assert isinstance(small, TuckerLinear) and small.ranks == (3, 3) and "(model)" in str(summary)
    assert isinstance(compress.reconstruct(small)[0], nn.Linear)
