"""The native stages of a convolution in Tucker form against their composition: values, every gradient, layouts."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

import spectral_ops
from spectral_ops import native
from spectral_ops.ops import tucker_stages
from spectral_ops.ops.branch_conv2d import layout_of

pytestmark = [
    pytest.mark.native,
    pytest.mark.skipif(native.status()["cpu"] is not None, reason=str(native.status()["cpu"])),
]
LAYOUTS = (torch.channels_last, torch.contiguous_format)
# N, C, O, r_in, r_out, (H, W): few pixels, one channel, rank 1, many pixels with few and with many channels; in
# reach of the window
SIZES = (
    (3, 16, 20, 4, 5, (7, 9)),
    (2, 8, 64, 1, 1, (1, 1)),
    (1, 16, 12, 3, 2, (4, 4)),
    (8, 1, 6, 1, 3, (16, 16)),
    (40, 64, 64, 9, 8, (20, 21)),
    (20, 24, 136, 5, 6, (20, 21)),
    (9, 12, 10, 4, 3, (2, 2)),
)


def _tensors(sizes: tuple, layout: torch.memory_format, factors: tuple[bool, bool], bias: bool) -> list[Tensor | None]:
    n, c, o, r_in, r_out, image = sizes
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    weight = normal(r_out if factors[1] else o, r_in if factors[0] else c, 3, 3)
    return [
        normal(n, c, *image).contiguous(memory_format=layout), weight, normal(c, r_in) if factors[0] else None,
        normal(o, r_out) if factors[1] else None, normal(o) if bias else None,
    ]  # fmt: skip


def _near(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10 * float(wanted.detach().abs().max()))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("factors", list(itertools.product((True, False), repeat=2)), ids=str)
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_values_and_gradients(
    sizes: tuple, layout: torch.memory_format, factors: tuple[bool, bool], bias: bool
) -> None:
    for stride in (1, 2) if sizes[0] < 20 else (1,):
        tensors = _tensors(sizes, layout, factors, bias)
        given = [t for t in tensors if t is not None]
        rest = ([stride, stride], [1, 1], [1, 1], 1)
        plain = tucker_stages.run(*tensors, *rest)
        for t in given:
            t.requires_grad_()
        y, wanted = tucker_stages.run(*tensors, *rest), tucker_stages.reference(*tensors, *rest)
        assert type(y.grad_fn).__name__ == "_StagesBackward"  # else the composition is compared with itself
        assert y.is_contiguous(memory_format=layout_of(tensors[0])) and torch.equal(plain, y)
        _near(y, wanted)
        grad = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=y.dtype)
        gradients = torch.autograd.grad(wanted, given, grad)
        for found, g in zip(torch.autograd.grad(y, given, grad), gradients, strict=True):
            _near(found, g)
        for t, g in zip(given, gradients, strict=True):  # each alone
            for other in given:
                other.requires_grad_(other is t)
            (found,) = torch.autograd.grad(tucker_stages.run(*tensors, *rest), t, grad)
            _near(found, g)


@pytest.mark.parametrize("stride", [(1, 1), (2, 1)], ids=str)
@pytest.mark.parametrize("window", [(3, 3), (5, 2), (3, 7)], ids=str)
@pytest.mark.parametrize("image", [(1, 1), (2, 2), (3, 1), (1, 4)], ids=str)
def test_images_in_reach_of_the_window(image: tuple[int, int], window: tuple[int, int], stride: tuple) -> None:
    """Where each pixel sees each the core is one matrix, elsewhere not: a pixel that is seen by none keeps its NaN."""
    generator, ways = torch.Generator().manual_seed(0), set()
    for padding, dilation in itertools.product(((0, 0), (1, 2), (1, 1), (2, 3), (4, 5)), ((1, 1), (2, 1))):
        sizes = zip(image, padding, dilation, window, strict=True)
        if min(n + 2 * p - d * (k - 1) for n, p, d, k in sizes) < 1:
            continue
        shapes = ((8, 4, *image), (5, 2, *window), (4, 2), (6, 5))
        given = [torch.randn(s, generator=generator, dtype=torch.float64).requires_grad_() for s in shapes]
        geometry = (list(stride), list(padding), list(dilation), 1)
        ways.add(tucker_stages.as_one_matrix(shapes[0], window, *geometry))
        y, wanted = tucker_stages.run(*given, None, *geometry), tucker_stages.reference(*given, None, *geometry)
        _near(y, wanted)
        grad = torch.randn(y.shape, generator=generator, dtype=y.dtype)
        for found, g in zip(torch.autograd.grad(y, given, grad), torch.autograd.grad(wanted, given, grad), strict=True):
            _near(found, g)
        with torch.no_grad():
            given[0][0, 0, -1, -1] = torch.nan
            args = (*given, None, *geometry)
            assert torch.equal(tucker_stages.run(*args).isnan(), tucker_stages.reference(*args).isnan())
    assert ways  # else nothing was compared


def test_which_images_are_in_reach() -> None:
    plain = ([1, 1], [1, 1], [1, 1], 1)
    found = [tucker_stages.as_one_matrix((8, 4, *image), (3, 3), *plain) for image in ((1, 1), (2, 2), (2, 4), (3, 1))]
    assert found == [True, True, False, False]
    assert not tucker_stages.as_one_matrix((7, 4, 2, 2), (3, 3), *plain)
    assert not tucker_stages.as_one_matrix((8, 4, 2, 2), (3, 3), *plain[:3], 2)
    assert tucker_stages.as_one_matrix((8, 4, 1, 1), (3, 3), [1, 1], [2, 2], [1, 1], 1)
    assert not tucker_stages.as_one_matrix((8, 4, 2, 2), (3, 3), [1, 1], [2, 2], [2, 2], 1)


def test_second_derivatives_and_batches_of_gradients() -> None:
    tensors = _tensors((2, 3, 4, 2, 2, (4, 3)), torch.channels_last, (True, True), True)
    for t in tensors:
        t.requires_grad_()  # type: ignore[union-attr]

    def run(*args: Tensor) -> Tensor:
        return tucker_stages.run(*args, [1, 1], [1, 1], [1, 1], 1)  # type: ignore[arg-type]

    assert torch.autograd.gradcheck(run, tensors, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(run, tensors)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_tensors_that_do_not_begin_their_memory(layout: torch.memory_format) -> None:
    tensors = _tensors(SIZES[0], layout, (True, True), True)
    moved = []
    for t in tensors:
        moved.append(t.new_empty(t.numel() + 3).as_strided(t.shape, t.stride(), 3).copy_(t))  # type: ignore[union-attr]
    rest = ([1, 1], [1, 1], [1, 1], 1)
    assert torch.equal(tucker_stages.run(*moved, *rest), tucker_stages.run(*tensors, *rest))  # type: ignore[arg-type]


def test_a_forced_backend_takes_the_composition() -> None:
    tensors = _tensors(SIZES[0], torch.channels_last, (True, True), True)
    tensors[0].requires_grad_()  # type: ignore[union-attr]
    with spectral_ops.use("reference"):
        y = tucker_stages.run(*tensors, [1, 1], [1, 1], [1, 1], 1)  # type: ignore[arg-type]
    assert type(y.grad_fn).__name__ != "_StagesBackward"


def test_a_sign_still_to_be_taken() -> None:
    tensors = _tensors((2, 8, 6, 3, 2, (5, 4)), torch.channels_last, (True, True), True)
    negated = [torch._neg_view(t) for t in tensors]  # type: ignore[arg-type]
    rest = ([1, 1], [1, 1], [1, 1], 1)
    _near(tucker_stages.run(*negated, *rest), tucker_stages.reference(*[-t for t in tensors], *rest))  # type: ignore
