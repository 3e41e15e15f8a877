"""How far a right float32 or float64 kernel may be from the exact result: a running error analysis of every op.

Each quantity is a float64 value with a bound on its error. A sum of K products a.b may be off by 4 eps sqrt(K) |a|.|b|;
the errors that it takes over from a and b add up as independent ones do, in squares (added in full they would grow
fourfold a layer, and eight layers would hide a wrong value). The slope of relu is unsure where the argument is closer
to 0 than its error; what a wrong one does reaches a result along many paths, which add up in full (`Flips`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spectral_ops.ops import activations as activation_rules
from spectral_ops.ops import trigonometric
from spectral_ops.table import TABLE

HALF = (torch.bfloat16, torch.float16)
_STEEPEST = {"none": 1.0, "relu": 1.0, "gelu": 1.13, "silu": 1.1, "tanh": 1.0, "sigmoid": 0.25}
_CURVATURE = {"none": 0.0, "relu": 0.0, "gelu": 0.8, "silu": 0.5, "tanh": 0.77, "sigmoid": 0.1}
_TINY = 1e-37  # below the normal numbers of float32 a relative bound means nothing


@dataclass
class Value:
    """A float64 tensor v, and how far the computed one may be from it, elementwise."""

    v: Tensor
    e: Tensor

    def permute(self, *order: int) -> Value:
        return Value(self.v.permute(*order), self.e.permute(*order))

    @property
    def mT(self) -> Value:
        return Value(self.v.mT, self.e.mT)

    def unsqueeze(self, dim: int) -> Value:
        return Value(self.v.unsqueeze(dim), self.e.unsqueeze(dim))


class Arithmetic:
    """The steps of the ops in arithmetic of precision eps.

    operand: the half dtype to which a kernel for tensor cores rounds what it multiplies; None: it does not.
    """

    def __init__(self, eps: float, operand: torch.dtype | None = None) -> None:
        self.eps, self.operand = eps, operand

    def exact(self, t: Tensor) -> Value:
        return Value(t.double(), torch.zeros_like(t, dtype=torch.float64))

    def dot(self, terms: int, magnitude: Tensor) -> Tensor:
        return 4 * self.eps * max(terms, 1) ** 0.5 * magnitude

    def rounded(self, a: Value) -> Value:
        if self.operand is None:
            return a
        changed = a.v.to(self.operand).double() != a.v
        finfo = torch.finfo(self.operand)
        rounding = torch.where(changed, finfo.eps * a.v.abs() + finfo.tiny * finfo.eps, 0.0)
        return Value(a.v, a.e + rounding + finfo.eps * a.e)  # what is rounded is off by a.e

    def matmul(self, a: Value, b: Value) -> Value:
        a, b = self.rounded(a), self.rounded(b)
        inherited = (a.v.square() @ b.e.square() + a.e.square() @ (b.v.square() + b.e.square())).sqrt()
        return Value(a.v @ b.v, inherited + self.dot(a.v.shape[-1], a.v.abs() @ b.v.abs()))

    def add(self, a: Value, b: Value) -> Value:
        return Value(a.v + b.v, a.e + b.e + self.eps * (a.v.abs() + b.v.abs()))

    def mul(self, a: Value, b: Value) -> Value:
        v = a.v * b.v
        return Value(v, a.e * b.v.abs() + a.v.abs() * b.e + a.e * b.e + self.eps * v.abs())

    def sum(self, a: Value, dim: int) -> Value:
        return Value(a.v.sum(dim), a.e.square().sum(dim).sqrt() + self.dot(a.v.shape[dim], a.v.abs().sum(dim)))

    def activate(self, name: str, z: Value) -> Value:
        v = activation_rules.apply(name, z.v)
        if name in ("none", "relu"):
            return Value(v, z.e)
        # erf and exp have a few ulp; gelu and silu multiply z by something as small as its rounding error
        return Value(v, _STEEPEST[name] * z.e + 8 * self.eps * torch.maximum(v.abs(), z.v.abs().clamp(max=1)))

    def slope(self, name: str, z: Value) -> Value:
        if name == "none":
            return self.exact(torch.ones_like(z.v))
        with torch.enable_grad():
            at = z.v.detach().requires_grad_()
            (v,) = torch.autograd.grad(activation_rules.apply(name, at).sum(), at)
        if name == "relu":
            # a wrong slope is one source, whose paths through later layers add up coherently: squares alone fall short
            return Value(v, 4 * (z.v.abs() <= z.e).double())
        return Value(v, _CURVATURE[name] * z.e + 16 * self.eps)

    def slope_from_result(self, name: str, y: Value) -> Value:
        """The slope of an activation where its result is y, which is exact."""
        return self.exact({
            "none": torch.ones_like,
            "relu": lambda h: (h > 0).double(),
            "tanh": lambda h: 1 - h * h,
            "sigmoid": lambda h: h * (1 - h),
        }[name](y.v))  # fmt: skip

    def softmax(self, z: Value) -> Value:
        p = torch.softmax(z.v, -1)
        below = z.v.amax(-1, keepdim=True) - z.v if z.v.shape[-1] else z.v
        e = (2 * _most(z.e) + self.eps * (8 + below + z.v.abs())) * p
        return Value(p, e + _TINY)

    def log_softmax(self, z: Value) -> Value:
        v = torch.log_softmax(z.v, -1)
        return Value(v, z.e + _most(z.e) + 8 * self.eps * (1 + _most(z.v.abs()) + v.abs()))

    # ---- the ops' parts ----
    def tube(self, x: Value, transform: Value | None) -> Value:
        return x if transform is None else self.matmul(x, transform.mT).permute(2, 0, 1)

    def layer(self, h: Value, w: Value, b: Value | None, activation: str) -> tuple[Value, Value]:
        z = self.matmul(h, w.mT)
        if b is not None:  # one more term of the sum, at whatever place a kernel adds it
            magnitude = b.v.abs().unsqueeze(1).expand_as(z.v)
            z = Value(z.v + b.v.unsqueeze(1), z.e + b.e.unsqueeze(1) + self.dot(h.v.shape[-1] + 1, magnitude))
        return z, self.activate(activation, z)

    def convolve(self, x: Value, w: Value, b: Value | None, activation: str, geometry: list) -> Value:
        """One convolution of every branch: x (N, Q, I, H, W), w (Q, O, I, kh, kw)."""

        def conv(image: Tensor, kernel: Tensor) -> Tensor:
            flat = (image.flatten(1, 2), kernel.flatten(0, 1), None)
            return torch.nn.functional.conv2d(*flat, *geometry, groups=w.v.shape[0]).unflatten(1, w.v.shape[:2])

        terms = w.v[0, 0].numel() + 1
        inherited = (conv(x.v.square(), w.e.square()) + conv(x.e.square(), w.v.square() + w.e.square())).sqrt()
        z = Value(conv(x.v, w.v), inherited + self.dot(terms, conv(x.v.abs(), w.v.abs())))
        if b is not None:
            vector = Value(b.v[:, :, None, None], b.e[:, :, None, None])
            z = Value(z.v + vector.v, z.e + vector.e + self.dot(terms, vector.v.abs().expand_as(z.v)))
        return self.activate(activation, z)

    def along(self, x: Value, matrix: Value, dim: int) -> Value:
        order = list(range(x.v.dim()))
        order[dim], order[-1] = order[-1], order[dim]
        return self.matmul(x.permute(*order), matrix.mT).permute(*order)

    def network(self, x: Value, transform: Value | None, ws: list, bs: list, acts: list[str]) -> tuple[list, list]:
        hs, zs = [self.tube(x, transform)], []
        for w, b, a in zip(ws, bs, acts, strict=True):
            z, h = self.layer(hs[-1], w, b, a)
            zs.append(z)
            hs.append(h)
        return zs, hs

    def network_backward(self, grad: Value, x: Value, ws: list, bs: list, acts: list[str], want: bool) -> list[Value]:
        zs, hs = self.network(x, None, ws, bs, acts)
        grad_ws, grad_bs, flips = [], [], Flips(self, grad.v)
        for j in reversed(range(len(ws))):
            slope, unsure = self.slope(acts[j], zs[j]), torch.zeros_like(zs[j].v, dtype=torch.bool)
            if acts[j] == "relu":
                slope, unsure = self.exact(slope.v), slope.e > 0
            above, grad = grad.v.abs() + grad.e + flips.bound, self.mul(grad, slope)
            flips.at(slope.v, unsure, above)
            whole = Value(grad.v, grad.e + flips.bound)
            grad_ws.append(self.matmul(whole.mT, hs[j]))
            if bs[j] is not None:
                grad_bs.append(self.sum(whole, 1))
            grad = self.matmul(grad, ws[j])
            flips.through(ws[j])
        grad_x = Value(grad.v, grad.e + flips.bound) if want else self.exact(torch.zeros(0))
        return [grad_x, *grad_ws[::-1], *grad_bs[::-1]]

    def mixture(self, logits: Value, weights: Value, space: str) -> Value:
        branches = self.softmax(logits) if space == "probabilities" else logits
        return self.sum(self.mul(branches, weights.unsqueeze(1).unsqueeze(2)), 0)


class Flips:
    """What a unit whose slope of relu may be the other one changes in the gradients below: each by itself, with sign.

    change (Q, N, unit, features): linear in the unit's gradient, so carried along by the exact slopes and weights.
    """

    def __init__(self, m: Arithmetic, like: Tensor) -> None:
        self.m, self.change = m, m.exact(like.new_zeros(*like.shape[:2], 0, like.shape[2]))

    @property
    def bound(self) -> Tensor:
        return (self.change.v.abs() + self.change.e).sum(2)

    def at(self, slope: Tensor, unsure: Tensor, gradient: Tensor) -> None:
        """Past an activation: 0 <= gradient is what the units get from above, at most."""
        most = int(unsure.sum(-1).max()) if unsure.numel() else 0
        units = unsure.double().topk(most, -1).indices
        own = torch.where(unsure, gradient, 0.0).gather(-1, units).unsqueeze(-1)
        new = torch.zeros(*own.shape[:3], slope.shape[-1], dtype=slope.dtype).scatter_(-1, units.unsqueeze(-1), own)
        old = self.m.mul(self.change, self.m.exact(slope.unsqueeze(2)))
        self.change = Value(torch.cat([old.v, new], 2), torch.cat([old.e, torch.zeros_like(new)], 2))

    def through(self, w: Value) -> None:
        self.change = self.m.matmul(self.change, w.unsqueeze(1))


def _most(t: Tensor) -> Tensor:
    return t.amax(-1, keepdim=True) if t.shape[-1] else t


# ---- one function an op: (arithmetic, args) -> the values of its results, lists flattened --------------------------
def _dct(m: Arithmetic, args: list[Any], adjoint: bool = False, sine: bool = False) -> list[Value]:
    x, type, dim, norm, inverse, orthogonalize = args
    n = x.v.shape[dim]
    f = trigonometric.factors(n, type, norm, inverse, orthogonalize, adjoint, sine)
    exact = trigonometric.matrix(n, f, torch.float64, torch.device("cpu"))
    # the table is rounded once; an FFT (long lengths) spreads its error over the whole column
    matrix = Value(exact, m.eps * exact.abs())
    order = list(range(x.v.dim()))
    order[dim], order[-1] = order[-1], order[dim]
    v = x.permute(*order)
    y = m.matmul(v, matrix.mT)
    if n > trigonometric.LONGEST_MATRIX:
        whole = v.v.norm(dim=-1, keepdim=True) * exact.norm(dim=-1).amax()
        y.e = y.e + 8 * m.eps * (1 + torch.tensor(float(n)).log2()) * whole
    return [y.permute(*order)]


def _dctn(m: Arithmetic, args: list[Any]) -> list[Value]:
    x, dim, type, norm, inverse, orthogonalize, sine, adjoint = args
    for d in dim:
        (x,) = _dct(m, [x, type, d, norm, inverse, orthogonalize], adjoint, sine)
    return [x]


def _hadamard(m: Arithmetic, args: list[Any]) -> list[Value]:
    """log2(n) additions round one after the other, and the factor once more."""
    x, dim, normalized = args
    n = x.v.shape[dim]
    scale = n**-0.5 if normalized else 1.0
    matrix = torch.ones(1, 1, dtype=torch.float64)
    while len(matrix) < n:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    y = (x.v.movedim(dim, -1) @ matrix).movedim(-1, dim) * scale
    rounding = m.eps * n.bit_length() * x.v.abs().sum(dim, keepdim=True) * scale
    return [Value(y, rounding.expand_as(y))]


def _spectral_linear(m: Arithmetic, args: list[Any]) -> list[Value]:
    x, transform, weight, bias, activation, inverse, output_activation = args
    _, h = m.layer(m.tube(x, transform), weight, bias, activation)
    return [m.activate(output_activation, m.matmul(h.permute(1, 2, 0), inverse.mT))]


def _spectral_linear_backward(m: Arithmetic, args: list[Any]) -> list[Value]:
    grad, x, y, transform, weight, bias, activation, inverse, output_activation, want = args
    slope = m.slope_from_result(output_activation, y)
    slope.e = 4 * m.eps * (1 + y.v * y.v)
    grad = m.tube(m.mul(grad, slope), inverse.mT)
    branches = m.tube(x, transform)
    grad_x, grad_weight, *rest = m.network_backward(grad, branches, [weight], [bias], [activation], want)
    if want:
        grad_x = m.matmul(grad_x.permute(1, 2, 0), transform)
    return [grad_x, grad_weight, *(rest or [m.exact(torch.zeros(0))])]


def _losses(m: Arithmetic, logits: Value, target: Tensor) -> Value:
    index = target.view(1, -1, 1).expand(logits.v.shape[0], -1, 1)
    rows = m.log_softmax(logits)
    picked = Value(-rows.v.gather(-1, index).squeeze(-1), rows.e.gather(-1, index).squeeze(-1))
    total = m.sum(picked, 1)
    n = target.shape[0]
    return Value(total.v / n, total.e / n) if n else Value(total.v * torch.nan, total.e)


def _cross_entropy(m: Arithmetic, args: list[Any]) -> list[Value]:
    *net, target = args
    logits = m.network(*net)[1][-1]
    return [_losses(m, logits, target), logits]


def _with_grads(m: Arithmetic, args: list[Any]) -> list[Value]:
    x, transform, ws, bs, acts, target, want = args
    branches = m.tube(x, transform)
    logits = m.network(branches, None, ws, bs, acts)[1][-1]
    p = m.softmax(logits)
    hot = torch.nn.functional.one_hot(target, logits.v.shape[-1]).double()
    n = max(target.shape[0], 1)
    grad = Value((p.v - hot) / n, (p.e + m.eps * (p.v + hot)) / n)
    return [_losses(m, logits, target), logits, *m.network_backward(grad, branches, ws, bs, acts, want)]


def _branch_ensemble_backward(m: Arithmetic, args: list[Any]) -> list[Value]:
    grad, logits, weights, space = args
    w = weights.unsqueeze(1).unsqueeze(2)
    p = m.softmax(logits) if space == "probabilities" else logits
    scores = m.sum(m.mul(p, grad), -1)
    grad_logits = m.mul(w, Value(grad.v.expand_as(p.v), grad.e.expand_as(p.e)))
    if space == "probabilities":
        s = scores.unsqueeze(-1)
        centred = m.add(grad, Value(-s.v, s.e))
        grad_logits = m.mul(m.mul(w, p), centred)
    return [grad_logits, m.sum(scores, 1)]


def _spectral_ensemble_backward(m: Arithmetic, args: list[Any]) -> list[Value]:
    grad, x, transform, ws, bs, acts, shares, space, want = args
    branches = m.tube(x, transform)
    logits = m.network(branches, None, ws, bs, acts)[1][-1]
    grad_logits, grad_shares = _branch_ensemble_backward(m, [grad, logits, shares, space])
    return [*m.network_backward(grad_logits, branches, ws, bs, acts, want), grad_shares]


import conv_bounds  # noqa: E402
import csg_bounds  # noqa: E402  (made of the parts above, as the next)
import tucker_bounds  # noqa: E402
from recurrent_bounds import rewind, rollout  # noqa: E402

_OPS = {
    "dct": _dct,
    "dct_adjoint": lambda m, args: _dct(m, args, adjoint=True),
    "dctn": _dctn,
    "dst": lambda m, args: _dct(m, args, sine=True),
    "dst_adjoint": lambda m, args: _dct(m, args, adjoint=True, sine=True),
    "hadamard": _hadamard,
    "to_branches": lambda m, args: [m.tube(*args)],
    "from_branches": lambda m, args: [m.matmul(args[0].permute(1, 2, 0), args[1].mT)],
    "branch_linear": lambda m, args: [m.layer(*args)[1]],
    "branch_mlp_backward": lambda m, args: m.network_backward(*args),
    "spectral_linear": _spectral_linear,
    "spectral_linear_backward": _spectral_linear_backward,
    "spectral_mlp": lambda m, args: [m.network(*args)[1][-1]],
    "spectral_mlp_cross_entropy": _cross_entropy,
    "spectral_mlp_cross_entropy_with_grads": _with_grads,
    "branch_ensemble": lambda m, args: [m.mixture(*args)],
    "branch_ensemble_backward": _branch_ensemble_backward,
    "spectral_ensemble": lambda m, args: [m.mixture(m.network(*args[:5])[1][-1], *args[5:])],
    "spectral_ensemble_backward": _spectral_ensemble_backward,
    "mode_product": lambda m, args: [m.along(*args)],
    "branch_conv2d": lambda m, args: [m.convolve(*args[:4], args[4:])],
    "branch_conv2d_backward": conv_bounds.backward,
    "spectral_conv2d": conv_bounds.spectral,
    "tucker_conv2d": tucker_bounds.conv2d,
    "tucker_conv2d_backward": tucker_bounds.conv2d_backward,
    "branch_rnn": lambda m, args: rollout(m, args)[:2],
    "branch_rnn_with_states": rollout,
    "branch_rnn_backward": rewind,
    "csg_kernels": csg_bounds.kernels,
    "csg_kernels_backward": csg_bounds.kernels_backward,
    "csg_kernel": csg_bounds.kernels,
    "csg_conv2d": csg_bounds.conv2d,
    "csg_conv2d_backward": csg_bounds.conv2d_backward,
}
assert _OPS.keys() == TABLE.keys()


def bounded(op: str, args: Sequence[Any], dtype: torch.dtype, operand: torch.dtype | None = None) -> list[Value]:
    """An op's results at `args`, and how far off a kernel for `dtype` may be (half: float32 inside, unrounded).

    operand: see `Arithmetic`.
    """
    m = Arithmetic(torch.finfo(torch.float32 if dtype in HALF else dtype).eps, operand)

    def wrap(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [wrap(item) for item in value]
        return m.exact(value) if isinstance(value, Tensor) and value.is_floating_point() else value

    return _OPS[op](m, wrap(args))


def check(y: Tensor, value: Value, what: str) -> None:
    """Assert that y is within the bound, half rounding once on the way out; NaN only where the exact result is NaN."""
    eps = torch.finfo(y.dtype)
    rounding = 2 * eps.eps * (value.v.abs() + value.e) + eps.tiny * eps.eps if y.dtype in HALF else _TINY
    allowed = value.e + rounding
    error = (y.double() - value.v).abs()
    bad = ~(error <= allowed) & ~(y.isnan() & value.v.isnan())
    if bool(bad.any()):
        at = tuple(int(i) for i in bad.nonzero()[0])
        excess = (error / allowed)[bad].max().item()
        raise AssertionError(
            f"{what}: {int(bad.sum())} of {y.numel()} values out of bounds, up to {excess:.1f} times the bound; "
            f"first at {at}: {y[at].item()!r}, exact {value.v[at].item()!r}, allowed +- {allowed[at].item():.2g}"
        )


def relative(y: Tensor, exact: Tensor) -> float:
    """|y - exact| / |exact| in the Euclidean norm."""
    size = exact.norm().item()
    return (y.double() - exact).norm().item() / size if size else 0.0
