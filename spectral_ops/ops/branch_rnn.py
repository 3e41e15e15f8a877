"""branch_rnn: a recurrent layer of every branch, all time steps in one call."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor

from ..autograd import differentiate_reference
from ..op import run_below_autograd
from . import checks
from .activations import apply, code, narrow, offset, together

OP = "branch_rnn"


def check(
    x: Tensor,
    weight_x: Tensor,
    weight_h: Tensor,
    weight_y: Tensor,
    bias: Tensor | None,
    h0: Tensor,
    activation_h: str = "tanh",
    activation_y: str = "none",
    lengths: Tensor | None = None,
    op: str = OP,
) -> tuple[tuple[int, int, int, int, int], torch.dtype]:
    """Checks the arguments for `op`; returns T, Q, N, P, O, and the dtype of the branches."""
    if x.dim() != 4:
        raise checks.wrong_shape(op, "x", x, "(T, Q, N, I)")
    steps, q, n, i = x.shape
    if weight_x.dim() != 3 or weight_x.shape[0] != q or weight_x.shape[2] != i:
        raise checks.wrong_shape(op, "weight_x", weight_x, f"(Q, P, I) with Q = {q} and I = {i} as in x")
    p = weight_x.shape[1]
    if weight_h.dim() != 3 or weight_h.shape[0] != q or weight_h.shape[1] != p or weight_h.shape[2] != p:
        raise checks.wrong_shape(op, "weight_h", weight_h, f"(Q, P, P) with Q = {q} and P = {p} as in weight_x")
    if weight_y.dim() != 3 or weight_y.shape[0] != q or weight_y.shape[2] != p:
        raise checks.wrong_shape(op, "weight_y", weight_y, f"(Q, O, P) with Q = {q} and P = {p} as in weight_x")
    if bias is not None and (bias.dim() != 2 or bias.shape[0] != q or bias.shape[1] != p):
        raise checks.wrong_shape(op, "bias", bias, f"(Q, P) with Q = {q} and P = {p} as in weight_x")
    if h0.dim() != 3 or h0.shape[0] != q or h0.shape[1] != n or h0.shape[2] != p:
        raise checks.wrong_shape(op, "h0", h0, f"(Q, N, P) with Q = {q}, N = {n} and P = {p}")
    dtype = checks.numbers(op, x=x, weight_x=weight_x, weight_h=weight_h, weight_y=weight_y, bias=bias, h0=h0)
    checks.activation(op, "activation_h", activation_h, dtype.is_complex)
    checks.activation(op, "activation_y", activation_y, dtype.is_complex)
    if lengths is not None:
        if lengths.dtype != torch.int64:
            raise TypeError(f"{op}: lengths must be int64, got {lengths.dtype}")
        if lengths.device != x.device:
            raise TypeError(f"{op}: lengths must be on {x.device} as x, got {lengths.device}")
        if lengths.dim() != 1 or lengths.shape[0] != n:
            raise checks.wrong_shape(op, "lengths", lengths, f"(N,) with N = {n} as in x")
    return (steps, q, n, p, weight_y.shape[1]), dtype


def empty(*args: Any) -> tuple[Tensor, Tensor]:
    x = args[0]
    (steps, q, n, p, o), dtype = check(*args)
    return x.new_empty(steps, q, n, o, dtype=dtype), x.new_empty(q, n, p, dtype=dtype)


def reference(
    x: Tensor,
    weight_x: Tensor,
    weight_h: Tensor,
    weight_y: Tensor,
    bias: Tensor | None,
    h0: Tensor,
    activation_h: str = "tanh",
    activation_y: str = "none",
    lengths: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """H_t = activation_h(W_x X_t + W_h H_(t-1) + b), Y_t = activation_y(W_y H_t), in every branch (eq. 29-30).

    Args:
        x: (T, Q, N, I), floating point or complex; with float32 and float64, any of the tensors may be complex, and
            then the branches are.
        weight_x: (Q, P, I). weight_h: (Q, P, P). weight_y: (Q, O, P). bias: (Q, P) or None. h0: (Q, N, P).
        activation_h, activation_y: none, relu, gelu (exact, with erf), silu, tanh or sigmoid; of complex branches none,
            crelu, modrelu, modrelu:B, zrelu or cardioid.
        lengths: (N,) int64: after so many steps (at most T, at least none) the state of a sequence stays as it is, its
            Y is 0 and its x is not looked at. None: all T steps.

    Returns: Y (T, Q, N, O) and the last state (Q, N, P), contiguous, dtype of x, complex where an argument is. Half
        accumulates in float32, where the state stays for all T steps.
    Raises: ValueError for shapes and names, TypeError for dtypes and devices.
    Accuracy: a step is within 4 eps sqrt(I + P) of its products' sizes, and carries on the errors of those before it,
        `tests/test_backends.py`, `tests/test_complex.py`. A state that explodes becomes inf or NaN.
    Gradient: to every tensor but lengths, any order; the first one by `branch_rnn_backward`.
    Deterministic: bitwise, for any number of threads.
    Source: Liu et al., Highly Parallel Deep Ensemble Learning, eq. (29), (30); that the recurrence is over time (28
        prints the layer before): MATHS.
    """
    y, h, _ = rollout(x, weight_x, weight_h, weight_y, bias, h0, activation_h, activation_y, lengths)
    return narrow(y, x).contiguous(), narrow(h, x).contiguous()


def running(lengths: Tensor, steps: int) -> Tensor:
    """(T, 1, N, 1): whether a sequence still runs at a step."""
    return (torch.arange(steps, device=lengths.device)[:, None] < lengths)[:, None, :, None]


def arguments(x: Tensor, weight_x: Tensor, bias: Tensor | None) -> Tensor:
    """W_x X_t + b for all t, of tensors in one dtype."""
    z = x @ weight_x.mT
    return z if bias is None else z + bias.unsqueeze(1)


def rollout(
    x: Tensor,
    weight_x: Tensor,
    weight_h: Tensor,
    weight_y: Tensor,
    bias: Tensor | None,
    h0: Tensor,
    activation_h: str,
    activation_y: str,
    lengths: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Y, the last state and all states (T, Q, N, P), without the final rounding."""
    steps = x.shape[0]
    x, wx, wh, wy, b, start = together(x, weight_x, weight_h, weight_y, bias, h0)
    on = None if lengths is None else running(lengths, steps)
    z = arguments(x if on is None else torch.where(on, x, torch.zeros_like(x)), wx, b)
    # not h0 itself: an op may not hand out its argument
    h, w, states = start.clone(), wh.mT, []
    for t in range(steps):
        following = apply(activation_h, z[t] + h @ w)
        h = following if on is None else torch.where(on[t], following, h)
        states.append(h)
    all_states = torch.stack(states) if steps else z
    y = apply(activation_y, all_states @ wy.mT)
    return y if on is None else torch.where(on, y, torch.zeros_like(y)), h, all_states


def cpp_why_not(x: Tensor, weight_x: Tensor, weight_h: Tensor, weight_y: Tensor, *_: Any) -> str | None:
    return checks.too_wide(x.shape[3], weight_x.shape[1], weight_y.shape[1])


def cuda_why_not(x: Tensor, weight_x: Tensor, weight_h: Tensor, weight_y: Tensor, *rest: Any) -> str | None:
    widths = (x.shape[3], weight_x.shape[1], weight_y.shape[1])
    tensors = [t for t in (x, weight_x, weight_h, weight_y, *rest) if isinstance(t, Tensor) and t.dtype != torch.int64]
    return checks.too_wide_for_gpu(widths, *tensors, most=checks.SHARED_STATE)


def cpp(args: list[Any], out: list[Tensor]) -> None:
    *tensors, activation_h, activation_y, lengths = args
    torch.ops.spectral_native.branch_rnn(
        *tensors, code(activation_h), offset(activation_h), code(activation_y), offset(activation_y), lengths, *out
    )


def forward_for_grad(args: list[Any], needs: list[Any], direct: bool) -> tuple[tuple[Tensor, Tensor], list[Tensor]]:
    y, h, states = run_below_autograd("branch_rnn_with_states", direct, *args)
    return (y, h), [states]


def backward(args: list[Any], grads: Any, needs: list[Any], kept: list[Tensor]) -> list[Any]:
    if torch.is_grad_enabled():  # the states that were kept know nothing of the arguments
        return differentiate_reference(sys.modules[__name__], args, grads)
    grad_y, grad_h = grads
    return gradients(args, grad_y, grad_h, None, kept[0], needs[0])


def gradients(args: list[Any], grad_y: Any, grad_h: Any, grad_states: Any, states: Tensor, want: bool) -> list[Any]:
    """The gradients of all arguments by `branch_rnn_backward`; grad_y, grad_h, grad_states may be None."""
    bias = args[4]
    grad_x, *weights, grad_bias, grad_h0 = torch.ops.spectral.branch_rnn_backward(
        grad_y, grad_h, grad_states, *args[:6], states, *args[6:], want
    )
    return [grad_x if want else None, *weights, None if bias is None else grad_bias, grad_h0, None, None, None]
