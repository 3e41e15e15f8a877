"""spectral_conv2d as one native call: its stages against the composition, for each path of the kernel; when it runs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from samples import LEVELS
from torch import Tensor

import spectral_ops
from spectral_ops import native
from spectral_ops.ops import spectral_conv2d

ops = torch.ops.spectral
D = torch.float64
pytestmark = pytest.mark.skipif(not LEVELS, reason=str(native.status()["cpu"]))
formats = pytest.mark.parametrize(
    "layout", [torch.contiguous_format, torch.channels_last], ids=["NCHW", "channels_last"]
)


def arguments(q: int, p: int, i: int, o: int, size: tuple[int, int], activation: str, dtype: torch.dtype) -> list[Any]:
    torch.manual_seed(q + i)
    x, weight = torch.randn(3, q * i, *size, dtype=dtype), torch.randn(p, o, i, 2, 3, dtype=dtype)
    matrices = [torch.randn(shape, dtype=dtype) for shape in ((p, q), (q, p))]
    bias = torch.randn(p, o, dtype=dtype)
    return [x, matrices[0], weight, bias, activation, matrices[1], [1, 2], [1, 0], [1, 1]]


def gradients(args: list[Any], wanted: list[int]) -> tuple[Tensor, tuple[Tensor, ...]]:
    args = [a.detach().requires_grad_(k in wanted) if isinstance(a, Tensor) else a for k, a in enumerate(args)]
    y = ops.spectral_conv2d(*args)
    torch.manual_seed(1)
    return y, torch.autograd.grad(y, [args[k] for k in wanted], torch.randn_like(y))


@formats
@pytest.mark.parametrize("activation", ["none", "relu", "gelu", "sigmoid"])
@pytest.mark.parametrize(
    ("q", "p", "i", "o", "size"),
    [
        (4, 4, 16, 16, (4, 4)),  # a vector of neighbours
        (4, 4, 1, 2, (3, 5)),  # many rows in a vector, and fewer
        (3, 5, 3, 7, (2, 3)),  # lanes left over, not square
        (64, 64, 2, 1, (2, 3)),  # the longest column
        (16, 9, 5, 9, (7, 6)),  # several register blocks
        (2, 2, 40, 33, (33, 37)),  # strips of large images
        (1, 1, 2, 3, (3, 3)),
    ],
)
def test_the_stages_are_the_composition(
    q: int, p: int, i: int, o: int, size: tuple[int, int], activation: str, layout: Any, level: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Values and gradients at every SIMD level; also with several branches merged, as few channels are in NCHW."""
    monkeypatch.setattr(spectral_conv2d, "_folds", lambda *_: False)
    args = arguments(q, p, i, o, size, activation, D)
    args[0] = args[0].contiguous(memory_format=layout)
    y, grads = gradients(args, [0, 2, 3])
    with spectral_ops.use("reference"):
        wanted, wanted_grads = gradients(args, [0, 2, 3])
    assert y.stride() == wanted.stride()
    for a, b in zip((y, *grads), (wanted, *wanted_grads), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)
    for k in (0, 2, 3):  # each alone
        torch.testing.assert_close(gradients(args, [k])[1][0], grads[(0, 2, 3).index(k)], rtol=1e-11, atol=1e-11)


@formats
@pytest.mark.parametrize(
    ("kinds", "activation"),
    [("rcccc", "crelu"), ("rcccc", "modrelu:0.3"), ("ccccc", "cardioid"), ("crrcr", "zrelu"), ("rrcrr", "modrelu"),
     ("rrrcr", "crelu"), ("rrrrc", "none"), ("rcrrc", "cardioid")],
)  # fmt: skip
@pytest.mark.parametrize(
    ("q", "p", "i", "o", "size"),
    [
        (4, 3, 16, 16, (4, 4)),  # half a spectrum
        (3, 3, 1, 5, (3, 5)),  # many rows in a vector
        (2, 2, 40, 33, (33, 37)),  # strips of large images
        (32, 17, 1, 2, (3, 3)),  # several register blocks
    ],
)
def test_complex_stages_are_the_composition(
    q: int, p: int, i: int, o: int, size: tuple[int, int], kinds: str, activation: str, layout: Any, level: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """In planes: whichever of x, transform, weight, bias and inverse are complex."""
    monkeypatch.setattr(spectral_conv2d, "_folds", lambda *_: False)
    args = arguments(q, p, i, o, size, activation, D)
    for k, kind in zip((0, 1, 2, 3, 5), kinds, strict=True):
        args[k] = torch.complex(args[k], torch.randn_like(args[k])) if kind == "c" else args[k]
    args[0] = args[0].contiguous(memory_format=layout)
    assert dict(spectral_ops.backends("spectral_conv2d", *args))["cpp"] is None
    y, grads = gradients(args, [0, 2, 3])
    with spectral_ops.use("reference"):
        wanted, wanted_grads = gradients(args, [0, 2, 3])
    assert y.stride() == wanted.stride()
    for a, b in zip((y, *grads), (wanted, *wanted_grads), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)  # of z / |z| where z is small


@formats
@pytest.mark.parametrize("kinds", ["rcccc", "ccccc", "rrcrr"])
def test_gradients_of_a_learned_transform(kinds: str, layout: Any) -> None:
    args = arguments(4, 3, 2, 3, (5, 6), "cardioid", D)
    for k, kind in zip((0, 1, 2, 3, 5), kinds, strict=True):
        args[k] = torch.complex(args[k], torch.randn_like(args[k])) if kind == "c" else args[k]
    args[0] = args[0].contiguous(memory_format=layout)
    y, grads = gradients(args, [0, 1, 2, 3, 5])
    with spectral_ops.use("reference"):
        wanted, wanted_grads = gradients(args, [0, 1, 2, 3, 5])
    for a, b in zip((y, *grads), (wanted, *wanted_grads), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)


def test_when_the_composition_runs() -> None:
    def reason(args: list[Any]) -> str | None:
        return dict(spectral_ops.backends("spectral_conv2d", *args))["cpp"]

    args = arguments(4, 4, 2, 2, (5, 5), "relu", torch.float32)
    assert reason(args) is None
    mixed = [*args[:2], args[2].to(torch.complex64), args[3], "crelu", *args[5:]]
    assert reason(mixed) is None
    half = arguments(33, 33, 1, 1, (2, 3), "crelu", torch.complex64)
    assert "66 slices are past 64" in (reason(half) or "")
    assert "past 64" in (reason(arguments(65, 65, 1, 1, (2, 3), "relu", D)) or "")
    assert "less work" in (reason([args[0], args[1], args[2][..., :1, :1], args[3], "none", *args[5:]]) or "")


@formats
def test_any_tensor_is_taken(layout: Any) -> None:
    """Slices, transposed and negated views, gradients that are expanded, kept graphs, and second derivatives."""
    args = arguments(4, 4, 2, 3, (5, 6), "tanh", D)
    wide = torch.stack([args[0], args[0] + 1], -1)[..., 0]
    x = wide.contiguous(memory_format=layout) if layout is torch.channels_last else wide
    y = ops.spectral_conv2d(x, args[1].mT.contiguous().mT, *args[2:])
    minus = torch.complex(torch.zeros_like(args[1]), -args[1]).conj().imag  # a view whose sign is still to be taken
    assert minus.is_neg()
    torch.testing.assert_close(ops.spectral_conv2d(x, minus, *args[2:]), y)
    weight = args[2].clone().requires_grad_()
    loss = ops.spectral_conv2d(x, args[1], weight, *args[3:]).sum()  # its gradient has stride 0
    (first,) = torch.autograd.grad(loss, weight, retain_graph=True)
    (second,) = torch.autograd.grad(loss, weight, create_graph=True)
    torch.testing.assert_close(first, second)
    assert torch.autograd.grad(second.square().sum(), weight)[0].isfinite().all()
