"""The transforms that the recipes offer by name, and branches as a user would compute them in plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from ..ops.activations import apply
from ..transforms import DCT, DFT, DST, Haar, Hadamard, Identity, Transform

TRANSFORMS: dict[str, Callable[[int], Transform]] = {
    "dct": DCT,
    "dst": DST,
    "dft": lambda length: DFT(length, real=True),
    "dft-whole": DFT,
    "hadamard": Hadamard,
    "haar": Haar,
    "identity": Identity,
}
TITLES = {"dct": "DCT", "dst": "DST", "dft": "half DFT", "dft-whole": "DFT", "hadamard": "Hadamard", "haar": "Haar",
          "identity": "Identity"}  # fmt: skip


def power_of_two(length: int) -> int:
    """The least power of two that is no less."""
    return 1 << (length - 1).bit_length()


def matrix_of(transform: Transform) -> Tensor:
    """The matrix in single precision, for a plain composition."""
    return transform.matrix.to(torch.complex64 if transform.matrix.is_complex() else torch.float32)


def numbers(parameters: Sequence[Tensor] | nn.ParameterList, is_complex: bool) -> Iterator[Tensor]:
    """Parameters as they are computed with: pairs as complex numbers."""
    return iter([torch.view_as_complex(p) if is_complex else p for p in parameters])


def transformed(x: Tensor, matrix: Tensor) -> Tensor:
    """The transform along the last dimension of real tubes."""
    return x.to(matrix.dtype) @ matrix.mT


def linear(h: Tensor, weight: Tensor, bias: Tensor | None, activation: str) -> Tensor:
    """A layer of every branch, h (Q', N, I)."""
    if h.dtype != weight.dtype:
        h, weight = h.to(torch.complex64), weight.to(torch.complex64)
    y = torch.bmm(h, weight.mT) if bias is None else torch.baddbmm(bias[:, None].to(h.dtype), h, weight.mT)
    return torch.relu(y) if activation == "relu" else apply(activation, y)


def readable(logits: Tensor) -> Tensor:
    """What softmax takes: of complex logits the real part."""
    return logits.real.contiguous() if logits.is_complex() else logits
