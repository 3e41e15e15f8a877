"""ShuffleNetV2 for 32 x 32 images (Ma et al. 2018, without the first stride and maximum)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

CHANNELS = {
    0.5: (48, 96, 192, 1024),
    1.0: (116, 232, 464, 1024),
    1.5: (176, 352, 704, 1024),
    2.0: (244, 488, 976, 2048),
}
UNITS = (3, 7, 3)  # after the one that halves the image


def _pointwise(in_channels: int, out_channels: int) -> list[nn.Module]:
    return [nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels), nn.ReLU()]


def _depthwise(channels: int, stride: int) -> list[nn.Module]:
    conv = nn.Conv2d(channels, channels, 3, stride, padding=1, groups=channels, bias=False)
    return [conv, nn.BatchNorm2d(channels)]


class Unit(nn.Module):
    """Half of the channels pass through, the others through three convolutions; then the halves are interleaved."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.branch = nn.Sequential(*_pointwise(half, half), *_depthwise(half, 1), *_pointwise(half, half))

    def forward(self, x: Tensor) -> Tensor:
        kept, x = x.chunk(2, 1)
        return functional.channel_shuffle(torch.cat((kept, self.branch(x)), 1), 2)


class DownUnit(nn.Module):
    """All channels go through both branches, which halve the image and give half of the new channels each."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        half = out_channels // 2
        self.left = nn.Sequential(*_depthwise(in_channels, 2), *_pointwise(in_channels, half))
        self.right = nn.Sequential(*_pointwise(in_channels, half), *_depthwise(half, 2), *_pointwise(half, half))

    def forward(self, x: Tensor) -> Tensor:
        return functional.channel_shuffle(torch.cat((self.left(x), self.right(x)), 1), 2)


class ShuffleNetV2(nn.Module):
    """A convolution, three stages of 4, 8 and 4 units, a 1 x 1 convolution (conv2), mean, linear layer.

    Args:
        width: 0.5, 1.0, 1.5 or 2.0. classes: of the labels.

    Raises: ValueError for another width.

    >>> sum(p.numel() for p in ShuffleNetV2(0.5).parameters())
    352042
    """

    def __init__(self, width: float = 0.5, classes: int = 10) -> None:
        super().__init__()
        if width not in CHANNELS:
            raise ValueError(f"ShuffleNetV2: width must be one of {', '.join(map(str, CHANNELS))}, got {width}")
        *stages, last = CHANNELS[width]
        channels = 24
        self.conv1 = nn.Conv2d(3, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        for stage, (out_channels, units) in enumerate(zip(stages, UNITS, strict=True), 1):
            layers = [DownUnit(channels, out_channels), *(Unit(out_channels) for _ in range(units))]
            self.add_module(f"layer{stage}", nn.Sequential(*layers))
            channels = out_channels
        self.conv2 = nn.Conv2d(channels, last, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(last)
        self.fc = nn.Linear(last, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, classes)."""
        x = torch.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(torch.relu(self.bn2(self.conv2(x))).mean((2, 3)))
