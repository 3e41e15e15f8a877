"""The recipes of the Tucker papers, from end to end on few digits, and their command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from test_demo import digits, write

from spectral_ops import cli
from spectral_ops.compress import TDLRT, prune_snip
from spectral_ops.models import LeNet5
from spectral_ops.nn import TuckerConv2d
from spectral_ops.recipes import (
    data,
    low_rank,
    tdlrt_cifar10,
    tdlrt_lenet5,
    tdlrt_methods,
    tdlrt_mnist,
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
    assert [row["name"] for row in rows] == list(tdlrt_lenet5.METHODS)
    results = json.loads((tmp_path / "results.json").read_text())
    ours = results["arms"][0]
    assert len(ours["losses"]) == 3 * (135 // 32) and set(ours["ranks"][0]) == {"conv1", "conv2"}
    assert all((tmp_path / name).stat().st_size > 10_000 for name in ("figure2.png", "ranks.png"))
    rows = tdlrt_lenet5.run(folder, tmp_path, epochs=1, batch_size=64, rates=(0.01, 1e20), taus=(0.1, 0.01))
    assert all(row["final"][0] < 0.3 for row in rows if row["name"].endswith("e+20"))  # diverged, and goes on
    names = [row["name"] for row in rows]
    assert len(names) == 10 and names[:2] == ["TDLRT tau 0.1 lr 0.01", "TDLRT tau 0.01 lr 0.01"]
    assert (tmp_path / "rates.png").stat().st_size > 8_000


def test_the_start_is_ill_conditioned_and_the_same_for_all() -> None:
    """Singular values near powers of ten, the first 1; of one W, whose factors share them or are orthonormal."""
    weights = []
    for method in ("TDLRT", "Tucker", "Tucker, orthonormal"):
        torch.manual_seed(3)
        model = tdlrt_lenet5.ill_conditioned(method)
        assert isinstance(model.conv2, TuckerConv2d) and model.conv2.ranks == (40, 16, 5, 5)
        weight = model.conv2.to_dense().weight.detach().double()
        for mode in (0, 1):
            s = torch.linalg.svdvals(weight.movedim(mode, 0).flatten(1))
            assert s[3] < 1e-2 * s[0] and s[8] < 1e-6 * s[0] and 0.9 < s[0] < 2
        weights.append(weight)
        lengths = model.conv2.u_out.detach().norm(dim=0)
        wanted = 10 ** (-torch.arange(40) / 2) if method == "Tucker" else torch.ones(40)
        torch.testing.assert_close(lengths, wanted.clamp(min=10**-7.5), rtol=1e-3, atol=0)
        TDLRT(model)
        torch.testing.assert_close(model.conv2.weight().detach().double(), weight, rtol=0, atol=1e-5)
    assert torch.equal(weights[0], weights[2])
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=1e-6)
    product = tdlrt_lenet5.ill_conditioned("CP").conv2
    lengths = [p.weight.detach().movedim(1 if i == 3 else 0, 0).flatten(1).norm(dim=1) for i, p in enumerate(product)]
    sizes = lengths[0] * lengths[1] * lengths[2] * lengths[3]
    torch.testing.assert_close(sizes[:9], 10.0 ** -torch.arange(9), rtol=1e-3, atol=0)


def test_footprint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tucker_footprint, "KAPPAS", (0.2,))
    monkeypatch.setattr(tucker_footprint, "NETWORKS", {"AlexNet": tucker_footprint.CifarAlexNet})
    rows = tucker_footprint.run(tmp_path, images=9, batch_size=4)
    assert [row["images"] for row in rows] == [12, 12] and rows[0]["parameters"] == 2_472_266
    assert rows[0]["compression"] == 0 and 0.8 < rows[1]["compression"] < 1 and min(row["seconds"] for row in rows) > 0
    assert (tmp_path / "figure2.png").exists()


def noise(train: int = 16, test: int = 8) -> Images:
    generator = torch.Generator().manual_seed(0)
    parts = [(torch.randn(n, 3, 32, 32, generator=generator), torch.arange(n) % 10) for n in (train, test)]
    return Images(*parts, source="noise", crop=4, flip=True)


def test_tdlrt_cifar10(tmp_path: Path) -> None:
    """All methods for one epoch on noise: what is trained, counted, compared with the paper and drawn."""
    options = {"taus": [0.1], "kappas": [0.2], "shares": [0.3], "rounds": 2}
    rows = tdlrt_cifar10.run(noise(), tmp_path, epochs=1, batch_size=8, network="alexnet", **options)
    names = ["full", "TDLRT tau 0.1", "matrix DLRT tau 0.1", "Tucker kappa 0.2", "matrix kappa 0.2"]
    names += ["matrix, random start kappa 0.2", "CP kappa 0.2", "SNIP share 0.3", "magnitude share 0.3"]
    assert [row["name"] for row in rows] == [*names, "GraSP share 0.3"] and rows[0]["compression"] == (0.0, 0.0)
    assert all(0.3 < row["compression"][0] < 1 for row in rows[1:])
    assert len({row["parameters"] for row in rows[7:]}) == 1  # the pruned ones keep equally many
    assert rows[7]["compression"][0] == pytest.approx(0.7, abs=1e-3)
    arms = json.loads((tmp_path / "results.json").read_text())["arms"]
    assert [bool(arm["ranks"][0]) for arm in arms] == [False, True, True, *[False] * 7]
    assert (tmp_path / "figure1.png").stat().st_size > 10_000
    text = (tmp_path / "results.md").read_text()
    assert "82.39 / 83.12" in next(line for line in text.splitlines() if line.startswith("TDLRT tau"))


def test_methods_on_digits_with_several_seeds(folder: Path, tmp_path: Path) -> None:
    """Few methods over several values; the same seed gives the same numbers."""
    options = {"methods": ["TDLRT", "SNIP"], "taus": [0.3, 0.01], "shares": [0.1]}
    rows = tdlrt_mnist.run(folder, tmp_path, seeds=2, epochs=2, batch_size=32, **options)
    assert [row["name"] for row in rows] == ["full", "TDLRT tau 0.3", "TDLRT tau 0.01", "SNIP share 0.1"]
    assert rows[1]["compression"][0] > rows[2]["compression"][0] > 0.5 and all(row["seeds"] == 2 for row in rows)
    arms = json.loads((tmp_path / "results.json").read_text())["arms"]
    assert [arm["seed"] for arm in arms] == [0] * 4 + [1] * 4 and arms[1]["losses"] != arms[5]["losses"]
    again = tdlrt_mnist.run(folder, tmp_path, epochs=2, batch_size=32, **options)
    assert [row["best"][0] for row in again] == [max(arm["accuracy"]) for arm in arms[:4]]
    with pytest.raises(ValueError, match=r"^methods must be of full, TDLRT, .*, got 'SVD'$"):
        tdlrt_mnist.run(folder, tmp_path, methods=["SVD"])


def test_pruned_networks_are_counted_without_their_zeros() -> None:
    model = LeNet5()
    plan = tdlrt_methods.Plan(LeNet5, noise(), "", 1, 0.1, 8)
    assert [m for m, _ in plan.arms()][:1] == ["full"] and len(list(plan.arms())) == 1 + 2 * 4 + 4 * 4 + 3 * 2
    images = torch.randn(8, 1, 28, 28)
    prune_snip(model, 0.1, lambda: torch.nn.functional.cross_entropy(model(images), torch.arange(8)))
    assert low_rank.count(model) == round(0.1 * 430_500) + 580


def test_tucker_cifar10(tmp_path: Path) -> None:
    rows = tucker_cifar10.run(
        noise(), tmp_path, epochs=3, rank=(4, 4), batch_size=8, build=tucker_footprint.CifarAlexNet
    )
    sizes = [row["parameters"][0] for row in rows]
    assert sizes[0] == sizes[2] == 2_472_266 and sizes[1] == sizes[3] < 50_000
    assert (tmp_path / "figure3.png").exists()


@pytest.mark.parametrize("recipe", [tucker_cifar10, tdlrt_cifar10])
def test_networks_that_no_paper_has(recipe, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cifar10: network must be one of \w+, \w+, \w+, got 'vgg11'$"):
        recipe.run(noise(2, 2), tmp_path, network="vgg11")


@pytest.mark.parametrize("network", tucker_cifar10.NETWORKS)
def test_the_plans_of_paper_4(network: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Epochs and arms of Tables 1 to 3 beside the printed numbers, without training."""

    def train(name, plan, data, seed, schedule=None, tune=0):
        return low_rank.Arm(name, seed, 1, 1.0, [0.5], [1.0], [{}], [(0, str(tune))])

    monkeypatch.setattr(tucker_mnist, "train", train)
    tucker_cifar10.run(noise(2, 2), tmp_path, network=network)
    rows = [line.split(" | ") for line in (tmp_path / "results.md").read_text().splitlines() if "50.00" in line]
    early, back = ("20", "150") if network == "densenet40" else ("10", "190")
    names = [f"decomposed after {n}" for n in ("20",) if network == "densenet40"] or [
        f"decomposed after {n}" for n in (10, 20, 30, 40, 50)
    ]
    names = ["original", *names, f"decomposed after {early}, reconstructed after {back}", "original, then decomposed"]
    assert [row[0] for row in rows] == names
    assert [row[-1] for row in rows] == list(tucker_cifar10.PRINTED[network])
    assert json.loads((tmp_path / "results.json").read_text())["arms"][-1]["events"] == [[0, "40"]]


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
    (["tucker-mnist", "--kappa", "0.1"], "--kappa is not an option of tucker-mnist"),
    (["tdlrt-mnist", "--methods", "SVD"], "methods must be of full, TDLRT"),
])  # fmt: skip
def test_command_line_errors(arguments: list[str], text: str) -> None:
    with pytest.raises(SystemExit, match=text):
        cli.main(["train", *arguments])


def test_command_line(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}
    monkeypatch.setattr(tdlrt_lenet5, "run", lambda *args, **more: seen.update(args=args, **more))
    options = ["--data-dir", str(folder), "--out", str(tmp_path), "--seeds", "3", "--tau", "0.2", "--quick"]
    assert cli.main(["train", "tdlrt-lenet5", *options]) == 0
    assert seen == {"args": (folder, tmp_path, 3), "quick": True, "taus": [0.2]}
