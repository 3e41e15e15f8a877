"""Every network of paper 2's Tables 1 to 4, by its name there, with the number of parameters that the paper prints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from ..compress import to_csg
from ..nn import CSG
from .comparisons import group_equivariant, hypernetwork, separable
from .crelu import CReLUDenseNet, CReLUResNet
from .deeplab import DeepLabV3Plus
from .densenet import DenseNet
from .mobilenetv2 import MobileNetV2
from .resnet_cifar import CifarResNet
from .resnet_imagenet import ResNet
from .shufflenetv2 import ShuffleNetV2


@dataclass(frozen=True)
class Published:
    """One row of a table. parameters: trained ones, as printed. result: the printed error or mIoU, %. bits: a number's.

    `build()` gives the network with random parameters. Pre-trained generators are random and fixed here: give those of
    another run to `compress.to_csg(..., generators=CSG.load(path))`.
    """

    name: str
    parameters: int
    result: str
    build: Callable[[], nn.Module]
    bits: int = 32


def _csg(network: Callable[[], nn.Module], shape: tuple, size: int, fixed: bool = False, **options: Any) -> nn.Module:
    if fixed:
        options["generators"] = CSG(shape, size, trainable=False)
    return to_csg(network(), shape, size, **options)[0]


def _expanding(name: str, module: nn.Module) -> bool:
    return name.startswith("layers.") and name.endswith(".conv1")


def _in_blocks(name: str, module: nn.Module) -> bool:
    return name.startswith("block")


def _all_3x3(name: str, module: nn.Conv2d) -> bool:
    return module.kernel_size == (3, 3) and module.in_channels > 3


def _half(name: str, module: nn.Module) -> bool:
    return name.endswith("conv1")  # the network's first, too


_S16, _S12, _S1 = (16, 16, 3, 3), (12, 12, 3, 3), (16, 16, 1, 1)
_R20, _R56 = partial(CifarResNet, 20), partial(CifarResNet, 56)
_D48, _D36 = partial(DenseNet, 40, 48), partial(DenseNet, 40, 36)
_C16, _C12 = "CSG-[16,16,3,3]-128", "CSG-[12,12,3,3]-72"
_TWO = {"backbone": r"^backbone\.", "aspp": r"^aspp\.branches\."}
_ONE = {"backbone": _TWO["backbone"]}


def _deeplab(depth: int, generators: dict[str, str]) -> nn.Module:
    return to_csg(DeepLabV3Plus(depth), _S16, 128, generators=generators)[0]


def _rows() -> list[Published]:
    rows: list[tuple[str, int, str, Callable[[], nn.Module]]] = [
        ("DenseNet-BC-40-48", 2_733_130, "4.97", _D48),
        (f"DenseNet-BC-40-48-{_C12}", 1_416_394, "4.83", partial(_csg, _D48, _S12, 72)),
        (f"DenseNet-BC-40-48-{_C12} pre-trained", 1_323_082, "5.07", partial(_csg, _D48, _S12, 72, fixed=True)),
        (f"DenseNet-BC-40-48-{_C12} 1x1 too", 904_906, "5.62", partial(_csg, _D48, _S12, 72, select=_in_blocks)),
        (f"DenseNet-BC-40-48-B{_C12}", 1_323_082, "5.06", partial(_csg, _D48, _S12, 72, binary=True)),
        ("DenseNet-BC-40-36", 1_542_682, "5.38", _D36),
        (f"DenseNet-BC-40-36-{_C12}", 842_842, "5.12", partial(_csg, _D36, _S12, 72)),
        (f"DenseNet-BC-40-36-{_C12} pre-trained", 749_530, "5.61", partial(_csg, _D36, _S12, 72, fixed=True)),
        ("ResNet-56", 853_018, "6.28", _R56),
        (f"ResNet-56-{_C16}", 347_162, "7.24", partial(_csg, _R56, _S16, 128)),
        (f"ResNet-56-{_C12}", 160_450, "8.01", partial(_csg, _R56, _S12, 72)),
        (f"ResNet-56-{_C16} pre-trained", 52_250, "11.98", partial(_csg, _R56, _S16, 128, fixed=True)),
        ("ResNet-56-BCSG-[16,16,3,3]-1024", 381_978, "8.11", partial(_csg, _R56, _S16, 1024, binary=True)),
        ("ShuffleNet-(0.5x)", 352_042, "9.81", ShuffleNetV2),
        ("ShuffleNet-(0.5x)-CSG-[16,16,1,1]-16", 171_818, "10.15",
         partial(_csg, ShuffleNetV2, _S1, 16, select=["conv2"])),
        ("ShuffleNet-(0.5x)-BCSG-[16,16,1,1]-16", 167_722, "9.96",
         partial(_csg, ShuffleNetV2, _S1, 16, select=["conv2"], binary=True)),
        ("MobileNetV2", 2_296_922, "6.64", MobileNetV2),
        ("MobileNetV2-CSG-[16,16,1,1]-16", 1_595_322, "7.65", partial(_csg, MobileNetV2, _S1, 16, select=_expanding)),
        ("MobileNetV2-BCSG-[16,16,1,1]-16", 1_591_226, "7.72",
         partial(_csg, MobileNetV2, _S1, 16, select=_expanding, binary=True)),
    ]  # fmt: skip
    # the paper prints 44,654,504 for ResNet-101: 105,344 running statistics of BatchNorm are in it
    sizes = {50: (25_557_032, 15_163_432, 14_868_520), 101: (44_549_160, 24_685_608, 24_390_696)}
    errors = {50: ("23.9", "24.9", "26.5"), 101: ("22.6", "23.1", "24.2")}
    for depth, (plain, csg, binary) in sizes.items():
        network, printed = partial(ResNet, depth), errors[depth]
        rows += [
            (f"ResNet-{depth}", plain, printed[0], network),
            (f"ResNet-{depth}-{_C16}", csg, printed[1], partial(_csg, network, _S16, 128)),
            (f"ResNet-{depth}-B{_C16}", binary, printed[2], partial(_csg, network, _S16, 128, binary=True)),
        ]
    sizes = {50: (40_352_181, 29_958_581, 16_884_149), 101: (59_344_309, 39_480_757, 26_406_325)}
    errors = {50: ("73.38", "71.41", "70.28"), 101: ("74.73", "72.98", "71.63")}
    for depth, (plain, one, two) in sizes.items():
        name, printed = f"DeeplabV3-ResNet-{depth}", errors[depth]
        rows += [
            (name, plain, printed[0], partial(DeepLabV3Plus, depth)),
            (f"{name}-{_C16}", one, printed[1], partial(_deeplab, depth, _ONE)),
            (f"{name}-{_C16}, ASPP too", two, printed[2], partial(_deeplab, depth, _TWO)),
        ]
    rows += [
        ("DenseNet-BC-Separable Filters", 1_441_450, "5.13", lambda: separable(_D48(), _all_3x3, bias=True)),
        ("DenseNet-BC-CReLU", 1_369_210, "5.39", CReLUDenseNet),
        ("DenseNet-BC-GCNN (p4)", 1_613_602, "5.25", lambda: group_equivariant(_D48(), _all_3x3)),
        ("DenseNet-BC-Hypernetworks", 1_435_530, "5.31", lambda: hypernetwork(_D48(), _all_3x3)),
        ("ResNet-56-Separable Filters (1/2 Layers)", 494_709, "7.56", lambda: separable(_R56(), _half)),
        ("ResNet-56-Separable Filters (All Layers)", 117_066, "8.41", lambda: separable(_R56(), _all_3x3)),
        ("ResNet-56-CReLU", 427_066, "8.27", CReLUResNet),
        ("ResNet-56-GCNN (p4)", 217_618, "8.79", lambda: group_equivariant(_R56(), _all_3x3)),
        ("ResNet-56-Hypernetworks", 182_618, "9.19", lambda: hypernetwork(_R56(), _all_3x3)),
    ]
    half: list[tuple[str, int, str, Callable[[], nn.Module]]] = [
        ("DenseNet-BC-40-48-FP16", 2_733_130, "5.15", lambda: _D48().half()),
        (f"DenseNet-40-48-{_C12}-FP16", 1_416_394, "5.43", lambda: _csg(_D48, _S12, 72).half()),
        ("ResNet-56-FP16", 853_018, "6.64", lambda: _R56().half()),
        (f"ResNet-56-{_C16}-FP16", 347_162, "7.54", lambda: _csg(_R56, _S16, 128).half()),
    ]
    return [Published(*row) for row in rows] + [Published(*row, bits=16) for row in half]


PUBLISHED: dict[str, Published] = {row.name: row for row in _rows()}
