"""The error analysis of convolutions in Tucker form and of their gradients; see `bounds.py`."""

from __future__ import annotations

from typing import Any

import torch
from bounds import Arithmetic, Value
from torch import Tensor
from torch.nn import functional

_ONE = ([1, 1], [0, 0], [1, 1])


def _pointwise(m: Arithmetic, x: Value, u: Tensor) -> Value:
    """Factors (g, out, in) at each pixel of (N, g, in, H, W)."""
    return m.convolve(x, m.exact(u.reshape(*u.shape, 1, 1)), None, "none", list(_ONE))


def _groups(t: Value, g: int) -> Value:
    return Value(t.v.unflatten(1, (g, -1)), t.e.unflatten(1, (g, -1)))


def conv2d(m: Arithmetic, args: list[Any]) -> list[Value]:
    """As three convolutions, or with the factors multiplied into the core first: both errors are allowed."""
    x, core, u_out, u_in, bias, *geometry, u_h, u_w, g = args
    image = _groups(x, g)
    for dim, u in ((2, u_h), (3, u_w)):
        core = core if u is None else m.along(core, u, dim)
    rank_out, rank_in = u_out.v.shape[1], core.v.shape[1]

    def of_groups(t: Value, *shape: int) -> Value:
        v, e = (part.repeat(shape[0] * shape[1] // len(part), 1, 1, 1) for part in (t.v, t.e))
        return Value(v.reshape(shape), e.reshape(shape))

    inner, outer = (u.v.view(g, -1, u.v.shape[1]) for u in (u_in, u_out))
    middle = m.rounded(of_groups(core, g, rank_out, rank_in, *core.v.shape[2:]))
    vector = None if bias is None else m.exact(bias.v.view(g, -1))
    h = m.rounded(_pointwise(m, image, inner.mT))
    h = m.rounded(m.convolve(h, middle, None, "none", geometry))
    y = m.convolve(h, m.exact(outer[..., None, None]), vector, "none", list(_ONE))
    left = m.matmul(m.exact(outer), Value(middle.v.flatten(2), middle.e.flatten(2)))
    flat = (g, -1, rank_in, core.v[0, 0].numel())
    left = Value(left.v.reshape(flat), left.e.reshape(flat)).permute(0, 1, 3, 2)
    both = m.matmul(left, m.exact(inner.mT.unsqueeze(1))).permute(0, 1, 3, 2)
    shape = (*both.v.shape[:3], *core.v.shape[2:])
    whole = m.convolve(image, Value(both.v.reshape(shape), both.e.reshape(shape)), vector, "none", geometry)
    return [Value(y.v.flatten(1, 2), (y.e + whole.e).flatten(1, 2))]


def conv2d_backward(m: Arithmetic, args: list[Any]) -> list[Value]:
    grad, x, core, u_out, u_in, stride, padding, dilation, want, core_out, core_in = args
    g, kh, kw, _, _ = core.v.shape
    image, of_y = _groups(x, g), _groups(grad, g)
    inner, outer = (u.v.view(g, -1, u.v.shape[1]) for u in (u_in, u_out))
    a, d = m.rounded(_pointwise(m, image, inner.mT)), m.rounded(_pointwise(m, of_y, outer.mT))

    def through(c: Value) -> Value:
        return m.rounded(m.convolve(a, c.permute(0, 3, 4, 1, 2), None, "none", [stride, padding, dilation]))

    spread = _spread(d, x.v.shape[2:], (kh, kw), stride, padding, dilation)

    def back(c: Value) -> Value:
        """The adjoint: a convolution of d, apart by the stride, with the taps in reverse."""
        turned = Value(c.v.flip(1, 2), c.e.flip(1, 2)).permute(0, 4, 3, 1, 2)
        return m.rounded(m.convolve(spread, turned, None, "none", [[1, 1], [0, 0], dilation]))

    e = back(core)
    grad_u_out = m.matmul(_rows(of_y), _rows(through(core_out or core)).mT)
    grad_u_in = m.matmul(_rows(image), _rows(back(core_in or core) if core_in else e).mT)
    taps = [m.matmul(_rows(d), _rows(t).mT) for t in _taps(a, d, (kh, kw), stride, padding, dilation)]
    grad_core = Value(*(torch.stack([getattr(t, part) for t in taps], 1) for part in "ve"))
    grad_core = Value(*(part.unflatten(1, (kh, kw)) for part in (grad_core.v, grad_core.e)))
    grad_x = _pointwise(m, e, inner)
    flat = [Value(t.v.flatten(0, 1), t.e.flatten(0, 1)) for t in (grad_u_out, grad_u_in)]
    first = Value(grad_x.v.flatten(1, 2), grad_x.e.flatten(1, 2)) if want else m.exact(torch.zeros(0))
    bias = m.sum(Value(_rows(of_y).v.flatten(0, 1), _rows(of_y).e.flatten(0, 1)), 1)
    return [first, grad_core, *flat, bias]


def _rows(t: Value) -> Value:
    """(N, g, c, H, W) -> (g, c, N H W)."""
    return Value(*(part.permute(1, 2, 0, 3, 4).flatten(2) for part in (t.v, t.e)))


def _spread(d: Value, size: Any, window: Any, stride: Any, padding: Any, dilation: Any) -> Value:
    """Zeros between the pixels of d, and around them so many that a window fits at each pixel of x."""

    def wide(t: Tensor) -> Tensor:
        n, g, c, h, w = t.shape
        apart = t.new_zeros(n, g, c, (h - 1) * stride[0] + 1, (w - 1) * stride[1] + 1)
        apart[..., :: stride[0], :: stride[1]] = t
        pads: list[int] = []
        for k in (1, 0):
            before, inside = dilation[k] * (window[k] - 1) - padding[k], apart.shape[3 + k]
            pads += [before, size[k] + dilation[k] * (window[k] - 1) - before - inside]
        return functional.pad(apart, pads)

    return Value(wide(d.v), wide(d.e))


def _taps(a: Value, d: Value, window: Any, stride: Any, padding: Any, dilation: Any) -> list[Value]:
    """What each tap of the window meets of a, at the pixels of d."""
    pads = [padding[1], padding[1], padding[0], padding[0]]
    padded = [functional.pad(part, pads) for part in (a.v, a.e)]
    found = []
    for i in range(window[0]):
        for j in range(window[1]):
            top, left = i * dilation[0], j * dilation[1]
            rows = slice(top, top + (d.v.shape[3] - 1) * stride[0] + 1, stride[0])
            columns = slice(left, left + (d.v.shape[4] - 1) * stride[1] + 1, stride[1])
            found.append(Value(*(part[..., rows, columns] for part in padded)))
    return found
