"""Builds a case's contenders from one set of arguments: ours, eager, torch.compile, and the truth in float64."""

from __future__ import annotations

import importlib
import importlib.util
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

import spectral_ops
from spectral_ops.transforms import DCT

from . import baselines
from .cost import Cost, tensors
from .measure import Contender

Function = Callable[..., Any]


@dataclass(frozen=True)
class Built:
    """A case with its tensors in memory. backend: the one that runs our side."""

    contenders: list[Contender]
    cost: Cost
    backend: str


@dataclass(frozen=True)
class Case:
    """One row of the report.

    name: says what is measured; a filter matches part of it. op: the row of the table it exercises.
    target: the wanted ratio of the best baseline's time to ours. limits: how many times the time of one of our own
    other calls ours may take. large: seconds a call or gigabytes of memory, left out of quick runs.
    """

    name: str
    op: str
    build: Callable[[], Built]
    group: str
    target: float | None = None
    limits: Mapping[str, float] = field(default_factory=dict)
    large: bool = False


@dataclass(frozen=True)
class Gradient:
    """Measure a forward and a backward pass, to all arguments that require a gradient.

    cotangent: the gradient of the first result; None: fixed random values. results: return the results too.
    """

    cotangent: Tensor | None = None
    results: bool = False


class Values:
    """Reproducible random tensors, seeded by a text."""

    def __init__(self, seed: str) -> None:
        self.generator = torch.Generator().manual_seed(zlib.crc32(seed.encode()))

    def normal(self, *shape: int, scale: float = 1.0) -> Tensor:
        return torch.randn(*shape, generator=self.generator) * scale

    def classes(self, n: int, c: int) -> Tensor:
        return torch.randint(c, (n,), generator=self.generator)

    def network(
        self, q: int, n: int, features: Sequence[int], rank: int | None = None, transform: bool = True
    ) -> list[Any]:
        """Arguments of spectral_mlp: ReLU between the layers, a bias each, weights scaled to keep the variance."""
        x = self.normal(n, features[0], q) if transform else self.normal(q, n, features[0])
        weights: list[Tensor] = []
        biases: list[Tensor | None] = []
        activations: list[str] = []
        for i, o in pairwise(features):
            if rank is not None:
                weights.append(self.normal(q, rank, i, scale=i**-0.5))
                biases.append(None)
                activations.append("none")
            fan_in = i if rank is None else rank
            weights.append(self.normal(q, o, fan_in, scale=(2 / fan_in) ** 0.5))
            biases.append(self.normal(q, o, scale=0.1))
            activations.append("relu")
        activations[-1] = "none"
        return [x, dct(q) if transform else None, weights, biases, activations]


def dct(q: int) -> Tensor:
    """The orthonormal DCT-II matrix in float32."""
    return DCT(q).matrix.float()


def learn(*values: Any) -> None:
    """Want gradients of these tensors."""
    for t in tensors(list(values)):
        t.requires_grad_()


def in_double(value: Any) -> Any:
    """The same arguments in float64 and complex128; what wants a gradient keeps wanting it."""
    if isinstance(value, Tensor):
        if not (value.is_floating_point() or value.is_complex()):
            return value
        exact = torch.complex128 if value.is_complex() else torch.float64
        return value.detach().to(exact).requires_grad_(value.requires_grad)
    return [in_double(item) for item in value] if isinstance(value, list | tuple) else value


def backend_of(op: str, args: Sequence[Any]) -> str:
    """The backend that `torch.ops.spectral.<op>(*args)` takes."""
    return next(name for name, reason in spectral_ops.backends(op, *args) if reason is None)


def call(function: Function, args: Sequence[Any], gradient: Gradient | None = None) -> Callable[[], Any]:
    """What is timed: function(*args), or the gradients of its first result too."""
    if gradient is None:
        return lambda: function(*args)
    leaves = [t for t in tensors(list(args)) if t.requires_grad]
    cotangents = [] if gradient.cotangent is None else [in_double(gradient.cotangent).to(leaves[0].dtype)]

    def forward_and_backward() -> Any:
        results = function(*args)
        first = results if isinstance(results, Tensor) else results[0]
        if not cotangents:
            noise = Values("cotangent").normal(*first.shape)
            cotangents.append(noise.to(first.dtype))
        gradients = torch.autograd.grad(first, leaves, cotangents)
        return [*tensors(results), *gradients] if gradient.results else gradients

    return forward_and_backward


def compiled(function: Function, args: Sequence[Any], gradient: Gradient | None = None) -> Contender:
    """torch.compile of a baseline, for exactly these shapes."""
    torch.compiler.reset()
    return Contender("compile", "compile", call(torch.compile(function, dynamic=False), args, gradient))


def scipy_dct(x: Tensor, type: int, dim: int, name: str = "dct", training: bool = False) -> Contender:
    """scipy's transform of x, in training (DCT) with the gradient written around it, or the reason for none."""
    if training:
        return _scipy(lambda: call(baselines.differentiable_scipy(type, dim), [x], Gradient()))
    return _scipy(lambda: baselines.dct_scipy(x, type, dim, name))


def scipy_dctn(x: Tensor, type: int, dim: Sequence[int]) -> Contender:
    """scipy's transform of x along several dimensions, or the reason why there is none."""
    return _scipy(lambda: baselines.dctn_scipy(x, type, dim))


def _scipy(build: Callable[[], Callable[[], Any]]) -> Contender:
    missing = importlib.util.find_spec("scipy") is None
    return Contender("scipy", "scipy", list if missing else build(), failure="scipy is not installed" * missing or None)


def torch_dct(x: Tensor, type: int, dim: int, training: bool) -> Contender:
    """The wheel torch-dct's transform of x, or the reason why there is none."""
    if type == 4:
        return Contender("torch-dct", "torch-dct", list, failure="torch-dct has no type 4")
    return _wheel(lambda: baselines.dct_of_the_wheel(type, dim), x, training)


def torch_dct_2d(x: Tensor, training: bool) -> Contender:
    """The wheel's two-dimensional DCT of x along the last two dimensions, or the reason why there is none."""
    return _wheel(lambda: importlib.import_module("torch_dct").dct_2d, x, training)


def _wheel(build: Callable[[], Function], x: Tensor, training: bool) -> Contender:
    if importlib.util.find_spec("torch_dct") is None:
        return Contender("torch-dct", "torch-dct", list, failure="torch-dct is not installed")
    return Contender("torch-dct", "torch-dct", call(build(), [x], Gradient() if training else None))


def side_by_side(
    op: str,
    args: Sequence[Any],
    baseline: Function | Mapping[str, Function],
    cost: Cost,
    gradient: Gradient | None = None,
    ours: Function | None = None,
    baseline_args: Sequence[Any] | None = None,
    our_args: Sequence[Any] | None = None,
    baseline_gradient: Gradient | None = None,
    extra: Sequence[Contender] = (),
    exact: Function | None = None,
) -> Built:
    """The usual case: ours against one or several eager forms, the first of them also compiled.

    The baseline may take other arguments, and be differentiated where ours is not (a gradient that is an op of ours);
    so may `ours`, when it is a function around the op.
    `exact` (default: the first baseline) computes the truth.
    """
    forms = dict(baseline) if isinstance(baseline, Mapping) else {"eager": baseline}
    first = next(iter(forms.values()))
    theirs = args if baseline_args is None else baseline_args
    their_gradient = gradient if baseline_gradient is None else baseline_gradient
    truth = call(exact or first, in_double(list(theirs)), their_gradient)
    function = ours or getattr(torch.ops.spectral, op)
    contenders = [
        Contender(op, "ours", call(function, args if our_args is None else our_args, gradient)),
        *(Contender(name, "eager", call(form, theirs, their_gradient)) for name, form in forms.items()),
        compiled(first, theirs, their_gradient),
    ]
    for contender in (*contenders, *(c for c in extra if c.kind != "own")):
        contender.truth = truth
    return Built([*contenders, *extra], cost, backend_of(op, args))
