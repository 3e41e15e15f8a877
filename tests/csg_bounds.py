"""How far off generated filters, their gradients and their convolutions may be; see `bounds.py`."""

from __future__ import annotations

from typing import Any

import torch
from bounds import Arithmetic, Value
from torch import Tensor

from spectral_ops.ops import csg_kernels
from spectral_ops.ops.csg_kernels import gathered, slices_of


def _exact(m: Arithmetic, generator: Any) -> Value:
    return generator if isinstance(generator, Value) else m.exact(generator)  # signs stay integers


def _placed(rows: Tensor, layer: tuple, shapes: list[int], step: list[int]) -> list[Tensor]:
    """The filters made of given slices, by the definition with the identity as codes' generator."""
    identity = torch.eye(rows.shape[1], dtype=torch.float64)
    return csg_kernels.reference(rows, identity, shapes, step, *layer)


def kernels(m: Arithmetic, args: list[Any]) -> list[Value]:
    codes, generator, shapes, step, *layer = args
    rows = m.matmul(codes, _exact(m, generator).mT)
    values, errors = (_placed(t, tuple(layer), shapes, step) for t in (rows.v, rows.e))
    return [Value(v, e) for v, e in zip(values, errors, strict=True)]


def kernels_backward(m: Arithmetic, args: list[Any]) -> list[Value]:
    grads, codes, generator, shapes, step, layout, channels_last, want_codes, want_generator = args
    parts = []
    for grad, (shape, _) in zip(grads, slices_of(shapes, step), strict=True):
        filter = m.exact(torch.zeros(shape)) if grad is None else grad.permute(0, 3, 1, 2) if channels_last else grad
        parts.append([gathered(t, step, layout) for t in (filter.v, filter.e)])
    rows, nothing = Value(*map(torch.cat, zip(*parts, strict=True))), m.exact(torch.zeros(0))
    grad_codes = m.matmul(rows, _exact(m, generator)) if want_codes else nothing
    return [grad_codes, m.matmul(rows.mT, codes) if want_generator else nothing]


def conv2d(m: Arithmetic, args: list[Any]) -> list[Value]:
    x, codes, generator, kernel, step, bias, stride, padding, dilation, layout, groups = args
    filter = m.rounded(*kernels(m, [codes, generator, kernel, step, layout, False]))

    def grouped(t: Tensor, dim: int) -> Tensor:
        return t.unflatten(dim, (groups, -1))

    w = Value(grouped(filter.v, 0), grouped(filter.e, 0))
    b = None if bias is None else Value(grouped(bias.v, 0), grouped(bias.e, 0))
    images = Value(grouped(x.v, 1), grouped(x.e, 1))
    y = m.convolve(images, w, b, "none", [stride, padding, dilation])
    return [Value(y.v.flatten(1, 2), y.e.flatten(1, 2))]


def conv2d_backward(m: Arithmetic, args: list[Any]) -> list[Value]:
    grad, x, codes, generator, kernel, step, *geometry, layout, groups, want_x, want_codes, want_generator = args
    filter = m.rounded(*kernels(m, [codes, generator, kernel, step, layout, False]))

    def back(g: Tensor, image: Tensor, w: Tensor) -> list[Tensor]:
        options = (None, *geometry, False, [0, 0], groups, [True, True, False])
        return list(torch.ops.aten.convolution_backward(g, image, w, *options)[:2])

    values, sizes = back(grad.v, x.v, filter.v), back(grad.v.abs(), x.v.abs(), filter.v.abs())
    inherited = back(grad.v.square(), x.v, filter.e.square())[0].sqrt()
    o, _, kh, kw = kernel
    grad_x = Value(values[0], inherited + m.dot(o // groups * kh * kw, sizes[0]))
    grad_filter = Value(values[1], m.dot(grad.v.numel() // o, sizes[1]))
    rest = [codes, generator, kernel, step, layout, False, want_codes, want_generator]
    return [grad_x if want_x else m.exact(torch.zeros(0)), *kernels_backward(m, [[grad_filter], *rest])]
