"""Generated filters: all layers of a ResNet-56 at once, whole training steps of its convolutions, and odd shapes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from spectral_ops.ops.csg_kernels import slices_of

from . import cost
from .contenders import Built, Case, Gradient, Values, call, learn, side_by_side
from .measure import Contender

SLICE, CODE = [16, 16, 3, 3], 128
# O, I, kh, kw of two layers, slice shape, n_c; what no constant was chosen for
ODD = (
    ([61, 47, 3, 3, 29, 31, 3, 3], [11, 13, 3, 3], 53),
    ([127, 113, 1, 1, 59, 61, 1, 1], [16, 16, 1, 1], 17),
    ([67, 23, 5, 5, 37, 41, 3, 2], [9, 7, 3, 3], 101),
)
IMAGE, SAMPLES = (19, 23), 5


def cases() -> Iterator[Case]:
    for channels_last in (True, False):
        for training in (False, True):
            layout = "channels_last" if channels_last else "NCHW"
            name = f"csg_kernels ResNet-56 {layout} {_pass(training)}"
            yield Case(name, "csg_kernels", partial(_resnet, channels_last, training), "targets")
    for n, limit in ((128, 1.03), (8, 1.12)):
        name = f"csg ResNet-56 convolutions N={n} fwd+bwd"
        limits = {"plain channels_last": limit}
        target = 1.3 if n == 8 else None
        yield Case(name, "csg_kernels", partial(_convolutions, n), "targets", target, limits, large=n > 64)
    for i, (shapes, step, size) in enumerate(ODD):
        sizes = f"{'x'.join(map(str, shapes))} {'x'.join(map(str, step))} n_c={size}"
        yield Case(
            f"csg_conv2d_backward {sizes} fwd", "csg_conv2d_backward", partial(_conv2d_backward, i), "odd shapes"
        )
        yield Case(f"csg_kernels_backward {sizes} fwd", "csg_kernels_backward", partial(_backward, i), "odd shapes")
        for op, build in {"csg_kernels": _kernels, "csg_kernel": _kernel, "csg_conv2d": _conv2d}.items():
            for training in (False, True):
                yield Case(f"{op} {sizes} {_pass(training)}", op, partial(build, i, training), "odd shapes")


def _pass(training: bool) -> str:
    return "fwd+bwd" if training else "fwd"


def resnet56() -> tuple[list[int], list[tuple[int, int]]]:
    """Of the 54 convolutions in the blocks of a ResNet-56: kernel shapes, and the image's size and the stride."""
    shapes, geometry, before = [], [], 16
    for width, size in ((16, 32), (32, 16), (64, 8)):
        for _ in range(9):
            for conv in range(2):
                into = before if conv == 0 else width
                stride = 2 if into < width else 1
                shapes += [width, into, 3, 3]
                geometry.append((size * stride, stride))
            before = width
    return shapes, geometry


def plain(codes: Tensor, generator: Tensor, shapes: list[int], step: list[int], *options: Any) -> list[Tensor]:
    """Every layer's filter by itself, as a user would write it."""
    filters, first = [], 0
    channels_last = len(options) > 1 and options[1]
    for shape, count in slices_of(shapes, step):
        blocks = [-(-a // b) for a, b in zip(shape, step, strict=True)]
        parts = (codes[first : first + count] @ generator.mT).view(*blocks, *step).permute(0, 4, 1, 5, 2, 6, 3, 7)
        whole = parts.reshape([a * b for a, b in zip(blocks, step, strict=True)])
        o, i, kh, kw = shape
        order = torch.channels_last if channels_last else torch.contiguous_format
        filters.append(whole[:o, :i, :kh, :kw].contiguous(memory_format=order))
        first += count
    return filters


def _together(function: Callable) -> Callable:
    """One tensor of all filters, for cases with one gradient."""
    return lambda *args: torch.cat([filter.flatten() for filter in function(*args)])


def _arguments(shapes: list[int], step: list[int], size: int) -> list[Any]:
    values, slices = Values("generated filters"), sum(count for _, count in slices_of(shapes, step))
    return [values.normal(slices, size), values.normal(math.prod(step), size, scale=size**-0.5), shapes, step]


def _compare(op: str, args: list[Any], training: bool, ours: Callable, theirs: Callable) -> Built:
    if training:
        learn(args[:2] if op != "csg_conv2d" else args[:3])
    spent = (cost.training if training else cost.forward)(op, args)
    return side_by_side(op, args, theirs, spent, Gradient() if training else None, ours=ours)


def _filters(args: list[Any], training: bool) -> Built:
    ops = torch.ops.spectral
    forms = (_together(ops.csg_kernels), _together(plain)) if training else (ops.csg_kernels, plain)
    return _compare("csg_kernels", args, training, *forms)


def _resnet(channels_last: bool, training: bool) -> Built:
    return _filters([*_arguments(resnet56()[0], SLICE, CODE), "block", channels_last], training)


def _kernels(i: int, training: bool) -> Built:
    return _filters([*_arguments(*ODD[i]), "block", False], training)


def _kernel(i: int, training: bool) -> Built:
    shapes, step, size = ODD[i]
    return _compare(
        "csg_kernel", _arguments(shapes[:4], step, size), training, torch.ops.spectral.csg_kernel,
        lambda *args: plain(*args)[0],
    )  # fmt: skip


def _conv2d(i: int, training: bool) -> Built:
    shapes, step, size = ODD[i]
    x = Values("images of generated filters").normal(SAMPLES, shapes[1], *IMAGE)
    args = [x, *_arguments(shapes[:4], step, size)]
    return _compare("csg_conv2d", args, training, torch.ops.spectral.csg_conv2d, _plain_conv2d)


def _plain_conv2d(x: Tensor, *args: Any) -> Tensor:
    return functional.conv2d(x, plain(*args)[0])


def _conv2d_backward(i: int) -> Built:
    """Ours is an op that gives gradients; the baseline runs forward and backward."""
    shapes, step, size = ODD[i]
    values = Values("images of generated filters")
    args = [values.normal(SAMPLES, shapes[1], *IMAGE), *_arguments(shapes[:4], step, size)]
    grad = values.normal(*torch.ops.spectral.csg_conv2d(*args).shape)
    theirs = [t.clone().requires_grad_() for t in args[:3]]
    return side_by_side(
        "csg_conv2d_backward", [grad, *args], _plain_conv2d, cost.forward("csg_conv2d_backward", [grad, *args]),
        baseline_args=[*theirs, *args[3:]], baseline_gradient=Gradient(grad),
    )  # fmt: skip


def _backward(i: int) -> Built:
    """Ours is an op that gives gradients; the baseline runs forward and backward."""
    args = _arguments(*ODD[i])
    grads = [Values("filters' gradients").normal(*shape) for shape, _ in slices_of(*args[2:])]
    theirs = [t.clone().requires_grad_() for t in args[:2]]
    return side_by_side(
        "csg_kernels_backward", [grads, *args], _together(plain), cost.forward("csg_kernels_backward", [grads, *args]),
        baseline_args=[*theirs, *args[2:]],
        baseline_gradient=Gradient(torch.cat([grad.flatten() for grad in grads])),
    )  # fmt: skip


def _convolutions(n: int) -> Built:
    """Forward and backward through all 54 convolutions, each on a fixed input, to inputs and parameters.

    Ours, channels_last, and per-layer generation in PyTorch ("eager"); beside them the plain convolutions.
    """
    shapes, geometry = resnet56()
    values, last = Values("inputs"), torch.channels_last
    args = _arguments(shapes, SLICE, CODE)
    learn(args[:2])
    inputs = [
        values.normal(n, shape[1], size, size).contiguous(memory_format=last).requires_grad_()
        for (shape, _), (size, _) in zip(slices_of(shapes, SLICE), geometry, strict=True)
    ]

    def loss(filters: list[Tensor], xs: list[Tensor]) -> Tensor:
        ys = [functional.conv2d(x, w, None, s, 1) for x, w, (_, s) in zip(xs, filters, geometry, strict=True)]
        return torch.stack([y.sum() for y in ys]).sum()

    def network(generate: Callable, channels_last: bool) -> Callable:
        return lambda codes, generator, xs: loss(generate(codes, generator, shapes, SLICE, "block", channels_last), xs)

    theirs = [*args[:2], inputs]
    one = Gradient(torch.tensor(1.0))
    extra = []
    for name, order in (("plain channels_last", last), ("plain NCHW", torch.contiguous_format)):
        filters = [f.detach().contiguous(memory_format=order) for f in plain(*args)]
        xs = [x.detach().contiguous(memory_format=order) for x in inputs]
        learn(filters, xs)
        extra.append(Contender(name, "own", call(loss, [filters, xs], one)))
    spent = cost.training("csg_kernels", args) + _convolution_cost(n, shapes, geometry)
    return side_by_side(
        "csg_kernels", args, network(plain, False), spent, one, ours=network(torch.ops.spectral.csg_kernels, True),
        our_args=theirs, baseline_args=theirs, extra=extra,
    )  # fmt: skip


def _convolution_cost(n: int, shapes: list[int], geometry: list[tuple[int, int]]) -> cost.Cost:
    flops = size = 0.0
    for ((o, i, kh, kw), _), (image, stride) in zip(slices_of(shapes, SLICE), geometry, strict=True):
        pixels = n * (image // stride) ** 2
        flops += 6.0 * pixels * o * i * kh * kw
        size += 4.0 * 3 * (n * i * image**2 + pixels * o)
    return cost.Cost(flops, size)
