"""The recipes of the Tucker papers, from end to end on few digits, and their command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from test_demo import digits, write

from spectral_ops import cli
from spectral_ops.models import LeNet5
from spectral_ops.nn import TuckerConv2d
from spectral_ops.recipes import (
    data,
    low_rank,
    tdlrt_cifar10,
    tdlrt_lenet5,
    tucker_cifar10,
    tucker_footprint,
    tucker_mnist,
)
from spectral_ops.recipes.generated import Images


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("digits")
    write(path, "train", *digits(150, 1))
    write(path, "t10k", *digits(40, 2))
    return path


@pytest.fixture(autouse=True)
def _one_thread(threads):
    torch.set_num_threads(1)
    torch.manual_seed(0)


def test_tucker_mnist(folder: Path, tmp_path: Path) -> None:
    rows = tucker_mnist.run(folder, tmp_path, seeds=2, epochs=4, rank=(8, 6), batch_size=32)
    names = [row["name"] for row in rows]
    assert names[0] == "original" and names[-1] == "original, then decomposed" and len(names) == 5
    by_name = {row["name"]: row for row in rows}
    assert by_name["original"]["parameters"] == (431_080, 0.0)
    assert by_name["decomposed after 1"]["parameters"][0] < 30_000
    (back,) = (name for name in names if "reconstructed" in name)
    assert by_name[back]["parameters"][0] == 431_080
    results = json.loads((tmp_path / "results.json").read_text())
    arm = next(a for a in results["arms"] if a["name"] == "original, then decomposed")
    assert len(arm["accuracy"]) == 5 and arm["ranks"][3] == {} and arm["ranks"][4]["fc1"] == [8, 6]
    assert arm["events"] == [[4, "4 of 4 layers"]]
    assert (tmp_path / "figure3.png").stat().st_size > 10_000
    assert "decomposed after 1 |" in (tmp_path / "results.md").read_text()


def test_tdlrt_lenet5(folder: Path, tmp_path: Path) -> None:
    rows = tdlrt_lenet5.run(folder, tmp_path, epochs=3, batch_size=32)
    assert [row["name"] for row in rows] == ["TDLRT", "Tucker", "CP"]
    results = json.loads((tmp_path / "results.json").read_text())
    ours = results["arms"][0]
    assert len(ours["losses"]) == 3 * (135 // 32) and set(ours["ranks"][0]) == {"conv1", "conv2"}
    assert all((tmp_path / name).stat().st_size > 10_000 for name in ("figure2.png", "ranks.png"))


def test_the_start_is_ill_conditioned_and_of_the_usual_size() -> None:
    model = tdlrt_lenet5.ill_conditioned("Tucker")
    assert isinstance(model.conv2, TuckerConv2d) and model.conv2.ranks == (40, 16, 5, 5)
    weight = model.conv2.to_dense().weight.detach().double()
    s = torch.linalg.svdvals(weight.transpose(0, 1).flatten(1))
    assert s[3] < 1e-2 * s[0] and s[8] < 1e-6 * s[0]
    assert weight.norm() == pytest.approx(float(LeNet5().conv2.weight.detach().norm()), rel=0.15)


def test_footprint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tucker_footprint, "KAPPAS", (0.2,))
    monkeypatch.setattr(tucker_footprint, "NETWORKS", {"AlexNet": tucker_footprint.CifarAlexNet})
    rows = tucker_footprint.run(tmp_path, images=9, batch_size=4)
    assert [row["images"] for row in rows] == [12, 12] and rows[0]["parameters"] == 2_472_266
    assert rows[0]["compression"] == 0 and 0.8 < rows[1]["compression"] < 1 and min(row["seconds"] for row in rows) > 0
    assert (tmp_path / "figure2.png").exists()


def test_tdlrt_cifar10(tmp_path: Path) -> None:
    """All methods for one epoch on noise: what is trained, counted and drawn."""
    generator = torch.Generator().manual_seed(0)
    parts = [(torch.randn(n, 3, 32, 32, generator=generator), torch.arange(n) % 10) for n in (16, 8)]
    images = Images(*parts, source="noise", crop=4, flip=True)
    options = {"epochs": 1, "batch_size": 8, "network": "alexnet", "taus": [0.1], "kappas": [0.2]}
    rows = tdlrt_cifar10.run(images, tmp_path, **options)
    names = ["full", "TDLRT tau 0.1", "matrix DLRT tau 0.1", "Tucker kappa 0.2", "matrix kappa 0.2", "CP kappa 0.2"]
    assert [row["name"] for row in rows] == names and rows[0]["compression"] == (0.0, 0.0)
    assert all(0.3 < row["compression"][0] < 1 for row in rows[1:])
    arms = json.loads((tmp_path / "results.json").read_text())["arms"]
    assert [bool(arm["ranks"][0]) for arm in arms] == [False, True, True, False, False, False]
    assert (tmp_path / "figure1.png").stat().st_size > 10_000


def test_tucker_cifar10(tmp_path: Path) -> None:
    parts = [(torch.randn(n, 3, 32, 32), torch.arange(n) % 10) for n in (16, 8)]
    images = Images(*parts, source="noise", crop=4, flip=True)
    rows = tucker_cifar10.run(
        images, tmp_path, epochs=3, rank=(4, 4), batch_size=8, build=tucker_footprint.CifarAlexNet
    )
    sizes = [row["parameters"][0] for row in rows]
    assert sizes[0] == sizes[2] == 2_472_266 and sizes[1] == sizes[3] < 50_000
    assert (tmp_path / "figure3.png").exists()


def test_batches_and_statistics(folder: Path) -> None:
    split = data.load(folder).train
    drawn = list(low_rank.batches(split, 32, torch.Generator().manual_seed(0)))
    assert [len(y) for _, y in drawn] == [32] * 4 and drawn[0][0].shape == (32, 1, 28, 28)
    assert low_rank.mean_and_std([1.0, 3.0]) == (2.0, pytest.approx(2**0.5)) and low_rank.mean_and_std([1.0]) == (
        1.0,
        0.0,
    )
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10)).train()
    right = (model(split.images).argmax(1) == split.labels).float().mean()
    assert low_rank.accuracy(model, split, 50) == pytest.approx(float(right)) and model.training


@pytest.mark.parametrize(("arguments", "text"), [
    (["tucker-mnist", "--transform", "dct"], "--transform is not an option of tucker-mnist"),
    (["tdlrt-lenet5", "--seeds", "0"], "--seeds must be at least 1, got 0"),
    (["tdlrt-lenet5", "--epochs", "0"], "--epochs must be at least 1, got 0"),
])  # fmt: skip
def test_command_line_errors(arguments: list[str], text: str) -> None:
    with pytest.raises(SystemExit, match=text):
        cli.main(["train", *arguments])


def test_command_line(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}
    monkeypatch.setattr(tdlrt_lenet5, "run", lambda *args, **more: seen.update(args=args, **more))
    options = ["--data-dir", str(folder), "--out", str(tmp_path), "--seeds", "3", "--tau", "0.2", "--quick"]
    assert cli.main(["train", "tdlrt-lenet5", *options]) == 0
    assert seen == {"args": (folder, tmp_path, 3), "quick": True, "tau": 0.2}
