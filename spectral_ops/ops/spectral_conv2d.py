"""spectral_conv2d: transform of the channel groups, one convolution of every branch, inverse transform."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..autograd import differentiate_reference, ordinary, transforming, want_grad
from ..op import lower, run_below_autograd
from . import checks, planes
from .activations import apply, apply_, code, narrow, offset, through, together, wide
from .branch_conv2d import Pair, convolve, layout_of
from .mode_product import LONGEST_COLUMN

# Measured on two cores with AVX-512, float32, 64 channels of 32 x 32, N = 32 (the sizes in DESIGN.md):
NARROW, NARROW_IN_TRAINING = 4, 8  # branches are merged to at least so many channels; the second in NCHW only
PASS = 24  # multiply-adds of a convolution that take as long as one value's way through a transform
# A 1 x 1 convolution with zeros between the groups is a faster transform of channels_last than the kernel: up to so
# large a C * C/Q, or in training up to so large an N H W C^2, where the kernel's call costs more than the zeros
POINTWISE, POINTWISE_IN_TRAINING = 256, 1 << 24

PARTS = ("mode_product", "branch_conv2d")  # for explain


def check(
    x: Tensor,
    transform: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    activation: str,
    inverse: Tensor,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
) -> torch.dtype:
    """Checks the arguments; returns the dtype of the result."""
    op = "spectral_conv2d"
    if x.dim() != 4:
        raise checks.wrong_shape(op, "x", x, "(N, C, H, W)")
    c = x.shape[1]
    if transform.dim() != 2 or 0 in transform.shape or c % transform.shape[1]:
        raise checks.wrong_shape(op, "transform", transform, f"(Q', Q) with Q a divisor of C = {c} as in x")
    p, q = transform.shape
    if weight.dim() != 5 or weight.shape[0] != p or weight.shape[2] != c // q:
        must = f"(Q', O/Q, C/Q, kh, kw) with Q' = {p} as in transform and C/Q = {c // q} as in x"
        raise checks.wrong_shape(op, "weight", weight, must)
    if inverse.dim() != 2 or inverse.shape[0] != q or inverse.shape[1] != p:
        raise checks.wrong_shape(op, "inverse", inverse, f"(Q, Q') with Q = {q} and Q' = {p} as in transform")
    checks.convolution(op, x.shape[2:], weight, bias, stride, padding, dilation)
    dtype = checks.numbers(op, x=x, transform=transform, weight=weight, bias=bias, inverse=inverse)
    checks.activation(op, "activation", activation, dtype.is_complex)
    return dtype.to_real() if checks.half_spectrum(inverse) else dtype


def empty(*args: Any) -> Tensor:
    x, _, weight, _, _, inverse, *geometry = args
    dtype = check(*args)
    sizes = checks.convolved(x.shape[2:], weight.shape[3:], *geometry)
    shape = (x.shape[0], inverse.shape[0] * weight.shape[1], *sizes)
    return torch.empty(shape, dtype=dtype, device=x.device, memory_format=layout_of(x))


def reference(
    x: Tensor,
    transform: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    activation: str,
    inverse: Tensor,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
) -> Tensor:
    """y = inverse . activation(weight * (transform . x) + bias): eq. (23), with the activation of eq. (27).

    Channel q C/Q + i of x is feature i of slice q, so that the slices stand one after another as `unfold` stacks them
    (eq. 22). The products with transform and inverse run over the slices, at each pixel; * is the cross-correlation
    in each branch. A complex inverse with Q' < Q belongs to the half spectrum of real data: the real part is taken.

    Args:
        x: (N, C, H, W), floating point or complex, contiguous or channels_last. transform: (Q', Q).
        weight: (Q', O/Q, C/Q, kh, kw). bias: (Q', O/Q) or None, in the spectral domain.
        activation: in the spectral domain, see `branch_conv2d`. inverse: (Q, Q').
        With float32 and float64 any tensor may be complex; then the branches are.
        stride, padding (with zeros), dilation: of rows and columns, in pixels.

    Returns: (N, O, H', W') in x's memory format, dtype of x (half computes in float32); complex where an argument is,
        unless the real part was taken.
    Raises: ValueError for shapes, sizes and names, TypeError for dtypes and devices.
    Accuracy: no worse than twice the composition of its three stages, `tests/test_backends.py`. A value that is not
        finite spreads to all branches of its window, as a transform spreads it.
    Gradient: to every tensor, any order. Deterministic: as the convolution of torch.
    Source: Liu et al., Highly Parallel Deep Ensemble Learning, eq. (20)-(23), (27).
    """
    layout, half = layout_of(x), checks.half_spectrum(inverse)
    geometry = (stride, padding, dilation)
    v, t, w, inv = wide(x), wide(transform), wide(weight), wide(inverse)
    b = None if bias is None else wide(bias)
    is_complex = any(a is not None and a.is_complex() for a in (v, t, w, b, inv))
    if activation == "none" and _folds(x, transform, weight, inverse, *geometry):
        y = _as_one(v, half, *together(t, w, b, inv), *geometry)
    elif x.is_cuda:
        y = _on_gpu(v, t, w, b, activation, inv, *geometry)
    elif is_complex:
        y = _complex_stages(v, t, w, b, activation, inv, *geometry)
    else:
        h = convolve(along_channels(v, t), *_merged(w, b, _least(layout, want_grad([v, w]))), *geometry)
        y = along_channels(apply_(activation, h).contiguous(memory_format=layout), inv)
    return narrow(y, x).contiguous(memory_format=layout)


def _on_gpu(
    x: Tensor, transform: Tensor, weight: Tensor, bias: Tensor | None, activation: str, inverse: Tensor, *geometry: Pair
) -> Tensor:
    """The branches are an op with a kernel of its own there, which takes complex numbers and the activation."""
    h = through_channels(x, transform).unflatten(1, (weight.shape[0], weight.shape[2]))
    h = torch.ops.spectral.branch_conv2d(h, weight, bias, activation, *geometry)
    return through_channels(h.flatten(1, 2), inverse, checks.half_spectrum(inverse))


def _complex_stages(
    x: Tensor, transform: Tensor, weight: Tensor, bias: Tensor | None, activation: str, inverse: Tensor, *geometry: Pair
) -> Tensor:
    """The three stages in planes, so that complex tensors stand at the ends only."""
    (p, q), layout = transform.shape, layout_of(x)
    v, t, w, b, _, inv, *_ = _in_planes([x, transform, weight, bias, activation, inverse])
    h = convolve(along_channels(v, t), *_merged(w, b, _least(layout, want_grad([v, w]))), *geometry)
    h = planes.activated(activation, h.contiguous(memory_format=layout), p, layout is torch.channels_last)
    y = along_channels(h, inv)
    return y if checks.half_spectrum(inverse) else planes.joined(y, q)


def _in_planes(args: list[Any]) -> list[Any]:
    """The arguments of the real layer that it is: images in planes, and between the transforms in planes always."""
    x, transform, weight, bias, activation, inverse, *geometry = args
    if not any(t is not None and t.is_complex() for t in (x, transform, weight, bias, inverse)):
        return args
    real = not x.is_complex()
    v = x if real else planes.split(x, transform.shape[1], layout_of(x) is torch.channels_last)
    t = transform if _real_branches(x, transform) else planes.matrix_form(transform, real)
    w, b = planes.layer_form(weight, bias, _real_branches(x, transform))
    inv = planes.matrix_form(inverse, real_out=checks.half_spectrum(inverse))
    return [v, t, w, b, "relu" if activation == "crelu" else activation, inv, *geometry]


def _real_branches(x: Tensor, transform: Tensor) -> bool:
    """Whether what is convolved is real."""
    return not (x.is_complex() or transform.is_complex())


def _as_one(
    x: Tensor, half: bool, transform: Tensor, weight: Tensor, bias: Tensor | None, inverse: Tensor, *geometry: Pair
) -> Tensor:
    """The layer without an activation, as one convolution; half: the real part of it."""
    dense = folded(transform, weight, inverse)
    vector = None if bias is None else (inverse @ bias).flatten()
    if not (x.is_complex() or dense.is_complex()):
        return functional.conv2d(x, dense, vector, *map(list, geometry))
    real = not x.is_complex()
    v = x if real else planes.split(x, 1, layout_of(x) is torch.channels_last)
    form = planes.weight_form(dense.unsqueeze(0), real, half)[0]
    if vector is not None:
        vector = torch.cat(planes.parts(vector)[: 1 if half else 2])
    y = functional.conv2d(v, form, vector, *map(list, geometry))
    return y if half else planes.joined(y, 1)


def folded(transform: Tensor, weight: Tensor, inverse: Tensor) -> Tensor:
    """The weight (O, C, kh, kw) of the one convolution that the layer is without an activation.

    W[q o, p i] = sum_k inverse[q, k] transform[k, p] weight[k, o, i]: with the DFT W is block circulant (eq. 23).
    """
    (p, q), (_, o, i, *geometry) = transform.shape, weight.shape
    pairs = inverse.unsqueeze(1) * transform.mT.unsqueeze(0)  # (Q, Q, Q')
    blocks = (pairs.reshape(q * q, p) @ weight.reshape(p, -1)).view(q, q, o, i, *geometry)
    return blocks.transpose(1, 2).reshape(q * o, q * i, *geometry)


def _folds(
    x: Tensor, transform: Tensor, weight: Tensor, inverse: Tensor, stride: Pair, padding: Pair, dilation: Pair
) -> bool:
    """Whether one dense convolution is less work for an image than the branches and two transforms."""
    (p, q), (_, o, i, kh, kw) = transform.shape, weight.shape
    height, width = checks.convolved(x.shape[2:], weight.shape[3:], stride, padding, dilation)
    before, after = 1 + x.is_complex(), 1 + (inverse.is_complex() and not checks.half_spectrum(inverse))  # planes
    inside = 1 + (x.is_complex() or transform.is_complex())
    dense = before * after * q * q * o * i * kh * kw * (height * width + q)  # and the making of its weight
    branches = inside * (1 + weight.is_complex()) * p * o * i * kh * kw * height * width
    ways = before * x.shape[1] * x.shape[2] * x.shape[3] + after * q * o * height * width
    return dense <= branches + PASS * ways


def along_channels(x: Tensor, matrix: Tensor) -> Tensor:
    """The real matrix (P, Q) along the channel groups of real x (N, Q I, H, W), in the memory order that x has."""
    (n, c, h, w), (p, q) = x.shape, matrix.shape
    i = c // q
    if layout_of(x) is torch.contiguous_format:
        return (matrix @ x.reshape(n, q, i * h * w)).view(n, p * i, h, w)
    training = want_grad([x, matrix])
    small = c * i <= POINTWISE or (training and n * h * w * c * c <= POINTWISE_IN_TRAINING)
    if i > 1 and (small or p != q or q > LONGEST_COLUMN):
        one = torch.eye(i, dtype=matrix.dtype, device=matrix.device)
        pointwise = matrix.reshape(p, 1, q, 1) * one.view(i, 1, i)
        return functional.conv2d(x, pointwise.reshape(p * i, c, 1, 1))
    pixels = x.permute(0, 2, 3, 1).unflatten(3, (q, i))
    if training or transforming():
        pixels = torch.ops.spectral.mode_product(pixels, matrix, 3)
    else:
        pixels = run_below_autograd("mode_product", ordinary([x, matrix]), pixels, matrix, 3)
    return pixels.flatten(3, 4).permute(0, 3, 1, 2)


def through_channels(x: Tensor, matrix: Tensor, take_real: bool = False) -> Tensor:
    """The same of real or complex numbers, whatever autocast says; take_real: the real part of the result."""
    with torch.autocast(x.device.type, enabled=False):
        if not (x.is_complex() or matrix.is_complex()):
            return along_channels(x, matrix)
        real, (p, q), last = not x.is_complex(), matrix.shape, layout_of(x) is torch.channels_last
        y = along_channels(x if real else planes.split(x, q, last), planes.matrix_form(matrix, real, take_real))
        return y if take_real else planes.joined(y, p)


def real_part(y: Tensor) -> Tensor:
    """The real part of y (N, C, H, W) in memory of its own, in y's format."""
    return y.real.contiguous(memory_format=layout_of(y))


def cpp_why_not(x: Tensor, transform: Tensor, *rest: Any) -> str | None:
    is_complex = any(isinstance(t, Tensor) and t.is_complex() for t in (x, transform, *rest))
    longest = max(transform.shape) * (2 if is_complex else 1)
    if longest > LONGEST_COLUMN:
        return f"{longest} slices are past {LONGEST_COLUMN}, where the library's product is faster"
    return None


def cpp_slower(*args: Any) -> str | None:
    x, transform, weight, _, activation, inverse, *geometry = args
    if activation == "none" and _folds(x, transform, weight, inverse, *geometry):
        return "one dense convolution is less work"
    return None


def cpp(args: list[Any]) -> Tensor:
    return narrow(_in_stages(args, False)[0], args[0])


def forward_for_grad(args: list[Any], needs: list[Any], direct: bool) -> tuple[Tensor, list[Tensor]]:
    y, v, z = _in_stages(args, True)
    return narrow(y, args[0]), [v, z]


def _in_stages(args: list[Any], training: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The result, the transformed images, and what the activation is applied to, both in planes."""
    layout, q, half = layout_of(args[0]), args[1].shape[1], checks.half_spectrum(args[5])
    x, transform, weight, bias, *_ = real = _in_planes(args := _wide(args))
    w, b = _merged(weight, bias, _least(layout, training))
    vector = None if b is None else b.flatten()
    y, v, z = torch.ops.spectral_native.spectral_conv2d(
        _dense(x, layout), _dense(transform), w.flatten(0, 1), vector, *_rest(real, layout, w)
    )
    return y if half or real is args else planes.joined(y, q), v, z


def _dense(t: Tensor, layout: Any = torch.contiguous_format) -> Tensor:
    """t with its values side by side in that order, no sign still to be taken."""
    return t.resolve_neg().contiguous(memory_format=layout)


def _wide(args: list[Any]) -> list[Any]:
    return [wide(t) if isinstance(t, Tensor) else t for t in args]


def _rest(args: list[Any], layout: Any, merged: Tensor) -> tuple[Any, ...]:
    """The arguments that both entry points end with."""
    _, _, _, _, activation, inverse, *geometry = args
    last = layout is torch.channels_last
    return code(activation), offset(activation), _dense(inverse), *geometry, merged.shape[0], last


def backward(args: list[Any], grads: Any, needs: list[Any], kept: list[Tensor]) -> list[Any]:
    (grad,), (v, z) = grads, kept
    learned, is_complex = needs[1] or needs[5], any(isinstance(t, Tensor) and t.is_complex() for t in args)
    if torch.is_grad_enabled() or not ordinary([grad]) or (learned and is_complex):
        return differentiate_reference(
            sys.modules[__name__], args, grads
        )  # what was kept knows nothing of the arguments
    x, transform, weight, bias, activation, inverse, *geometry = real = _in_planes(_wide(args))
    q, layout = args[1].shape[1], layout_of(args[0])
    grad = planes.split(grad, q, layout is torch.channels_last) if grad.is_complex() else wide(grad)
    w, _ = _merged(weight, None, _least(layout, True))
    want = [needs[0], needs[2], bias is not None and needs[3]]
    grad_matrix = grad_inverse = None
    if learned:  # a transform, whose gradient needs what the one call keeps to itself
        h = apply(activation, z)
        grad_inverse = _matrix_gradient(grad, h, inverse)
        grad_z = through(activation, along_channels(grad, inverse.mT), z, h)
        sizes = [z.shape[1]] if want[2] else None
        grad_v, grad_w, grad_b = torch.ops.aten.convolution_backward(
            grad_z, v, w.flatten(0, 1), sizes, *geometry, False, [0, 0], len(w), [True, *want[1:]]
        )
        grad_matrix = _matrix_gradient(grad_v, x, transform)
        grad_x = along_channels(grad_v, transform.mT)
    else:
        grad_x, grad_w, grad_b = torch.ops.spectral_native.spectral_conv2d_backward(
            _dense(grad, layout), v, z, _dense(transform), w.flatten(0, 1), *want, *_rest(real, layout, w)
        )
    grad_weight = _own(grad_w, weight) if want[1] else None
    grad_bias = grad_b.view(bias.shape) if want[2] else None
    if is_complex:
        grad_x = planes.joined(grad_x, q) if want[0] and args[0].is_complex() else grad_x
        inside = _real_branches(args[0], args[1])
        grad_weight, grad_bias = planes.layer_gradients(grad_weight, grad_bias, args[2], args[3], inside)
    found = [grad_x if want[0] else None, grad_matrix, grad_weight, grad_bias, None, grad_inverse]
    pairs = zip(found, args[:6], strict=True)
    return [g if g is None or g.dtype is a.dtype else g.to(a.dtype) for g, a in pairs] + [None] * 3


def _matrix_gradient(grad: Tensor, x: Tensor, matrix: Tensor) -> Tensor:
    """Of the product of `matrix` (P, Q) with the slices of x, whose result's gradient is grad."""
    slices = zip((grad, x), matrix.shape, strict=True)
    rows, columns = (t.unflatten(1, (size, -1)).transpose(0, 1).flatten(1) for t, size in slices)
    return rows @ columns.mT


def _least(layout: torch.memory_format, training: bool) -> int:
    """The channels of a branch below which `_merged` merges."""
    return NARROW_IN_TRAINING if training and layout is torch.contiguous_format else NARROW


def _own(grad: Tensor, weight: Tensor) -> Tensor:
    """The gradient of `weight` in that of what `_merged` made of it."""
    q, o, i, kh, kw = weight.shape
    together = grad.shape[1] // i
    if together == 1:
        return grad.view(weight.shape)  # in the library's order: autograd copies what it accumulates, if it must
    blocks = grad.reshape(q // together, together, o, together, i, kh, kw)
    own = blocks.diagonal(dim1=1, dim2=3)  # (groups, O/Q, C/Q, kh, kw, together)
    return own.permute(0, 5, 1, 2, 3, 4).reshape(weight.shape)


def _merged(weight: Tensor, bias: Tensor | None, least: int) -> tuple[Tensor, Tensor | None]:
    """The same layer in fewer branches of at least so many channels, their weights block diagonal.

    oneDNN's grouped convolution takes several times as long where a group has few channels, most of all in the
    gradient of the weight; the zeros that this adds cost less.
    """
    q, o, i, kh, kw = weight.shape
    together = next((m for m in range(1, q + 1) if q % m == 0 and m * i >= least), q)
    if together == 1:
        return weight, bias
    blocks = weight.reshape(q // together, together, o, 1, i, kh, kw)
    own = torch.eye(together, dtype=torch.bool, device=weight.device).view(1, together, 1, together, 1, 1, 1)
    blocks = torch.where(own, blocks, 0.0)  # (groups, together, O/Q, together, C/Q, kh, kw)
    vectors = None if bias is None else bias.reshape(q // together, together * o)
    return blocks.reshape(q // together, together * o, together * i, kh, kw), vectors


def autocast(args: list, dtype: torch.dtype) -> Tensor:
    x, transform, weight, bias, activation, inverse, *geometry = args
    ops, single = torch.ops.spectral, torch.float32
    x, transform, inverse = (lower(t, single) for t in (x, transform, inverse))
    h = lower(along_channels(x, transform), dtype).unflatten(1, (weight.shape[0], weight.shape[2]))
    h = ops.branch_conv2d(h, lower(weight, dtype), lower(bias, dtype), activation, *geometry)
    return along_channels(lower(h, single).flatten(1, 2), inverse).contiguous(memory_format=layout_of(x))
