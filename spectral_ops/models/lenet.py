"""LeNet5 for 28 x 28 digits (LeCun et al. 1998), in the sizes of the low-rank training papers: 20 and 50 channels."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class LeNet5(nn.Module):
    """Two 5 x 5 convolutions, each with a max-pool, and two linear layers.

    Args:
        classes, in_channels: of labels and images, (N, in_channels, 28, 28).

    >>> sum(p.numel() for p in LeNet5().parameters())
    431080
    """

    def __init__(self, classes: int = 10, in_channels: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 20, 5)
        self.conv2 = nn.Conv2d(20, 50, 5)
        self.fc1 = nn.Linear(800, 500)
        self.fc2 = nn.Linear(500, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, 28, 28) -> logits (N, classes)."""
        x = functional.max_pool2d(torch.relu(self.conv1(x)), 2)
        x = functional.max_pool2d(torch.relu(self.conv2(x)), 2)
        return self.fc2(torch.relu(self.fc1(x.flatten(1))))
