"""branch_rnn_backward: the gradients of `branch_rnn`, backward through all time steps in one call."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import branch_rnn, checks
from .activations import apply, code, conj, dense_like, gradient_of, offset, through, together

OP = "branch_rnn_backward"
_NOT_TOLD = ("gelu", "silu", "modrelu", "cardioid")  # whose derivative the state does not tell


def check(
    grad_y: Tensor | None,
    grad_h: Tensor | None,
    grad_states: Tensor | None,
    x: Tensor,
    weight_x: Tensor,
    weight_h: Tensor,
    weight_y: Tensor,
    bias: Tensor | None,
    h0: Tensor,
    states: Tensor,
    activation_h: str = "tanh",
    activation_y: str = "none",
    lengths: Tensor | None = None,
    want_grad_x: bool = True,
) -> None:
    layer = (x, weight_x, weight_h, weight_y, bias, h0, activation_h, activation_y, lengths)
    (steps, q, n, p, o), dtype = branch_rnn.check(*layer, OP)
    for name, t, letters, sizes in (
        ("grad_y", grad_y, "(T, Q, N, O)", (steps, q, n, o)),
        ("grad_h", grad_h, "(Q, N, P)", (q, n, p)),
        ("grad_states", grad_states, "(T, Q, N, P)", (steps, q, n, p)),
        ("states", states, "(T, Q, N, P)", (steps, q, n, p)),
    ):
        if t is not None and (t.dim() != len(sizes) or any(a != b for a, b in zip(t.shape, sizes, strict=True))):
            raise checks.wrong_shape(OP, name, t, f"{letters} = ({', '.join(str(s) for s in sizes)})")
    for name, t in (("grad_y", grad_y), ("grad_h", grad_h), ("grad_states", grad_states), ("states", states)):
        if t is not None:
            checks.exactly(OP, dtype, x, **{name: t})


def empty(*args: Any) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    _, _, _, x, weight_x, weight_h, weight_y, bias, h0, *_, want_grad_x = args
    check(*args)
    return (
        dense_like(x) if want_grad_x else x.new_empty(0),
        dense_like(weight_x),
        dense_like(weight_h),
        dense_like(weight_y),
        x.new_empty(0) if bias is None else dense_like(bias),
        dense_like(h0),
    )


def reference(
    grad_y: Tensor | None,
    grad_h: Tensor | None,
    grad_states: Tensor | None,
    x: Tensor,
    weight_x: Tensor,
    weight_h: Tensor,
    weight_y: Tensor,
    bias: Tensor | None,
    h0: Tensor,
    states: Tensor,
    activation_h: str = "tanh",
    activation_y: str = "none",
    lengths: Tensor | None = None,
    want_grad_x: bool = True,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The vector-Jacobian product of `branch_rnn_with_states`, at the states that it gave.

    From the last step to the first, with e_t = grad_y_t * act_y'(W_y H_t) and d_t = g_t * act_h'(z_t):
    g_t = W_y^T e_t + grad_states_t + W_h^T d_(t+1), and grad_h added to the last; then
    grad W_x = sum d_t X_t^T, grad W_h = sum d_t H_(t-1)^T, grad W_y = sum e_t H_t^T, grad b = sum d_t,
    grad X_t = W_x^T d_t, grad H_0 = W_h^T d_1. Where a sequence has ended d_t = e_t = 0 and g passes unchanged.
    Of complex branches X, H and W are conjugated there, and the gradient of a real argument is the real part.

    Args:
        grad_y: (T, Q, N, O), grad_h: (Q, N, P), grad_states: (T, Q, N, P): of the three results; None is zero.
        states: (T, Q, N, P), H_t for every t; they stand for the forward pass, which is not computed again.
        want_grad_x: when False the first result is empty, and its GEMM is saved. The rest: as in `branch_rnn`.

    Returns: the gradients of x, weight_x, weight_h, weight_y, bias (empty where bias is None) and h0, each in the dtype
        of its argument.
    Raises: ValueError for shapes and names, TypeError for dtypes and devices.
    Accuracy: `tests/test_backends.py`. Gradient: to every tensor but lengths, by differentiating this form.
    Deterministic: bitwise, for any number of threads (sums over fixed blocks of samples).
    """
    steps = x.shape[0]
    on = None if lengths is None else branch_rnn.running(lengths, steps)
    xs, wx, wh, wy, b, start, hs, from_y, from_h, from_states = together(
        x, weight_x, weight_h, weight_y, bias, h0, states, grad_y, grad_h, grad_states
    )

    def where_running(t: Tensor) -> Tensor:
        return t if on is None else torch.where(on, t, torch.zeros_like(t))

    xs = where_running(xs)
    before = torch.cat([start.unsqueeze(0), hs[:-1]]) if steps else hs
    z = branch_rnn.arguments(xs, wx, b) + before @ wh.mT if activation_h.startswith(_NOT_TOLD) else hs
    from_above = torch.zeros_like(hs) if from_states is None else from_states
    grad_weight_y = torch.zeros_like(wy)
    if from_y is not None:
        out = hs @ wy.mT if activation_y != "none" else from_y
        e = where_running(through(activation_y, from_y, out, apply(activation_y, out)))
        from_above, grad_weight_y = from_above + where_running(e @ conj(wy)), (e.mT @ conj(hs)).sum(0)
    g = torch.zeros_like(start) if from_h is None else from_h.clone()
    ds: list[Tensor] = []
    back = conj(wh)
    for t in reversed(range(steps)):
        g = g + from_above[t]
        d = through(activation_h, g, z[t], hs[t])
        d = d if on is None else torch.where(on[t], d, torch.zeros_like(d))
        ds.append(d)
        g = d @ back if on is None else torch.where(on[t], d @ back, g)
    d = torch.stack(ds[::-1]) if steps else hs
    return (
        gradient_of(x, where_running(d @ conj(wx))).contiguous() if want_grad_x else x.new_empty(0),
        gradient_of(weight_x, (d.mT @ conj(xs)).sum(0)).contiguous(),
        gradient_of(weight_h, (d.mT @ conj(before)).sum(0)).contiguous(),
        gradient_of(weight_y, grad_weight_y).contiguous(),
        x.new_empty(0) if bias is None else gradient_of(bias, d.sum((0, 2))).contiguous(),
        gradient_of(h0, g).contiguous(),
    )


def cpp_why_not(grad_y: Any, grad_h: Any, grad_states: Any, *layer: Any) -> str | None:
    return branch_rnn.cpp_why_not(*layer)


def cuda_why_not(grad_y: Any, grad_h: Any, grad_states: Any, *layer: Any) -> str | None:
    return branch_rnn.cuda_why_not(*layer, grad_y, grad_h, grad_states)


def cpp(args: list[Any], out: list[Tensor]) -> None:
    *tensors, activation_h, activation_y, lengths, want_grad_x = args
    grad_x, grad_weight_x, grad_weight_h, grad_weight_y, grad_bias, grad_h0 = out
    torch.ops.spectral_native.branch_rnn_backward(
        *tensors, code(activation_h), offset(activation_h), code(activation_y), offset(activation_y), lengths,
        grad_x if want_grad_x else None, grad_weight_x, grad_weight_h, grad_weight_y,
        None if args[7] is None else grad_bias, grad_h0,
    )  # fmt: skip
