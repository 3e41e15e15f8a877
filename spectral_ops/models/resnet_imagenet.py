"""ResNet with bottlenecks for 224 x 224 images (He et al. 2016, Table 1); its stride is in the 3 x 3 convolution."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
EXPANSION = 4


class Bottleneck(nn.Module):
    """relu(x + bn3(conv3(relu(bn2(conv2(relu(bn1(conv1(x)))))))): 1 x 1, 3 x 3, 1 x 1."""

    def __init__(self, in_channels: int, width: int, stride: int, dilation: int) -> None:
        super().__init__()
        out_channels = EXPANSION * width
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=dilation, dilation=dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.downsample: nn.Module = nn.Identity()
        if stride > 1 or in_channels != out_channels:
            projection = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        y = torch.relu(self.bn2(self.conv2(y)))
        return torch.relu(self.bn3(self.conv3(y)) + self.downsample(x))


class ResNet(nn.Module):
    """A 7 x 7 convolution, a maximum, four stages of bottlenecks, mean, linear layer.

    Args:
        depth: 50, 101 or 152. classes: of the labels.
        strides, dilations: of the stages; a stage with a stride has it in its first block, a dilation in all.
        multi_grid: factors of the dilation in the blocks of the last stage (Chen et al. 2017), or None.

    Raises: ValueError for another depth.

    >>> sum(p.numel() for p in ResNet(50).parameters())
    25557032
    """

    def __init__(
        self,
        depth: int,
        classes: int = 1000,
        strides: Sequence[int] = (1, 2, 2, 2),
        dilations: Sequence[int] = (1, 1, 1, 1),
        multi_grid: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if depth not in BLOCKS:
            raise ValueError(f"ResNet: depth must be one of {', '.join(map(str, BLOCKS))}, got {depth}")
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        channels = 64
        for stage, blocks in enumerate(BLOCKS[depth]):
            width, layers = 64 * 2**stage, []
            grid = multi_grid if stage == 3 and multi_grid else (1,) * blocks
            for i in range(blocks):
                stride = strides[stage] if i == 0 else 1
                layers.append(Bottleneck(channels, width, stride, dilations[stage] * grid[i]))
                channels = EXPANSION * width
            self.add_module(f"layer{stage + 1}", nn.Sequential(*layers))
        self.fc = nn.Linear(channels, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The channels of the first stage, and of the last."""
        low = self.layer1(self.maxpool(torch.relu(self.bn1(self.conv1(x)))))
        return low, self.layer4(self.layer3(self.layer2(low)))

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, classes)."""
        return self.fc(self.features(x)[1].mean((2, 3)))


def resnet50(classes: int = 1000) -> ResNet:
    """ResNet-50, 25,557,032 parameters."""
    return ResNet(50, classes)


def resnet101(classes: int = 1000) -> ResNet:
    """ResNet-101, 44,549,160 parameters."""
    return ResNet(101, classes)
