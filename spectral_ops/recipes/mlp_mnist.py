"""`spectral train mlp-mnist`: paper 1's fully connected network under any transform, beside the dense one."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from ..ensemble import average
from ..nn import SpectralMLP
from .data import SIDE
from .experiment import Experiment
from .networks import FEATURES, Dense, ManyBranches, Recipe
from .spectra import TITLES, TRANSFORMS, linear, matrix_of, numbers, power_of_two, readable, transformed


class TransformedMLP(SpectralMLP):
    """Eight layers of branches, each of which sees one coefficient of every image row.

    Rows are padded with their background to the next power of two for the transforms that have no other length.
    """

    def __init__(self, transform: str) -> None:
        length = power_of_two(SIDE) if transform in ("hadamard", "haar") else SIDE
        self.margin = length - SIDE
        super().__init__(FEATURES, length, TRANSFORMS[transform](length))

    def padded(self, x: Tensor) -> Tensor:
        """(N, 28, 28) -> (N, 28, Q)."""
        return functional.pad(x, (0, self.margin), value=x.min().item()) if self.margin else x

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.padded(x))

    def loss(self, x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        return super().loss(self.padded(x), target)

    def predict(self, x: Tensor, weights: Tensor | None = None, space: str = "probabilities") -> Tensor:
        shares = average(self.transform.branches) if weights is None else weights
        return super().predict(self.padded(x), shares, space)


class EagerMLP(ManyBranches):
    """The same network, sharing its parameters, as a user would write it: matmuls batched over branches."""

    def __init__(self, net: TransformedMLP) -> None:
        super().__init__()
        self.weights, self.biases, self.is_complex = net.weights, net.biases, net.complex_weights
        self.activation, self.margin = net.activation, net.margin
        self.register_buffer("matrix", matrix_of(net.transform), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.pad(x, (0, self.margin), value=x.min().item()) if self.margin else x
        h = transformed(x, self.matrix).permute(2, 0, 1)
        weights, biases = numbers(self.weights, self.is_complex), numbers(self.biases, self.is_complex)
        for _ in range(len(self.weights) - 1):
            h = linear(h, next(weights), next(biases), self.activation)
        return readable(linear(h, next(weights), None, "none"))


def experiment(transform: str) -> Experiment:
    """The dense network, and 28 branches (32 padded, 15 of half a spectrum) of the same depth."""

    def build() -> nn.Module:
        return TransformedMLP(transform)

    example = build()
    assert isinstance(example, TransformedMLP)
    title = f"FC-tensor, {TITLES[transform]}"

    def parts(image: Tensor) -> list[tuple[str, Tensor]]:
        coefficients = example.transform.fast(example.padded(image[None]))[0]
        values = coefficients.abs() if coefficients.is_complex() else coefficients
        return [("its rows transformed: each column is what one branch sees", values)]

    return Experiment(
        name="mlp-mnist",
        title=f"Fully connected networks on MNIST, {TITLES[transform]}",
        about=f"Eight layers. The transform turns every image row into coefficients; each of the "
        f"{example.transform.branches} branches sees one of them, a number a row, in "
        f"{'complex' if example.is_complex else 'real'} arithmetic ({example.activation}).",
        networks=[
            Recipe("dense", "FC (dense, 8 x 784)", Dense, None),
            Recipe("spectral", title, build, EagerMLP, None, True),  # type: ignore[arg-type]
        ],
        parts=parts,
        lr=0.01,
        epochs=20,
    )
