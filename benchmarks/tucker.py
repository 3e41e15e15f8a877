"""Convolutions in Tucker form against three separate convolutions and against the convolution that they replace."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from . import cost
from .contenders import Built, Case, Gradient, Values, call, learn, side_by_side
from .convolutions import LAYOUTS, passes
from .measure import Contender

# channels in and out, ranks in and out, height and width, N, stride: a layer of VGG16, its early one, small ranks
LAYERS = (
    (256, 256, 40, 40, 8, 128, 1),
    (256, 64, 64, 64, 56, 8, 1),
    (64, 64, 8, 8, 32, 32, 1),
    (64, 64, 1, 1, 32, 32, 1),
    (256, 512, 76, 60, 16, 32, 2),
)
# C, O, ranks in and out, (H, W), window, N, groups: what no constant was chosen for
ODD = (
    (37, 41, 11, 13, (29, 31), (3, 3), 7, 1),
    (23, 29, 19, 3, (23, 19), (5, 5), 5, 1),
    (34, 51, 5, 7, (17, 37), (2, 3), 3, 17),
)


def cases() -> Iterator[Case]:
    for c, o, r_in, r_out, image, n, stride in LAYERS:
        for layout in LAYOUTS:
            for training in (False, True):
                sizes = f"{c}->{r_in}->{r_out}->{o} 3x3 {image}x{image} stride={stride} N={n}"
                build = partial(_layer, c, o, r_in, r_out, image, n, stride, layout, training)
                yield Case(f"tucker_conv2d {sizes} {layout} {passes(training)}", "tucker_conv2d", build, "targets", 1.0)
    for i, (c, o, r_in, r_out, image, window, n, groups) in enumerate(ODD):
        shape, kernel = ("x".join(map(str, pair)) for pair in (image, window))
        sizes = f"{c}->{r_in}->{r_out}->{o} {kernel} {shape} N={n} groups={groups}"
        for training in (False, True):
            name = f"tucker_conv2d {sizes} {passes(training)}"
            yield Case(name, "tucker_conv2d", partial(_odd, i, training), "odd shapes")
        name = f"tucker_conv2d_backward {sizes}"
        yield Case(name, "tucker_conv2d_backward", partial(_odd_gradients, i), "odd shapes")


def _odd_gradients(i: int) -> Built:
    """All gradients from y's, through the rank channels that the backward pass makes anew."""
    c, o, r_in, r_out, image, window, n, groups = ODD[i]
    values, stride, padding = Values("gradients of odd Tucker convolutions"), (2, 1), (1, 2)
    x, core = values.normal(n, c // groups * groups, *image), values.normal(groups, *window, r_out, r_in)
    factors = [values.normal(o, r_out), values.normal(c, r_in)]
    size = [(p + 2 * pad - k) // s + 1 for p, k, s, pad in zip(image, window, stride, padding, strict=True)]
    args = [values.normal(n, o, *size), x, core, *factors, list(stride), list(padding), [1, 1], True, None, None]
    spent = cost.forward("tucker_conv2d_backward", args)
    return side_by_side("tucker_conv2d_backward", args, gradients_of_three, spent)


def gradients_of_three(grad_y: Tensor, x: Tensor, core: Tensor, u_out: Tensor, u_in: Tensor, *rest: Any) -> Any:
    """The same from autograd through three convolutions."""
    stride, padding, dilation, *_ = rest
    groups = core.shape[0]
    weight = core.permute(0, 3, 4, 1, 2).flatten(0, 1)
    leaves = [t.detach().requires_grad_() for t in (x, weight, u_out, u_in)]
    bias = u_out.new_zeros(u_out.shape[0], requires_grad=True)
    y = three_convolutions(*leaves, bias, stride, padding, dilation, groups=groups)
    grad_x, grad_weight, *others = torch.autograd.grad(y, [*leaves, bias], grad_y)
    return grad_x, grad_weight.unflatten(0, (groups, -1)).permute(0, 3, 4, 1, 2), *others


def three_convolutions(
    x: Tensor,
    core: Tensor,
    u_out: Tensor,
    u_in: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    u_h: None = None,
    u_w: None = None,
    groups: int = 1,
) -> Tensor:
    """What a user writes: eq. (7), (8), (9) of paper 4 as three convolutions, in x's layout."""
    rank = u_in.shape[1]
    inner = u_in.view(groups, -1, rank).mT.reshape(groups * rank, -1, 1, 1)
    h = functional.conv2d(x, inner, groups=groups)
    h = functional.conv2d(h, core, None, list(stride), list(padding), list(dilation), groups)
    return functional.conv2d(h, u_out[:, :, None, None], bias, groups=groups)


def _in_both_layouts(layout: str) -> dict[str, Callable[..., Tensor]]:
    """Three convolutions as x comes, and with x and y converted to and from the other layout."""

    def converted(x: Tensor, *rest: Any) -> Tensor:
        other = next(f for name, f in LAYOUTS.items() if name != layout)
        y = three_convolutions(x.contiguous(memory_format=other), *rest)
        return y.contiguous(memory_format=LAYOUTS[layout])

    return {"three convolutions": three_convolutions, "converted": converted}


def _layer(
    c: int, o: int, r_in: int, r_out: int, image: int, n: int, stride: int, layout: str, training: bool
) -> Built:
    values, form = Values("tucker_conv2d"), LAYOUTS[layout]
    x = values.normal(n, c, image, image).contiguous(memory_format=form)
    core = values.normal(r_out, r_in, 3, 3, scale=(2 / (9 * r_in)) ** 0.5)
    u_out, u_in = values.normal(o, r_out, scale=r_out**-0.5), values.normal(c, r_in, scale=c**-0.5)
    bias, geometry = values.normal(o), [[stride, stride], [1, 1], [1, 1]]
    args = [x, core, u_out, u_in, bias, *geometry]
    gradient = None
    if training:
        learn([x, core, u_out, u_in, bias])
        small = (image - 1) // stride + 1
        gradient = Gradient(values.normal(n, o, small, small).contiguous(memory_format=form))
    spent = (cost.training if training else cost.forward)("tucker_conv2d", args)
    dense = [x.detach().clone(memory_format=torch.preserve_format), values.normal(o, c, 3, 3), values.normal(o)]
    if training:
        learn(dense)

    def convolution(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return functional.conv2d(x, weight, bias, stride=stride, padding=1)

    extra = [Contender("dense", "own", call(convolution, dense, gradient))]
    return side_by_side("tucker_conv2d", args, _in_both_layouts(layout), spent, gradient, extra=extra)


def _odd(i: int, training: bool) -> Built:
    c, o, r_in, r_out, image, window, n, groups = ODD[i]
    values = Values("odd Tucker convolutions")
    core = values.normal(groups * r_out, r_in, *window, scale=(r_in * window[0] * window[1]) ** -0.5)
    factors = [values.normal(o, r_out), values.normal(c, r_in)]
    args = [values.normal(n, c, *image), core, *factors, values.normal(o), [2, 1], [1, 2], [1, 1], None, None, groups]
    if training:
        learn(args[:5])
    spent = (cost.training if training else cost.forward)("tucker_conv2d", args)
    return side_by_side("tucker_conv2d", args, three_convolutions, spent, Gradient() if training else None)
