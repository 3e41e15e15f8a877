"""What is measured: the network of paper 1 (28 branches of 28 features, 8 layers, 10 classes) and its parts, at the
sizes that have a target, and after them three shapes that are not round for every op of the table.

A case builds its contenders only when it is measured, so that one case's tensors are in memory at a time. Inputs are
the same float32 values for all contenders; the truth computes with them in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from . import baselines, complex_numbers, convolutions, cost, filters, odd_shapes, tucker, tucker_networks, waves
from .contenders import Built, Case, Gradient, Values, backend_of, dct, in_double, learn, side_by_side
from .cost import Cost
from .measure import Contender

Q = I = 28
CLASSES, RANK = 10, 8
FEATURES = [I] * 8 + [CLASSES]
DENSE = [Q * I] * 8 + [CLASSES]
PASSES = {False: "fwd", True: "fwd+bwd"}
ops = torch.ops.spectral


def cases() -> list[Case]:
    """Every case, in the order of the report."""
    networks = [*_networks(), *_steps(), *_recurrent(), *waves.cases(), *_ensembles(), *complex_numbers.cases()]
    layers = [*convolutions.cases(), *filters.cases(), *tucker.cases(), *tucker_networks.cases()]
    return [*networks, *layers, *odd_shapes.cases()]


def _pair(
    name: str, op: str, build: Callable[[int, bool], Built], n: int, targets: Sequence[float | None], **rest: Any
) -> Iterator[Case]:
    for training, target in zip((False, True), targets, strict=True):
        title = f"{name} N={n} {PASSES[training]}"
        yield Case(title, op, partial(build, n, training), "targets", target, large=n >= 8192, **rest)


def _networks() -> Iterator[Case]:
    whole = {1: (2, None), 16: (4.5, None), 64: (5, 3.5), 1024: (4.5, 3), 8192: (5, 3.5), 65536: (5, 3.5)}
    for n, targets in whole.items():
        yield from _pair("mlp e2e", "spectral_ensemble", _end_to_end, n, targets)
    for n in (64, 1024):
        yield from _pair("mlp layers full rank", "spectral_mlp", _layers, n, (None, None))
        yield from _pair("mlp layers r=8", "spectral_mlp", _low_rank, n, (5, 4), limits={"full rank": 1.0})
        yield from _pair("mlp for literal eq. (8)", "spectral_mlp", _literal, n, (12, 8))
        yield from _pair("tnn 8 layers", "spectral_linear", _tnn, n, (4, 3))


def _steps() -> Iterator[Case]:
    for n, target in {64: 2.7, 1024: 2.6, 8192: 3.1}.items():
        name = f"fused loss, layers N={n} fwd+bwd"
        build = partial(_fused_loss, n)
        yield Case(name, "spectral_mlp_cross_entropy", build, "targets", target, large=n >= 8192)
    yield Case(
        "dense 8x784 to FC-tensor N=64 step", "spectral_mlp_cross_entropy", partial(_against_dense, 64), "targets", 12
    )


def _recurrent() -> Iterator[Case]:
    for n in (1, 64, 1024):
        yield from _pair(f"branch_rnn T={Q} Q={Q} I={I}", "branch_rnn", _branch_rnn, n, (2, 2))


def _ensembles() -> Iterator[Case]:
    yield from _pair("branch_ensemble C=28", "branch_ensemble", _branch_ensemble, 8192, (6, None))


def _built(op: str, args: list[Any], baseline: Any, training: bool, **rest: Any) -> Built:
    spent = (cost.training if training else cost.forward)(op, args)
    return side_by_side(op, args, baseline, spent, Gradient() if training else None, **rest)


def _end_to_end(n: int, training: bool) -> Built:
    """Images to class probabilities; in training to the joint loss (19), gradients to weights and biases."""
    values = Values("end to end")
    args = [*values.network(Q, n, FEATURES), torch.full((Q,), 1 / Q)]
    if not training:
        return _built("spectral_ensemble", args, baselines.spectral_ensemble, False)
    learn(args[2:4])
    target = values.classes(n, CLASSES)

    def joint(ensemble: Callable) -> Callable:
        return lambda *a: baselines.joint_loss(ensemble(*a), target)

    ours, eager = joint(ops.spectral_ensemble), joint(baselines.spectral_ensemble)
    spent = cost.training("spectral_ensemble", args)
    built = side_by_side("spectral_ensemble", args, eager, spent, Gradient(torch.tensor(1.0)), ours=ours)
    return Built(built.contenders, spent, backend_of("spectral_ensemble", args))


def _layers(n: int, training: bool, rank: int | None = None, extra: Sequence[Contender] = ()) -> Built:
    args = Values("layers").network(Q, n, FEATURES, rank, transform=False)
    if training:
        learn(args[2:4])
    return _built("spectral_mlp", args, baselines.spectral_mlp, training, extra=extra)


def _low_rank(n: int, training: bool) -> Built:
    full = next(c for c in _layers(n, training).contenders if c.kind == "ours")
    return _layers(n, training, RANK, [Contender("full rank", "own", full.run)])


def _literal(n: int, training: bool) -> Built:
    """The network with a transform and an inverse in every layer, against the one where they cancel."""
    args = Values("literal").network(Q, n, FEATURES)
    if training:
        learn(args[2:4])
    theirs = [*args, dct(Q).mT.contiguous()]
    return _built("spectral_mlp", args, baselines.literal_mlp, training, baseline_args=theirs)


def _tnn(n: int, training: bool) -> Built:
    """Eight layers whose ReLU acts in the original domain, so that no transform cancels."""
    x, transform, weights, biases, activations = Values("tnn").network(Q, n, FEATURES)
    if training:
        learn(weights, biases)
    args = [x, transform, weights, biases, activations, transform.mT.contiguous()]

    def network(layer: Callable) -> Callable:
        def forward(
            x: Tensor, transform: Tensor, weights: Any, biases: Any, activations: Any, inverse: Tensor
        ) -> Tensor:
            for weight, bias, activation in zip(weights, biases, activations, strict=True):
                x = layer(x, transform, weight, bias, "none", inverse, activation)
            return x

        return forward

    spent, hidden = Cost(0, 0), x
    for weight, bias, activation in zip(weights, biases, activations, strict=True):
        layer_args = [hidden, transform, weight, bias, "none", args[5], activation]
        spent += (cost.training if training else cost.forward)("spectral_linear", layer_args)
        hidden = cost.outputs("spectral_linear", layer_args).requires_grad_(training)
    first = [x, transform, weights[0], biases[0], "none", args[5], activations[0]]
    ours, eager = network(ops.spectral_linear), network(baselines.spectral_linear)
    gradient = Gradient() if training else None
    return side_by_side("spectral_linear", first, eager, spent, gradient, ours=ours, baseline_args=args, our_args=args)


def _fused_loss(n: int) -> Built:
    """Every branch's own cross-entropy and its gradients to weights and biases: what one training step computes."""
    values = Values("fused loss")
    args = [*values.network(Q, n, FEATURES, transform=False), values.classes(n, CLASSES)]
    learn(args[2:4])
    op, gradient = "spectral_mlp_cross_entropy", Gradient(torch.ones(Q))
    return side_by_side(op, args, baselines.spectral_mlp_cross_entropy, cost.training(op, args), gradient)


def _branch_rnn(n: int, training: bool) -> Built:
    """The rows of an image as steps; in training the gradients of weights and bias, as for a first layer."""
    values = Values("branch_rnn")
    weights = [values.normal(Q, I, I, scale=(2 * I) ** -0.5) for _ in range(3)]
    args = [values.normal(Q, Q, n, I), *weights, values.normal(Q, I, scale=0.1), values.normal(Q, n, I, scale=0.1)]
    if training:
        learn(args[1:5])
    return _built("branch_rnn", args, lambda *a: baselines.branch_rnn(*a)[:2], training)


def _step(loss: Callable[[], Tensor], parameters: list[Tensor]) -> Callable[[], list[Tensor]]:
    """zero_grad, forward, backward and fused Adam. Rate 0 leaves the work as it is, and every step the same."""
    optimizer = torch.optim.Adam(parameters, lr=0.0, fused=True)

    def step() -> list[Tensor]:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
        return [p.grad for p in parameters if p.grad is not None]

    return step


def _against_dense(n: int) -> Built:
    """Whole training steps of the dense network of paper 1 and of the spectral one that replaces it."""
    values = Values("dense")
    args = [*values.network(Q, n, FEATURES), values.classes(n, CLASSES)]
    learn(args[2:4])
    weights = [values.normal(o, i, scale=(2 / i) ** 0.5) for i, o in pairwise(DENSE)]
    dense = [args[0].reshape(n, -1), weights, [values.normal(o, scale=0.1) for o in DENSE[1:]], args[5]]
    learn(dense[1:3])

    def dense_loss(x: Tensor, weights: list[Tensor], biases: list[Tensor], target: Tensor) -> Tensor:
        for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
            x = torch.relu_(functional.linear(x, weight, bias))
        return functional.cross_entropy(functional.linear(x, weights[-1], biases[-1]), target)

    def spectral_loss(op: Callable) -> Callable:
        return lambda *a: op(*a)[0].sum()

    def step(loss: Callable, given: list[Any], learned: slice) -> Callable:
        return _step(lambda: loss(*given), cost.tensors(given[learned]))

    ours = spectral_loss(ops.spectral_mlp_cross_entropy)
    exact, dense_exact = in_double(args), in_double(dense)
    truth = step(spectral_loss(baselines.spectral_mlp_cross_entropy), exact, slice(2, 4))
    dense_truth = step(dense_loss, dense_exact, slice(1, 3))
    torch.compiler.reset()
    fast_loss = torch.compile(dense_loss, dynamic=False)
    contenders = [
        Contender("FC-tensor", "ours", step(ours, args, slice(2, 4)), truth),
        Contender("eager", "eager", step(dense_loss, dense, slice(1, 3)), dense_truth),
        Contender("compile", "compile", step(fast_loss, dense, slice(1, 3)), dense_truth),
    ]
    op = "spectral_mlp_cross_entropy"
    return Built(contenders, cost.training(op, args), backend_of(op, args))


def _branch_ensemble(n: int, training: bool) -> Built:
    args = [Values("branch_ensemble").normal(Q, n, 28), torch.full((Q,), 1 / Q)]
    if training:
        learn(args)
    return _built("branch_ensemble", args, baselines.branch_ensemble, training)
