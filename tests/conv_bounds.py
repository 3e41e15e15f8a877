"""The bounds of `spectral_conv2d` and `branch_conv2d_backward`; see `bounds.py`."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import grad as gradients


def spectral(m: Any, args: list[Any]) -> list[Any]:
    x, transform, weight, bias, activation, inverse, *geometry = args
    q = transform.v.shape[1]
    tubes = type(x)(x.v.unflatten(1, (q, -1)), x.e.unflatten(1, (q, -1)))
    h = m.convolve(m.along(tubes, transform, 1), weight, bias, activation, geometry)
    y = m.along(h, inverse, 1)
    if activation == "none":  # as one convolution: nothing cancels before the products are added
        sizes = [m.exact(t.v.abs()) for t in (tubes, transform, weight, inverse)]
        most = m.along(m.convolve(m.along(*sizes[:2], 1), sizes[2], None, "none", geometry), sizes[3], 1)
        terms = weight.v[0, 0].numel() * transform.v.numel()
        y.e = y.e + m.dot(terms, most.v)
    return [type(x)(y.v.flatten(1, 2), y.e.flatten(1, 2))]


def backward(m: Any, args: list[Any]) -> list[Any]:
    """Each gradient is linear in each of its two factors: as many terms as meet in one of its values."""
    grad_y, x, weight, stride, padding, dilation, want_x, want_weight = args
    geometry = (stride, padding, dilation, weight.v.shape[0])
    images, kernel = x.v.flatten(1, 2).shape, weight.v.flatten(0, 1).shape

    def to_x(g: Tensor, w: Tensor) -> Tensor:
        return gradients.conv2d_input(images, w.flatten(0, 1), g.flatten(1, 2), *geometry).view(x.v.shape)

    def to_weight(g: Tensor, image: Tensor) -> Tensor:
        return gradients.conv2d_weight(image.flatten(1, 2), kernel, g.flatten(1, 2), *geometry).view(weight.v.shape)

    pixels = grad_y.v[:, 0, 0].numel()
    window = weight.v[0, :, 0].numel()
    nothing = m.exact(grad_y.v.new_empty(0))
    return [
        _bilinear(m, to_x, grad_y, weight, window) if want_x else nothing,
        _bilinear(m, to_weight, grad_y, x, pixels) if want_weight else nothing,
    ]


def _bilinear(m: Any, f: Any, a: Any, b: Any, terms: int) -> Any:
    inherited = (f(a.v.square(), b.e.square()) + f(a.e.square(), b.v.square() + b.e.square())).sqrt()
    return type(a)(f(a.v, b.v), inherited + m.dot(terms, f(a.v.abs(), b.v.abs())))
