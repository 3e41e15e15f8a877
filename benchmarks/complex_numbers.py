"""Complex branches: layers of the whole and of half a spectrum, one product, a recurrent layer and a convolution.

The plain forms are PyTorch in complex64, whose batched products are MKL's; inductor has no complex code to generate, so
that `compile` is eager with a warning.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from spectral_ops.transforms import DFT

from . import baselines, cost
from .contenders import Built, Case, Gradient, Values, call, learn, side_by_side
from .measure import Contender

Q = I = 28
HALF = Q // 2 + 1
WIDTHS = [I] * 8 + [10]
PASSES = {False: "fwd", True: "fwd+bwd"}


def cases() -> Iterator[Case]:
    whole, half = {False: 2.2, True: 4.0}, {False: 3.0, True: 4.0}
    for spectrum, q, targets in (("half", HALF, half), ("whole", Q, whole)):
        for n in (64, 1024):
            for training, target in targets.items():
                name = f"complex mlp layers, {spectrum} spectrum N={n} {PASSES[training]}"
                yield Case(name, "spectral_mlp", partial(_layers, q, n, training), "targets", target)
    for n in (16, 64, 1024):
        name, target = f"complex GEMM, {Q} of {n} x {I} x {I}", 1.5 if n == 1024 else 1.0
        yield Case(f"{name} fwd", "branch_linear", partial(_product, n), "targets", target)
        yield Case(f"{name} kernel alone", "branch_linear", partial(_kernel, n), "targets", target)
    for n in (1, 64, 1024):
        for training in (False, True):
            name = f"complex branch_rnn T={Q} Q={HALF} I={I} N={n} {PASSES[training]}"
            yield Case(name, "branch_rnn", partial(_rnn, n, training), "targets", 2.0, large=n == 1024)
    for training in (False, True):
        name = f"complex spectral_conv2d 64->64 3x3 16x16 N=8, half of Q=4 {PASSES[training]}"
        yield Case(name, "spectral_conv2d", partial(_convolution, training), "targets", 1.0)


def _normal(values: Values, *shape: int, scale: float = 1.0) -> Tensor:
    """Complex normal numbers of variance scale^2."""
    return torch.complex(values.normal(*shape), values.normal(*shape)) * (scale / 2**0.5)


def _network(q: int, n: int) -> list[Any]:
    values, weights, biases = Values("complex layers"), [], []
    x = _normal(values, q, n, I)
    for i, o in pairwise(WIDTHS):
        weights.append(_normal(values, q, o, i, scale=(2 / i) ** 0.5))
        biases.append(_normal(values, q, o, scale=0.1))
    return [x, None, weights, biases, ["crelu"] * 7 + ["none"]]


def _layers(q: int, n: int, training: bool) -> Built:
    args, rest = _network(q, n), _network(Q, n)
    if training:
        learn(args[2:4], rest[2:4])
    gradient = Gradient() if training else None
    spent = (cost.training if training else cost.forward)("spectral_mlp", args)
    other = [Contender("eager, whole spectrum", "own", call(baselines.spectral_mlp, rest, gradient))] if q < Q else []
    return side_by_side("spectral_mlp", args, baselines.spectral_mlp, spent, gradient, extra=other)


def _bmm(x: Tensor, weight: Tensor) -> Tensor:
    return torch.bmm(x, weight.mT)


def _product(n: int) -> Built:
    args = _factors(n)
    return side_by_side("branch_linear", args, _bmm, cost.forward("branch_linear", args))


def _kernel(n: int) -> Built:
    """The C++ kernel without torch.ops.spectral around it: the result is given, for the baseline too."""
    args = _factors(n)
    out, their_out = torch.empty_like(args[0]), torch.empty_like(args[0])

    def kernel(x: Tensor, weight: Tensor) -> Tensor:
        torch.ops.spectral_native.branch_linear(x, weight, None, 0, 0.0, out)
        return out

    def bmm(x: Tensor, weight: Tensor) -> Tensor:
        return torch.bmm(x, weight.mT, out=their_out)

    return side_by_side("branch_linear", args, bmm, cost.forward("branch_linear", args), ours=kernel, exact=_bmm)


def _factors(n: int) -> list[Tensor]:
    values = Values("complex product")
    return [_normal(values, Q, n, I), _normal(values, Q, I, I, scale=I**-0.5)]


def _rnn(n: int, training: bool) -> Built:
    values = Values("complex branch_rnn")
    weights = [_normal(values, HALF, I, I, scale=(2 * I) ** -0.5) for _ in range(3)]
    start = _normal(values, HALF, n, I, scale=0.1)
    args = [_normal(values, Q, HALF, n, I), *weights, _normal(values, HALF, I, scale=0.1), start, "modrelu"]
    if training:
        learn(args[1:5])
    spent = (cost.training if training else cost.forward)("branch_rnn", args)

    def loop(*a: Any) -> Any:
        return baselines.branch_rnn(*a)[:2]

    return side_by_side("branch_rnn", args, loop, spent, Gradient() if training else None)


def _convolution(training: bool) -> Built:
    """Real images in channels_last, half a spectrum of four slices, real results."""
    values, q, width = Values("complex convolution"), 4, 16
    transform = DFT(q, real=True)
    matrix, inverse = transform.matrix.to(torch.complex64), transform.inverse.to(torch.complex64)
    x = values.normal(8, q * width, 16, 16).contiguous(memory_format=torch.channels_last)
    weight = _normal(values, len(matrix), width, width, 3, 3, scale=(2 / (9 * width)) ** 0.5)
    args = [x, matrix, weight, _normal(values, len(matrix), width), "crelu", inverse, [1, 1], [1, 1], [1, 1]]

    def plain(
        x: Tensor, matrix: Tensor, weight: Tensor, bias: Tensor, act: str, inverse: Tensor, *geometry: Any
    ) -> Tensor:
        (p, q), (n, c, h, w) = matrix.shape, x.shape
        branches = (matrix @ x.reshape(n, q, -1).to(matrix.dtype)).view(n, p * c // q, h, w)
        y = baselines.ACTIVATIONS[act](
            functional.conv2d(branches, weight.flatten(0, 1), bias.flatten(), *geometry, groups=p)
        )
        back = (inverse @ y.reshape(n, p, -1)).real
        return back.reshape(n, -1, h, w).contiguous(memory_format=torch.channels_last)

    if training:
        learn(x, weight, args[3])
    spent = (cost.training if training else cost.forward)("spectral_conv2d", args)
    return side_by_side("spectral_conv2d", args, plain, spent, Gradient() if training else None)
