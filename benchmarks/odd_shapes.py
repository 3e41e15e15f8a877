"""Three shapes for every op of the table that no kernel was tuned for: primes, a single branch, wide branches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from . import baselines, cost
from .contenders import Built, Case, Gradient, Values, dct, learn, scipy_dct, side_by_side

# Q, N, I, O; wide ones stay below the width where the ops hand over to the library's GEMM
SIZES = ((23, 509, 29, 31), (1, 1021, 37, 41), (5, 257, 127, 113))
CLASSES = (11, 101, 1009)
ACTIVATIONS = (("relu", "none"), ("gelu", "relu"), ("tanh", "sigmoid"))
STEPS, RECURRENT = (11, 7, 13), (("tanh", "none"), ("relu", "sigmoid"), ("sigmoid", "tanh"))
WAVES = {
    "dct": (((4099, 31), -1, 2), ((3, 61, 1361), 1, 3), ((13, 20011), 0, 2)),
    "dst": (((4099, 31), -1, 1), ((3, 61, 1361), 1, 3), ((13, 20011), 0, 2)),
}
HADAMARDS = (((4099, 32), -1), ((3, 64, 1361), 1), ((1021, 1024), -1))


def cases() -> Iterator[Case]:
    """All of them, forward, and forward with backward where the op is not itself a gradient."""
    for i, (q, n, width, out) in enumerate(SIZES):
        sizes = f"Q={q} N={n} I={width} O={out}"
        for op, build in _LAYERS.items():
            yield from _both(op, sizes, build, i)
        yield _case("spectral_linear_backward", sizes, _spectral_linear_backward, i)
        steps = f"T={STEPS[i]} Q={q} N={n // 10} I={width} P={width} O={out}"
        yield from _both("branch_rnn", steps, _branch_rnn, i)
        yield _case("branch_rnn_with_states", steps, _branch_rnn_with_states, i)
        yield _case("branch_rnn_backward", steps, _branch_rnn_backward, i)
        for op, build in _NETWORKS.items():
            yield from _both(op, f"Q={q} N={n} {'-'.join(str(f) for f in _features(i))}", build, i)
        yield from _both("branch_ensemble", f"Q={q} N={n} C={CLASSES[i]}", _branch_ensemble, i)
        for op, waves in WAVES.items():
            shape, dim, type = waves[i]
            sizes = f"{'x'.join(str(s) for s in shape)} dim={dim} type={type}"
            yield from _both(op, sizes, partial(_wave, op), i)
            yield _case(f"{op}_adjoint", sizes, partial(_wave_adjoint, op), i)
        shape, dim = HADAMARDS[i]
        yield from _both("hadamard", f"{'x'.join(str(s) for s in shape)} dim={dim}", _hadamard, i)
        yield _case("branch_ensemble_backward", f"Q={q} N={n} C={CLASSES[i]}", _branch_ensemble_backward, i)
        features = "-".join(str(f) for f in _features(i))
        yield _case("branch_mlp_backward", f"Q={q} N={n} {features}", _branch_mlp_backward, i)
        yield _case("spectral_mlp_cross_entropy_with_grads", f"Q={q} N={n} {features}", _with_grads, i)
        yield _case("spectral_ensemble_backward", f"Q={q} N={n} {features}", _spectral_ensemble_backward, i)


Build = Callable[[int, bool], Built]


def _case(op: str, sizes: str, build: Build, i: int, training: bool = False) -> Case:
    name = f"{op} {sizes} {'fwd+bwd' if training else 'fwd'}"
    return Case(name, op, partial(build, i, training), group="odd shapes")


def _both(op: str, sizes: str, build: Build, i: int) -> Iterator[Case]:
    for training in (False, True):
        yield _case(op, sizes, build, i, training)


def _features(i: int) -> list[int]:
    _, _, width, out = SIZES[i]
    return [width, out, 17, 10 + i]


def _compare(op: str, args: list[Any], baseline: Any, training: bool, learned: list[Any]) -> Built:
    if training:
        learn(learned)
    spent = (cost.training if training else cost.forward)(op, args)
    return side_by_side(op, args, baseline, spent, Gradient() if training else None)


def _to_branches(i: int, training: bool) -> Built:
    q, n, width, _ = SIZES[i]
    args = [Values("to_branches").normal(n, width, q), dct(q)]
    return _compare("to_branches", args, baselines.to_branches, training, args[:1])


def _from_branches(i: int, training: bool) -> Built:
    q, n, width, _ = SIZES[i]
    args = [Values("from_branches").normal(q, n, width), dct(q).mT.contiguous()]
    return _compare("from_branches", args, baselines.from_branches, training, args[:1])


def _layer(i: int, values: Values) -> tuple[Tensor, Tensor]:
    q, _, width, out = SIZES[i]
    return values.normal(q, out, width, scale=width**-0.5), values.normal(q, out)


def _branch_linear(i: int, training: bool) -> Built:
    q, n, width, _ = SIZES[i]
    values = Values("branch_linear")
    weight, bias = _layer(i, values)
    args = [values.normal(q, n, width), weight, bias, ACTIVATIONS[i][0]]
    return _compare("branch_linear", args, baselines.branch_linear, training, args)


def _spectral_linear(i: int, training: bool) -> Built:
    q, n, width, _ = SIZES[i]
    values = Values("spectral_linear")
    weight, bias = _layer(i, values)
    x, (inner, outer) = values.normal(n, width, q), ACTIVATIONS[i]
    args = [x, dct(q), weight, bias, inner, dct(q).mT.contiguous(), outer]
    return _compare("spectral_linear", args, baselines.spectral_linear, training, [x, weight, bias])


def _network(i: int, values: Values, transform: bool = True) -> list[Any]:
    q, n, _, _ = SIZES[i]
    return values.network(q, n, _features(i), transform=transform)


def _spectral_mlp(i: int, training: bool) -> Built:
    args = _network(i, Values("spectral_mlp"))
    return _compare("spectral_mlp", args, baselines.spectral_mlp, training, [args[0], *args[2:4]])


def _spectral_mlp_cross_entropy(i: int, training: bool) -> Built:
    values = Values("spectral_mlp_cross_entropy")
    args = _network(i, values)
    args.append(values.classes(args[0].shape[0], _features(i)[-1]))
    baseline = baselines.spectral_mlp_cross_entropy
    return _compare("spectral_mlp_cross_entropy", args, baseline, training, [args[0], *args[2:4]])


def _spectral_ensemble(i: int, training: bool) -> Built:
    values = Values("spectral_ensemble")
    args = _network(i, values)
    args.append(torch.softmax(values.normal(SIZES[i][0]), 0))
    learned = [args[0], *args[2:4], args[5]]
    return _compare("spectral_ensemble", args, baselines.spectral_ensemble, training, learned)


def _ensemble_args(i: int) -> list[Any]:
    (q, n, _, _), values = SIZES[i], Values("branch_ensemble")
    return [values.normal(q, n, CLASSES[i]), torch.softmax(values.normal(q), 0)]


def _branch_ensemble(i: int, training: bool) -> Built:
    args = _ensemble_args(i)
    return _compare("branch_ensemble", args, baselines.branch_ensemble, training, args)


def _wave(op: str, i: int, training: bool) -> Built:
    shape, dim, type = WAVES[op][i]
    x, n = Values(op).normal(*shape), shape[dim]
    args = [x, type, dim]
    if training:
        learn(x)
    spent = (cost.training if training else cost.forward)(op, args)
    matrix = _matrix(op)
    forms = {"gemm": baselines.along(matrix(n, type, x.dtype), dim)}
    if op == "dct":
        forms["fft"] = baselines.dct_fft(n, type, dim, x.dtype)
    exact = baselines.along(matrix(n, type, torch.float64), dim)
    extra = [] if training else [scipy_dct(x, type, dim, op)]
    gradient = Gradient() if training else None
    return side_by_side(op, args, forms, spent, gradient, baseline_args=[x], extra=extra, exact=exact)


def _wave_adjoint(op: str, i: int, training: bool) -> Built:
    shape, dim, type = WAVES[op][i]
    adjoint = f"{op}_adjoint"
    x, n = Values(adjoint).normal(*shape), shape[dim]
    form, exact = (
        baselines.along(_matrix(op)(n, type, dtype).mT.contiguous(), dim) for dtype in (x.dtype, torch.float64)
    )
    args = [x, type, dim]
    return side_by_side(adjoint, args, {"gemm": form}, cost.forward(adjoint, args), baseline_args=[x], exact=exact)


def _matrix(op: str) -> Callable[..., torch.Tensor]:
    return baselines.dct_matrix if op == "dct" else baselines.dst_matrix


def _hadamard(i: int, training: bool) -> Built:
    shape, dim = HADAMARDS[i]
    x, n = Values("hadamard").normal(*shape), shape[dim]
    if training:
        learn(x)
    spent = (cost.training if training else cost.forward)("hadamard", [x, dim])
    form, exact = (baselines.along(baselines.hadamard_matrix(n, dtype), dim) for dtype in (x.dtype, torch.float64))
    gradient = Gradient() if training else None
    return side_by_side("hadamard", [x, dim], {"gemm": form}, spent, gradient, baseline_args=[x], exact=exact)


def _against_gradient(op: str, args: list[Any], function: Any, baseline_args: list[Any], gradient: Gradient) -> Built:
    """Ours is an op that gives gradients; the baseline runs forward and backward."""
    spent = cost.forward(op, args)
    return side_by_side(op, args, function, spent, baseline_args=baseline_args, baseline_gradient=gradient)


def _wanting(value: Any) -> Any:
    """A copy of these arguments that wants gradients of every floating tensor."""
    if isinstance(value, Tensor):
        return value.clone().requires_grad_(value.is_floating_point())
    return [_wanting(item) for item in value] if isinstance(value, list) else value


def _spectral_linear_backward(i: int, training: bool) -> Built:
    q, n, width, out = SIZES[i]
    values = Values("spectral_linear_backward")
    x, (weight, bias), (inner, outer) = values.normal(n, width, q), _layer(i, values), ACTIVATIONS[i]
    grad_y, inverse = values.normal(n, out, q), dct(q).mT.contiguous()
    rest = [dct(q), weight, bias, inner, inverse, outer]
    y = baselines.spectral_linear(x, *rest)
    theirs = [*_wanting([x]), dct(q), *_wanting([weight, bias]), inner, inverse, outer]
    args = [grad_y, x, y, *rest]
    return _against_gradient("spectral_linear_backward", args, baselines.spectral_linear, theirs, Gradient(grad_y))


def _branch_mlp_backward(i: int, training: bool) -> Built:
    q, n, _, _ = SIZES[i]
    values = Values("branch_mlp_backward")
    x, _, weights, biases, activations = _network(i, values, transform=False)
    grad_y = values.normal(q, n, _features(i)[-1])
    theirs = [*_wanting([x, None, weights, biases]), activations]
    args = [grad_y, x, weights, biases, activations]
    return _against_gradient("branch_mlp_backward", args, baselines.spectral_mlp, theirs, Gradient(grad_y))


def _with_grads(i: int, training: bool) -> Built:
    q, n, _, _ = SIZES[i]
    values = Values("spectral_mlp_cross_entropy_with_grads")
    args = _network(i, values, transform=False)
    args.append(values.classes(n, _features(i)[-1]))
    gradient = Gradient(torch.ones(q), results=True)
    op = "spectral_mlp_cross_entropy_with_grads"
    return _against_gradient(op, args, baselines.spectral_mlp_cross_entropy, _wanting(args), gradient)


def _branch_ensemble_backward(i: int, training: bool) -> Built:
    logits, weights = _ensemble_args(i)
    grad_y = Values("branch_ensemble_backward").normal(*logits.shape[1:])
    theirs = _wanting([logits, weights])
    args = [grad_y, logits, weights]
    return _against_gradient("branch_ensemble_backward", args, baselines.branch_ensemble, theirs, Gradient(grad_y))


def _spectral_ensemble_backward(i: int, training: bool) -> Built:
    q, n, _, _ = SIZES[i]
    values = Values("spectral_ensemble_backward")
    args = [*_network(i, values, transform=False), values.normal(q).softmax(0)]
    grad_y = values.normal(n, _features(i)[-1])
    theirs = _wanting(args)
    return _against_gradient(
        "spectral_ensemble_backward", [grad_y, *args], baselines.spectral_ensemble, theirs, Gradient(grad_y)
    )


def _recurrent(i: int, values: Values) -> list[Any]:
    """Arguments of branch_rnn: N is a tenth, for as many rows as the others have; P = I."""
    q, n, width, out = SIZES[i]
    n = n // 10
    scale = (width / 2) ** -0.5
    weights = [values.normal(q, o, width, scale=scale / 2) for o in (width, width, out)]
    x, bias = values.normal(STEPS[i], q, n, width), values.normal(q, width, scale=0.1)
    return [x, *weights, bias, values.normal(q, n, width, scale=0.3), *RECURRENT[i]]


def _branch_rnn(i: int, training: bool) -> Built:
    args = _recurrent(i, Values("branch_rnn"))
    return _compare("branch_rnn", args, _first_two, training, args[:6])


def _first_two(*args: Any) -> Any:
    return baselines.branch_rnn(*args)[:2]


def _branch_rnn_with_states(i: int, training: bool) -> Built:
    args = _recurrent(i, Values("branch_rnn_with_states"))
    return _compare("branch_rnn_with_states", args, baselines.branch_rnn, training, args[:6])


def _branch_rnn_backward(i: int, training: bool) -> Built:
    values = Values("branch_rnn_backward")
    layer = _recurrent(i, values)
    states = baselines.branch_rnn(*layer)[2].contiguous()
    grad_y = values.normal(*states.shape[:3], layer[3].shape[1])
    theirs = [*_wanting(layer[:6]), *layer[6:]]
    args = [grad_y, None, None, *layer[:6], states, *layer[6:]]
    return _against_gradient("branch_rnn_backward", args, _first_two, theirs, Gradient(grad_y))


_LAYERS: dict[str, Build] = {
    "to_branches": _to_branches,
    "from_branches": _from_branches,
    "branch_linear": _branch_linear,
    "spectral_linear": _spectral_linear,
}
_NETWORKS: dict[str, Build] = {
    "spectral_mlp": _spectral_mlp,
    "spectral_mlp_cross_entropy": _spectral_mlp_cross_entropy,
    "spectral_ensemble": _spectral_ensemble,
}
