"""DeepLabV3+ on ResNet (Chen et al. 2018): atrous spatial pyramid pooling, and a decoder with low-level channels."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from .resnet_imagenet import ResNet

WIDTH, LOW = 256, 48  # channels of the pyramid and the decoder, and of the low-level branch
# strides and dilations of the backbone's stages, and dilations of the pyramid, by output stride
STRIDES = {
    16: ((1, 2, 2, 1), (1, 1, 1, 2), (6, 12, 18)),
    8: ((1, 2, 1, 1), (1, 1, 2, 4), (12, 24, 36)),
}


def _layer(in_channels: int, out_channels: int, window: int, dilation: int = 1) -> nn.Sequential:
    padding = dilation * (window // 2)
    conv = nn.Conv2d(in_channels, out_channels, window, padding=padding, dilation=dilation, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), nn.ReLU())


class Pyramid(nn.Module):
    """ASPP: a 1 x 1, three dilated 3 x 3 convolutions and the image's mean, side by side; then a 1 x 1 and dropout."""

    def __init__(self, in_channels: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        dilated = [_layer(in_channels, WIDTH, 3, dilation) for dilation in dilations]
        self.branches = nn.ModuleList([_layer(in_channels, WIDTH, 1), *dilated])
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), *_layer(in_channels, WIDTH, 1))
        self.project = nn.Sequential(*_layer((2 + len(dilations)) * WIDTH, WIDTH, 1), nn.Dropout(0.5))

    def forward(self, x: Tensor) -> Tensor:
        mean = self.pool(x).expand(-1, -1, *x.shape[2:])
        return self.project(torch.cat([*(branch(x) for branch in self.branches), mean], 1))


class DeepLabV3Plus(nn.Module):
    """Semantic segmentation: backbone, pyramid, and a decoder that joins the first stage's channels.

    Args:
        depth: of the ResNet: 50 or 101. classes: of a pixel. output_stride: 16, or 8: of the backbone.

    The last stage's three blocks have the dilations (1, 2, 4) times the stage's.
    Raises: ValueError for another output_stride or depth.

    >>> sum(p.numel() for p in DeepLabV3Plus(50).parameters())
    40352181
    """

    def __init__(self, depth: int = 50, classes: int = 21, output_stride: int = 16) -> None:
        super().__init__()
        if output_stride not in STRIDES:
            raise ValueError(f"DeepLabV3Plus: output_stride must be one of 16, 8, got {output_stride}")
        strides, dilations, pyramid = STRIDES[output_stride]
        self.backbone = ResNet(depth, strides=strides, dilations=dilations, multi_grid=(1, 2, 4))
        channels = self.backbone.fc.in_features
        del self.backbone.fc  # the decoder stands in its place
        self.aspp = Pyramid(channels, pyramid)
        self.low = _layer(WIDTH, LOW, 1)
        self.decoder = nn.Sequential(
            *_layer(WIDTH + LOW, WIDTH, 3), nn.Dropout(0.5), *_layer(WIDTH, WIDTH, 3), nn.Dropout(0.1),
            nn.Conv2d(WIDTH, classes, 1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, classes, H, W): a logit of each class at each pixel."""
        low, high = self.backbone.features(x)
        low, high = self.low(low), self.aspp(high)
        high = functional.interpolate(high, size=low.shape[2:], mode="bilinear", align_corners=True)
        y = self.decoder(torch.cat([high, low], 1))
        return functional.interpolate(y, size=x.shape[2:], mode="bilinear", align_corners=True)
