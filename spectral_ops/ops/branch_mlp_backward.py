"""branch_mlp_backward: the gradients of a chain of branch layers, recomputing what the forward pass did not keep."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import checks
from .activations import apply, code, conj, dense_like, gradient_of, offsets, through, together


def check(
    grad_y: Tensor,
    x: Tensor,
    weights: list[Tensor],
    biases: list[Tensor | None],
    activations: list[str],
    want_grad_x: bool = True,
) -> None:
    op = "branch_mlp_backward"
    q, n, i = checks.branches(op, x, None)
    dtype = checks.numbers(op, x=x, grad_y=grad_y, weights=weights, biases=biases)
    o = checks.layers(op, q, i, weights, biases, activations, dtype.is_complex)
    if grad_y.dim() != 3 or grad_y.shape[0] != q or grad_y.shape[1] != n or grad_y.shape[2] != o:
        raise checks.wrong_shape(op, "grad_y", grad_y, f"(Q, N, O) with Q = {q}, N = {n} and O = {o}")


def empty(*args: Any) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    _, x, weights, biases, _, want_grad_x = args
    check(*args)
    grad_x = x.new_empty(x.shape if want_grad_x else (0,))
    return grad_x, [dense_like(w) for w in weights], [dense_like(b) for b in biases if b is not None]


def reference(
    grad_y: Tensor,
    x: Tensor,
    weights: list[Tensor],
    biases: list[Tensor | None],
    activations: list[str],
    want_grad_x: bool = True,
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """The vector-Jacobian product of `spectral_mlp(x, None, weights, biases, activations)`.

    With z_j = h_(j-1) w_j^T + b_j and h_j = act_j(z_j), from the last layer to the first:
    d = grad h_j * act_j'(z_j), grad w_j = d^T h_(j-1), grad b_j = sum_n d, grad h_(j-1) = d w_j;
    of complex branches h and w are conjugated there, and the gradient of a real argument is the real part.
    The derivatives of the activations: `through` in `spectral_ops/ops/activations.py`.

    Args:
        grad_y: (Q, N, O). x: (Q, N, I). weights, biases, activations: as in `spectral_mlp`.
        want_grad_x: when False the first result is empty, and its GEMM is saved.

    Returns: grad x (Q, N, I), the gradients of the weights, and of the biases that are not None; each in the dtype of
        its argument.
    Raises: ValueError for shapes and names, TypeError for dtypes and devices.
    Accuracy: as a chain of GEMMs, `tests/test_backends.py`. Gradient: to every tensor, by differentiating this form.
    Deterministic: bitwise, for any number of threads (weight gradients are summed over fixed blocks of samples).
    """
    grad, h, wide_weights, wide_biases = together(grad_y, x, weights, biases)
    hs, zs = [h], []
    for w, b, a in zip(wide_weights, wide_biases, activations, strict=True):
        z = hs[-1] @ w.mT
        z = z if b is None else z + b.unsqueeze(1)
        hs.append(apply(a, z))
        zs.append(z)
    grad_weights, grad_biases = [], []
    for j in reversed(range(len(weights))):
        grad = through(activations[j], grad, zs[j], hs[j + 1])
        grad_weights.append(gradient_of(weights[j], grad.mT @ conj(hs[j])).contiguous())
        bias = biases[j]
        if bias is not None:
            grad_biases.append(gradient_of(bias, grad.sum(1)).contiguous())
        grad = grad @ conj(wide_weights[j]) if j or want_grad_x else grad
    grad_x = gradient_of(x, grad).contiguous() if want_grad_x else x.new_empty(0)
    return grad_x, grad_weights[::-1], grad_biases[::-1]


def cpp_why_not(
    grad_y: Tensor,
    x: Tensor,
    weights: list[Tensor],
    biases: list[Tensor | None],
    activations: list[str],
    want_grad_x: bool = True,
) -> str | None:
    return checks.too_wide(x.shape[2], *(w.shape[1] for w in weights))


def cuda_why_not(grad_y: Tensor, x: Tensor, weights: list[Tensor], *_: Any) -> str | None:
    return checks.network_on_gpu(x, None, weights)


def cpp(args: list[Any], out: list[Any]) -> None:
    grad_y, x, weights, biases, activations, want_grad_x = args
    grad_x, grad_weights, grad_biases = out
    codes = [code(a) for a in activations]
    torch.ops.spectral_native.branch_mlp_backward(
        grad_y,
        x,
        weights,
        biases,
        codes,
        offsets(activations),
        grad_x if want_grad_x else None,
        grad_weights,
        grad_biases,
    )
