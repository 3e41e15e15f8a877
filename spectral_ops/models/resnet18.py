"""ResNet-18 for 32 x 32 images (He et al. 2016): four stages of two blocks, a 3 x 3 convolution before them."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class WideBlock(nn.Module):
    """relu(bn2(conv2(relu(bn1(conv1(x))))) + x); where the shape changes, x goes through a 1 x 1 convolution."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential()
        if stride > 1 or in_channels != channels:
            projection = nn.Conv2d(in_channels, channels, 1, stride, bias=False)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class ResNet18(nn.Module):
    """A 3 x 3 convolution, stages of two blocks with 64, 128, 256 and 512 channels, mean, linear layer.

    Args:
        classes, in_channels: of labels and images.

    >>> sum(p.numel() for p in ResNet18().parameters())
    11173962
    """

    def __init__(self, classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        before = 64
        for stage, width in enumerate((64, 128, 256, 512), 1):
            first = WideBlock(before, width, stride=1 if stage == 1 else 2)
            self.add_module(f"layer{stage}", nn.Sequential(first, WideBlock(width, width, 1)))
            before = width
        self.fc = nn.Linear(before, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> logits (N, classes)."""
        x = torch.relu(self.bn1(self.conv1(x)))
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
        return self.fc(x.mean((2, 3)))
