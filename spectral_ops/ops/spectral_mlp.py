"""spectral_mlp: a whole network of Q independent branches, transform included, in one kernel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..autograd import ordinary
from ..op import allocated, lower, run_below_autograd
from . import checks, to_branches
from .activations import codes, dense_like, narrow, together, wide
from .branch_linear import layer

MOST_STATES = 8 << 20  # bytes; above, they are too far from the cores: computing them again takes less time
TRACED_BEYOND = checks.WIDEST  # features, where a gradient is wanted: see `op.py`


def check(
    x: Tensor,
    transform: Tensor | None,
    weights: list[Tensor],
    biases: list[Tensor | None],
    activations: list[str],
    op: str = "spectral_mlp",
) -> tuple[tuple[int, int, int], torch.dtype]:
    """Checks the network for `op`; returns the shape (Q', N, O) and the dtype of its logits."""
    q, n, i = checks.branches(op, x, transform)
    dtype = checks.numbers(op, x=x, transform=transform, weights=weights, biases=biases)
    o = checks.layers(op, q, i, weights, biases, activations, dtype.is_complex)
    return (q, n, o), dtype


def empty(
    x: Tensor, transform: Tensor | None, weights: list[Tensor], biases: list[Tensor | None], activations: list[str]
) -> Tensor:
    shape, dtype = check(x, transform, weights, biases, activations)
    return x.new_empty(shape, dtype=dtype)


def reference(
    x: Tensor, transform: Tensor | None, weights: list[Tensor], biases: list[Tensor | None], activations: list[str]
) -> Tensor:
    """h_0 = the transform of x along Q; h_j = act_j(h_(j-1) w_j^T + b_j) in each branch; returns the last h.

    The transforms between the layers of eq. (8) cancel, because the activation acts in the spectral domain (eq. 10).
    Low tubal rank (eq. 13-16) is the same op: a layer is two weights, (Q', R, I) with bias None and activation "none",
    then (Q', O, R).

    Args:
        x: (N, I, Q), floating point or complex; with transform None already in branches, (Q', N, I).
        transform: (Q', Q) or None.
        weights: one (Q', O, I) a matrix. biases: one (Q', O) or None a matrix. activations: one name a matrix.
        With float32 and float64 any tensor may be complex; then the branches are, and the activations those of complex
        numbers, see `branch_linear`.

    Returns: logits (Q', N, O), contiguous, dtype of x, or complex. Half accumulates in float32, and keeps h_j in it
        except in Triton kernels, whose tensor cores multiply half.
    Raises: ValueError for shapes and names, TypeError for dtypes and devices.
    Accuracy: no worse than twice the composition of branch_linear, `tests/test_backends.py`, `tests/test_complex.py`.
    Gradient: to every tensor, any order. Deterministic: bitwise, for any number of threads. For a gradient on the CPU
        the results of all layers are kept, from the second call of these shapes on, where their Q' N (I + sum O)
        numbers are 8 MiB at most (with gelu, silu, modrelu and cardioid up to twice that); else computed again.
    Source: Liu et al., Highly Parallel Deep Ensemble Learning, eq. (11)-(17).
    """
    return narrow(network(x, transform, weights, biases, activations), x).contiguous()


def network(
    x: Tensor, transform: Tensor | None, weights: list[Tensor], biases: list[Tensor | None], activations: list[str]
) -> Tensor:
    """The logits without the final rounding, in the accumulation dtype."""
    h, transform, weights, biases = together(x, transform, weights, biases)
    h = h if transform is None else (h @ transform.mT).permute(2, 0, 1)
    for w, b, a in zip(weights, biases, activations, strict=True):
        h = layer(h, w, b, a)
    return h


def cpp_why_not(
    x: Tensor, transform: Tensor | None, weights: list[Tensor], biases: list[Tensor | None], activations: list[str]
) -> str | None:
    i = x.shape[2] if transform is None else x.shape[1]
    reason = checks.too_wide(i, *(w.shape[1] for w in weights))
    if transform is not None:
        reason = reason or checks.too_large(i * (x.shape[2] + transform.shape[0]))
    return reason


def cuda_why_not(x: Tensor, transform: Tensor | None, weights: list[Tensor], *_: Any) -> str | None:
    return checks.network_on_gpu(x, transform, weights)


def cpp(args: list[Any], out: Tensor) -> None:
    torch.ops.spectral_native.spectral_mlp(*native(args), out)


def native(args: Sequence[Any]) -> list[Any]:
    """The network as the native entry points take it."""
    x, transform, weights, biases, activations = args
    return [x, transform, weights, biases, *codes(tuple(activations))]


def forward_for_grad(args: list[Any], needs: list[Any], direct: bool) -> tuple[Tensor, list[Tensor]]:
    out = allocated("spectral_mlp", direct, args)
    if out is None:
        return run_below_autograd("spectral_mlp", direct, *args), []
    if keeps_states(*args[:3]):
        return out, [torch.ops.spectral_native.spectral_mlp_with_states(*native(args), out)]
    cpp(args, out)
    return out, []


def keeps_states(x: Tensor, transform: Tensor | None, weights: list[Tensor]) -> bool:
    """Whether the results of all layers are few enough to be kept for the gradient: see MOST_STATES."""
    samples = x.shape[1 if transform is None else 0]
    widths = weights[0].shape[2] + sum([w.shape[1] for w in weights])
    return weights[0].shape[0] * samples * widths * weights[0].element_size() <= MOST_STATES


def backward(args: list[Any], grads: Any, needs: list[Any], kept: Sequence[Tensor] = ()) -> list[Any]:
    grad = grads[0]
    if not from_states(grad, kept):
        return network_gradients(args, grad, needs)
    grad_branches, grad_weights, grad_biases = results = unfilled_gradients(args, needs)
    torch.ops.spectral_native.spectral_mlp_from_states(dense(grad), kept[0], *native(args)[2:], *results)
    x, transform, _, biases, _ = args
    return [*input_gradients(x, transform, grad_branches, needs), grad_weights, spread(grad_biases, biases), None]


def from_states(grad: Tensor, kept: Sequence[Tensor]) -> bool:
    """Whether gradients follow from what forward kept, which knows nothing of the arguments."""
    return bool(kept) and not torch.is_grad_enabled() and ordinary([grad])


def dense(grad: Tensor) -> Tensor:
    return grad.resolve_neg().resolve_conj().contiguous()


def unfilled_gradients(args: Sequence[Any], needs: list[Any]) -> tuple[Tensor | None, list[Tensor], list[Tensor]]:
    """Of the branches' input, where it is needed, the weights, and the biases that there are."""
    x, transform, weights, biases, *_ = args
    grad_branches = None
    if needs[0] or needs[1]:
        q, _, i = weights[0].shape
        samples = x.shape[1 if transform is None else 0]
        grad_branches = x.new_empty((q, samples, i), dtype=input_dtype(x, transform))
    return grad_branches, [dense_like(w) for w in weights], [dense_like(b) for b in biases if b is not None]


def network_gradients(args: list[Any], grad_logits: Tensor, needs: list[Any]) -> list[Any]:
    """Gradients of (x, transform, weights, biases, activations), None where not needed."""
    x, transform, weights, biases, activations = args
    branches = x if transform is None else torch.ops.spectral.to_branches(x, transform)
    want_grad_x = needs[0] or bool(needs[1])
    grad_branches, grad_weights, grad_biases = torch.ops.spectral.branch_mlp_backward(
        grad_logits, branches, weights, biases, activations, want_grad_x
    )
    return [*input_gradients(x, transform, grad_branches, needs), grad_weights, spread(grad_biases, biases), None]


def input_gradients(x: Tensor, transform: Tensor | None, grad_branches: Any, needs: list[Any]) -> list[Any]:
    """Gradients of x and transform from the gradient of the branches' input, (Q', N, I)."""
    if transform is None:
        return [grad_branches if needs[0] else None, None]
    return [
        to_branches.x_gradient(grad_branches, transform, x) if needs[0] else None,
        to_branches.transform_gradient(grad_branches, x, transform) if needs[1] else None,
    ]


def branches_of(x: Tensor, transform: Tensor | None) -> Tensor:
    """The branches' input (Q', N, I) in the accumulation dtype, of the reference."""
    if transform is None:
        return wide(x)
    wide_x, matrix = together(x, transform)
    return (wide_x @ matrix.mT).permute(2, 0, 1)


def input_dtype(x: Tensor, transform: Tensor | None) -> torch.dtype:
    """The dtype of the branches' input and of its gradient: complex where x or transform is."""
    return x.dtype if transform is None or not transform.is_complex() else transform.dtype


def real_part(logits: Tensor) -> Tensor:
    """What softmax, losses and ensembles read of logits."""
    return logits.real if logits.is_complex() else logits


def spread(grad_biases: list[Tensor], biases: list[Tensor | None]) -> list[Tensor | None]:
    """Gradients of the biases that exist, at the places of `biases`."""
    rest = iter(grad_biases)
    return [None if b is None else next(rest) for b in biases]


def autocast(args: list[Any], dtype: torch.dtype) -> Tensor:
    return torch.ops.spectral.spectral_mlp(*lowered_branches(args[0], args[1], dtype), *lower(args[2:], dtype))


def lowered_branches(x: Tensor, transform: Tensor | None, dtype: torch.dtype) -> tuple[Tensor, None]:
    """Under autocast the transform stays in float32, and what the GEMMs read is lowered: (branches, no transform)."""
    if transform is not None:
        x = torch.ops.spectral.to_branches(lower(x, torch.float32), lower(transform, torch.float32))
    return lower(x, dtype), None
