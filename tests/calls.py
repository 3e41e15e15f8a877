"""An op called with a row's arguments: its results as one flat list, or as a function of its floating tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from samples import Sample, floating
from torch import Tensor

from spectral_ops.autograd import flatten, unflatten


def listed(out: Any) -> list[Tensor]:
    """What an op or its reference returned, tuples and lists of tensors flattened."""
    return flatten(out if isinstance(out, tuple | list) else [out])[0]


def results(op: str, args: list[Any]) -> list[Tensor]:
    return listed(getattr(torch.ops.spectral, op)(*args))


def of_tensors(f: Callable, args: list[Any]) -> tuple[Callable[..., list[Tensor]], list[Tensor]]:
    """f as a function of the floating and complex tensors among its arguments, and these tensors."""
    tensors, structure = flatten(args)

    def g(*given: Tensor) -> list[Tensor]:
        rest = iter(given)
        return listed(f(*unflatten([next(rest) if floating(t) else t for t in tensors], structure)))

    return g, [t for t in tensors if floating(t)]


def function(row: Sample, dtype: torch.dtype = torch.float64) -> tuple[Callable, list[Tensor]]:
    """The op as gradcheck wants it: its results that are not empty, of leaves."""
    g, tensors = of_tensors(getattr(torch.ops.spectral, row.op), row.make(dtype))

    def f(*given: Tensor) -> Any:
        out = [y for y in g(*given) if y.numel()]  # with want_grad_x False the first gradient is empty
        return out[0] if len(out) == 1 else tuple(out)

    return f, [t.requires_grad_() for t in tensors]


def assert_same_under(transform: Callable, f: Callable, reference: Callable, inputs: list[Tensor]) -> None:
    """transform(f, inputs), of torch.func, is that of the reference, and not all of it zero."""
    got, wanted = transform(f, inputs), transform(reference, inputs)
    torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-11)
    assert any(bool(t.abs().sum() > 0) for t in listed(got)), "all zero"
