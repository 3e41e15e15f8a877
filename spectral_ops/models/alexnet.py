"""AlexNet for 32 x 32 images (Krizhevsky et al. 2012): its five convolutions, and one linear layer."""

from __future__ import annotations

from torch import Tensor, nn


class CifarAlexNet(nn.Module):
    """Convolutions 11 x 11, 5 x 5 and three 3 x 3 with 64, 192, 384, 256 and 256 channels, three max-pools, linear.

    With 16.8 % of the parameters of `vgg16`, as the TDLRT paper has it.

    Args:
        classes, in_channels: of labels and images, (N, in_channels, 32, 32).

    >>> sum(p.numel() for p in CifarAlexNet().parameters())
    2472266
    """

    def __init__(self, classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 64, 11, 4, 5), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        )  # fmt: skip
        self.classifier = nn.Linear(256, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, 32, 32) -> logits (N, classes)."""
        return self.classifier(self.features(x).flatten(1))
