"""branch_rnn_with_states: branch_rnn that gives all states too, for its gradient and for layers stacked on them."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor

from ..autograd import differentiate_reference
from ..op import run_below_autograd
from . import branch_rnn
from .activations import code, narrow, offset

OP = "branch_rnn_with_states"


check = branch_rnn.check  # under the name of the public op, which calls this one


def empty(*args: Any) -> tuple[Tensor, Tensor, Tensor]:
    y, h = branch_rnn.empty(*args)
    return y, h, h.new_empty(y.shape[0], *h.shape)


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
) -> tuple[Tensor, Tensor, Tensor]:
    """The results of `branch_rnn`, and H_t for every t.

    A hidden layer of a stack, which passes H on and reads nothing out, is this op with O = 0.

    Args: as in `branch_rnn`.
    Returns: Y (T, Q, N, O), the last state (Q, N, P) and all states (T, Q, N, P), contiguous, dtype of x,
        complex where an argument is. Where a sequence has ended its last state is repeated.
    Raises: ValueError for shapes and names, TypeError for dtypes and devices.
    Accuracy: that of `branch_rnn`, `tests/test_backends.py`.
    Gradient: to every tensor but lengths, any order; the first one by `branch_rnn_backward`.
    Deterministic: bitwise, for any number of threads.
    """
    results = branch_rnn.rollout(x, weight_x, weight_h, weight_y, bias, h0, activation_h, activation_y, lengths)
    y, h, states = (narrow(t, x).contiguous() for t in results)
    return y, h, states


cpp_why_not, cuda_why_not = branch_rnn.cpp_why_not, branch_rnn.cuda_why_not


def cpp(args: list[Any], out: list[Tensor]) -> None:
    *tensors, activation_h, activation_y, lengths = args
    torch.ops.spectral_native.branch_rnn_with_states(
        *tensors, code(activation_h), offset(activation_h), code(activation_y), offset(activation_y), lengths, *out
    )


def forward_for_grad(args: list[Any], needs: list[Any], direct: bool) -> tuple[Any, list[Tensor]]:
    results = run_below_autograd(OP, direct, *args)
    return results, [results[2]]


def backward(args: list[Any], grads: Any, needs: list[Any], kept: list[Tensor]) -> list[Any]:
    if torch.is_grad_enabled():  # through the reference: no op has the gradient of a gradient through time
        return differentiate_reference(sys.modules[__name__], args, grads)
    grad_y, grad_h, grad_states = grads
    return branch_rnn.gradients(args, grad_y, grad_h, grad_states, kept[0], needs[0])
