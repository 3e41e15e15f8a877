"""The references are the definitions: literal cases, scipy, and the identities of the papers, in float64."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import scipy.fft
import torch
from samples import Sample, rows_of
from torch import Tensor

import spectral_ops
from spectral_ops import transforms
from spectral_ops.autograd import flatten, unflatten
from spectral_ops.op import rule_of

ops = torch.ops.spectral
D = torch.float64


@pytest.fixture(autouse=True)
def _reference():
    with spectral_ops.use("reference"):
        yield


def tensor(values) -> Tensor:
    return torch.tensor(values, dtype=D)


def equal(a: Tensor, b: Tensor, tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


# ---- by hand -------------------------------------------------------------------------------------------------------
def test_dct_of_two_values() -> None:
    """y_0 = 2 (3 + 1), y_1 = 2 (3 - 1) cos(pi / 4)."""
    equal(spectral_ops.dct(tensor([3.0, 1.0])), tensor([8.0, 4 * math.sqrt(0.5)]))
    equal(spectral_ops.dct(tensor([3.0, 1.0]), norm="ortho"), tensor([4 / math.sqrt(2), 2 / math.sqrt(2)]))
    equal(spectral_ops.dct(tensor([3.0, 1.0]), norm="forward"), tensor([2.0, math.sqrt(0.5)]))
    # type III: y_k = x_0 + 2 x_1 cos(pi (2k + 1) / 4)
    equal(spectral_ops.dct(tensor([3.0, 1.0]), type=3), tensor([3 + math.sqrt(2), 3 - math.sqrt(2)]))


def test_dct_of_one_value() -> None:
    assert spectral_ops.dct(tensor([5.0])).tolist() == [10.0]
    assert spectral_ops.idct(tensor([10.0])).tolist() == [5.0]
    assert spectral_ops.dct(tensor([5.0]), type=3).tolist() == [5.0]


def test_hadamard_of_four_values() -> None:
    """Sums and differences in natural order: (++++), (+-+-), (++--), (+--+)."""
    x = tensor([1.0, 2.0, 4.0, 8.0])
    assert ops.hadamard(x, 0, False).tolist() == [15.0, -5.0, -9.0, 3.0]
    assert ops.hadamard(x).tolist() == [7.5, -2.5, -4.5, 1.5]
    assert ops.hadamard(ops.hadamard(x)).tolist() == x.tolist()


def test_branches_of_two_slices() -> None:
    """x (N = 1, I = 2, Q = 2); the transform adds and subtracts the slices."""
    x, h = tensor([[[1.0, 2.0], [3.0, 5.0]]]), tensor([[1.0, 1.0], [1.0, -1.0]])
    branches = ops.to_branches(x, h)
    assert branches.tolist() == [[[3.0, 8.0]], [[-1.0, -2.0]]]
    assert ops.from_branches(branches, h / 2).tolist() == x.tolist()


def test_a_linear_branch() -> None:
    """Branch 0: (1, 2) W^T + b = (1 + 4 + 10, 3 + 8 - 20); branch 1 doubles."""
    x = tensor([[[1.0, 2.0]], [[2.0, -3.0]]])
    w, b = tensor([[[1.0, 2.0], [3.0, 4.0]], [[2.0, 0.0], [0.0, 2.0]]]), tensor([[10.0, -20.0], [0.0, 0.0]])
    assert ops.branch_linear(x, w, b).tolist() == [[[15.0, -9.0]], [[4.0, -6.0]]]
    assert ops.branch_linear(x, w, b, "relu").tolist() == [[[15.0, 0.0]], [[4.0, 0.0]]]


ONE = [
    ("none", 1.0), ("relu", 1.0), ("gelu", 0.8413447460685429), ("silu", 0.7310585786300049),
    ("tanh", 0.7615941559557649), ("sigmoid", 0.7310585786300049),
]  # fmt: skip


@pytest.mark.parametrize(("activation", "at_one"), ONE)
def test_activations_at_one(activation: str, at_one: float) -> None:
    y = ops.branch_linear(tensor([[[1.0]]]), tensor([[[1.0]]]), None, activation)
    assert y.item() == pytest.approx(at_one, abs=1e-15)


def test_a_network_of_two_branches() -> None:
    """Haar branches of (3, 1): sum 4 and difference 2; then w = 2, b = -5, relu; then w = 10."""
    x, h = tensor([[[3.0, 1.0]]]), tensor([[1.0, 1.0], [1.0, -1.0]])
    weights = [tensor([[[2.0]], [[2.0]]]), tensor([[[10.0]], [[10.0]]])]
    biases = [tensor([[-5.0], [-5.0]]), None]
    logits = ops.spectral_mlp(x, h, weights, biases, ["relu", "none"])
    assert logits.tolist() == [[[30.0]], [[0.0]]]
    y = ops.spectral_linear(x, h, weights[0], biases[0], "relu", h / 2)
    assert y.tolist() == [[[1.5, 1.5]]]  # (3 + 0) / 2 and (3 - 0) / 2
    y = ops.spectral_linear(x, h, weights[0], biases[0], "none", h / 2, "relu")
    assert y.tolist() == [[[1.0, 2.0]]]  # (3 - 1) / 2 and (3 + 1) / 2: the activation comes last


def test_losses_by_hand() -> None:
    """Logits (log 3, 0): probabilities 3/4 and 1/4; targets 0 and 1 cost log 4/3 and log 4."""
    x, one = torch.ones(2, 1, 1, dtype=D), torch.ones(1, 1, dtype=D)
    weights = [tensor([[[math.log(3)], [0.0]]])]
    losses, logits = ops.spectral_mlp_cross_entropy(x, one, weights, [None], ["none"], torch.tensor([0, 1]))
    equal(losses, tensor([(math.log(4 / 3) + math.log(4)) / 2]))
    equal(logits, tensor([[[math.log(3), 0.0]] * 2]))
    *_, grad_x, grad_weights, grad_biases = ops.spectral_mlp_cross_entropy_with_grads(
        x, one, weights, [None], ["none"], torch.tensor([0, 1])
    )
    # (p - hot) / 2: (-1/8, 1/8) and (3/8, -3/8)
    equal(grad_weights[0], tensor([[[0.25], [-0.25]]]))
    equal(grad_x, tensor([[[-math.log(3) / 8], [3 * math.log(3) / 8]]]))
    assert grad_biases == []


def test_an_ensemble_by_hand() -> None:
    """Eq. (18): branch 0 gives (3/4, 1/4), branch 1 (1/2, 1/2), weights 2/5 and 3/5."""
    logits, weights = tensor([[[math.log(3), 0.0]], [[7.0, 7.0]]]), tensor([0.4, 0.6])
    equal(ops.branch_ensemble(logits, weights), tensor([[0.6, 0.4]]))
    equal(ops.branch_ensemble(logits, weights, "logits"), tensor([[0.4 * math.log(3) + 4.2, 4.2]]))


def test_gradients_of_a_layer_by_hand() -> None:
    """y = relu(2 x + 1) at x = 3 and x = -3 with grad 5 and 7: the second is closed."""
    x, w, b = tensor([[[3.0], [-3.0]]]), tensor([[[2.0]]]), tensor([[1.0]])
    grad_x, (grad_w,), (grad_b,) = ops.branch_mlp_backward(tensor([[[5.0], [7.0]]]), x, [w], [b], ["relu"])
    assert grad_x.tolist() == [[[10.0], [0.0]]]
    assert (grad_w.item(), grad_b.item()) == (15.0, 5.0)


def test_an_empty_batch() -> None:
    x, w = torch.zeros(0, 2, 3), torch.ones(3, 4, 2)
    losses, logits = ops.spectral_mlp_cross_entropy(x, torch.eye(3), [w], [None], ["none"], torch.zeros(0).long())
    assert logits.shape == (3, 0, 4) and losses.isnan().all()  # the mean of nothing, as in torch


# ---- scipy ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("n", [1, 2, 3, 8, 28, 57, 64, 100, 256, 257, 300, 1000, 1009])
@pytest.mark.parametrize("type", [2, 3])
def test_dct_is_scipys(n: int, type: int) -> None:
    rng = np.random.default_rng(n)
    for shape, dim in (((3, n), -1), ((n, 2), 0), ((2, n, 3), 1)):
        x = rng.standard_normal(shape)
        for norm in (None, "backward", "ortho", "forward"):
            for orthogonalize in (None, True, False):
                kwargs = {"type": type, "norm": norm, "orthogonalize": orthogonalize}
                for name in ("dct", "idct"):
                    wanted = getattr(scipy.fft, name)(x, axis=dim, **kwargs)
                    got = getattr(spectral_ops, name)(torch.from_numpy(x), dim=dim, **kwargs)
                    assert np.abs(got.numpy() - wanted).max() <= 2e-14 * math.sqrt(n) * max(1.0, np.abs(wanted).max())


@pytest.mark.parametrize("n", [1, 2, 5, 28, 32, 64])
def test_float32_is_no_worse_than_scipys(n: int, backend: str) -> None:
    """Relative to float64; both in float32."""
    x = np.random.default_rng(1).standard_normal((256, n)).astype(np.float32)
    for type in (2, 3):
        exact = scipy.fft.dct(x.astype(np.float64), type=type, norm="ortho")
        scipys = np.linalg.norm(scipy.fft.dct(x, type=type, norm="ortho") - exact)
        ours = np.linalg.norm(spectral_ops.dct(torch.from_numpy(x), type=type, norm="ortho").numpy() - exact)
        assert ours <= 2 * scipys + 1e-7 * np.linalg.norm(exact)


@pytest.mark.parametrize("n", [3, 5, 8, 11])
def test_dct_pads_and_crops(n: int) -> None:
    x = np.random.default_rng(0).standard_normal((8, 2, 8))
    for name in ("dct", "idct"):
        for dim in (0, -1):
            wanted = getattr(scipy.fft, name)(x, n=n, axis=dim)
            equal(getattr(spectral_ops, name)(torch.from_numpy(x), n=n, axis=dim), torch.from_numpy(wanted))


def test_dct_of_other_dtypes() -> None:
    whole = torch.arange(6).view(2, 3)
    torch.testing.assert_close(spectral_ops.dct(whole), spectral_ops.dct(whole.float()))
    z = torch.randn(4, 5, dtype=torch.complex128, generator=torch.Generator().manual_seed(0))
    equal(spectral_ops.dct(z), torch.from_numpy(scipy.fft.dct(z.numpy())))
    for half in (torch.bfloat16, torch.float16):
        x = torch.linspace(-1, 1, 28).to(half)
        assert torch.equal(spectral_ops.dct(x), spectral_ops.dct(x.float()).to(half))


@pytest.mark.parametrize("norm", ["backward", "ortho", "forward"])
@pytest.mark.parametrize("type", [2, 3])
@pytest.mark.parametrize("length", [1, 2, 7, 28, 300])
def test_dct_transform_objects(length: int, type: int, norm: str) -> None:
    t = transforms.DCT(length, type, norm)
    x = torch.randn(2, 3, length, dtype=D, generator=torch.Generator().manual_seed(0))
    equal(t(x).permute(1, 2, 0), spectral_ops.dct(x, type, norm=norm), 1e-11)
    equal(t.inverse @ t.matrix, torch.eye(length, dtype=D), 1e-11)
    assert t.is_orthogonal == (norm == "ortho") and t.is_real and (t.length, t.branches) == (length, length)
    if t.is_orthogonal:
        equal(t.matrix.mT, t.inverse, 1e-14)


def test_the_table_is_exact() -> None:
    """Equal magnitudes are equal to the last bit: the kernels find the symmetry of the DCT in its values."""
    for n in (2, 7, 28, 29, 64):
        m = transforms.DCT(n).matrix
        signs = torch.tensor([1.0, -1.0], dtype=D).repeat(n)[:n, None]
        assert torch.equal(m.flip(1), m * signs)
        scipys = torch.from_numpy(scipy.fft.dct(np.eye(n), norm="ortho", axis=0))
        assert (m - scipys).abs().max() < 1e-15


# ---- identities of paper 1 -----------------------------------------------------------------------------------------
def test_spectral_mlp_is_the_composition_of_t_products() -> None:
    """Eq. (8) with (10): transform, layer and inverse transform at each layer; in between they cancel (eq. 11)."""
    generator = torch.Generator().manual_seed(3)
    n, q, widths = 5, 7, [4, 6, 5, 3]
    t = transforms.DCT(q)
    x = torch.randn(n, widths[0], q, dtype=D, generator=generator)
    weights = [torch.randn(q, o, i, dtype=D, generator=generator) for i, o in pairwise(widths)]
    biases = [torch.randn(q, o, dtype=D, generator=generator) for o in widths[1:]]
    h, activations = x, ["relu", "tanh", "none"]
    for w, b, a in zip(weights, biases, activations, strict=True):
        spectrum = scipy.fft.dct(h.numpy(), norm="ortho")  # (N, I, Q)
        z = np.stack([spectrum[:, :, k] @ w[k].numpy().T + b[k].numpy() for k in range(q)], -1)
        z = {"relu": lambda v: np.maximum(v, 0), "tanh": np.tanh, "none": lambda v: v}[a](z)
        layer = ops.spectral_linear(h, t.matrix, w, b, a, t.inverse)
        h = torch.from_numpy(scipy.fft.idct(z, norm="ortho"))
        equal(layer, h, 1e-11)
    logits = ops.spectral_mlp(x, t.matrix, weights, biases, activations)
    equal(logits.permute(1, 2, 0), torch.from_numpy(scipy.fft.dct(h.numpy(), norm="ortho")), 1e-11)


def test_low_tubal_rank_is_a_product_of_weights() -> None:
    """Eq. (13)-(16): two weights a layer with nothing between are one weight of rank r."""
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(6, 5, 4, dtype=D, generator=generator)
    u, v = (torch.randn(*s, dtype=D, generator=generator) for s in ((4, 2, 5), (4, 3, 2)))
    b, t = torch.randn(4, 3, dtype=D, generator=generator), transforms.DCT(4).matrix
    low = ops.spectral_mlp(x, t, [u, v], [None, b], ["none", "relu"])
    equal(low, ops.spectral_mlp(x, t, [v @ u], [b], ["relu"]))


@pytest.mark.parametrize("row", rows_of("spectral_mlp"), ids=lambda row: row.id)
def test_branches_are_independent(row: Sample) -> None:
    """Branch q of the whole is the network of branch q alone (the ensemble needs no communication)."""
    x, transform, weights, biases, activations = row.make(D)
    whole = ops.spectral_mlp(x, transform, weights, biases, activations)
    for q in {0, whole.shape[0] - 1}:
        pick = slice(q, q + 1)
        alone = ops.spectral_mlp(
            x if transform is not None else x[pick], None if transform is None else transform[pick],
            [w[pick] for w in weights], [None if b is None else b[pick] for b in biases], activations,
        )  # fmt: skip
        equal(whole[pick], alone, 1e-11)


# ---- adjoints: <A x, y> = <x, A^T y> -------------------------------------------------------------------------------
def dot(a: Tensor, b: Tensor) -> float:
    return float((a * b).sum())


@pytest.mark.parametrize("row", rows_of("dct"), ids=lambda row: row.id)
def test_dct_adjoint(row: Sample) -> None:
    x, *rest = row.make(D)
    y = row.make(D, seed=1)[0]
    assert dot(ops.dct(x, *rest), y) == pytest.approx(dot(x, ops.dct_adjoint(y, *rest)), rel=1e-10, abs=1e-10)
    type, dim, norm, inverse, head = rest
    if norm == "ortho" and head:  # orthogonal: the adjoint is the inverse
        equal(ops.dct_adjoint(y, *rest), ops.dct(y, type, dim, norm, not inverse, head), 1e-11)


@pytest.mark.parametrize("row", rows_of("to_branches"), ids=lambda row: row.id)
def test_branches_adjoint(row: Sample) -> None:
    x, transform = row.make(D)
    y = torch.randn(transform.shape[0], *x.shape[:2], dtype=D, generator=torch.Generator().manual_seed(7))
    ahead, back = ops.to_branches(x, transform), ops.from_branches(y, transform.mT)
    assert dot(ahead, y) == pytest.approx(dot(x, back), rel=1e-10, abs=1e-10)


@pytest.mark.parametrize("row", rows_of("branch_mlp_backward"), ids=lambda row: row.id)
def test_network_adjoint(row: Sample) -> None:
    """The backward op is the adjoint of the tangent map: <J dx, g> = <dx, J^T g>, weights and biases included."""
    grad_y, *net, want = row.make(D)
    points, structure = flatten(net)
    tangents = [torch.cos(3 * t) for t in points]

    def network(*tensors):
        x, *layers = unflatten(tensors, structure)
        return rule_of("spectral_mlp").reference(x, None, *layers)

    _, moved = torch.func.jvp(network, tuple(points), tuple(tangents))
    grads, _ = flatten(ops.branch_mlp_backward(grad_y, *net, want))
    if not want:
        assert grads[0].numel() == 0
        _, by_x = torch.func.jvp(lambda x: network(x, *points[1:]), (points[0],), (tangents[0],))
        moved, tangents, grads = moved - by_x, tangents[1:], grads[1:]
    pairs = zip(tangents, grads, strict=True)
    assert dot(moved, grad_y) == pytest.approx(sum(dot(*pair) for pair in pairs), rel=1e-9, abs=1e-9)
