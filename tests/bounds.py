"""How far a right float32 or float64 kernel may be from the exact result: a running error analysis of every op.

Each quantity is a float64 value with a bound on its error. A sum of K products a.b may be off by 4 eps sqrt(K) |a|.|b|;
the errors that it takes over from a and b add up as independent ones do, in squares (added in full they would grow
fourfold a layer, and eight layers would hide a wrong value). The slope of relu is unsure where the argument is closer
to 0 than its error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spectral_ops.ops import activations as activation_rules
from spectral_ops.ops import dct as dct_rule
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
    """The steps of the ops in arithmetic of precision eps."""

    def __init__(self, eps: float) -> None:
        self.eps = eps

    def exact(self, t: Tensor) -> Value:
        return Value(t.double(), torch.zeros_like(t, dtype=torch.float64))

    def dot(self, terms: int, magnitude: Tensor) -> Tensor:
        return 4 * self.eps * max(terms, 1) ** 0.5 * magnitude

    def matmul(self, a: Value, b: Value) -> Value:
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

    def network(self, x: Value, transform: Value | None, ws: list, bs: list, acts: list[str]) -> tuple[list, list]:
        hs, zs = [self.tube(x, transform)], []
        for w, b, a in zip(ws, bs, acts, strict=True):
            z, h = self.layer(hs[-1], w, b, a)
            zs.append(z)
            hs.append(h)
        return zs, hs

    def network_backward(self, grad: Value, x: Value, ws: list, bs: list, acts: list[str], want: bool) -> list[Value]:
        zs, hs = self.network(x, None, ws, bs, acts)
        grad_ws, grad_bs = [], []
        for j in reversed(range(len(ws))):
            grad = self.mul(grad, self.slope(acts[j], zs[j]))
            grad_ws.append(self.matmul(grad.mT, hs[j]))
            if bs[j] is not None:
                grad_bs.append(self.sum(grad, 1))
            grad = self.matmul(grad, ws[j])
        nothing = self.exact(torch.zeros(0))
        return [grad if want else nothing, *grad_ws[::-1], *grad_bs[::-1]]

    def mixture(self, logits: Value, weights: Value, space: str) -> Value:
        branches = self.softmax(logits) if space == "probabilities" else logits
        return self.sum(self.mul(branches, weights.unsqueeze(1).unsqueeze(2)), 0)


def _most(t: Tensor) -> Tensor:
    return t.amax(-1, keepdim=True) if t.shape[-1] else t


# ---- one function an op: (arithmetic, args) -> the values of its results, lists flattened --------------------------
def _dct(m: Arithmetic, args: list[Any], adjoint: bool = False) -> list[Value]:
    x, type, dim, norm, inverse, orthogonalize = args
    n = x.v.shape[dim]
    f = dct_rule.factors(n, type, norm, inverse, orthogonalize, adjoint)
    exact = dct_rule.matrix(n, f, torch.float64, torch.device("cpu"))
    # the table is rounded once; an FFT (long lengths) spreads its error over the whole column
    matrix = Value(exact, m.eps * exact.abs())
    order = list(range(x.v.dim()))
    order[dim], order[-1] = order[-1], order[dim]
    v = x.permute(*order)
    y = m.matmul(v, matrix.mT)
    if n > dct_rule.LONGEST_MATRIX:
        whole = v.v.norm(dim=-1, keepdim=True) * exact.norm(dim=-1).amax()
        y.e = y.e + 8 * m.eps * (1 + torch.tensor(float(n)).log2()) * whole
    return [y.permute(*order)]


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


def _rollout(m: Arithmetic, args: list[Any]) -> list[Value]:
    x, wx, wh, wy, bias, h, activation_h, activation_y, lengths = args
    steps = x.v.shape[0]
    w = _beside(wx, wh)
    states, ys = [], []
    for t in range(steps):
        on = _running(lengths, t)
        _, following = m.layer(_beside(_kept(_at(x, t), on), h), w, bias, activation_h)
        h = _kept(following, on, h)
        states.append(h)
        ys.append(_kept(m.layer(h, wy, None, activation_y)[1], on))
    q, n, p, o = *h.v.shape, wy.v.shape[1]
    return [_stacked(ys, (0, q, n, o)), h, _stacked(states, (0, q, n, p))]


def _rewind(m: Arithmetic, args: list[Any]) -> list[Value]:
    grad_y, grad_h, grad_states, x, wx, wh, wy, bias, h0, states, activation_h, activation_y, lengths, want = args
    steps = x.v.shape[0]
    g = m.exact(torch.zeros_like(h0.v)) if grad_h is None else grad_h
    ds, es, xs = [], [], []
    for t in reversed(range(steps)):
        on, h, before = _running(lengths, t), _at(states, t), _at(states, t - 1) if t else h0
        xs.append(_kept(_at(x, t), on))
        if grad_states is not None:
            g = m.add(g, _at(grad_states, t))
        if grad_y is not None:
            es.append(_kept(m.mul(_at(grad_y, t), m.slope(activation_y, m.matmul(h, wy.mT))), on))
            g = m.add(g, m.matmul(es[-1], wy))
        if activation_h in ("gelu", "silu"):
            slope = m.slope(activation_h, m.layer(_beside(xs[-1], before), _beside(wx, wh), bias, activation_h)[0])
        elif activation_h == "none":
            slope = m.exact(torch.ones_like(h.v))
        else:
            slope = m.slope_from_result(activation_h, h)
            slope.e = 4 * m.eps * (1 + h.v * h.v)
        ds.append(_kept(m.mul(g, slope), on))
        g = _kept(m.matmul(ds[-1], wh), on, g)
    q, n, p = h0.v.shape
    d, x = _stacked(ds[::-1], (0, q, n, p)), _stacked(xs[::-1], x.v.shape)
    before = Value(torch.cat([h0.v.unsqueeze(0), states.v])[:steps], torch.zeros_like(states.v))
    nothing = m.exact(torch.zeros(0))
    grads = [
        m.matmul(d, wx) if want else nothing,
        m.matmul(_rows(d).mT, _rows(x)),
        m.matmul(_rows(d).mT, _rows(before)),
    ]
    none = m.exact(torch.zeros_like(wy.v))
    grads.append(none if not es else m.matmul(_rows(_stacked(es[::-1], (0,))).mT, _rows(states)))
    return [*grads, nothing if bias is None else m.sum(_rows(d), 1), g]


def _at(a: Value, t: int) -> Value:
    return Value(a.v[t], a.e[t])


def _beside(a: Value, b: Value) -> Value:
    return Value(torch.cat([a.v, b.v], -1), torch.cat([a.e, b.e], -1))


def _stacked(values: list[Value], empty: Sequence[int]) -> Value:
    if not values:
        return Value(*torch.zeros(2, *empty, dtype=torch.float64))
    return Value(torch.stack([a.v for a in values]), torch.stack([a.e for a in values]))


def _rows(a: Value) -> Value:
    """(T, Q, N, width) -> (Q, T N, width)."""
    t, q, n, width = a.v.shape
    return Value(*(part.transpose(0, 1).reshape(q, t * n, width) for part in (a.v, a.e)))


def _running(lengths: Tensor | None, t: int) -> Tensor | None:
    return None if lengths is None else (lengths > t)[:, None]


def _kept(a: Value, on: Tensor | None, other: Value | None = None) -> Value:
    """a where a sequence runs, else the other, or 0."""
    if on is None:
        return a
    zero = torch.zeros_like(a.v)
    other = other or Value(zero, zero)
    return Value(torch.where(on, a.v, other.v), torch.where(on, a.e, other.e))


_OPS = {
    "dct": _dct,
    "dct_adjoint": lambda m, args: _dct(m, args, adjoint=True),
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
    "branch_rnn": lambda m, args: _rollout(m, args)[:2],
    "branch_rnn_with_states": _rollout,
    "branch_rnn_backward": _rewind,
}
assert _OPS.keys() == TABLE.keys()


def bounded(op: str, args: Sequence[Any], dtype: torch.dtype) -> list[Value]:
    """An op's results at `args`, and how far off a kernel for `dtype` may be (half: float32 inside, unrounded)."""
    m = Arithmetic(torch.finfo(torch.float32 if dtype in HALF else dtype).eps)

    def wrap(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [wrap(item) for item in value]
        return m.exact(value) if isinstance(value, Tensor) and value.is_floating_point() else value

    return _OPS[op](m, wrap(args))


def check(y: Tensor, value: Value, what: str) -> None:
    """Assert that y is within the bound, half rounding once on the way out; NaN only where the exact result is NaN."""
    eps = torch.finfo(y.dtype)
    allowed = value.e + (2 * eps.eps * value.v.abs() + eps.tiny * eps.eps if y.dtype in HALF else _TINY)
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
