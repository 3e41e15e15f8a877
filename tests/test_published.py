"""The networks of paper 2: every printed number of parameters, and that they compute what their papers say."""

from __future__ import annotations

import pytest
import torch
from test_models import check_gradients
from torch import nn

from spectral_ops import models
from spectral_ops.models import PUBLISHED, comparisons, crelu
from spectral_ops.nn import CSG, csg_scope

pytestmark = pytest.mark.usefixtures("seeded")


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_printed_number_of_parameters(name: str) -> None:
    with torch.device("meta"):
        model = PUBLISHED[name].build()
    assert sum(p.numel() for p in model.parameters()) == PUBLISHED[name].parameters
    numbers = {p.element_size() * 8 for p in model.parameters()}
    assert numbers == {PUBLISHED[name].bits}


def test_ratios_of_table_4() -> None:
    """The printed ratios follow from the counts and bits."""

    def ratio(before: str, after: str) -> float:
        a, b = PUBLISHED[before], PUBLISHED[after]
        return a.parameters * a.bits / (b.parameters * b.bits)

    assert round(ratio("ResNet-56", "ResNet-56-CSG-[12,12,3,3]-72"), 1) == 5.3
    assert round(ratio("ResNet-56", "ResNet-56-CSG-[16,16,3,3]-128-FP16"), 1) == 4.9
    assert round(ratio("DenseNet-BC-40-48", "DenseNet-40-48-CSG-[12,12,3,3]-72-FP16"), 1) == 3.9


NETWORKS = {
    "mobilenetv2": (lambda: models.MobileNetV2(7), (2, 3, 16, 16), (2, 7)),
    "shufflenetv2": (lambda: models.ShuffleNetV2(0.5, 7), (2, 3, 16, 16), (2, 7)),
    "resnet50": (lambda: models.ResNet(50, 7), (2, 3, 64, 64), (2, 7)),
    "deeplab": (lambda: models.DeepLabV3Plus(50, 5), (2, 3, 48, 33), (2, 5, 48, 33)),
    "crelu resnet": (lambda: models.CReLUResNet(14, 7), (2, 3, 16, 16), (2, 7)),
    "crelu densenet": (lambda: models.CReLUDenseNet(16, 8, 7), (2, 3, 16, 16), (2, 7)),
    "separable": (lambda: comparisons.separable(models.CifarResNet(8), lambda n, m: True), (2, 3, 16, 16), (2, 10)),
    "p4": (lambda: comparisons.group_equivariant(models.CifarResNet(8), _in_blocks), (2, 3, 16, 16), (2, 10)),
    "hyper": (lambda: comparisons.hypernetwork(models.CifarResNet(8), _in_blocks, 4), (2, 3, 16, 16), (2, 10)),
}


def _in_blocks(name: str, module: nn.Module) -> bool:
    return name.startswith("layer")


@pytest.mark.parametrize("name", NETWORKS)
def test_every_parameter_gets_a_gradient(name: str) -> None:
    build, shape, out = NETWORKS[name]
    check_gradients(build(), shape, out)


def test_two_generators_of_deeplab() -> None:
    model = PUBLISHED["DeeplabV3-ResNet-50-CSG-[16,16,3,3]-128, ASPP too"].build().eval()
    csgs = {m for m in model.modules() if isinstance(m, CSG)}
    assert len(csgs) == 2 and model.aspp.branches[1][0].csg is not model.backbone.layer1[0].conv2.csg
    assert isinstance(model.decoder[0], nn.Conv2d) and isinstance(model.aspp.branches[0][0], nn.Conv2d)
    x = torch.randn(1, 3, 33, 33)
    with torch.no_grad():
        wanted = model(x)
        with csg_scope(model):
            torch.testing.assert_close(model(x), wanted)


def test_output_stride() -> None:
    for stride in (16, 8):
        backbone = models.DeepLabV3Plus(50, output_stride=stride).backbone.eval()
        with torch.no_grad():
            low, high = backbone.features(torch.randn(1, 3, 64, 64))
        assert low.shape == (1, 256, 16, 16) and high.shape == (1, 2048, 64 // stride, 64 // stride)
        assert [block.conv2.dilation[0] for block in backbone.layer4] == [32 // stride * g for g in (1, 2, 4)]


def test_p4_is_equivariant() -> None:
    """Turning the image turns the result and moves its turns on by one."""
    layer = comparisons.P4Conv2d(3, 5, 3, 1, 1).double()

    def turned(x: torch.Tensor) -> torch.Tensor:
        functions = x.unflatten(1, (-1, 4)).roll(1, 2)
        return functions.rot90(1, (3, 4)).flatten(1, 2)

    x = torch.randn(2, 12, 7, 7, dtype=torch.float64)
    nn.init.normal_(layer.bias)
    torch.testing.assert_close(layer(turned(x)), turned(layer(x)))
    assert not torch.allclose(layer(x), turned(layer(x)))


def test_a_hypernetwork_is_two_layers() -> None:
    conv = comparisons.hypernetwork(nn.Conv2d(16, 20, 3, padding=1, bias=False), lambda n, m: True, 4)
    network, z = conv.network, conv.z
    slices = network.out(network.hidden(z)).view(2, 16, 16, 3, 3)
    wanted = torch.cat([slices[0], slices[1]])[:20]
    x = torch.randn(2, 16, 5, 5)
    torch.testing.assert_close(conv(x), nn.functional.conv2d(x, wanted, padding=1), rtol=1e-4, atol=1e-5)


def test_crelu() -> None:
    x = torch.randn(2, 3, 4, 4)
    y = crelu.crelu(x)
    assert y.shape == (2, 6, 4, 4) and torch.equal(y[:, :3] - y[:, 3:], x)
    block = crelu.Block(4, 8, 2, first=False).eval()
    nn.init.zeros_(block.conv2.weight)
    h = torch.randn(2, 4, 6, 6)
    assert torch.equal(block(h)[:, 2:6], h[:, :, ::2, ::2])


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: models.ResNet(18), r"^ResNet: depth must be one of 50, 101, 152, got 18$"),
        (lambda: models.ShuffleNetV2(3), r"^ShuffleNetV2: width must be one of 0.5, 1.0, 1.5, 2.0, got 3$"),
        (lambda: models.DeepLabV3Plus(output_stride=4), r"^DeepLabV3Plus: output_stride must be one of 16, 8, got 4$"),
        (lambda: models.CReLUResNet(10), r"^CReLUResNet: depth must be 6 n \+ 2 with n at least 1, got 10$"),
        (lambda: models.CReLUDenseNet(11), r"^CReLUDenseNet: depth must be 6 n \+ 4 with n at least 1, got 11$"),
    ],
)  # fmt: skip
def test_wrong_sizes(build, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        build()
