"""Where the window of a convolution stands: what every convolutional layer has of torch.nn.Conv2d."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from . import arguments

Size = int | tuple[int, int]


class Windowed(nn.Module):
    """kernel_size, stride, padding (ints, "same", "valid"), dilation and padding_mode ("zeros"), as of torch.nn.Conv2d.

    Raises: ValueError and TypeError for what these cannot be, in the layer's name.
    """

    def __init__(
        self, kernel_size: Size, stride: Size, padding: Size | str, dilation: Size, padding_mode: str = "zeros"
    ) -> None:
        super().__init__()
        name = type(self).__name__
        self.kernel_size = arguments.pair(name, "kernel_size", kernel_size)
        self.stride = arguments.pair(name, "stride", stride)
        self.dilation = arguments.pair(name, "dilation", dilation)
        self.padding, self._pads = self._resolve(name, padding)
        if padding_mode != "zeros":
            raise ValueError(f"{name}: padding_mode must be 'zeros', got {padding_mode!r}")
        self.padding_mode = padding_mode

    def _divide(self, in_channels: int, out_channels: int, groups: int) -> None:
        """Take the channels, which the groups divide."""
        name = type(self).__name__
        for label, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            if arguments.size(name, label, channels) % arguments.size(name, "groups", groups):
                raise ValueError(f"{name}: groups must divide {label}, {channels}, got {groups}")
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups

    def _resolve(self, name: str, padding: Size | str) -> tuple[tuple[int, int] | str, tuple[int, int, int, int]]:
        """`padding` as it was given, and the pixels at left, right, top and bottom that it means."""
        if not isinstance(padding, str):
            rows, columns = arguments.pair(name, "padding", padding, least=0)
            return (rows, columns), (columns, columns, rows, rows)
        if padding == "valid":
            return padding, (0, 0, 0, 0)
        if padding != "same":
            raise ValueError(f"{name}: padding must be ints, 'valid' or 'same', got {padding!r}")
        if self.stride != (1, 1):
            raise ValueError(f"{name}: stride must be 1 with padding 'same', got {self.stride}")
        rows, columns = (d * (k - 1) for k, d in zip(self.kernel_size, self.dilation, strict=True))
        return padding, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)

    def _padded(self, x: Tensor) -> tuple[Tensor, list[list[int]]]:
        """x with what the op cannot pad (one pixel more on one side), and stride, padding, dilation for the op."""
        left, right, top, bottom = self._pads
        if (left, top) != (right, bottom):
            x = functional.pad(x, (0, right - left, 0, bottom - top))
        return x, [list(self.stride), [top, left], list(self.dilation)]

    def _geometry_repr(self) -> str:
        text = f"kernel_size={self.kernel_size}, stride={self.stride}"
        if self._pads != (0, 0, 0, 0):
            text += f", padding={self.padding!r}"
        if self.dilation != (1, 1):
            text += f", dilation={self.dilation}"
        return text
