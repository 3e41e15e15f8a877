"""What an op has to do at least: floating point operations, and bytes read and written once.

One formula a row of the table. Operations are those of the algorithm, whatever the kernel does: a multiply-add counts
two, a forward pass counts once and the two GEMMs of a gradient (towards the data and towards the parameter) once each,
recomputed activations not at all; a gradient that nobody asked for costs nothing. A product of complex numbers counts
four of real ones, two where one factor or the result is real. Biases and activations are left out:
they are one operation in two times the number of features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spectral_ops.op import complete, rule_of

# a value that passes through a softmax: subtract the maximum, exponential, sum, divide, and one comparison
SOFTMAX = 5
# the weighted sum over the branches: multiply and add
WEIGHTED = 2
# mean of -log softmax at the target: a softmax, and the gradient's subtraction and scaling
CROSS_ENTROPY_GRADIENT = 2


@dataclass(frozen=True)
class Cost:
    """flops: operations. bytes: of all inputs and all outputs."""

    flops: float
    bytes: float

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.flops + other.flops, self.bytes + other.bytes)


@dataclass(frozen=True)
class Stage:
    """One step that the data pass through: its operations, and the parameter it multiplies by (None: none)."""

    flops: float
    parameter: Tensor | None = None


def forward(op: str, args: Sequence[Any]) -> Cost:
    """The cost of `torch.ops.spectral.<op>(*args)` without a gradient."""
    return Cost(sum(stage.flops for stage in FORMULAS[op](*args)), _bytes(args) + _bytes(outputs(op, args)))


def training(op: str, args: Sequence[Any]) -> Cost:
    """The cost of the call and of the gradients of those arguments that require one.

    The backward pass reads the inputs and the gradient of the outputs, and writes the gradients.
    """
    stages = FORMULAS[op](*args)
    wanted = args[0].requires_grad  # do the data, by now, depend on something that wants a gradient?
    flops = 0.0
    for stage in stages:
        learned = stage.parameter is not None and stage.parameter.requires_grad
        flops += stage.flops * (1 + wanted + learned)
        wanted = wanted or learned
    gradients = [t for t in tensors(args) if t.requires_grad]
    once = forward(op, args).bytes
    return Cost(flops, 2 * once + _bytes(gradients))


def outputs(op: str, args: Sequence[Any]) -> Any:
    """The results of a call as meta tensors: shapes and dtypes, no memory."""
    return rule_of(op).empty(*_meta(list(complete(op)(args))))


def tensors(value: Any) -> list[Tensor]:
    """All tensors in nested lists and tuples, in order."""
    if isinstance(value, Tensor):
        return [value]
    return [t for item in value for t in tensors(item)] if isinstance(value, list | tuple) else []


def _meta(value: Any) -> Any:
    if isinstance(value, list):
        return [_meta(item) for item in value]
    return value.detach().to("meta") if isinstance(value, Tensor) else value


def _bytes(value: Any) -> float:
    return float(sum(t.numel() * t.element_size() for t in tensors(value)))


def _dct(x: Tensor, type: int = 2, dim: int = -1, *_: Any) -> list[Stage]:
    # the fast algorithm (Lee, IEEE TASSP 32 (1984) 1243): n/2 log n multiplications, 3n/2 log n - n + 1 additions
    n = x.shape[dim]
    return [Stage(x.numel() / n * (2 * n * math.log2(n) - n + 1))]


def _dctn(x: Tensor, dim: Sequence[int], *_: Any) -> list[Stage]:
    return [stage for d in dim for stage in _dct(x, 2, d)]


def _hadamard(x: Tensor, dim: int = -1, *_: Any) -> list[Stage]:
    n = x.shape[dim]
    return [Stage(float(x.numel() * (n.bit_length() - 1)))]  # a sum or a difference a value and stage


def _product(matrix: Tensor, columns: int) -> Stage:
    """matrix @ data with that many columns; a complex matrix meets real data, or gives a real result."""
    return Stage(2.0 * matrix.numel() * columns * (2 if matrix.is_complex() else 1), matrix)


def _to_branches(x: Tensor, transform: Tensor) -> list[Stage]:
    return [_product(transform, x.shape[0] * x.shape[1])]


def _from_branches(y: Tensor, inverse: Tensor) -> list[Stage]:
    return [_product(inverse, y.shape[1] * y.shape[2])]


def _layer(weight: Tensor, n: int) -> Stage:
    return Stage(2.0 * weight.numel() * n * (4 if weight.is_complex() else 1), weight)


def _branch_linear(x: Tensor, weight: Tensor, *_: Any) -> list[Stage]:
    return [_layer(weight, x.shape[1])]


def _spectral_linear(
    x: Tensor, transform: Tensor, weight: Tensor, bias: Tensor | None, activation: str, inverse: Tensor, *_: Any
) -> list[Stage]:
    n = x.shape[0]
    return [*_to_branches(x, transform), _layer(weight, n), _product(inverse, n * weight.shape[1])]


def _spectral_linear_backward(
    grad_y: Tensor,
    x: Tensor,
    y: Tensor,
    transform: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    activation: str,
    inverse: Tensor,
    output_activation: str = "none",
    want: bool = True,
) -> list[Stage]:
    # x in branches, its layer where the activation's slope needs it, the adjoint of the inverse, and the two gradients
    into, layer, out = (stage.flops for stage in _spectral_linear(x, transform, weight, bias, activation, inverse))
    again = layer if activation != "none" else 0.0
    return [Stage(into + again + out + layer + (layer + into if want else 0.0))]


def _spectral_mlp(x: Tensor, transform: Tensor | None, weights: list[Tensor], *_: Any) -> list[Stage]:
    n = x.shape[1] if transform is None else x.shape[0]
    return [*(_to_branches(x, transform) if transform is not None else []), *(_layer(w, n) for w in weights)]


def _logits(x: Tensor, transform: Tensor | None, weights: list[Tensor]) -> int:
    n = x.shape[1] if transform is None else x.shape[0]
    return n * weights[-1].shape[0] * weights[-1].shape[1]


def _cross_entropy(x: Tensor, transform: Tensor | None, weights: list[Tensor], *_: Any) -> list[Stage]:
    return [*_spectral_mlp(x, transform, weights), Stage(float(SOFTMAX * _logits(x, transform, weights)))]


def _cross_entropy_with_grads(
    x: Tensor, transform: Tensor | None, weights: list[Tensor], b: Any, a: Any, target: Tensor, want: bool = True
) -> list[Stage]:
    layers = [stage.flops for stage in _spectral_mlp(x, transform, weights)]
    values = _logits(x, transform, weights)
    first = layers[0 if transform is None else 1]
    gradients = 2 * sum(layers[0 if transform is None else 1 :]) - (0 if want else first)
    return [Stage(sum(layers) + gradients + values * (SOFTMAX + CROSS_ENTROPY_GRADIENT))]


def _mlp_backward(
    grad_y: Tensor, x: Tensor, weights: list[Tensor], biases: Any, activations: Any, want: bool = True
) -> list[Stage]:
    # called alone, the op has only x: the forward pass belongs to the algorithm here
    layers = [stage.flops for stage in _spectral_mlp(x, None, weights)]
    return [Stage(3 * sum(layers) - (0 if want else layers[0]))]


def _branch_ensemble(logits: Tensor, weights: Tensor, space: str = "probabilities") -> list[Stage]:
    softmax = SOFTMAX if space == "probabilities" else 0
    return [Stage(float(logits.numel() * softmax)), Stage(float(logits.numel() * WEIGHTED), weights)]


def _branch_ensemble_backward(grad_y: Tensor, logits: Tensor, *rest: Any) -> list[Stage]:
    # softmax, <grad_y, p>, and weights * p * (grad_y - s)
    return [Stage(float(logits.numel() * (SOFTMAX + 2 + 3)))]


def _spectral_ensemble(
    x: Tensor, transform: Tensor | None, weights: list[Tensor], b: Any, a: Any, branch_weights: Tensor, *space: str
) -> list[Stage]:
    q, c = weights[-1].shape[:2]
    logits = torch.empty(q, _logits(x, transform, weights) // (q * c), c, device="meta")
    return [*_spectral_mlp(x, transform, weights), *_branch_ensemble(logits, branch_weights, *space)]


def _ensemble_backward(
    grad_y: Tensor, x: Tensor, transform: Tensor | None, weights: list[Tensor], *rest: Any
) -> list[Stage]:
    # as a backward pass alone: the forward pass belongs to the algorithm
    q, c = weights[-1].shape[:2]
    logits = torch.empty(q, _logits(x, transform, weights) // (q * c), c, device="meta")
    forward = [Stage(3 * stage.flops) for stage in _spectral_mlp(x, transform, weights)]
    return [*forward, *_branch_ensemble_backward(grad_y, logits)]


def _mode_product(x: Tensor, matrix: Tensor, dim: int) -> list[Stage]:
    return [_product(matrix, x.numel() // x.shape[dim])]


def _branch_conv2d(x: Tensor, weight: Tensor, b: Any = None, activation: str = "none", *geometry: Any) -> list[Stage]:
    pixels = outputs("branch_conv2d", [x, weight, None, "none", *geometry])[:, 0, 0].numel()
    return [_layer(weight, pixels)]


def _branch_conv2d_backward(
    grad_y: Tensor, x: Tensor, weight: Tensor, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
    want_x: bool = True, want_weight: bool = True,
) -> list[Stage]:  # fmt: skip
    return [_layer(weight, grad_y[:, 0, 0].numel())] * (want_x + want_weight)


def _spectral_conv2d(
    x: Tensor, transform: Tensor, weight: Tensor, b: Any, activation: str, inverse: Tensor, *geometry: Any
) -> list[Stage]:
    q = transform.shape[1]
    y = outputs("spectral_conv2d", [x, transform, weight, None, "none", inverse, *geometry])
    return [
        _product(transform, x.numel() // q),
        _layer(weight, y[:, 0].numel()),
        _product(inverse, y.numel() // q),
    ]


def _tucker_conv2d(x: Tensor, core: Tensor, u_out: Tensor, u_in: Tensor, b: Any = None, *rest: Any) -> list[Stage]:
    y = outputs("tucker_conv2d", [x, core, u_out, u_in, b, *rest])
    u_h, u_w = (*rest[3:5], None, None)[:2]
    window = (core.shape[2] if u_h is None else u_h.shape[0]) * (core.shape[3] if u_w is None else u_w.shape[0])
    groups = rest[5] if len(rest) > 5 else 1
    before, after = x[:, 0].numel(), y[:, 0].numel()
    middle = groups * u_out.shape[1] * core.shape[1] * window * after
    return [
        Stage(2.0 * u_in.numel() * before, u_in),
        Stage(2.0 * middle, core),
        Stage(2.0 * u_out.numel() * after, u_out),
    ]


def _tucker_conv2d_backward(
    grad_y: Tensor, x: Tensor, core: Tensor, u_out: Tensor, u_in: Tensor, *rest: Any
) -> list[Stage]:
    """The rank channels of x and of grad_y, the core's three products, and those with u_out and u_in."""
    before, after = x[:, 0].numel(), grad_y[:, 0].numel()
    core_products, want = 2.0 * core.numel() * after, len(rest) < 4 or rest[3]
    other = sum(t is not None for t in rest[5:6])
    return [
        Stage(2.0 * u_in.numel() * before * (3 if want else 2)),
        Stage(core_products * (3 + other)),
        Stage(2.0 * u_out.numel() * after * 2),
    ]


def _branch_rnn(x: Tensor, weight_x: Tensor, weight_h: Tensor, weight_y: Tensor, *_: Any) -> list[Stage]:
    rows = x.shape[0] * x.shape[2]  # steps of all samples
    return [_layer(weight, rows) for weight in (weight_x, weight_h, weight_y)]


def _branch_rnn_backward(grad_y: Any, grad_h: Any, grad_states: Any, x: Tensor, *layer: Any) -> list[Stage]:
    # the states are given: a product towards the data and one towards the weight
    into, between, out = (stage.flops for stage in _branch_rnn(x, *layer))
    want = layer[-1] if layer and isinstance(layer[-1], bool) else True
    return [Stage((2 if want else 1) * into + 2 * between + (2 * out if grad_y is not None else 0.0))]


def _csg_kernels(codes: Tensor, generator: Tensor, *_: Any) -> list[Stage]:
    # a product with two learned factors: the gradient of either costs as much
    flops = 2.0 * codes.shape[0] * generator.numel()
    return [Stage(flops, generator)]


def _csg_kernels_backward(grads: Any, codes: Tensor, generator: Tensor, *rest: Any) -> list[Stage]:
    wants = list(rest[4:6]) or [True, True]
    return [Stage(sum(wants) * _csg_kernels(codes, generator)[0].flops)]


def _csg_conv2d(x: Tensor, codes: Tensor, generator: Tensor, *rest: Any) -> list[Stage]:
    y = outputs("csg_conv2d", [x, codes, generator, *rest])
    _, i, kh, kw = rest[0]
    # generation first: the filter then wants a gradient where codes or generator do
    convolution = Stage(2.0 * y.numel() * i * kh * kw, generator)
    return [*_csg_kernels(codes, generator), convolution]


def _csg_conv2d_backward(grad_y: Tensor, x: Tensor, codes: Tensor, generator: Tensor, *rest: Any) -> list[Stage]:
    """The filter again; a convolution to x, one to the filter, and from there a product each."""
    kernel_shape, *_, want_x, want_codes, want_generator = rest if len(rest) == 10 else (*rest, True, True, True)
    _, i, kh, kw = kernel_shape
    wants, generation = want_codes + want_generator, _csg_kernels(codes, generator)[0].flops
    convolutions = want_x + (wants > 0)
    return [Stage(2.0 * grad_y.numel() * i * kh * kw * convolutions + (want_x + wants) * generation)]


FORMULAS: dict[str, Callable[..., list[Stage]]] = {
    "dct": _dct,
    "dct_adjoint": _dct,
    "dctn": _dctn,
    "dst": _dct,
    "dst_adjoint": _dct,
    "hadamard": _hadamard,
    "to_branches": _to_branches,
    "from_branches": _from_branches,
    "branch_linear": _branch_linear,
    "branch_mlp_backward": _mlp_backward,
    "spectral_linear": _spectral_linear,
    "spectral_linear_backward": _spectral_linear_backward,
    "spectral_mlp": _spectral_mlp,
    "spectral_mlp_cross_entropy": _cross_entropy,
    "spectral_mlp_cross_entropy_with_grads": _cross_entropy_with_grads,
    "branch_ensemble": _branch_ensemble,
    "branch_ensemble_backward": _branch_ensemble_backward,
    "spectral_ensemble": _spectral_ensemble,
    "spectral_ensemble_backward": _ensemble_backward,
    "mode_product": _mode_product,
    "branch_conv2d": _branch_conv2d,
    "branch_conv2d_backward": _branch_conv2d_backward,
    "spectral_conv2d": _spectral_conv2d,
    "tucker_conv2d": _tucker_conv2d,
    "tucker_conv2d_backward": _tucker_conv2d_backward,
    "branch_rnn": _branch_rnn,
    "branch_rnn_with_states": _branch_rnn,
    "branch_rnn_backward": _branch_rnn_backward,
    "csg_kernels": _csg_kernels,
    "csg_kernels_backward": _csg_kernels_backward,
    "csg_kernel": _csg_kernels,
    "csg_conv2d": _csg_conv2d,
    "csg_conv2d_backward": _csg_conv2d_backward,
}
