"""Models converted to generated convolutions: which layers, several generators, fitting, files, code sizes."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from spectral_ops import models
from spectral_ops.compress import (
    CSGSummary,
    code_size_study,
    fit_csg,
    load_published,
    slice_shape_sweep,
    slices_of_model,
    to_csg,
)
from spectral_ops.nn import CSG, CSGConv2d, bake, csg_scope

D = torch.float64
pytestmark = pytest.mark.usefixtures("seeded")


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def network(**options) -> tuple[nn.Module, CSGSummary]:
    return to_csg(models.CifarResNet(8), (8, 8, 3, 3), 12, **options)


# ---- to_csg --------------------------------------------------------------------------------------------------------
def test_what_is_converted() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=2), nn.Conv2d(8, 12, 1), nn.Conv2d(12, 9, 3, stride=2),
        nn.Conv2d(9, 9, 3, padding_mode="reflect", padding=1), nn.Conv2d(9, 5, 3, bias=False),
    )  # fmt: skip
    before = copy.deepcopy(model.state_dict())
    new, summary = to_csg(model, (4, 4, 3, 3), 6)
    assert all(torch.equal(a, b) for a, b in zip(before.values(), model.state_dict().values(), strict=True))
    assert [layer.name for layer in summary.changed] == ["3", "5"]
    assert {layer.name: layer.kept for layer in summary.layers if layer.kept} == {
        "0": "the first convolution",
        "1": "2 groups",
        "2": "a window of 1x1, where slices have 3x3",
        "4": "padding_mode must be 'zeros', got 'reflect'",
    }
    assert torch.equal(new[3].bias, model[3].bias) and new[5].bias is None and new[3].stride == (2, 2)
    assert summary.parameters == count(new) and summary.parameters_before == count(model)
    assert "generator csg: [4, 4, 3, 3], 6, trainable, layout='block', 864 parameters" in str(summary)
    assert new(torch.randn(2, 3, 20, 20)).shape == model(torch.randn(2, 3, 20, 20)).shape
    chosen, _ = to_csg(model, (4, 4, 1, 1), 6, select=["1", "2"])
    assert [type(m) is CSGConv2d for m in chosen] == [False, True, True, False, False, False]
    for conv, layer in ((model[3], new[3]), (model[5], new[5])):
        ratio = layer.weight().detach().square().mean() / conv.weight.detach().square().mean()
        assert 0.3 < float(ratio) < 3


def test_several_generators() -> None:
    new, summary = network(generators={"early": r"layer1", "late": r"layer[23]\.0\.conv\d"})
    assert list(summary.generators) == ["early", "late"]
    assert new.layer1[0].conv1.csg is new.layer1[0].conv2.csg is summary.generators["early"]
    assert new.layer3[0].conv1.csg is summary.generators["late"] is not summary.generators["early"]
    assert count(new) - summary.parameters == count(models.CifarResNet(8)) - summary.parameters_before
    with csg_scope(new):
        assert new(torch.randn(2, 3, 16, 16)).shape == (2, 10)
    _, one = network(generators={"late": "layer3"})
    reasons = {layer.kept for layer in one.layers if layer.name.startswith("layer1")}
    assert reasons == {"no generator's pattern finds it"}


def test_a_tied_layer_stays_one() -> None:
    conv = nn.Conv2d(4, 4, 3, padding=1)
    model = nn.ModuleList([nn.Conv2d(3, 4, 3), conv, conv])
    new, summary = to_csg(model, (4, 4, 3, 3), 2)
    assert new[1] is new[2] and isinstance(new[1], CSGConv2d) and len(summary.changed) == 1


def test_a_pre_trained_generator(tmp_path: Path) -> None:
    first, summary = network()
    path = tmp_path / "generator.safetensors"
    summary.generators["csg"].save(path)
    csg = CSG.load(path)
    assert count(csg) == 0 and torch.equal(csg.generator, summary.generators["csg"].generator)
    second, _ = network(generators=csg)
    assert count(second) == count(first) - 576 * 12
    assert second.layer1[0].conv1.csg is csg and isinstance(CSG.load(path, trainable=True).generator, nn.Parameter)
    for options in ({"binary": True}, {"hidden": 5, "activation": "silu"}):
        other = CSG((2, 2, 1, 1), 3, **options)
        other.save(path)
        again = CSG.load(path)
        assert again.binary == other.binary and again.activation == other.activation
        pairs = zip(other.state_dict().values(), again.state_dict().values(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


# ---- fitting -------------------------------------------------------------------------------------------------------
def test_fit_is_eckart_young_without_cropping() -> None:
    weights = [torch.randn(8, 4, 3, 3, dtype=D), torch.randn(4, 8, 3, 3, dtype=D)]
    rows = torch.cat([w.view(-1, 4, w.shape[1] // 4, 4, 9).permute(0, 2, 1, 3, 4).reshape(-1, 144) for w in weights])
    codes, generator = fit_csg(weights, (4, 4, 3, 3), 2)
    singular = torch.linalg.svdvals(rows)
    error = torch.linalg.norm(rows - torch.cat(codes) @ generator.mT)
    torch.testing.assert_close(error, singular[2:].norm())
    torch.testing.assert_close(generator.square().mean(), torch.tensor(0.5, dtype=D))


def test_fit_finds_filters_that_were_generated() -> None:
    """Exactly, where they are not cropped; nearly, where they are, and better than with their outer values as zeros."""
    for channels, bound in ((8, 1e-6), (10, 0.05)):
        torch.manual_seed(1)
        model = nn.Sequential(nn.Conv2d(3, channels, 3), *[nn.Conv2d(channels, channels, 3) for _ in range(6)])
        made, _ = to_csg(model, (4, 4, 3, 3), 3)
        _, summary = to_csg(bake(made), (4, 4, 3, 3), 3, init="fit")
        assert max(layer.error for layer in summary.changed) < bound


def test_a_fitted_model_computes_nearly_what_it_did() -> None:
    model = models.CifarResNet(8).eval()
    x = torch.randn(2, 3, 16, 16)
    distances = []
    for size in (8, 24, 144):
        new, summary = to_csg(model, (8, 8, 3, 3), size, init="fit")
        assert all(0 <= layer.error < 1 for layer in summary.changed)
        distances.append(float((new(x) - model(x)).detach().norm()))
    assert distances[0] > distances[1] > distances[2] and distances[2] < 1e-3
    signs, summary = to_csg(model, (8, 8, 3, 3), 100, init="fit", binary=True)
    assert signs.layer1[0].conv1.csg.binary and max(layer.error for layer in summary.changed) < 1


def test_code_size_study(tmp_path: Path) -> None:
    n = torch.arange(4, dtype=D)
    wave = torch.cos(torch.pi * (2 * n + 1) / 8)
    filters = (wave[:, None] * wave)[:, :, None, None].expand(4, 4, 2, 2)
    study = code_size_study([filters, torch.ones(4, 4, 2, 2)], 0.99, (4, 4, 2, 2))  # one coefficient each
    assert (study.slices, study.values, study.code_size, study.ratio) == (2, 64, 1, 64)
    white = code_size_study(torch.randn(64, 32, 3, 3), 1.0)
    assert white.code_size == 2304 and white.slices == 8
    assert bool((white.kept.diff() >= -1e-12).all()) and abs(float(white.kept[-1]) - 1) < 1e-12
    rows = slices_of_model(models.CifarResNet(8), (16, 16, 3, 3))
    assert rows.shape == (1 + 1 + 2 + 4 + 8 + 16, 2304)
    assert code_size_study(rows, 0.5).slices == 32
    pytest.importorskip("matplotlib")
    study.plot(tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 1000


def test_slice_shape_sweep() -> None:
    """The parameters that to_csg makes, and the errors of fitting; only whole slices fit generated filters exactly."""
    model = models.CifarResNet(8)
    weights = [m.weight for name, m in model.named_modules() if isinstance(m, nn.Conv2d) and name != "conv1"]
    shapes = [(16, 16, 3, 3), (8, 8, 3, 3), (12, 12, 3, 3)]
    rows = slice_shape_sweep(weights, shapes, 18)
    assert [row.shape for row in rows] == shapes and [row.code_size for row in rows] == [128, 32, 72]
    for row in rows:
        new, summary = to_csg(model, row.shape, row.code_size, init="fit")
        assert summary.parameters - count(new.conv1) == row.parameters
        size = sum(w.detach().double().square().sum() for w in weights)
        pairs = zip(weights, [m.weight() for m in new.modules() if isinstance(m, CSGConv2d)], strict=True)
        off = sum((a - b).detach().double().square().sum() for a, b in pairs)
        assert row.error == pytest.approx(float((off / size).sqrt()), rel=1e-3, abs=1e-5)
    with pytest.raises(ValueError, match=r"^slice_shape_sweep: ratio must be at least 1, got 0\.5$"):
        slice_shape_sweep(weights, shapes, 0.5)


def test_published_checkpoints() -> None:
    """Theirs: the generator as a Linear in every block, codes beside each other, other names, the same order."""
    new, _ = network(layout="flat")
    theirs: dict[str, Tensor] = {"module.CSG.weight": torch.randn(576, 12)}
    plain = copy.deepcopy(new.state_dict())
    for number, (name, t) in enumerate(plain.items()):
        if name.endswith("codes"):
            block, conv = name.split(".")[0], name.split(".")[2]
            theirs[f"module.{block}.code{'2' if conv == 'conv2' else ''}"] = torch.randn_like(t)
            theirs[f"module.{block}.CSG.weight"] = theirs["module.CSG.weight"]
        elif not name.endswith("generator"):
            theirs[f"module.other{number}.{name.rpartition('.')[2]}"] = torch.randn_like(t) if t.dim() else t
    load_published(new, theirs)
    assert torch.equal(new.layer2[0].conv2.codes, theirs["module.layer2.code2"])
    assert torch.equal(new.layer3[0].conv1.csg.generator, theirs["module.CSG.weight"])
    assert torch.equal(new.fc.bias, list(theirs.values())[-1])
    with pytest.raises(ValueError, match="must hold 6 codes, as model, got 5"):
        load_published(new, {k: v for k, v in theirs.items() if k != "module.layer2.code2"})
    with pytest.raises(ValueError, match=r"must hold a generator, CSG.weight or CLG.weight, got none"):
        load_published(new, {})
    with pytest.raises(ValueError, match=r"layer2.code2 must be \(16, 12\) as in model, got \(1, 12\)"):
        load_published(new, {**theirs, "module.layer2.code2": torch.zeros(1, 12)})


# ---- messages ------------------------------------------------------------------------------------------------------
_CSG = "spectral_ops.nn.CSG"
WRONG = [
    (lambda: CSG((2, 2, 3)), ValueError, "CSG: slice_shape must be four ints (F, K, h, w), got (2, 2, 3)"),
    (lambda: CSG((2, 2, 3, 0)), ValueError, "CSG: each size of slice_shape must be at least 1, got 0"),
    (lambda: CSG(code_size=2.0), TypeError, "CSG: code_size must be an int, got 2.0"),
    (lambda: CSG(layout="tile"), ValueError, "CSG: layout must be one of block, flat, got 'tile'"),
    (lambda: CSG(hidden=0), ValueError, "CSG: hidden must be at least 1, got 0"),
    (lambda: CSGConv2d(4, 6, 3, groups=4, csg=CSG()), ValueError,
     "CSGConv2d: groups must divide out_channels, 6, got 4"),
    (lambda: CSGConv2d(4, 4, 3, csg=4), TypeError, f"CSGConv2d: csg must be a {_CSG}, got int"),
    (lambda: to_csg(4), TypeError, "to_csg: model must be a torch.nn.Module, got int"),
    (lambda: to_csg(nn.Conv2d(2, 2, 3), init="svd"), ValueError,
     "to_csg: init must be one of variance, fit, got 'svd'"),
    (lambda: to_csg(nn.Conv2d(2, 2, 3), init="fit", hidden=3), ValueError,
     "to_csg: init must be variance for a generator with a hidden layer, got 'fit'"),
    (lambda: to_csg(nn.Conv2d(2, 2, 3), generators=2), ValueError,
     "to_csg: generators must be 1, a CSG, or a mapping from names to patterns, got 2"),
    (lambda: to_csg(nn.Conv2d(2, 2, 3, padding_mode="reflect"), select=[""]), ValueError,
     "to_csg: layer '' cannot be converted: padding_mode must be 'zeros', got 'reflect'"),
    (lambda: code_size_study(torch.ones(2, 2, 3, 3)), ValueError,
     "code_size_study: weights must hold a whole slice of shape (16, 16, 3, 3), got none"),
    (lambda: code_size_study(torch.ones(2, 2, 3, 3), 0), ValueError,
     "code_size_study: energy must be in (0, 1], got 0"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "text"), WRONG, ids=[row[2] for row in WRONG])
def test_wrong_arguments(call, error, text) -> None:
    with pytest.raises(error, match="^" + re.escape(text) + "$"):
        call()


def test_a_file_that_is_no_generator(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"x": torch.ones(2)}, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match=r"^CSG\.load: path must be a file of CSG\.save, got .*x\.safetensors$"):
        CSG.load(tmp_path / "x.safetensors")
