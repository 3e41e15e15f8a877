"""VGG for 32 x 32 images (Simonyan and Zisserman 2015): 3 x 3 convolutions, and one linear layer in place of three."""

from __future__ import annotations

from torch import Tensor, nn

# convolutions of each of the five stages, whose widths are 64, 128, 256, 512, 512
_STAGES = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
_WIDTHS = (64, 128, 256, 512, 512)


class CifarVGG(nn.Module):
    """Five stages of 3 x 3 convolutions, each with batch norm and ReLU and each stage with a max-pool; linear.

    Args:
        depth: 16 or 19. classes, in_channels: of labels and images, (N, in_channels, 32, 32). batch_norm: False leaves
            it out, and gives the convolutions biases.

    Raises: ValueError for another depth.

    >>> sum(p.numel() for p in CifarVGG(19).parameters())
    20035018
    """

    def __init__(self, depth: int, classes: int = 10, in_channels: int = 3, batch_norm: bool = True) -> None:
        super().__init__()
        if depth not in _STAGES:
            raise ValueError(f"CifarVGG: depth must be one of {', '.join(map(str, _STAGES))}, got {depth}")
        layers: list[nn.Module] = []
        before = in_channels
        for count, width in zip(_STAGES[depth], _WIDTHS, strict=True):
            for _ in range(count):
                layers.append(nn.Conv2d(before, width, 3, padding=1, bias=not batch_norm))
                # in place where a batch norm comes before, which keeps its input and not its output
                layers += [nn.BatchNorm2d(width), nn.ReLU(inplace=True)] if batch_norm else [nn.ReLU()]
                before = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(before, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, 32, 32) -> logits (N, classes)."""
        return self.classifier(self.features(x).flatten(1))


def vgg16(**options: int) -> CifarVGG:
    """The VGG16 of the TDLRT paper's size: 14,724,042 parameters. options: as of `CifarVGG`."""
    return CifarVGG(16, **options)  # type: ignore[arg-type]


def vgg19_bn(**options: int) -> CifarVGG:
    """The VGG19 of paper 4: 20,035,018 parameters. options: as of `CifarVGG`."""
    return CifarVGG(19, **options)  # type: ignore[arg-type]
