"""The convolutions of branches: the layer that replaces a 3 x 3 convolution, and three odd shapes for each op."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from . import baselines, cost
from .contenders import Built, Case, Gradient, Values, call, dct, learn, side_by_side
from .measure import Contender

LAYOUTS = {"channels_last": torch.channels_last, "NCHW": torch.contiguous_format}
CHANNELS, SAMPLES = 64, 32
# branches, N, C/Q, O/Q, height and width, window, activation; what no constant was chosen for
ODD = (
    (3, 7, 11, 13, (29, 31), (3, 3), "gelu"),
    (1, 5, 37, 41, (23, 19), (5, 5), "tanh"),
    (14, 3, 5, 7, (17, 37), (2, 3), "none"),
)
PRODUCTS = (((23, 29, 509), 1), ((61, 31, 37, 11), 2), ((1021, 41), 0))


def cases() -> Iterator[Case]:
    for q in (4, 16):
        for image in (32, 8):
            for layout in LAYOUTS:
                for training in (False, True):
                    name = f"spectral_conv2d 64->64 3x3 {image}x{image} N={SAMPLES} Q={q} {layout} {passes(training)}"
                    limits = {f"dense {other}": 1.0 for other in LAYOUTS}
                    build = partial(_layer, SAMPLES, q, image, layout, training)
                    yield Case(name, "spectral_conv2d", build, "targets", 1.0, limits)
    for n in (8, 128):
        for image, target in {32: 1.0, 16: 1.0, 8: 1.3}.items():
            for training in (False, True):
                sizes = f"{image}x{image} N={n} Q=4 channels_last {passes(training)}"
                limits, large = {"dense channels_last": 1.0}, n == 128
                for op, build in {"spectral_conv2d": _layer, "branch_conv2d": _in_branches}.items():
                    made = partial(build, n, 4, image, "channels_last", training)
                    yield Case(f"{op} 64->64 3x3 {sizes}", op, made, "targets", target, limits, large)
    for i, (q, n, width, out, image, window, activation) in enumerate(ODD):
        sizes = f"Q={q} N={n} {width}->{out} {'x'.join(map(str, image))} {'x'.join(map(str, window))} {activation}"
        for op, build in {"branch_conv2d": _branch_conv2d, "spectral_conv2d": _spectral_conv2d}.items():
            for training in (False, True):
                yield Case(f"{op} {sizes} {passes(training)}", op, partial(build, i, training), "odd shapes")
        yield Case(
            f"branch_conv2d_backward {sizes} fwd", "branch_conv2d_backward", partial(_gradients, i), "odd shapes"
        )
    for shape, dim in PRODUCTS:
        for training in (False, True):
            name = f"mode_product {'x'.join(map(str, shape))} dim={dim} {passes(training)}"
            yield Case(name, "mode_product", partial(_mode_product, shape, dim, training), "odd shapes")


def passes(training: bool) -> str:
    return "fwd+bwd" if training else "fwd"


def _compare(op: str, args: list[Any], forms: Any, training: bool, learned: list[Any], **rest: Any) -> Built:
    if training:
        learn(learned)
    spent = (cost.training if training else cost.forward)(op, args)
    return side_by_side(op, args, forms, spent, Gradient() if training else None, **rest)


def _layer(n: int, q: int, image: int, layout: str, training: bool) -> Built:
    """The layer against the same in plain PyTorch, and against the dense convolution whose place it takes."""
    values, width = Values("spectral_conv2d"), CHANNELS // q
    x = values.normal(n, CHANNELS, image, image).contiguous(memory_format=LAYOUTS[layout])
    weight, bias = values.normal(q, width, width, 3, 3, scale=(2 / (9 * width)) ** 0.5), values.normal(q, width)
    args = [x, dct(q), weight, bias, "relu", dct(q).mT.contiguous(), [1, 1], [1, 1], [1, 1]]
    forms = {
        "1x1 convolutions": baselines.spectral_conv2d_pointwise,
        "matmul": baselines.spectral_conv2d_matmul,
        "permutes": baselines.spectral_conv2d_permutes,
    }
    if layout == "NCHW":  # the fastest stands first: it is compiled too
        forms = dict(sorted(forms.items(), key=lambda form: form[0] != "matmul"))
    extra = [Contender(f"dense {name}", "own", _dense(n, name, image, training)) for name in LAYOUTS]
    return _compare("spectral_conv2d", args, forms, training, [x, weight, bias], extra=extra)


def _in_branches(n: int, q: int, image: int, layout: str, training: bool) -> Built:
    """A layer of a network that stays in its branches, against one grouped convolution and the dense one."""
    values, width = Values("branch_conv2d"), CHANNELS // q
    x = values.normal(n, CHANNELS, image, image).contiguous(memory_format=LAYOUTS[layout]).unflatten(1, (q, width))
    weight, bias = values.normal(q, width, width, 3, 3, scale=(2 / (9 * width)) ** 0.5), values.normal(q, width)
    args = [x, weight, bias, "relu", [1, 1], [1, 1], [1, 1]]
    extra = [Contender(f"dense {layout}", "own", _dense(n, layout, image, training))]
    return _compare("branch_conv2d", args, baselines.branch_conv2d, training, [x, weight, bias], extra=extra)


def _dense(n: int, layout: str, image: int, training: bool) -> Callable[[], Any]:
    values = Values("dense convolution")
    x = values.normal(n, CHANNELS, image, image).contiguous(memory_format=LAYOUTS[layout])
    weight = values.normal(CHANNELS, CHANNELS, 3, 3, scale=(2 / (9 * CHANNELS)) ** 0.5)
    args = [x, weight.contiguous(memory_format=LAYOUTS[layout]), values.normal(CHANNELS)]
    if training:
        learn(args)

    def convolution(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return torch.relu_(functional.conv2d(x, weight, bias, padding=1))

    return call(convolution, args, Gradient() if training else None)


def _odd(i: int) -> tuple[Tensor, Tensor, Tensor, str, list[list[int]]]:
    q, n, width, out, image, window, activation = ODD[i]
    values = Values("odd convolutions")
    weight = values.normal(q, out, width, *window, scale=(width * window[0] * window[1]) ** -0.5)
    return values.normal(n, q, width, *image), weight, values.normal(q, out), activation, [[2, 1], [1, 2], [1, 1]]


def _gradients(i: int) -> Built:
    x, weight, _, _, geometry = _odd(i)
    grad = torch.ones_like(torch.ops.spectral.branch_conv2d(x, weight, None, "none", *geometry))
    args = [grad, x, weight, *geometry, True, True]
    return _compare("branch_conv2d_backward", args, baselines.branch_conv2d_backward, False, [])


def _branch_conv2d(i: int, training: bool) -> Built:
    x, weight, bias, activation, geometry = _odd(i)
    args = [x, weight, bias, activation, *geometry]
    return _compare("branch_conv2d", args, baselines.branch_conv2d, training, [x, weight, bias])


def _spectral_conv2d(i: int, training: bool) -> Built:
    x, weight, bias, activation, geometry = _odd(i)
    q = weight.shape[0]
    args = [x.flatten(1, 2), dct(q), weight, bias, activation, dct(q).mT.contiguous(), *geometry]
    return _compare("spectral_conv2d", args, baselines.spectral_conv2d_matmul, training, [args[0], weight, bias])


def _mode_product(shape: tuple[int, ...], dim: int, training: bool) -> Built:
    values = Values("mode_product")
    args = [values.normal(*shape), values.normal(shape[dim], shape[dim]), dim]

    def plain(x: Tensor, matrix: Tensor, dim: int) -> Tensor:
        return baselines.along(matrix, dim)(x)

    return _compare("mode_product", args, plain, training, args[:2])
