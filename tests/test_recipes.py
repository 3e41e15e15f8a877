"""The recipes that set a spectral network beside its dense twin, from end to end, and their command line."""

from __future__ import annotations

import importlib
import json
import math
from pathlib import Path

import pytest
import torch
from rich.console import Console
from test_demo import WEIGHTINGS, digits, quiet, write

from spectral_ops import cli
from spectral_ops.recipes import data, experiment, spectra, training
from spectral_ops.recipes.networks import Recipe, build
from spectral_ops.recipes.terminal import results_table

NAMES = {"rnn-mnist": "Recurrent", "conv-mnist": "Convolutional", "mlp-mnist": "Fully connected"}
every_recipe = pytest.mark.parametrize("name", NAMES)
every_transform = pytest.mark.parametrize("transform", spectra.TRANSFORMS)
COUNTS = {"rnn-mnist": (75_786, 21_032), "conv-mnist": (124_946, 32_336), "mlp-mnist": (4_315_920, 166_992)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("digits")
    write(path, "train", *digits(100, 1))
    write(path, "t10k", *digits(40, 2))
    return path


@pytest.fixture(scope="module")
def small(folder: Path) -> data.Mnist:
    return data.load(folder)


def experiment_of(name: str, transform: str = "dct") -> experiment.Experiment:
    return importlib.import_module(f"spectral_ops.recipes.{name.replace('-', '_')}").experiment(transform)


def spectral(name: str, transform: str) -> Recipe:
    return experiment_of(name, transform).networks[-1]


def test_the_command_line_offers_what_there_is() -> None:
    assert set(cli.EXPERIMENTS) == set(NAMES)
    assert set(cli._TRANSFORMS) == set(spectra.TRANSFORMS) == set(spectra.TITLES)


@every_recipe
@every_transform
def test_the_eager_baseline_is_the_same_network(small: data.Mnist, name: str, transform: str) -> None:
    """Values and gradients, from the same parameters."""
    recipe = spectral(name, transform)
    net = build(recipe, 0)
    assert recipe.eager is not None
    baseline = recipe.eager(net)
    assert {id(p) for p in baseline.parameters()} == {id(p) for p in net.parameters()}
    x, labels = small.train.images[:6], small.train.labels[:6]
    found = []
    for each in (net, baseline):
        losses, logits = each.loss(x, labels)
        assert logits.dtype == torch.float32
        net.zero_grad()
        losses.sum().backward()
        found.append([losses.detach(), logits.detach(), each.predict(x).detach(), *(p.grad for p in net.parameters())])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=2e-3, atol=2e-4 * float(b.abs().max()))
    assert not any(p.is_complex() for p in net.parameters())


@every_recipe
def test_counts(name: str) -> None:
    """Parameters of both, and multiply-adds: a half spectrum's complex ones count four."""
    for recipe, count in zip(experiment_of(name).networks, COUNTS[name], strict=True):
        assert sum(p.numel() for p in build(recipe, 0).parameters()) == count
    dense, dct = (build(recipe, 0).operations() for recipe in experiment_of(name).networks)
    dft, whole = (build(spectral(name, t), 0).operations() for t in ("dft", "dft-whole"))
    assert dct < dft < whole and dct < dense / 3


@every_recipe
def test_operations_of_the_dense_twin_are_its_layers(name: str) -> None:
    """Counted from outside: by what torch's layers do with an image."""
    dense = build(experiment_of(name).networks[0], 0)
    counted = 0

    def count(module: torch.nn.Module, given: tuple, y: torch.Tensor) -> None:
        nonlocal counted
        if isinstance(module, torch.nn.Linear):
            counted += module.weight.numel()
        elif isinstance(module, torch.nn.Conv2d):
            counted += module.weight.numel() * y.shape[2] * y.shape[3]
        elif isinstance(module, torch.nn.RNN):
            counted += 28 * (module.weight_ih_l0.numel() + module.weight_hh_l0.numel())

    for module in dense.modules():
        module.register_forward_hook(count)
    dense(torch.zeros(1, 28, 28))
    assert dense.operations() == counted


@every_recipe
@pytest.mark.parametrize("transform", ["dct", "dft"])
def test_a_network_learns(small: data.Mnist, name: str, transform: str) -> None:
    settings = training.Settings(epochs=6 if name == "rnn-mnist" else 4, batch_size=15, lr=2e-3)
    run = training.train(spectral(name, transform), small, settings, quiet)
    assert run.curve[-1][1] < 0.8 * run.curve[0][1]
    assert list(run.accuracy) == list(run.accuracy_logits) == WEIGHTINGS and max(run.accuracy.values()) > 0.4
    assert len(run.branch_accuracy) == len(run.branch_losses)


@every_recipe
def test_from_end_to_end(folder: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line: trains both, measures, prints, and saves a report and the network."""
    from safetensors.torch import load_file

    monkeypatch.setattr(experiment, "QUICK_SECONDS", 0.05)
    monkeypatch.setattr("spectral_ops.recipes.timing.SAMPLES", 40)
    monkeypatch.setattr("spectral_ops.recipes.timing._compiled", _no_compiler)
    out, file = tmp_path / "a" / "b", tmp_path / "net.safetensors"
    call = ["train", name, "--transform", "dft", "--quick", "--data-dir", str(folder), "--epochs", "1", "--seed", "3"]
    assert cli.main([*call, "--batch-size", "30", "--out", str(out), "--save", str(file)]) == 0
    results = json.loads((out / "results.json").read_text())
    assert results["title"].startswith(NAMES[name]) and results["settings"]["seed"] == 3
    assert (results["settings"]["epochs"], results["settings"]["quick"]) == (1, True)
    dense, branches = results["networks"]
    assert (dense["name"], branches["name"]) == ("dense", "spectral") and dense["compression"] is None
    assert branches["compression"]["whole"] == pytest.approx(dense["parameters"] / branches["parameters"])
    assert all(math.isfinite(loss) for net in (dense, branches) for _, loss in net["curve"])
    assert branches["compression"]["whole"] > 2 and list(branches["accuracy"]) == WEIGHTINGS
    times = {row["name"]: row for row in results["speed"]}
    assert times["spectral"]["step_ms"]["ours"] > 0 and times["dense"]["step_ms"]["ours"] is None
    assert times["spectral"]["dense_step_ratio"] > 0 and "no compiler" in times["spectral"]["compile_note"]
    html = (out / "report.html").read_text(encoding="utf-8")
    assert "http" not in html and "<script" not in html and html.count("<svg") == html.count("</svg>") == 4
    assert results["about"].split(".")[0] in html and "<th>paper</th>" not in html
    build(spectral(name, "dft"), 0).load_state_dict(load_file(file))
    table = Console(width=120, record=True, quiet=True)
    table.print(results_table(results))


def _no_compiler(*_: object) -> None:
    raise RuntimeError("no compiler")


BAD = [
    (["fc-mnist", "--transform", "dft"], "--transform is not an option of fc-mnist"),
    (["fc-mnist", "--quick"], "--quick is not an option of fc-mnist"),
    (["fc-mnist", "--out", "x"], "--out is not an option of fc-mnist"),
    (["rnn-mnist", "--model", "dense"], "--model is not an option of rnn-mnist"),
    (["conv-mnist", "--epochs", "0"], "--epochs must be at least 1, got 0"),
    (["mlp-mnist", "--lr", "0"], "--lr must be above 0, got 0.0"),
    (["mlp-mnist", "--lr", "nan"], "--lr must be above 0, got nan"),
    (["rnn-mnist", "--data-dir", "nowhere"], "MNIST: .*nowhere"),
]


@pytest.mark.parametrize(("argv", "message"), BAD, ids=lambda value: value if isinstance(value, str) else "")
def test_bad_options(argv: list[str], message: str) -> None:
    with pytest.raises(SystemExit, match=f"^spectral: {message}"):
        cli.main(["train", *argv])


@pytest.mark.parametrize("argv", [["rnn-mnist", "--transform", "fft"], ["lstm-mnist"]])
def test_unknown_choices(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["train", *argv])
    assert stop.value.code == 2 and "invalid choice" in capsys.readouterr().err
