"""The recipes of generated filters, from end to end, on tiny made-up data in the standard formats."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_demo import digits, write

from spectral_ops import cli
from spectral_ops.nn import CSG
from spectral_ops.recipes import csg_cifar10, csg_mnist, generated
from spectral_ops.recipes.training import Settings

NETWORKS = ["plain", "csg", "bcsg", "source", "pretrained"]


@pytest.fixture(autouse=True)
def _one_thread(threads):
    torch.set_num_threads(1)


def batches(folder: Path, images: int = 12) -> Path:
    """Six python batches of coloured squares whose colour tells the class."""
    rng = np.random.default_rng(0)
    folder.mkdir(exist_ok=True)
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        labels = rng.integers(0, 10, images)
        colours = np.stack([labels * 25, 255 - labels * 25, (labels % 2) * 255], 1)[:, :, None]
        data = np.clip(colours + rng.integers(-9, 9, (images, 3, 1024)), 0, 255).astype(np.uint8)
        batch = {b"data": data.reshape(images, -1), b"labels": labels.tolist(), b"batch_label": name.encode()}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    return folder


def test_csg_mnist_from_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "train", *digits(60, 1))
    write(tmp_path, "t10k", *digits(30, 2))
    out = tmp_path / "out"
    monkeypatch.setattr(csg_mnist, "PLAN", replace(csg_mnist.PLAN, depth=8))
    call = ["train", "csg-mnist", "--quick", "--data-dir", str(tmp_path), "--epochs", "2", "--batch-size", "20"]
    assert cli.main([*call, "--seed", "3", "--out", str(out)]) == 0
    results = json.loads((out / "results.json").read_text())
    assert results["settings"] == {"epochs": 2, "batch_size": 20, "lr": 0.05, "seed": 3, "quick": True}
    rows = {row["name"]: row for row in results["networks"]}
    assert list(rows) == NETWORKS
    generator = 2304 * 32
    assert rows["csg"]["parameters"] - rows["pretrained"]["parameters"] == generator
    assert rows["bcsg"]["parameters"] - rows["pretrained"]["parameters"] == 32 * (128 - 32)  # 32 slices
    assert all(row["step_ms"] > 0 and 0 <= row["accuracy"] <= 1 and row["curve"] for row in rows.values())
    html = (out / "report.html").read_text(encoding="utf-8")
    assert html.count("<tr>") == 6 and "<svg" in html and "http" not in html and "ResNet-8-BCSG" in html


def test_csg_cifar10_from_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = batches(tmp_path / "cifar-10-batches-py")
    small = replace(csg_cifar10.PLAN, depth=8, source_depth=8, binary_code_size=64)
    monkeypatch.setattr(csg_cifar10, "PLAN", small)
    assert cli.main(["train", "csg-cifar10", "--quick", "--data-dir", str(folder), "--epochs", "1",
                     "--out", str(tmp_path)]) == 0  # fmt: skip
    results = json.loads((tmp_path / "results.json").read_text())
    assert (results["train"], results["test"], results["settings"]["batch_size"]) == (60, 12, 192)
    assert "93.72" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_the_batches_are_read_right(tmp_path: Path) -> None:
    images = csg_cifar10.images(batches(tmp_path), 0)
    x, labels = images.train
    assert x.shape == (60, 3, 32, 32) and images.crop == 4 and images.flip
    mean, deviation = (torch.tensor(v).view(3, 1, 1) for v in (csg_cifar10.MEAN, csg_cifar10.DEVIATION))
    red = ((x * deviation + mean) * 255)[:, 0].mean((1, 2))
    assert float((red - labels * 25).abs().max()) < 12  # the first plane is red


def test_a_network_learns(tmp_path: Path) -> None:
    images = replace(csg_cifar10.images(batches(tmp_path, 60), 0), crop=1)
    plan = replace(csg_cifar10.PLAN, depth=8, slice_shape=(8, 8, 3, 3), code_size=16)
    for name in ("csg", "bcsg"):
        torch.manual_seed(0)
        net = generated.build(replace(plan, binary_code_size=32), name, 3)
        curve = generated.fit(net, images, Settings(6, 30, 0.05, 0))
        assert curve[-1][1] < 0.5 * curve[0][1]
        assert generated.accuracy(net, *images.test) > 0.3


def test_the_generator_is_taken_over_and_stays() -> None:
    plan = csg_mnist.PLAN
    source = generated.build(plan, "source", 1)
    given = next(m for m in source.modules() if isinstance(m, CSG))
    net = generated.build(plan, "pretrained", 1, given)
    taken = next(m for m in net.modules() if isinstance(m, CSG))
    assert torch.equal(taken.generator, given.generator) and not list(taken.parameters())
    x, labels = torch.randn(8, 1, 28, 28), torch.arange(8)
    generated.fit(net, generated.Images((x, labels), (x, labels), "random"), Settings(1, 4, 0.1, 0))
    assert torch.equal(taken.generator, given.generator)


def test_augmentation() -> None:
    x = torch.arange(2 * 3 * 4 * 4.0).view(2, 3, 4, 4)
    images = generated.Images((x, x), (x, x), "", crop=1, flip=True)
    seen = set()
    for seed in range(40):
        y = generated.augmented(x, images, torch.Generator().manual_seed(seed))
        assert y.shape == x.shape and y.is_contiguous(memory_format=torch.channels_last)
        rows = [torch.nn.functional.pad(v, (1, 1, 1, 1)) for v in (x, x.flip(3))]
        windows = [r[0, :, i : i + 4, j : j + 4] for r in rows for i in range(3) for j in range(3)]
        seen |= {k for k, window in enumerate(windows) if torch.equal(window, y[0])}
    assert len(seen) > 9  # of 18 shifts and reflections


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"--data-dir .* must hold data_batch_1, and does not"),
        (b"nonsense", "is no python batch of CIFAR-10"),
        (pickle.dumps({b"data": 3}), "is no python batch of CIFAR-10: b'labels'"),
        (pickle.dumps({b"data": np.zeros((2, 5), np.uint8), b"labels": [0, 1]}), r"must hold bytes \(N, 3072\)"),
        (
            pickle.dumps({b"data": np.zeros((1, 3072), np.uint8), b"labels": [10]}),
            "labels must be 0 to 9, got 10 to 10",
        ),
        (pickle.dumps(print), "builtins.print is no array"),
    ],
    ids=["missing", "nonsense", "keys", "shape", "labels", "code"],
)
def test_bad_batches(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "data_batch_1").write_bytes(content)
    with pytest.raises(SystemExit, match=f"^spectral: csg-cifar10: .*{message}"):
        cli.main(["train", "csg-cifar10", "--data-dir", str(tmp_path)])


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["csg-cifar10"], "csg-cifar10: --data-dir must name the folder cifar-10-batches-py"),
        (["csg-mnist", "--model", "dense"], "--model is not an option of csg-mnist"),
        (["csg-mnist", "--transform", "dct"], "--transform is not an option of csg-mnist"),
    ],
)
def test_bad_options(argv: list[str], message: str) -> None:
    with pytest.raises(SystemExit, match=f"^spectral: {message}"):
        cli.main(["train", *argv])
