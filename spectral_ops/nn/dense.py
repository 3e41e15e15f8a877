"""Dense networks that have all branches of a spectral one side by side, in modules of torch.nn where those exist.

Complex features are kept in planes: all real parts, then all imaginary ones. A complex matrix is then a real one of
twice the size and crelu is relu; for the activations that torch.nn has not there is `Activation`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..ops import activations
from ..ops.planes import parts, weight_form

_MODULES = {
    "relu": nn.ReLU, "crelu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid,
}  # fmt: skip


class Activation(nn.Module):
    """A complex activation of planes (..., 2 F)."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        h = activations.apply(self.name, torch.complex(*x.chunk(2, -1)))
        return torch.cat([h.real, h.imag], -1)

    def extra_repr(self) -> str:
        return repr(self.name)


class Modulus(nn.Module):
    """|z| of planes: (..., 2 F) -> (..., F)."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.complex(*x.chunk(2, -1)).abs()


def activation(name: str) -> nn.Module:
    """The module of an activation, real or of planes."""
    return _MODULES[name]() if name in _MODULES else Activation(name)


def real_form(matrix: Tensor, real_in: bool = False, real_out: bool = False) -> Tensor:
    """The matrix (P, Q) on planes, (2 P, 2 Q); without the columns for imaginary data, or the rows that give it."""
    return weight_form(matrix[None], real_in, real_out)[0]


def planes(vector: Tensor, real_out: bool = False) -> Tensor:
    """A complex vector in planes, or its real part."""
    return torch.cat(parts(vector)[: 1 if real_out else 2])


class OneBranch(nn.Module):
    """A dense recurrent network with any nonlinearity, with torch.nn.RNN's shapes: a `SpectralRNN` of one branch.

    net: with branches = 1, under Identity(1), and no output_size. Complex states leave it in planes, those of each
    direction by themselves.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, h0: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x (T, N, I), or (N, T, I) with batch_first -> (T, N, D P) and h_n (num_layers D, N, P), in planes."""
        if h0 is not None and self.net.is_complex:
            h0 = torch.complex(*h0.chunk(2, -1))
        y, h_n = self.net(x.unsqueeze(-1), None if h0 is None else h0.unsqueeze(-1))
        y, h_n = y.squeeze(-1), h_n.squeeze(-1)
        if not self.net.is_complex:
            return y, h_n
        states = y.unflatten(-1, (-1, self.net.hidden_size))
        return torch.stack([states.real, states.imag], -2).flatten(-3), torch.cat([h_n.real, h_n.imag], -1)
