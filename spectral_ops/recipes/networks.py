"""The four networks of paper 1's MNIST experiment, and the spectral ones as a user would compose them in PyTorch.

All have eight layers, ReLU between them and no bias on the last (eq. 6, 9, 12); all weights start with He's variance.
They share one interface, in which a conventional network is a single branch:
    forward(x (N, 28, 28)) -> logits (B, N, C);  loss(x, target) -> (losses (B,), logits);  predict(x) -> (N, C)
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..ensemble import average, branch_cross_entropy
from ..nn import SpectralMLP, TNNLinear
from .data import CLASSES, SIDE

LAYERS, RANK = 8, 8
FEATURES = [SIDE] * LAYERS + [CLASSES]
DENSE_FEATURES = [SIDE * SIDE] * LAYERS + [CLASSES]


class OneBranch(nn.Module):
    """A network without branches, behind the interface of those that have some."""

    def loss(self, x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        logits = self(x)
        return functional.cross_entropy(logits[0], target)[None], logits

    def predict(self, x: Tensor) -> Tensor:
        return torch.softmax(self(x)[0], -1)


class ManyBranches(nn.Module):
    """A network whose forward gives the logits (B, N, C) of branches that learn alone, and vote."""

    def loss(self, x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        logits = self(x)
        return branch_cross_entropy(logits, target), logits

    def predict(self, x: Tensor, weights: Tensor | None = None, space: str = "probabilities") -> Tensor:
        logits = self(x)
        shares = average(len(logits)) if weights is None else weights
        return torch.ops.spectral.branch_ensemble(logits, shares, space)


class Dense(OneBranch):
    """FC: eight matrices, 784 x 784 (the last 784 x 10), in plain torch.nn."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Flatten()]
        for j, (i, o) in enumerate(itertools.pairwise(DENSE_FEATURES)):
            last = j == LAYERS - 1
            linear = nn.Linear(i, o, bias=not last)
            nn.init.kaiming_uniform_(linear.weight, nonlinearity="linear" if last else "relu")
            if not last:
                nn.init.zeros_(linear.bias)
            layers += [linear] if last else [linear, nn.ReLU()]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)[None]

    def operations(self) -> int:
        return sum(i * o for i, o in itertools.pairwise(DENSE_FEATURES))


class TNN(OneBranch):
    """tNN (Newman et al. 2018): eight tube layers with the activation in the original domain.

    The last layer maps 28 -> 10 for every tube, without activation. A class's logit is the sum of its tube in the
    original domain over sqrt(Q): the paper leaves the readout open, and this one adds no parameters and keeps the
    variance. (Under the DCT it is the tube's first coefficient, so only branch 0 of the *last* layer is read; the
    activations have mixed all branches seven times before.)
    """

    def __init__(self) -> None:
        super().__init__()
        pairs = list(itertools.pairwise(FEATURES))
        hidden = [TNNLinear(i, o, branches=SIDE) for i, o in pairs[:-1]]
        self.layers = nn.Sequential(*hidden, TNNLinear(*pairs[-1], branches=SIDE, bias=False, activation="none"))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x).sum(-1)[None] / SIDE**0.5

    def operations(self) -> int:
        return sum(layer.operations() for layer in self.layers)


class Spectral(SpectralMLP):
    """FC-tensor: 28 branches of eight layers 28 x 28 (the last 28 x 10), at full rank or tubal rank r."""

    def __init__(self, rank: int | None = None) -> None:
        super().__init__(FEATURES, branches=SIDE, rank=rank)

    def predict(self, x: Tensor, weights: Tensor | None = None, space: str = "probabilities") -> Tensor:
        return super().predict(x, average(self.branches) if weights is None else weights, space)


class EagerSpectral(nn.Module):
    """The network of `Spectral`, sharing its parameters, as a user would write it: matmuls batched over branches."""

    def __init__(self, net: SpectralMLP) -> None:
        super().__init__()
        self.weights, self.biases = net.weights, net.biases
        self.register_buffer("matrix", net.transform.matrix.to(net.weights[0].dtype), persistent=False)
        self.low_rank = net.rank is not None

    def forward(self, x: Tensor) -> Tensor:
        h = (x @ self.matrix.mT).permute(2, 0, 1)
        weights, biases = iter(self.weights), iter(self.biases)
        for j in range(LAYERS):
            if self.low_rank:
                h = torch.bmm(h, next(weights).mT)
            weight = next(weights).mT
            last = j == LAYERS - 1
            h = torch.bmm(h, weight) if last else torch.relu(torch.baddbmm(next(biases)[:, None], h, weight))
        return h

    def loss(self, x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        logits = self(x)
        return branch_cross_entropy(logits, target), logits

    def predict(self, x: Tensor) -> Tensor:
        return torch.softmax(self(x), -1).mean(0)


class EagerTNN(OneBranch):
    """The same network as `TNN`, sharing its parameters, as a user would write it."""

    def __init__(self, net: TNN) -> None:
        super().__init__()
        self.weights = nn.ParameterList(layer.weight for layer in net.layers)
        self.biases = nn.ParameterList(layer.bias for layer in net.layers if layer.bias is not None)
        transform = net.layers[0].transform
        self.register_buffer("matrix", transform.matrix.to(self.weights[0].dtype), persistent=False)
        self.register_buffer("inverse", transform.inverse.to(self.weights[0].dtype), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        biases = iter(self.biases)
        for j, weight in enumerate(self.weights):
            h = (x @ self.matrix.mT).permute(2, 0, 1)
            last = j == LAYERS - 1
            h = torch.bmm(h, weight.mT) if last else torch.baddbmm(next(biases)[:, None], h, weight.mT)
            x = h.permute(1, 2, 0) @ self.inverse.mT
            x = x if last else torch.relu(x)
        return x.sum(-1)[None] / SIDE**0.5


@dataclass(frozen=True)
class Recipe:
    """A network of the experiment: how to build it, and what the paper prints for it (Table 3, MNIST, %)."""

    name: str
    title: str
    build: Callable[[], nn.Module]
    eager: Callable[[nn.Module], nn.Module] | None
    rank: int | None = None
    is_spectral: bool = False


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("dense", "FC (dense, 8 x 784)", Dense, None),
        Recipe("tnn", "tNN", TNN, EagerTNN),
        Recipe("spectral", "FC-tensor, full rank", Spectral, EagerSpectral, None, True),
        Recipe("spectral-r8", f"FC-tensor, r = {RANK}", lambda: Spectral(RANK), EagerSpectral, RANK, True),
    )
}
PAPER_ACCURACY = {"dense": 98.71, "tnn": 97.59, "average": 97.43, "weighted_sum": 98.02, "geometric": 99.01}


def recipe_of(recipe: str | Recipe) -> Recipe:
    """A network of `RECIPES` by its name; any other one stands for itself."""
    return RECIPES[recipe] if isinstance(recipe, str) else recipe


def build(recipe: str | Recipe, seed: int) -> nn.Module:
    """The network with its random start fixed by `seed`."""
    torch.manual_seed(seed)
    return recipe_of(recipe).build()
