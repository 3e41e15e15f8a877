"""Every Python front of the transforms under what torch does to functions: derivatives of any order and in both modes,
vmap, compile, export."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

import spectral_ops

ALONG = ["dct", "idct", "dst", "idst"]
OVER = ["dctn", "idctn", "dstn", "idstn"]
front = pytest.mark.parametrize("name", ALONG + OVER)


def transform(name: str, type: int = 2, norm: str = "ortho") -> Callable[[Tensor], Tensor]:
    """The front on the last dimensions, one cropped and the other, where there is one, padded."""
    where: dict[str, Any] = {"s": (3, 6), "dim": (-2, -1)} if name in OVER else {"n": 6, "dim": -1}
    function = getattr(spectral_ops, name)
    return lambda x: function(x, type, norm=norm, **where)


def numbers(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(0))


@front
@pytest.mark.parametrize("type", [pytest.param(t, marks=[pytest.mark.slow] * (t % 2)) for t in (1, 2, 3, 4)])
def test_derivatives(name: str, type: int) -> None:
    """Forward mode and the second order; both under vmap, too."""
    for dtype in (torch.float64, torch.complex128):
        x, f = numbers(2, 4, 5, dtype=dtype).requires_grad_(), transform(name, type, "forward")
        real = dtype == torch.float64
        assert gradcheck(f, (x,), check_forward_ad=True, check_batched_grad=True, check_batched_forward_grad=real)
        assert gradgradcheck(f, (x,), check_batched_grad=True)


@front
def test_the_gradient_is_the_adjoint(name: str) -> None:
    """<f(u), v> = <u, f'(v)>, and the gradient of the gradient is f again."""
    f, u = transform(name), numbers(3, 4, 5).requires_grad_()
    y = f(u)
    v = numbers(*y.shape).requires_grad_()
    (back,) = torch.autograd.grad(y, u, v, create_graph=True)
    torch.testing.assert_close((y * v).sum(), (u * back).sum())
    w = numbers(3, 4, 5) + 1
    torch.testing.assert_close(torch.autograd.grad(back, v, w)[0], f(w))


@front
def test_vmap_and_its_compositions(name: str) -> None:
    x, f = numbers(3, 4, 5), transform(name)
    torch.testing.assert_close(torch.vmap(f)(x), f(x))
    torch.testing.assert_close(torch.vmap(f, in_dims=1, out_dims=1)(x.transpose(0, 1)), f(x).transpose(0, 1))
    jacobian = torch.func.jacrev(f)(x[0])
    torch.testing.assert_close(jacobian, torch.func.jacfwd(f)(x[0]))
    torch.testing.assert_close(torch.einsum("...ij,ij->...", jacobian, x[0]), f(x[0]))
    squares = torch.func.grad(lambda t: f(t).square().sum())
    torch.testing.assert_close(torch.vmap(squares)(x), squares(x))


@front
@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64], ids=str)
def test_compile_and_export(name: str, dtype: torch.dtype) -> None:
    """In one graph, with the gradient, and with a batch of any size."""
    torch.compiler.reset()
    x, f = numbers(3, 4, 5, dtype=dtype), transform(name, 3)
    compiled = torch.compile(f, backend="aot_eager", fullgraph=True)
    u, v = x.clone().requires_grad_(), x.clone().requires_grad_()
    torch.testing.assert_close(compiled(u), f(v))
    compiled(u).abs().sum().backward()
    f(v).abs().sum().backward()
    torch.testing.assert_close(u.grad, v.grad)

    class Module(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return f(x)

    batch = torch.export.Dim("batch", min=2, max=64)
    program = torch.export.export(Module(), (x,), dynamic_shapes=({0: batch},)).module()
    more = numbers(7, 4, 5, dtype=dtype)
    torch.testing.assert_close(program(more), f(more))


@front
@pytest.mark.parametrize("type", [1, 2, 3, 4])
def test_round_trip(name: str, type: int) -> None:
    """The inverse front undoes the front, whatever the norm."""
    other = name[1:] if name.startswith("i") else "i" + name
    for norm in (None, "ortho", "forward"):
        for orthogonalize in (None, True, False):
            x, options = numbers(2, 9, 6), {"norm": norm, "orthogonalize": orthogonalize}
            y = getattr(spectral_ops, name)(x, type, **options)
            torch.testing.assert_close(getattr(spectral_ops, other)(y, type, **options), x)
