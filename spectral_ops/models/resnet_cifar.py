"""ResNet for 32 x 32 images (He et al. 2016, section 4.2), with shortcuts that have no parameters (option A)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

WIDTHS = (16, 32, 64)


class Block(nn.Module):
    """relu(x + bn2(conv2(relu(bn1(conv1(x)))))); where it strides, x is subsampled and its new channels are zero."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.stride, self.new_channels = stride, channels - in_channels

    def shortcut(self, x: Tensor) -> Tensor:
        if self.stride > 1:
            x = x[:, :, :: self.stride, :: self.stride]
        before = self.new_channels // 2
        return functional.pad(x, (0, 0, 0, 0, before, self.new_channels - before)) if self.new_channels else x

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class CifarResNet(nn.Module):
    """A convolution, three stages of (depth - 2) / 6 blocks with 16, 32 and 64 channels, mean, linear layer.

    Args:
        depth: 6 n + 2; 20 and 56 are the papers'. classes, in_channels: of labels and images.

    Raises: ValueError for another depth.

    >>> sum(p.numel() for p in CifarResNet(56).parameters())
    853018
    """

    def __init__(self, depth: int, classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        if depth < 8 or depth % 6 != 2:
            raise ValueError(f"CifarResNet: depth must be 6 n + 2 with n at least 1, got {depth}")
        self.conv1 = nn.Conv2d(in_channels, WIDTHS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        before = WIDTHS[0]
        for stage, width in enumerate(WIDTHS, 1):
            blocks = []
            for i in range((depth - 2) // 6):
                blocks.append(Block(before, width, stride=2 if i == 0 and stage > 1 else 1))
                before = width
            self.add_module(f"layer{stage}", nn.Sequential(*blocks))
        self.fc = nn.Linear(before, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, classes)."""
        x = torch.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(x.mean((2, 3)))


def resnet20(classes: int = 10) -> CifarResNet:
    """ResNet-20, 269,722 parameters."""
    return CifarResNet(20, classes)


def resnet56(classes: int = 10) -> CifarResNet:
    """ResNet-56, 853,018 parameters."""
    return CifarResNet(56, classes)
