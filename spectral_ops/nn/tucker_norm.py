"""TuckerNorm2d: a convolution in Tucker form and the batch norm after it, whose statistics come from rank channels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ..autograd import ordinary, transforming
from ..forced import forced
from ..ops import tucker_stages
from ..ops.branch_conv2d import layout_of
from ..ops.tucker_conv2d import whole_core
from .tucker import TuckerConv2d

COLUMNS = 16  # of which a matrix of rank channels has a multiple: products of 154 or 155 columns take longer


class TuckerNorm2d(nn.Sequential):
    """norm(conv(x)), in training on a CPU without a pass over y: what a batch norm reads and writes no rank shrinks.

    With y = u_out z of the rank channels z, their mean m and covariance S over all pixels,
        mean(y) = u_out m,  var(y) = diag(u_out S u_out^T),
        norm(y) = gamma rsqrt(var(y) + eps) u_out (z - m) + beta,
    so that one product of z writes what is normalised, and its gradient needs no y.

    Args:
        conv: a TuckerConv2d. norm: the BatchNorm2d of its output. Both stay what they are: parameters, buffers, modes.

    x (N, C, H, W) -> (N, O, H', W'). The pair runs one after the other where the joint form does not apply or pay: in
    evaluation, with a bias (which batch norm takes away again) or groups, in NCHW, in half precision, on a GPU, for a
    single image, under `torch.func` and `torch.compile`, and where conv or norm has been replaced by another module.

    Accuracy: as of the pair, where a channel's variance is not small beside ||u_out[o]||^2 ||S||, of which its error is
        a few eps.
    Gradient: to x and all parameters, first order.
    Source: the case of one linear layer of Ioffe and Szegedy, Batch Normalization (2015), Algorithm 1.

    >>> layer = TuckerNorm2d(TuckerConv2d(64, 128, 3, bias=False, ranks=(24, 16)), nn.BatchNorm2d(128))
    >>> layer(torch.rand(2, 64, 8, 8)).shape
    torch.Size([2, 128, 6, 6])
    """

    def __init__(self, conv: TuckerConv2d, norm: nn.BatchNorm2d) -> None:
        name = type(self).__name__
        if not isinstance(conv, TuckerConv2d):
            raise TypeError(f"{name}: conv must be a TuckerConv2d, got {type(conv).__name__}")
        if not isinstance(norm, nn.BatchNorm2d):
            raise TypeError(f"{name}: norm must be a torch.nn.BatchNorm2d, got {type(norm).__name__}")
        if norm.num_features != conv.out_channels:
            raise ValueError(f"{name}: norm must have {conv.out_channels} features as conv, got {norm.num_features}")
        super().__init__(conv, norm)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, O, H', W')."""
        conv, norm = self
        if not self._jointly(x):
            return norm(conv(x))
        x, geometry = conv._padded(x)
        stride, padding, dilation = geometry
        core = whole_core(conv.core, conv.u_out.shape[1], conv.u_h, conv.u_w, 1)
        z = tucker_stages.run(x, core, conv.u_in, None, None, stride, padding, dilation, 1)
        y, mean, variance = _Normalised.apply(z, conv.u_out, norm.weight, norm.bias, norm.eps)
        if norm.track_running_stats:
            pixels = z.numel() // z.shape[1]
            with torch.no_grad():
                norm.num_batches_tracked.add_(1)
                share = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
                norm.running_mean.lerp_(mean, share)
                norm.running_var.lerp_(variance * (pixels / (pixels - 1)), share)
        return y

    def _jointly(self, x: Tensor) -> bool:
        conv, norm = self
        if torch.compiler.is_compiling() or transforming() or type(conv) is not TuckerConv2d or forced() is not None:
            return False
        if type(norm) is not nn.BatchNorm2d or not norm.training or norm.weight is None:
            return False
        if conv.bias is not None or conv.groups > 1 or "convolve" in conv.__dict__:  # which a training method put there
            return False
        if x.dim() != 4 or x.shape[0] < 2 or not x.numel() or not x.is_cpu or not ordinary([x]):
            return False
        if x.dtype not in (torch.float32, torch.float64) or torch.is_autocast_enabled("cpu"):
            return False
        alike = x.dtype == conv.core.dtype == norm.weight.dtype
        return alike and x.shape[1] == conv.in_channels and layout_of(x) is torch.channels_last


class _Normalised(torch.autograd.Function):
    """y from z (N, r, H, W), u (O, r), gamma and beta (O,); also mean and biased variance of u z.

    Rank channels have a column of ones beside them, and zeros: beta takes part in the products, forward and backward.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, u: Tensor, gamma: Tensor, beta: Tensor, eps: float) -> tuple[Tensor, ...]:
        n, r, height, width = z.shape
        rows = tucker_stages.pixels(z)
        mean = rows.mean(0)
        centred = rows.new_zeros(len(rows), -(-(r + 1) // COLUMNS) * COLUMNS)
        torch.sub(rows, mean, out=centred[:, :r])
        centred[:, r] = 1
        spread = u @ ((centred.mT @ centred)[:r, :r] / len(rows))
        variance = (spread * u).sum(1).clamp_min_(0)  # which rounding takes below 0 where rank channels cancel
        inverse = torch.rsqrt(variance + eps)
        factor = u.new_zeros(len(u), centred.shape[1])
        torch.mul(u, (gamma * inverse)[:, None], out=factor[:, :r])
        factor[:, r] = beta
        y = torch.empty((n, len(u), height, width), dtype=z.dtype, memory_format=torch.channels_last)
        torch.mm(centred, factor.mT, out=tucker_stages.pixels(y))
        mean = u @ mean
        ctx.save_for_backward(centred, u, gamma, factor, spread, inverse)
        ctx.sizes = (n, height, width, r)
        ctx.mark_non_differentiable(mean, variance)
        return y, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        centred, u, gamma, factor, spread, inverse = ctx.saved_tensors
        r = u.shape[1]
        rows = tucker_stages.pixels(grad.contiguous(memory_format=torch.channels_last))
        sums = (centred.mT @ rows).mT
        grad_factor, grad_beta = sums[:, :r], sums[:, r]
        along = (grad_factor * u).sum(1)
        grad_variance = -0.5 * inverse**3 * gamma * along
        grad_u = grad_factor * (gamma * inverse)[:, None] + 2 * grad_variance[:, None] * spread
        # through the covariance, and less the mean of it all, as z was centred
        turn = u.new_zeros(centred.shape[1], r)
        torch.mm(u.mT, u * (2 / len(rows) * grad_variance)[:, None], out=turn[:r])
        turn[r] = grad_beta @ factor[:, :r] / -len(rows)
        grad_z = torch.mm(rows, factor[:, :r]).addmm_(centred, turn)
        return grad_z.view(ctx.sizes).permute(0, 3, 1, 2), grad_u, along * inverse, grad_beta, None
