"""The networks of the papers: exactly the published numbers of parameters, right shapes, gradients to all of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from spectral_ops import models
from spectral_ops.models import resnet_cifar

pytestmark = pytest.mark.usefixtures("seeded")


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


PUBLISHED = [
    ("vgg19-bn", lambda: models.vgg19_bn(), 20_035_018),
    ("vgg16", lambda: models.vgg16(), 14_724_042),
    ("vgg16 without batch norm", lambda: models.CifarVGG(16, batch_norm=False), 14_719_818),
    ("alexnet", lambda: models.CifarAlexNet(), 2_472_266),  # 16.8 % of VGG16
    ("resnet18", lambda: models.ResNet18(), 11_173_962),
    ("lenet5", lambda: models.LeNet5(), 431_080),  # 430,500 weights and 580 biases
    ("resnet56", lambda: models.resnet56(), 853_018),
    ("densenet-bc-40-48", lambda: models.DenseNet(40, 48), 2_733_130),
    ("densenet-bc-40-36", lambda: models.DenseNet(40, 36), 1_542_682),
    ("densenet40-k12", lambda: models.DenseNet(40, 12, bottleneck=False, compression=1.0), 1_059_298),
]
SMALL = [
    ("lenet5", lambda: models.LeNet5(), (2, 1, 28, 28), (2, 10)),
    ("alexnet", lambda: models.CifarAlexNet(classes=7), (2, 3, 32, 32), (2, 7)),
    ("resnet18", lambda: models.ResNet18(), (2, 3, 16, 16), (2, 10)),
    ("vgg16", lambda: models.CifarVGG(16, in_channels=1, batch_norm=False), (2, 1, 32, 32), (2, 10)),
    ("resnet20", lambda: models.resnet20(), (2, 3, 32, 32), (2, 10)),
    ("resnet-8, grey", lambda: models.CifarResNet(8, classes=7, in_channels=1), (3, 1, 28, 28), (3, 7)),
    ("densenet-bc-16-6", lambda: models.DenseNet(16, 6), (2, 3, 32, 32), (2, 10)),
    ("densenet-7-4, dropout", lambda: models.DenseNet(7, 4, False, dropout=0.2), (2, 3, 16, 16), (2, 10)),
]


@pytest.mark.parametrize(("name", "build", "parameters"), PUBLISHED, ids=[row[0] for row in PUBLISHED])
def test_published_parameter_counts(name: str, build: Callable[[], nn.Module], parameters: int) -> None:
    with torch.device("meta"):
        assert count(build()) == parameters


@pytest.mark.parametrize(("name", "build", "shape", "out"), SMALL, ids=[row[0] for row in SMALL])
def test_every_parameter_gets_a_gradient(name: str, build: Callable, shape: tuple, out: tuple) -> None:
    check_gradients(build(), shape, out)


def check_gradients(model: nn.Module, shape: tuple, out: tuple) -> None:
    """The shape of the result, and a gradient for each parameter."""
    y = model(torch.randn(shape))
    assert y.shape == out and bool(y.isfinite().all())
    y.square().sum().backward()
    for key, p in model.named_parameters():
        assert p.grad is not None and bool(p.grad.any()), key


def test_shortcut_without_parameters() -> None:
    """Option A: a block whose convolutions are zero passes every second pixel, with zeros as new channels."""
    block = resnet_cifar.Block(4, 8, stride=2).eval()
    nn.init.zeros_(block.conv2.weight)
    x = torch.rand(2, 4, 6, 6)
    y = block(x)
    torch.testing.assert_close(y[:, 2:6], x[:, :, ::2, ::2])
    assert not y[:, :2].any() and not y[:, 6:].any()


def test_a_densenet_keeps_what_came_before() -> None:
    layer = models.DenseNet(10, 4).block1[0]
    x = torch.randn(2, 8, 5, 5)
    assert torch.equal(layer(x)[:, :8], x) and layer(x).shape == (2, 12, 5, 5)


def test_wrong_depths() -> None:
    with pytest.raises(ValueError, match=r"^CifarResNet: depth must be 6 n \+ 2 with n at least 1, got 51$"):
        models.CifarResNet(51)
    with pytest.raises(ValueError, match=r"^DenseNet: depth must be 6 n \+ 4 with n at least 1, got 41$"):
        models.DenseNet(41, 12)
    with pytest.raises(ValueError, match=r"^DenseNet: depth must be 3 n \+ 4 with n at least 1, got 5$"):
        models.DenseNet(5, 12, bottleneck=False)
    with pytest.raises(ValueError, match=r"^CifarVGG: depth must be one of 16, 19, got 11$"):
        models.CifarVGG(11)
