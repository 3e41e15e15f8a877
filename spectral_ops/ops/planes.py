"""Complex images as real ones, so that the library's real convolution and products serve them.

In planes, the channels of each group of an image are its real parts, then its imaginary ones: (N, G 2 I, H, W) for a
complex (N, G I, H, W). A complex factor is then a real 2 x 2 matrix.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .activations import apply, apply_


def split(x: Tensor, groups: int, last: bool) -> Tensor:
    """The planes of complex images x (N, G I, H, W); last: channels_last, as x is then."""
    y = (x.permute(0, 2, 3, 1) if last else x).unflatten(3 if last else 1, (groups, -1))
    y = torch.stack([y.real, y.imag], 4 if last else 2)
    return y.flatten(3).permute(0, 3, 1, 2) if last else y.flatten(1, 3)


def joined(y: Tensor, groups: int) -> Tensor:
    """The complex images (N, G I, H, W) whose planes are y (N, G 2 I, H, W), in the memory order of y."""
    parts = y.unflatten(1, (groups, 2, -1))
    return torch.complex(parts[:, :, 0], parts[:, :, 1]).flatten(1, 2)


def activated(name: str, h: Tensor, groups: int, last: bool) -> Tensor:
    """A complex activation of planes h, which belong to the caller."""
    if name in ("none", "crelu"):
        return apply_("relu" if name == "crelu" else name, h)
    return split(apply(name, joined(h, groups)), groups, last)


def matrix_form(m: Tensor, real_in: bool = False, real_out: bool = False) -> Tensor:
    """The matrix (P, Q) on planes, (2 P, 2 Q); on real images (2 P, Q); for the real part of the result (P, 2 Q)."""
    rows = [torch.stack(row, -1) for row in _rows(m, real_in, real_out)]
    return torch.stack(rows, 1).flatten(2).flatten(0, 1)


def weight_form(w: Tensor, real_in: bool = False, real_out: bool = False) -> Tensor:
    """The weight (G, O, I, kh, kw) on planes, (G, 2 O, 2 I, kh, kw); I and O as in `matrix_form`."""
    return torch.cat([torch.cat(row, 2) for row in _rows(w, real_in, real_out)], 1)


def weight_of(grad: Tensor) -> Tensor:
    """The gradient of w, from that of `weight_form(w)`."""
    upper, lower = grad.unflatten(1, (2, -1)).unbind(1)
    (a, b), (c, d) = (half.unflatten(2, (2, -1)).unbind(2) for half in (upper, lower))
    return torch.complex((a + d).contiguous(), (c - b).contiguous())


def layer_form(w: Tensor, bias: Tensor | None, real_in: bool) -> tuple[Tensor, Tensor | None]:
    """The real weight and bias of branches whose results are planes.

    Of a real weight the planes of complex images are branches of their own, twice as many.
    """
    form = w.repeat_interleave(2, 0) if not (w.is_complex() or real_in) else weight_form(w, real_in)
    if bias is None:
        return form, None
    vector = torch.stack(parts(bias), 1)  # (G, 2, O)
    return form, vector.reshape(form.shape[:2])


def layer_gradients(
    form: Tensor | None, vector: Tensor | None, w: Tensor, bias: Tensor | None, real_in: bool
) -> tuple[Tensor | None, Tensor | None]:
    """The gradients of w and bias, from those of `layer_form(w, bias, real_in)`."""
    if form is not None and real_in:
        upper, lower = form.unflatten(1, (2, -1)).unbind(1)
        form = torch.complex(upper.contiguous(), lower.contiguous()) if w.is_complex() else upper
    elif form is not None:
        form = weight_of(form) if w.is_complex() else form.unflatten(0, (-1, 2)).sum(1)
    if vector is not None and bias is not None:
        real, imag = vector.reshape(len(w), 2, -1).unbind(1)
        vector = torch.complex(real.contiguous(), imag.contiguous()) if bias.is_complex() else real
    return form, vector


def parts(m: Tensor) -> list[Tensor]:
    return [m.real, m.imag] if m.is_complex() else [m, torch.zeros_like(m)]


def _rows(m: Tensor, real_in: bool, real_out: bool) -> list[list[Tensor]]:
    """[[Re, -Im], [Im, Re]], without the column that meets imaginary data or the row that gives imaginary results."""
    re, im = parts(m)
    rows = [[re] if real_in else [re, -im], [im] if real_in else [im, re]]
    return rows[:1] if real_out else rows
