"""The first pass of a TDLRT step: the gradients of all K_i at once, without the gradient of the full kernel.

With Mat_i(C)^T = Q_i S_i^T and K_i = U_i S_i the weight is W = Ten_i(Q_i^T) x_(j != i) U_j x_i K_i for every mode i, so
    grad K_i = Mat_i(G x_(j != i) U_j^T) Q_i,   G the gradient of W, which is never made:
of the output mode it is the product of y's gradient with the rank channels that the core Ten_1(Q_1^T) gives, of the
input mode that of x with the gradient that arrives through the core Ten_2(Q_2^T), and of the window's modes it follows
from the gradient of the small core. Theorem 1 of the TDLRT paper. From grad U_i = grad K_i S_i^T it cannot be had in
floating point where S_i is ill-conditioned.

The same two products by cores are the layer itself: y is K_1 times the rank channels of Ten_1(Q_1^T), and x's gradient
K_2 times what arrives through Ten_2(Q_2^T). So the pass convolves with two cores, an ordinary one with three.

Where a GPU's kernels take the layer in both directions, they give all of this: `tucker_conv2d_backward` with the two
cores as `core_out` and `core_in`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.grad import conv2d_weight

from ..forced import forced
from ..op import backends, rule_of
from ..ops import tucker_stages
from ..ops.branch_conv2d import layout_of
from ..ops.tucker_conv2d import taps_first, whole_core
from ..ops.tucker_stages import from_ranks, outer, to_ranks
from .tucker import mode_multiply, unfold_mode


@dataclass
class KPass:
    """What the pass needs of a layer, and what it finds.

    cores: Ten_i(Q_i^T) of the modes that move. k: K_i = U_i S_i of these. gradients: grad K_i of each, added up over
    the calls of the layer.
    """

    cores: dict[int, Tensor]
    k: dict[int, Tensor]
    gradients: dict[int, Tensor] = field(default_factory=dict)

    def add(self, mode: int, gradient: Tensor) -> None:
        self.gradients[mode] = self.gradients[mode] + gradient if mode in self.gradients else gradient

    def convolve(self, x: Tensor, core: Tensor, u_out: Tensor, u_in: Tensor, bias: Tensor | None, *rest: Any) -> Tensor:
        """In the place of `torch.ops.spectral.tucker_conv2d`, without groups."""
        *geometry, u_h, u_w, _ = rest
        stages = _Convolution(core, u_out, u_in, u_h, u_w, *geometry)
        kind = _FusedPass if stages.fits_one_kernel(self, x, core) else _Pass
        return kind.apply(x, core, bias, self, stages)

    def multiply(self, x: Tensor, core: Tensor, u_out: Tensor, u_in: Tensor, bias: Tensor | None) -> Tensor:
        """In the place of `TuckerLinear.multiply`."""
        y = _Pass.apply(x.reshape(-1, x.shape[-1]), core, bias, self, _Product(u_out, u_in))
        return y.view(*x.shape[:-1], -1)


class _Product:
    """The three stages of a layer whose x has a row a sample."""

    def __init__(self, u_out: Tensor, u_in: Tensor) -> None:
        self.u_out, self.u_in = u_out, u_in

    def into(self, x: Tensor, u: Tensor) -> Tensor:
        return x @ u

    def out_of(self, h: Tensor, u: Tensor, bias: Tensor | None, like: Tensor) -> Tensor:
        return functional.linear(h, u, bias)

    def through(self, a: Tensor, core: Tensor) -> Tensor:
        return a @ core.mT

    def back(self, a: Tensor, core: Tensor, grad: Tensor) -> Tensor:
        return grad @ core

    def outer(self, x: Tensor, h: Tensor) -> Tensor:
        return x.mT @ h

    def window(self, run: KPass, a: Tensor, grad: Tensor) -> None:
        """There is none."""


class _Convolution:
    """The three stages of a convolution, rank channels in channels_last."""

    def __init__(
        self, core: Tensor, u_out: Tensor, u_in: Tensor, u_h: Tensor | None, u_w: Tensor | None, *geometry: Any
    ) -> None:
        self.u_out, self.u_in, self.spatial, self.geometry = u_out, u_in, (u_h, u_w), geometry
        window = (n if u is None else u.shape[0] for n, u in zip(core.shape[2:], self.spatial, strict=True))
        self.shape = (*core.shape[:2], *window)

    def _whole(self, core: Tensor) -> Tensor:
        return whole_core(core, core.shape[0], *self.spatial, 1)

    def into(self, x: Tensor, u: Tensor) -> Tensor:
        return to_ranks(x, u)

    def out_of(self, h: Tensor, u: Tensor, bias: Tensor | None, like: Tensor) -> Tensor:
        layout = layout_of(like)
        return from_ranks(h, u, bias, 1, layout).contiguous(memory_format=layout)

    def through(self, a: Tensor, core: Tensor) -> Tensor:
        stride, padding, dilation = self.geometry
        return tucker_stages.run(a, self._whole(core), None, None, None, stride, padding, dilation, 1)

    def back(self, a: Tensor, core: Tensor, grad: Tensor) -> Tensor:
        return tucker_stages.gradient_of_x(a, self._whole(core), grad, *self.geometry)

    def outer(self, x: Tensor, h: Tensor) -> Tensor:
        return outer(x, h)

    def window(self, run: KPass, a: Tensor, grad: Tensor) -> None:
        if run.cores.keys() & {2, 3}:
            self.add_window(run, conv2d_weight(a, self.shape, grad, *self.geometry))

    def add_window(self, run: KPass, whole: Tensor) -> None:
        """grad K_i of the window's modes; whole: G x_1 U_1^T x_2 U_2^T."""
        for mode, other, u in ((2, 3, self.spatial[1]), (3, 2, self.spatial[0])):
            if mode in run.cores:
                inner = whole if u is None else mode_multiply(whole, u.mT, other)
                run.add(mode, unfold_mode(inner, mode) @ unfold_mode(run.cores[mode], mode).mT)

    def arguments(self, run: KPass, grad_y: Tensor, x: Tensor, core: Tensor, want_grad_x: bool) -> tuple[Any, ...]:
        """Of `tucker_conv2d_backward`."""
        own, out, into = (
            None if c is None else taps_first(self._whole(c), 1) for c in (core, run.cores.get(0), run.cores.get(1))
        )
        return (grad_y, x, own, self.u_out, self.u_in, *self.geometry, want_grad_x, out, into)

    def fits_one_kernel(self, run: KPass, x: Tensor, core: Tensor) -> bool:
        """Whether kernels for all stages run forward and backward; they want cores of equal sizes."""
        if any(run.cores[i].shape != core.shape for i in (0, 1) if i in run.cores):
            return False
        if x.dtype != core.dtype or torch.is_autocast_enabled(x.device.type):  # autocast casts the stages
            return False
        forward = (x, core, self.u_out, self.u_in, None, *self.geometry, *self.spatial, 1)
        if _taken("tucker_conv2d", *forward) == "reference":
            return False
        with torch.no_grad():
            like_y = x.new_empty(()).expand(rule_of("tucker_conv2d").empty(*(_meta(t) for t in forward)).shape)
            return _taken("tucker_conv2d_backward", *self.arguments(run, like_y, x, core, True)) != "reference"


def _taken(op: str, *args: Any) -> str:
    """The backend that an op takes."""
    return forced() or next(name for name, reason in backends(op, *args) if reason is None)


def _meta(t: Any) -> Any:
    return t.to("meta") if isinstance(t, Tensor) else t


Stages = _Product | _Convolution


class _Pass(torch.autograd.Function):
    """The layer at the old point; backward leaves the gradients of its K_i in `run` and gives x's."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, core: Tensor, bias: Tensor | None, run: KPass, stages: Stages) -> Tensor:
        x = x.contiguous(memory_format=layout_of(x)) if x.dim() == 4 else x
        a = stages.into(x, stages.u_in)
        moves = 0 in run.cores
        h = stages.through(a, run.cores[0] if moves else core)
        ctx.run, ctx.stages = run, stages
        ctx.save_for_backward(x, core, a, h if moves else None)
        return stages.out_of(h, run.k[0] if moves else stages.u_out, bias, x)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        (x, core, a, h), run, stages = ctx.saved_tensors, ctx.run, ctx.stages
        if x.dim() == 4:
            grad_y = grad_y.contiguous(memory_format=layout_of(x))
        if h is not None:
            run.add(0, stages.outer(grad_y, h))
        grad_b, grad_x, moves = stages.into(grad_y, stages.u_out), None, 1 in run.cores
        stages.window(run, a, grad_b)
        if moves or ctx.needs_input_grad[0]:
            z = stages.back(a, run.cores[1] if moves else core, grad_b)
            if moves:
                run.add(1, stages.outer(x, z))
            if ctx.needs_input_grad[0]:
                grad_x = stages.out_of(z, run.k[1] if moves else stages.u_in, None, x)
        # the core takes part so that the pass reaches layers whose input wants no gradient; its own is not needed
        return grad_x, None, None, None, None


class _FusedPass(torch.autograd.Function):
    """The same by the kernels that keep all rank channels on the chip."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, core: Tensor, bias: Tensor | None, run: KPass, stages: _Convolution) -> Tensor:
        ctx.run, ctx.stages = run, stages
        ctx.save_for_backward(x, core)
        more = (*stages.geometry, *stages.spatial, 1)
        return torch.ops.spectral.tucker_conv2d(x, core, stages.u_out, stages.u_in, bias, *more)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        (x, core), run, stages, wanted = ctx.saved_tensors, ctx.run, ctx.stages, ctx.needs_input_grad[0]
        arguments = stages.arguments(run, grad_y, x, core, wanted)
        grad_x, whole, *factors, _ = torch.ops.spectral.tucker_conv2d_backward(*arguments)
        for mode, gradient in enumerate(factors):
            if mode in run.cores:
                run.add(mode, gradient)
        stages.add_window(run, whole[0].permute(2, 3, 0, 1))
        return grad_x if wanted else None, None, None, None, None


def batched(function: Callable[[Tensor], Any], matrices: list[Tensor]) -> list[Any]:
    """function(matrix) of each, in one call for all of equal shape; its results are tensors or tuples of tensors."""
    places: dict[Any, list[int]] = {}
    for i, m in enumerate(matrices):
        places.setdefault((m.shape, m.dtype, m.device), []).append(i)
    results: list[Any] = [None] * len(matrices)
    for group in places.values():
        if len(group) == 1:
            results[group[0]] = function(matrices[group[0]])
            continue
        found = function(torch.stack([matrices[i] for i in group]))
        for k, i in enumerate(group):
            results[i] = found[k] if isinstance(found, Tensor) else tuple(part[k] for part in found)
    return results
