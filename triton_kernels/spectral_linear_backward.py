"""spectral_linear_backward on the GPU: to branches both ways, the layer's gradients, and back with the adjoint."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from spectral_ops.ops.activations import through, wide

from . import layers, network_gradients, networks, tubes
from .launch import Launch


def why_not(grad_y: Tensor, x: Tensor, y: Tensor, transform: Tensor, weight: Tensor, *_: Any) -> str | None:
    return networks.why_not(x, transform, [weight])


def note(
    grad_y: Tensor, x: Tensor, y: Tensor, transform: Tensor, weight: Tensor, *_: Any, is_complex: bool
) -> str | None:
    return networks.layer_by_layer("network_gradients", [weight], is_complex)


def adjoint(matrix: Tensor) -> Tensor:
    return matrix.mH.resolve_conj().contiguous()


def plan(args: list[Any], out: tuple[Tensor, Tensor, Tensor], arch: int) -> list[Launch]:
    grad_y, x, y, transform, weight, bias, activation, inverse, output_activation, want = args
    grad_x, grad_weight, grad_bias = out
    (n, i, _), (p, o, _) = x.shape, weight.shape
    net = networks.Network([weight], [bias], [activation])
    h = wide(y)
    grad = through(output_activation, wide(grad_y), h, h).contiguous()
    grad_branches, grad_inputs = weight.new_empty(p, n, o), weight.new_empty(p, n, i) if want else None
    branches, launches = layers.transformed(x, transform, net, arch)
    launches = launches + tubes.plan(grad, adjoint(inverse), grad_branches, 1, n * o, (True, False), arch)
    launches += network_gradients.plan(
        branches, net, arch, grad_inputs, [grad_weight], [] if bias is None else [grad_bias], grad=grad_branches
    )
    if grad_inputs is not None:
        launches += tubes.plan(grad_inputs, adjoint(transform), grad_x, 1, n * i, (False, True), arch)
    return launches
