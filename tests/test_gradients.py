"""First, second and forward-mode derivatives of every op, for the reference and for the C++ kernels."""

from __future__ import annotations

from typing import Any

import bounds
import pytest
import torch
from calls import function, results
from conftest import NATIVE
from samples import RIGHT, Sample, floating, map_tensors, rows_of, small, typical
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

import spectral_ops
from spectral_ops.autograd import flatten, unflatten
from spectral_ops.table import TABLE

ops = torch.ops.spectral
D = torch.float64
SMALL = [row for op in TABLE for row in small(op)]
# the helpers of gradients are differentiated by differentiating their reference: one row each shows it
SECOND = [
    row for op in TABLE for row in (small(op)[-2:] if "grad" not in op and "backward" not in op else small(op)[-1:])
]


@pytest.fixture(autouse=True)
def _one_thread(threads):
    """The tensors are tiny: waking a second thread for each costs more than all else."""
    torch.set_num_threads(1)


def test_every_op_has_small_rows() -> None:
    assert all(len(small(op)) >= 2 for op in TABLE)


@pytest.mark.parametrize("row", SMALL, ids=lambda row: row.id)
def test_gradcheck_of_the_reference(row: Sample) -> None:
    f, leaves = function(row)
    with spectral_ops.use("reference"):
        assert gradcheck(f, leaves, check_forward_ad=True, check_batched_grad=True)


@pytest.mark.parametrize("row", SMALL, ids=lambda row: row.id)
def test_gradcheck_of_the_kernels(row: Sample, level: str) -> None:
    f, leaves = function(row)
    assert gradcheck(f, leaves, check_batched_grad=True)


@pytest.mark.parametrize("row", SECOND, ids=lambda row: row.id)
@pytest.mark.parametrize("chosen", ["reference", pytest.param("cpp", marks=pytest.mark.native)])
def test_gradgradcheck(row: Sample, chosen: str) -> None:
    if chosen == "cpp" and not spectral_ops.cpu_levels():
        pytest.skip(str(spectral_ops.native.status()["cpu"]))
    f, leaves = function(row)
    with spectral_ops.use(chosen):
        assert gradgradcheck(f, leaves, check_fwd_over_rev=chosen == "reference" and "with_grads" not in row.op)


def gradients(op: str, args: list[Any], seeds_of: int = 0) -> list[Tensor | None]:
    """Gradients of all floating tensors that require one, with a fixed random gradient of the results."""
    generator = torch.Generator().manual_seed(seeds_of)
    # of all results: which of them want a gradient may hang on which of the arguments do
    pairs = [(y, torch.randn(y.shape, dtype=y.dtype, generator=generator)) for y in results(op, args)]
    pairs = [(y, seed) for y, seed in pairs if y.requires_grad]
    leaves = [t for t in flatten(args)[0] if t.requires_grad]
    if not pairs:
        return []
    out, seeds = zip(*pairs, strict=True)
    return list(torch.autograd.grad(out, leaves, seeds, allow_unused=True))


@pytest.mark.parametrize("row", RIGHT, ids=lambda row: row.id)
def test_kernels_give_the_references_gradients(row: Sample, level: str) -> None:
    """At every size; in float64, so that no slope of relu is unsure."""
    args = map_tensors(lambda t: t.requires_grad_(floating(t)), row.make(D))
    if dict(spectral_ops.backends(row.op, *args))["cpp"] is not None:
        return
    got = gradients(row.op, args)
    with spectral_ops.use("reference"):
        wanted = gradients(row.op, args)
    for i, (g, w) in enumerate(zip(got, wanted, strict=True)):
        assert (g is None) == (w is None), i
        if g is not None:
            assert g.shape == w.shape and g.dtype == w.dtype
            torch.testing.assert_close(
                g, w, rtol=1e-10, atol=1e-11 * max(1.0, float(w.abs().max()) if w.numel() else 0)
            )


@pytest.mark.parametrize("op", TABLE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_gradients_in_lower_precision(op: str, dtype: torch.dtype, backend: str) -> None:
    """Of the right dtype, and as near float64 as that dtype allows. No relu: its slope may be unsure."""
    row = next(r for r in rows_of(op) if not any(word in r.id for word in ("relu", "re.", "N1-", "-3x1-")))
    args = map_tensors(lambda t: t.requires_grad_(floating(t)), row.make(dtype))
    wide = map_tensors(lambda t: t.detach().to(D if floating(t) else t.dtype).requires_grad_(floating(t)), args)
    got = gradients(op, args)
    with spectral_ops.use("reference"):
        out = [y for y in results(op, wide) if y.requires_grad]
        generator = torch.Generator().manual_seed(0)
        dtypes = [y.dtype for y in results(op, args) if y.requires_grad]
        seeds = [torch.randn(y.shape, dtype=d, generator=generator).to(D) for y, d in zip(out, dtypes, strict=True)]
        wanted = torch.autograd.grad(out, [t for t in flatten(wide)[0] if t.requires_grad], seeds, allow_unused=True)
    compared = 0
    for g, w in zip(got, wanted, strict=True):
        if g is not None:
            assert g.dtype == dtype
            assert bounds.relative(g, w) <= 12 * torch.finfo(dtype).eps
            compared += 1
    assert compared


# ---- which arguments, how often ------------------------------------------------------------------------------------
@pytest.mark.parametrize("op", TABLE)
def test_gradient_to_a_part_of_the_arguments(op: str, backend: str) -> None:
    """Each floating tensor alone gets what it gets among all."""
    row = small(op)[-1]
    tensors, structure = flatten(row.make(D))
    places = [i for i, t in enumerate(tensors) if floating(t)]
    for t in tensors:
        t.requires_grad_(floating(t))
    together = dict(zip(places, gradients(op, unflatten(tensors, structure)), strict=True))
    for place in places:
        alone = [t.detach().requires_grad_(i == place) for i, t in enumerate(tensors)]
        (grad,) = gradients(op, unflatten(alone, structure)) or (None,)
        if together[place] is None:
            assert grad is None
        else:
            torch.testing.assert_close(grad, together[place], rtol=1e-12, atol=1e-12)


def test_want_grad_x_false(backend: str) -> None:
    ops_and_places = {
        "branch_mlp_backward": 0,
        "spectral_mlp_cross_entropy_with_grads": 2,
        "spectral_linear_backward": 0,
        "spectral_ensemble_backward": 0,
        "branch_rnn_backward": 0,
    }
    for op, where in ops_and_places.items():
        *args, _ = typical(op).make(D)
        with_x, without = results(op, [*args, True]), results(op, [*args, False])
        assert with_x[where].numel() > 0 and without[where].numel() == 0
        for i, (a, b) in enumerate(zip(with_x, without, strict=True)):
            assert i == where or torch.equal(a, b), (op, i)


def test_one_tensor_in_two_places(backend: str) -> None:
    """d/dw of two layers with the same weight is the sum of both; of transform = inverse = T too."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, 3, 2), (2, 2), (2, 3, 3), (2, 3))
    x, t, w, b = (torch.randn(s, dtype=D, generator=generator, requires_grad=True) for s in shapes)
    target = torch.tensor([0, 2])
    for f in (
        lambda x, t, w, b: ops.spectral_mlp(x, t, [w, w], [b, b], ["tanh", "none"]),
        lambda x, t, w, b: ops.spectral_mlp_cross_entropy(x, t, [w, w], [b, b], ["tanh", "none"], target),
        lambda x, t, w, b: ops.spectral_linear(x, t, w, b, "tanh", t, "sigmoid"),
        lambda x, t, w, b: ops.spectral_linear(x, t, w, b, "none", t, "gelu"),
    ):
        assert gradcheck(f, (x, t, w, b))
        assert gradgradcheck(f, (x, t, w, b))


def test_losses_and_logits_together(backend: str) -> None:
    """The fused gradients serve the losses alone; a gradient of the logits, too or instead, is computed again."""
    x, t, weights, biases, activations, target = rows_of("spectral_mlp_cross_entropy")[-4].make(D)
    leaves = [x.requires_grad_(), *(w.requires_grad_() for w in weights)]

    def composed() -> tuple[Tensor, Tensor]:
        logits = ops.spectral_mlp(x, t, weights, biases, activations)
        losses = [torch.nn.functional.cross_entropy(z, target) for z in logits]
        return torch.stack(losses), logits

    def fused() -> tuple[Tensor, Tensor]:
        return ops.spectral_mlp_cross_entropy(x, t, weights, biases, activations, target)

    scale = torch.linspace(0.5, 2, t.shape[0], dtype=D)
    for objective in (
        lambda losses, logits: losses.sum(),
        lambda losses, logits: losses.mean(),
        lambda losses, logits: losses @ scale,
        lambda losses, logits: logits.square().sum(),
        lambda losses, logits: losses @ scale + logits.tanh().sum(),
        lambda losses, logits: losses.square().sum(),
    ):
        wanted = torch.autograd.grad(objective(*composed()), leaves)
        got = torch.autograd.grad(objective(*fused()), leaves)
        torch.testing.assert_close(got, wanted, rtol=1e-11, atol=1e-12)


def test_backward_twice_and_gradients_changed_in_place(backend: str) -> None:
    """The gradients handed out are the caller's: scaling them (as clipping does) must not change a second backward."""
    x, t, weights, biases, activations, target = rows_of("spectral_mlp_cross_entropy")[-4].make(torch.float32)
    leaves = [x.requires_grad_(), *(w.requires_grad_() for w in weights)]
    losses, _ = ops.spectral_mlp_cross_entropy(x, t, weights, biases, activations, target)
    first = torch.autograd.grad(losses.sum(), leaves, retain_graph=True)
    kept = [g.clone() for g in first]
    for g in first:
        g.mul_(100)
    second = torch.autograd.grad(losses.sum(), leaves, retain_graph=True)
    assert all(torch.equal(a, b) for a, b in zip(kept, second, strict=True))
    for leaf in leaves:
        leaf.grad = None
    losses.sum().backward(retain_graph=True)
    losses.sum().backward()
    assert all(torch.equal(leaf.grad, 2 * g) for leaf, g in zip(leaves, kept, strict=True))


def test_saved_tensors_may_not_change(backend: str) -> None:
    """Writing to an argument between forward and backward is an error, as for aten ops."""
    x, w = torch.randn(2, 3, 4, requires_grad=True), torch.randn(2, 5, 4, requires_grad=True)
    y = ops.branch_linear(x, w, None, "tanh")
    with torch.no_grad():
        w.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@pytest.mark.parametrize("level_name", NATIVE)
def test_double_backward_through_kernels_is_the_references(level_name: str) -> None:
    """The gradient of a gradient penalty on a network, kernel against reference."""
    if not spectral_ops.cpu_levels():
        pytest.skip(str(spectral_ops.native.status()["cpu"]))
    x, t, weights, biases, _ = rows_of("spectral_mlp")[8].make(D)
    activations = ["tanh"] * len(weights)
    leaves = [x.requires_grad_(), *(w.requires_grad_() for w in weights)]

    def penalty() -> tuple[Tensor, ...]:
        y = ops.spectral_mlp(x, t, weights, biases, activations)
        (grad,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        return torch.autograd.grad(grad.square().sum(), leaves)

    with spectral_ops.cpu_level(level_name), spectral_ops.use("cpp"):
        got = penalty()
    with spectral_ops.use("reference"):
        wanted = penalty()
    torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-10)
