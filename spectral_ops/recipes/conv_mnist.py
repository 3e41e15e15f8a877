"""`spectral train conv-mnist`: a network like LeNet whose images stay in their branches, beside its dense twin.

Both start from the four 14 x 14 sub-images of a pixel-unshuffle and have two 5 x 5 convolutions with pooling, then two
linear layers. The twin is as wide as all branches together; theirs never mix, and vote at the end (eq. 24-27, 18).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..nn import BranchConv2d, SpectralMLP, SpectralPool, ToBranches2d
from ..ops.activations import apply
from .data import CLASSES, SIDE
from .experiment import Experiment
from .networks import ManyBranches, OneBranch, Recipe
from .spectra import TITLES, TRANSFORMS, linear, matrix_of, readable

GRID, BRANCHES = (2, 2), 4
CHANNELS, WINDOW, HIDDEN = (8, 16), 5, 30  # of one branch
PIXELS = (14, 7, 3)  # of a side, before each convolution and at the end


class DenseLeNet(OneBranch):
    """Plain torch.nn, with the channels of all branches together."""

    def __init__(self) -> None:
        super().__init__()
        first, second = (BRANCHES * c for c in CHANNELS)
        self.layers = nn.Sequential(
            nn.PixelUnshuffle(GRID[0]),
            nn.Conv2d(BRANCHES, first, WINDOW, padding="same"), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(first, second, WINDOW, padding="same"), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(second * PIXELS[2] ** 2, BRANCHES * HIDDEN), nn.ReLU(),
            nn.Linear(BRANCHES * HIDDEN, CLASSES),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.layers[1:](last(self.layers[0](x[:, None])))[None]

    def operations(self) -> int:
        return _operations(BRANCHES, BRANCHES, CLASSES)


class BranchedLeNet(ManyBranches):
    """4 branches (3 of half a spectrum) of 8 and 16 channels, and a small network on each."""

    def __init__(self, transform: str) -> None:
        super().__init__()
        t = TRANSFORMS[transform](BRANCHES)
        self.transform, self.is_complex = t, not t.is_real
        activation = "crelu" if self.is_complex else "relu"
        one, two = ((i, o, WINDOW) for i, o in ((1, CHANNELS[0]), CHANNELS))
        same = {"padding": "same", "branches": t.branches, "activation": activation, "is_complex": self.is_complex}
        self.layers = nn.Sequential(
            ToBranches2d(BRANCHES, t, GRID),
            BranchConv2d(*one, **same), SpectralPool(2),  # type: ignore[arg-type]
            BranchConv2d(*two, **same), SpectralPool(2),  # type: ignore[arg-type]
        )  # fmt: skip
        self.end = SpectralMLP([CHANNELS[1] * PIXELS[2] ** 2, HIDDEN, CLASSES], BRANCHES, t, output_bias=True)

    def forward(self, x: Tensor) -> Tensor:
        h = self.layers[0](x[:, None])
        h = self.layers[1:](last(h.flatten(1, 2)).unflatten(1, h.shape[1:3])).flatten(2).transpose(0, 1)
        return readable(torch.ops.spectral.spectral_mlp(h, None, *self.end.network()))

    def operations(self) -> int:
        q, times = self.transform.branches, 4 if self.is_complex else 1
        return times * q * _operations(1, 1, CLASSES) + (2 if self.is_complex else 1) * q * SIDE * SIDE


class EagerLeNet(ManyBranches):
    """The same network, sharing its parameters, as a user would write it: grouped convolutions and batched products."""

    def __init__(self, net: BranchedLeNet) -> None:
        super().__init__()
        convolutions = [layer for layer in net.layers if isinstance(layer, BranchConv2d)]
        pairs = [p for layer in convolutions for p in (layer.weight, layer.bias)]
        ends = [p for pair in zip(net.end.weights, net.end.biases, strict=True) for p in pair]
        self.weights, self.is_complex = nn.ParameterList([*pairs, *ends]), net.is_complex
        self.activation = convolutions[0].activation
        self.register_buffer("matrix", matrix_of(net.transform), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        weights = [torch.view_as_complex(p) if self.is_complex else p for p in self.weights]
        q = len(self.matrix)
        h = functional.pixel_unshuffle(x[:, None], GRID[0]).to(self.matrix.dtype)
        h = last((self.matrix @ h.flatten(2)).unflatten(2, (PIXELS[0], PIXELS[0])))
        for w, b in (weights[:2], weights[2:4]):
            h = functional.conv2d(h, w.flatten(0, 1), b.flatten(), padding="same", groups=q)
            h = pooled(apply(self.activation, h) if self.is_complex else torch.relu(h))
        h = h.unflatten(1, (q, -1)).flatten(2).transpose(0, 1)
        h = linear(h, weights[4], weights[5], self.activation)
        return readable(linear(h, weights[6], weights[7], "none"))


def last(h: Tensor) -> Tensor:
    """Images in channels_last: pooling, and convolutions in narrow groups, are then two to four times faster."""
    return h.contiguous(memory_format=torch.channels_last)


def pooled(h: Tensor) -> Tensor:
    """2 x 2 maxima; of complex numbers the one of largest modulus."""
    if not h.is_complex():
        return functional.max_pool2d(h, 2)
    _, places = functional.max_pool2d(h.abs(), 2, return_indices=True)
    return h.flatten(2).gather(2, places.flatten(2)).view(places.shape)


def _operations(inputs: int, times: int, classes: int) -> int:
    """Multiply-adds of a network with `inputs` sub-images and `times` the channels of a branch."""
    first, second = (times * c for c in CHANNELS)
    convolutions = inputs * first * PIXELS[0] ** 2 + first * second * PIXELS[1] ** 2
    flat = second * PIXELS[2] ** 2
    return WINDOW * WINDOW * convolutions + times * HIDDEN * (flat + classes)


def experiment(transform: str) -> Experiment:
    """The dense network and the branches, whose channels together are as many."""
    example, name = BranchedLeNet(transform), TITLES[transform]

    def parts(image: Tensor) -> list[tuple[str, Tensor]]:
        branches: Sequence[Tensor] = example.layers[0](image[None, None])[0, :, 0].unbind(0)
        return [(f"branch {q}", b.abs() if b.is_complex() else b) for q, b in enumerate(branches)]

    return Experiment(
        name="conv-mnist",
        title=f"Convolutional networks on MNIST, {name}",
        about=f"An image is four interleaved sub-images of 14 x 14; the transform ({name}) across them gives each "
        "branch one coefficient of every 2 x 2 block. Branches convolve, pool and classify for themselves; the dense "
        "network has their channels in one.",
        networks=[
            Recipe("dense", "LeNet (dense)", DenseLeNet, None),
            Recipe("spectral", f"LeNet, {name}", lambda: BranchedLeNet(transform), EagerLeNet, None, True),  # type: ignore[arg-type]
        ],
        parts=parts,
        lr=0.002,
        epochs=10,
    )
