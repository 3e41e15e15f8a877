"""DenseNet for 32 x 32 images (Huang et al. 2017): DenseNet-BC (depth, growth), and without bottlenecks."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Layer(nn.Module):
    """x with `growth` channels more: conv2(relu(bn2(conv1(relu(bn1(x)))))), the 1 x 1 conv1 making 4 growth channels.

    Without bottleneck conv1 is the only convolution, 3 x 3.
    """

    def __init__(self, in_channels: int, growth: int, bottleneck: bool, dropout: float) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.dropout = dropout
        if not bottleneck:
            self.conv1 = nn.Conv2d(in_channels, growth, 3, padding=1, bias=False)
            self.bn2 = None
            return
        self.conv1 = nn.Conv2d(in_channels, 4 * growth, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self._dropped(self.conv1(torch.relu(self.bn1(x))))
        if self.bn2 is not None:
            y = self._dropped(self.conv2(torch.relu(self.bn2(y))))
        return torch.cat((x, y), 1)

    def _dropped(self, x: Tensor) -> Tensor:
        return functional.dropout(x, self.dropout, self.training) if self.dropout else x


class Transition(nn.Module):
    """Between two blocks: a 1 x 1 convolution and a mean over squares of four pixels."""

    def __init__(self, in_channels: int, out_channels: int, dropout: float) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(in_channels)
        self.conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(torch.relu(self.bn(x)))
        y = functional.dropout(y, self.dropout, self.training) if self.dropout else y
        return functional.avg_pool2d(y, 2)


class DenseNet(nn.Module):
    """A convolution and three blocks whose layers each see the channels of all layers before them.

    Args:
        depth: 6 n + 4 with bottlenecks, 3 n + 4 without. growth: channels that a layer adds.
        bottleneck: a 1 x 1 convolution before each 3 x 3 ("B"). compression: of the channels between two blocks ("C").
        dropout: its probability after each convolution of a block. classes, in_channels: of labels and images.
        first_channels: of the first convolution, default 2 growth (Huang et al. take 16 without bottlenecks).

    Raises: ValueError for another depth.

    >>> sum(p.numel() for p in DenseNet(40, 48).parameters())
    2733130
    """

    def __init__(
        self,
        depth: int,
        growth: int,
        bottleneck: bool = True,
        compression: float = 0.5,
        dropout: float = 0.0,
        classes: int = 10,
        in_channels: int = 3,
        first_channels: int | None = None,
    ) -> None:
        super().__init__()
        each = 6 if bottleneck else 3
        if depth < each + 4 or depth % each != 4 % each:
            raise ValueError(f"DenseNet: depth must be {each} n + 4 with n at least 1, got {depth}")
        channels = first_channels or 2 * growth
        self.conv1 = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
        for block in (1, 2, 3):
            layers = []
            for _ in range((depth - 4) // each):
                layers.append(Layer(channels, growth, bottleneck, dropout))
                channels += growth
            self.add_module(f"block{block}", nn.Sequential(*layers))
            if block < 3:
                out_channels = int(channels * compression)
                self.add_module(f"transition{block}", Transition(channels, out_channels, dropout))
                channels = out_channels
        self.bn = nn.BatchNorm2d(channels)
        self.fc = nn.Linear(channels, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, classes)."""
        x = self.transition1(self.block1(self.conv1(x)))
        x = self.block3(self.transition2(self.block2(x)))
        return self.fc(torch.relu(self.bn(x)).mean((2, 3)))
