"""`spectral train rnn-mnist`: image rows as time steps, in branches, beside a dense torch.nn.RNN of equal width.

The paper has the layer (eq. 28-30) and no experiment with it. Here a step's 28 pixels are 7 tubes of 4 neighbours, so
that branch q sees the row at its own scale; each branch reads its last state out for itself, and the branches vote.
Both networks have relu (modrelu of complex branches) and start from the identity as their recurrent weight (Le, Jaitly,
Hinton 2015, arXiv:1504.00941), without which neither keeps what the first rows said.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..nn import SpectralRNN, arguments
from ..ops.activations import apply
from .data import CLASSES, SIDE
from .experiment import Experiment
from .networks import ManyBranches, OneBranch, Recipe
from .spectra import TITLES, TRANSFORMS, linear, matrix_of, readable, transformed

BRANCHES, STATE = 4, 64
INPUT, WIDTH = SIDE // BRANCHES, BRANCHES * STATE


class DenseRNN(OneBranch):
    """A torch.nn.RNN as wide as all branches together, and a linear layer on its last state."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(SIDE, WIDTH, nonlinearity="relu", batch_first=True)
        self.readout = nn.Linear(WIDTH, CLASSES)
        nn.init.kaiming_uniform_(self.rnn.weight_ih_l0, nonlinearity="relu")
        nn.init.zeros_(self.rnn.bias_ih_l0), nn.init.zeros_(self.rnn.bias_hh_l0)
        remember(self.rnn.weight_ih_l0, self.rnn.weight_hh_l0)

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(self.rnn(x)[1][0])[None]

    def operations(self) -> int:
        return SIDE * WIDTH * (SIDE + WIDTH) + WIDTH * CLASSES


class BranchedRNN(ManyBranches):
    """4 branches (3 of half a spectrum) with states of 32, and a readout of their own."""

    def __init__(self, transform: str) -> None:
        super().__init__()
        t = TRANSFORMS[transform](BRANCHES)
        self.rnn = SpectralRNN(INPUT, STATE, BRANCHES, transform=t, nonlinearity="relu" if t.is_real else "modrelu")
        remember(self.rnn.weight_x_l0, self.numbers(self.rnn.weight_h_l0))
        pair = [2] if self.rnn.complex_weights else []
        q = self.rnn.transform.branches
        self.weight, self.bias = (nn.Parameter(torch.zeros(q, *s, *pair)) for s in ((CLASSES, STATE), (CLASSES,)))
        arguments.fill(self.weight, STATE, "none", self.rnn.complex_weights)

    def numbers(self, parameter: Tensor) -> Tensor:
        return torch.view_as_complex(parameter) if self.rnn.complex_weights else parameter

    def forward(self, x: Tensor) -> Tensor:
        _, states = self.rnn.in_branches(tubes(x))
        return readable(
            torch.ops.spectral.branch_linear(states[-1], self.numbers(self.weight), self.numbers(self.bias))
        )

    def operations(self) -> int:
        weights = sum(p.numel() for name, p in self.rnn.named_parameters() if name.startswith("weight"))
        ahead, _ = arguments.transform_costs(self.rnn.transform, self.rnn.is_complex)
        step = weights * (2 if self.rnn.is_complex else 1) + ahead * SIDE * self.rnn.transform.branches
        return SIDE * step + self.weight.numel() * (2 if self.rnn.is_complex else 1)


class EagerRNN(ManyBranches):
    """The same network, sharing its parameters, as a user would write it: all inputs in one product, then a loop."""

    def __init__(self, net: BranchedRNN) -> None:
        super().__init__()
        self.net = [net]  # in a list: its modules are not ours
        self.weights = nn.ParameterList([*(p for name, p in net.rnn.named_parameters()), net.weight, net.bias])
        self.activation, self.pairs = net.rnn.nonlinearity, net.rnn.complex_weights
        self.register_buffer("matrix", matrix_of(net.rnn.transform), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        weight_x, weight_h, bias, weight, end = (torch.view_as_complex(p) if self.pairs else p for p in self.weights)
        h = transformed(tubes(x), self.matrix).permute(3, 0, 1, 2)  # (Q', T, N, I)
        q, t, n, i = h.shape
        inputs = linear(h.reshape(q, t * n, i), weight_x, bias, "none").view(q, t, n, STATE)
        state = torch.zeros_like(inputs[:, 0])
        for step in inputs.unbind(1):
            z = torch.baddbmm(step, state, weight_h.mT)
            state = torch.relu(z) if self.activation == "relu" else apply(self.activation, z)
        return readable(linear(state, weight, end, "none"))


def remember(weight_x: Tensor, weight_h: Tensor) -> None:
    """The identity as recurrent weight, and a third of the input, which all steps add up."""
    with torch.no_grad():
        weight_x.mul_(1 / 3)
        weight_h.copy_(torch.eye(weight_h.shape[-1]).expand_as(weight_h))


def tubes(x: Tensor) -> Tensor:
    """Images (N, 28, 28) as sequences (T, N, I, Q) of rows: Q neighbouring pixels are a tube."""
    return x.unflatten(2, (INPUT, BRANCHES)).transpose(0, 1)


def experiment(transform: str) -> Experiment:
    """The dense network and the branches, whose states together are as wide."""
    example = BranchedRNN(transform)
    name = TITLES[transform]

    def parts(image: Tensor) -> list[tuple[str, Tensor]]:
        coefficients = example.rnn.transform.fast(tubes(image[None])[:, 0]).unbind(-1)
        return [(f"branch {q}", c.abs() if c.is_complex() else c) for q, c in enumerate(coefficients)]

    return Experiment(
        name="rnn-mnist",
        title=f"Recurrent networks on MNIST, {name}",
        about=f"Image rows are {SIDE} time steps. A row's pixels are {INPUT} tubes of {BRANCHES} neighbours; the "
        f"transform ({name}) gives branch q one coefficient of each, from the coarsest to the finest. Every branch has "
        f"a state of {STATE} ({example.rnn.nonlinearity}) and reads its last one out; the dense network's state is "
        f"{WIDTH} wide.",
        networks=[
            Recipe("dense", f"RNN (dense, {WIDTH})", DenseRNN, None),
            Recipe("spectral", f"SpectralRNN, {name}", lambda: BranchedRNN(transform), EagerRNN, None, True),  # type: ignore[arg-type]
        ],
        parts=parts,
        lr=0.001,
        epochs=20,
    )
