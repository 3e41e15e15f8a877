"""The running error analysis of the recurrent ops; see `bounds.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from bounds import Arithmetic, Value
from torch import Tensor


def rollout(m: Arithmetic, args: list[Any]) -> list[Value]:
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


def rewind(m: Arithmetic, args: list[Any]) -> list[Value]:
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
