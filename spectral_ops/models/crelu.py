"""ResNet and DenseNet with concatenated ReLU (Shang et al. 2016): half of the filters, each used with both signs."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from .resnet_cifar import WIDTHS


def crelu(x: Tensor) -> Tensor:
    """relu(x) and relu(-x) side by side: twice the channels."""
    return torch.cat((torch.relu(x), torch.relu(-x)), 1)


class Block(nn.Module):
    """h + bn2(conv2(crelu(bn1(conv1(crelu(h)))))); before the first block h is what a ReLU left, and stays as it is."""

    def __init__(self, in_channels: int, channels: int, stride: int, first: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels if first else 2 * in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(2 * channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.stride, self.first, self.channels = stride, first, channels

    def forward(self, h: Tensor) -> Tensor:
        y = self.bn2(self.conv2(crelu(self.bn1(self.conv1(h if self.first else crelu(h))))))
        kept = h[:, : self.channels, :: self.stride, :: self.stride]
        before = (self.channels - kept.shape[1]) // 2
        return y + functional.pad(kept, (0, 0, 0, 0, before, self.channels - kept.shape[1] - before))


class CReLUResNet(nn.Module):
    """`CifarResNet` with half of the filters in its blocks.

    >>> sum(p.numel() for p in CReLUResNet(56).parameters())
    427066
    """

    def __init__(self, depth: int = 56, classes: int = 10) -> None:
        super().__init__()
        if depth < 8 or depth % 6 != 2:
            raise ValueError(f"CReLUResNet: depth must be 6 n + 2 with n at least 1, got {depth}")
        before = WIDTHS[0]
        self.conv1 = nn.Conv2d(3, before, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(before)
        blocks: list[nn.Module] = []
        for width in WIDTHS:
            for i in range((depth - 2) // 6):
                stride = 2 if i == 0 and width > WIDTHS[0] else 1
                blocks.append(Block(before, width // 2, stride, first=not blocks))
                before = width // 2
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(2 * before, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, classes)."""
        h = self.blocks(torch.relu(self.bn1(self.conv1(x))))
        return self.fc(crelu(h).mean((2, 3)))


class DenseLayer(nn.Module):
    """h with growth / 2 channels more."""

    def __init__(self, in_channels: int, growth: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(2 * in_channels, 2 * growth, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(2 * growth)
        self.conv2 = nn.Conv2d(4 * growth, growth // 2, 3, padding=1, bias=False)

    def forward(self, h: Tensor) -> Tensor:
        y = self.conv2(crelu(self.bn2(self.conv1(crelu(self.bn1(h))))))
        return torch.cat((h, y), 1)


class Transition(nn.Module):
    """Between two blocks: half of the channels and a quarter of the pixels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(channels)
        self.conv = nn.Conv2d(2 * channels, channels // 2, 1, bias=False)

    def forward(self, h: Tensor) -> Tensor:
        return functional.avg_pool2d(self.conv(crelu(self.bn(h))), 2)


class CReLUDenseNet(nn.Module):
    """`DenseNet` (BC) with half of the filters.

    >>> sum(p.numel() for p in CReLUDenseNet(40, 48).parameters())
    1369210
    """

    def __init__(self, depth: int = 40, growth: int = 48, classes: int = 10) -> None:
        super().__init__()
        if depth < 10 or depth % 6 != 4:
            raise ValueError(f"CReLUDenseNet: depth must be 6 n + 4 with n at least 1, got {depth}")
        channels = growth
        layers: list[nn.Module] = [nn.Conv2d(3, channels, 3, padding=1, bias=False)]
        for block in range(3):
            for _ in range((depth - 4) // 6):
                layers.append(DenseLayer(channels, growth))
                channels += growth // 2
            if block < 2:
                layers.append(Transition(channels))
                channels //= 2
        self.layers = nn.Sequential(*layers)
        self.bn = nn.BatchNorm2d(channels)
        self.fc = nn.Linear(2 * channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, classes)."""
        return self.fc(crelu(self.bn(self.layers(x))).mean((2, 3)))
