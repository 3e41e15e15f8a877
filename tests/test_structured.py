"""SpectralLinear.from_dense and to_dense: the same function, the nearest matrix, and block-circulant cases."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from tubes import dft

from spectral_ops import bcirc, tnorm, tprod, tubal_rank
from spectral_ops.nn import SpectralLinear, SpectralMLP, structured
from spectral_ops.transforms import DCT, Identity, Matrix, Transform

N, I, O, Q = 5, 4, 3, 6
F64 = torch.float64


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def random_matrix(learned: bool = False) -> Matrix:
    noise = torch.randn(Q, Q, generator=torch.Generator().manual_seed(1), dtype=F64)
    return Matrix(2 * torch.eye(Q, dtype=F64) + 0.5 * noise, learned)


def hartley(q: int = Q) -> Matrix:
    """Real and orthogonal; diagonalises the symmetric circulant matrices."""
    angle = 2 * torch.pi * torch.outer(torch.arange(q, dtype=F64), torch.arange(q, dtype=F64)) / q
    return Matrix((angle.cos() + angle.sin()) / q**0.5)


def scaled_dct() -> Matrix:
    """Orthogonal rows of different lengths."""
    return Matrix(torch.tensor([1.0, 3, 0.1, -2, 5, 1], dtype=F64)[:, None] * DCT(Q).matrix)


TRANSFORMS = {
    "default": lambda: None,
    "dct3": lambda: DCT(Q, 3),
    "identity": lambda: Identity(Q),
    "hartley": hartley,
    "backward": lambda: DCT(Q, norm="backward"),
    "scaled": scaled_dct,
    "backward3": lambda: DCT(Q, 3, norm="backward"),
    "matrix": random_matrix,
    "learned": lambda: random_matrix(learned=True),
}
every_transform = pytest.mark.parametrize("name", TRANSFORMS)
OTHERS = ("backward3", "matrix", "learned")
orthogonal_rows = pytest.mark.parametrize("name", [name for name in TRANSFORMS if name not in OTHERS])


def layer_of(name: str, rank: int | None = None, bias: bool = True) -> SpectralLinear:
    layer = SpectralLinear(I, O, Q, TRANSFORMS[name](), bias=bias, rank=rank, dtype=F64)
    if bias:
        nn.init.normal_(layer.bias)
    return layer


def linear(bias: bool = True, dtype: torch.dtype = F64) -> nn.Linear:
    return nn.Linear(I * Q, O * Q, bias, dtype=dtype)


def close(actual: Tensor, expected: Tensor, tolerance: float = 1e-11) -> None:
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def blocks(layer: SpectralLinear) -> Tensor:
    return layer.weight if layer.rank is None else layer.weight_out @ layer.weight_in


def tensor_of(layer: SpectralLinear) -> Tensor:
    """The weight tensor (O, I, Q) whose transform the layer's branches hold."""
    return (blocks(layer).permute(1, 2, 0) @ layer.transform.inverse.mT).detach()


def test_which_rows_are_orthogonal() -> None:
    for name in TRANSFORMS:
        matrix = (TRANSFORMS[name]() or DCT(Q)).matrix.detach()
        gram = matrix @ matrix.mT
        assert torch.allclose(gram, gram.diagonal().diag(), atol=1e-12) == (name not in OTHERS), name


# ---- to_dense ------------------------------------------------------------------------------------------------------
@every_transform
@pytest.mark.parametrize("rank", [None, 2])
@pytest.mark.parametrize("bias", [True, False])
def test_to_dense_is_the_same_function(name: str, rank: int | None, bias: bool) -> None:
    layer = layer_of(name, rank, bias)
    dense = layer.to_dense()
    assert type(dense) is nn.Linear and (dense.bias is not None) == bias
    assert (dense.in_features, dense.out_features) == (I * Q, O * Q)
    assert dense.weight.shape == (O * Q, I * Q) and dense.weight.is_leaf and dense.weight.requires_grad
    x = torch.randn(N, I, Q, dtype=F64)
    close(dense(x.flatten(1)), layer(x).flatten(1))


@every_transform
def test_to_dense_is_the_product_with_a_tensor(name: str) -> None:
    """Eq. (8): the layer is x -> W * x."""
    layer = layer_of(name, bias=False)
    x = torch.randn(N, I, Q, dtype=F64)
    y = tprod(tensor_of(layer), x.transpose(0, 1), layer.transform).transpose(0, 1)
    close(layer.to_dense()(x.flatten(1)), y.flatten(1))


def tube_last(matrix: Tensor, rows: int, columns: int) -> Tensor:
    """From bcirc's order of features, q slowest, to the layer's, q fastest."""
    q = matrix.shape[0] // rows
    return matrix.view(q, rows, q, columns).permute(1, 0, 3, 2).reshape(rows * q, columns * q)


@pytest.mark.parametrize("q", [1, 4, 5])
def test_under_the_dft_the_matrix_is_block_circulant(q: int) -> None:
    """With blocks that are the DFT of a real tensor."""
    A, transform = torch.randn(O, I, q, dtype=F64), dft(q)
    slices = torch.fft.fft(A).permute(2, 0, 1)
    dense = structured.matrix_of(slices, transform)
    close(dense.imag, torch.zeros_like(dense.real))
    close(dense.real, tube_last(bcirc(A), O, I))


def test_under_hartleys_transform_the_layer_is_block_circulant() -> None:
    """Symmetric circulant blocks need no complex numbers: branches k and Q - k are equal."""
    layer = SpectralLinear(I, O, Q, hartley(), bias=False, dtype=F64)
    with torch.no_grad():
        layer.weight.copy_(layer.weight + layer.weight[(-torch.arange(Q)) % Q])
    first = layer.to_dense().weight.detach().view(O, Q, I, Q)[..., 0].permute(0, 2, 1)  # a column of each block
    close(layer.to_dense().weight.detach(), tube_last(bcirc(first), O, I))
    # and back: the nearest layer to a block-circulant matrix with symmetric blocks is the matrix itself
    dense = nn.Linear(I * Q, O * Q, bias=False, dtype=F64)
    with torch.no_grad():
        dense.weight.copy_(tube_last(bcirc(first), O, I))
    found = SpectralLinear.from_dense(dense, Q, hartley())
    assert found.relative_error(dense) < 1e-14
    close(found.weight, layer.weight)
    assert SpectralLinear.from_dense(dense, Q).relative_error(dense) > 0.1  # a DCT does not hold it


@every_transform
@pytest.mark.parametrize("rank", [None, 2])
def test_a_network_of_layers_as_a_dense_one(name: str, rank: int | None) -> None:
    """Branches side by side in block-diagonal matrices; the transform is part of the first."""
    transform = TRANSFORMS[name]() or DCT(Q)
    for activation in ("relu", "gelu", "silu", "tanh", "sigmoid"):
        net = SpectralMLP([I, 5, 3, 4], Q, transform, rank, activation, output_bias=True, dtype=F64)
        for bias in net.biases:
            nn.init.normal_(bias)
        x = torch.randn(6, I, Q, dtype=F64)
        dense = net.to_dense()
        close(dense(x).unflatten(1, (4, Q)).permute(2, 0, 1), net(x))
    assert SpectralMLP([I, 4], Q).to_dense()[1].weight.dtype == torch.float32
    count = sum(isinstance(layer, nn.Linear) for layer in dense)
    assert count == (3 if rank is None else 6)


# ---- from_dense ----------------------------------------------------------------------------------------------------
@every_transform
@pytest.mark.parametrize("rank", [None, 2])
@pytest.mark.parametrize("bias", [True, False])
def test_from_dense_of_to_dense_is_the_layer(name: str, rank: int | None, bias: bool) -> None:
    layer = layer_of(name, rank, bias)
    dense = layer.to_dense()
    found = SpectralLinear.from_dense(dense, Q, layer.transform, rank)
    assert found.transform is layer.transform or name == "default"
    assert {k: v.shape for k, v in found.named_parameters()} == {k: v.shape for k, v in layer.named_parameters()}
    close(blocks(found), blocks(layer), 1e-10)
    assert found.relative_error(dense) < 1e-13
    x = torch.randn(N, I, Q, dtype=F64)
    close(found(x), layer(x), 1e-10)
    if bias:
        close(found.bias, layer.bias)


@every_transform
def test_the_projection_is_least_squares(name: str) -> None:
    """Against a solver that knows the basis and nothing else: a matrix whose columns are the layer's gradients."""
    dense = linear()
    found = SpectralLinear.from_dense(dense, Q, TRANSFORMS[name]())
    transform = found.transform
    parameters = O * I * Q
    basis = torch.eye(parameters, dtype=F64).view(parameters, Q, O, I)
    columns = torch.stack([structured.matrix_of(b, transform).detach().flatten() for b in basis], 1)
    best = torch.linalg.lstsq(columns, dense.weight.detach().flatten()).solution
    close(found.weight.detach().flatten(), best, 1e-9)
    residual = (found.to_dense().weight - dense.weight).detach().flatten()
    close(columns.mT @ residual, torch.zeros(parameters, dtype=F64), 1e-9)  # orthogonal to all that a layer can be
    expected = residual.norm() / dense.weight.detach().norm()
    assert found.relative_error(dense) == pytest.approx(expected.item(), rel=1e-12)


@every_transform
def test_no_member_is_nearer(name: str) -> None:
    dense = linear()
    found = SpectralLinear.from_dense(dense, Q, TRANSFORMS[name]())
    error = found.relative_error(dense)
    for step in (1e-4, 1e-2, 1):
        for _ in range(5):
            other = copy.deepcopy(found)
            with torch.no_grad():
                other.weight += step * torch.randn_like(other.weight)
            assert other.relative_error(dense) > error


def test_an_orthogonal_projection_is_a_diagonal() -> None:
    """W_k[o, i] is entry (k, k) of the transformed block, as the docstring says."""
    dense, transform = linear(), DCT(Q)
    found = SpectralLinear.from_dense(dense, Q, transform)
    tubes = dense.weight.detach().view(O, Q, I, Q).transpose(1, 2)
    expected = (transform.matrix @ tubes @ transform.matrix.mT).diagonal(dim1=-2, dim2=-1).permute(2, 0, 1)
    close(found.weight.detach(), expected)
    energy = expected.square().sum() / dense.weight.detach().square().sum()
    assert found.relative_error(dense) ** 2 == pytest.approx(1 - energy.item(), rel=1e-12)


@orthogonal_rows
@pytest.mark.parametrize("rank", [1, 2])
def test_truncation_is_the_nearest_where_rows_are_orthogonal(name: str, rank: int) -> None:
    """Pythagoras: what the projection loses, and the tails of the singular values; and no competitor is nearer."""
    dense = linear()
    full = SpectralLinear.from_dense(dense, Q, TRANSFORMS[name]())
    cut = SpectralLinear.from_dense(dense, Q, full.transform, rank)
    assert cut.rank == rank and cut.weight_in.shape == (Q, rank, I) and cut.weight_out.shape == (Q, O, rank)
    assert tubal_rank(tensor_of(cut), cut.transform, 1e-9) == rank
    norm = dense.weight.detach().norm().item()
    tail = torch.linalg.svdvals(full.weight.detach())[:, rank:].square().sum().item()
    error = cut.relative_error(dense)
    assert (norm * error) ** 2 == pytest.approx((norm * full.relative_error(dense)) ** 2 + tail, rel=1e-10)
    for step in (1e-3, 1e-1, 1):
        for _ in range(5):
            other = copy.deepcopy(cut)
            with torch.no_grad():
                other.weight_in += step * torch.randn_like(other.weight_in)
                other.weight_out += step * torch.randn_like(other.weight_out)
            assert other.relative_error(dense) > error


@pytest.mark.parametrize("name", OTHERS)
def test_truncation_is_the_nearest_in_the_norm_of_the_transform_else(name: str) -> None:
    dense = linear()
    full = SpectralLinear.from_dense(dense, Q, TRANSFORMS[name]())
    cut = SpectralLinear.from_dense(dense, Q, full.transform, 1)
    distance = tnorm(tensor_of(full) - tensor_of(cut), full.transform)
    tail = torch.linalg.svdvals(full.weight.detach())[:, 1:].square().sum()
    close(distance.detach().square(), tail)
    assert cut.relative_error(dense) >= full.relative_error(dense)


def test_full_rank_loses_nothing() -> None:
    dense = linear()
    full = SpectralLinear.from_dense(dense, Q)
    close(blocks(SpectralLinear.from_dense(dense, Q, rank=min(I, O))), full.weight)


@every_transform
def test_any_bias_is_exact(name: str) -> None:
    dense = linear()
    found = SpectralLinear.from_dense(dense, Q, TRANSFORMS[name]())
    close(found(torch.zeros(1, I, Q, dtype=F64)).flatten(), dense.bias)


def test_one_branch_is_the_dense_layer() -> None:
    dense = linear()
    found = SpectralLinear.from_dense(dense, 1)
    x = torch.randn(N, I * Q, dtype=F64)
    close(found(x[:, :, None])[..., 0], dense(x))
    assert found.relative_error(dense) < 1e-15


# ---- as modules ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("rank", [None, 2])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-6), (torch.bfloat16, 0.02), (torch.float16, 2e-3)])
def test_dtypes(rank: int | None, dtype: torch.dtype, tolerance: float) -> None:
    dense = linear(dtype=dtype)
    found = SpectralLinear.from_dense(dense, Q, rank=rank)
    assert all(p.dtype == dtype and p.requires_grad and p.is_leaf for p in found.parameters())
    back = found.to_dense()
    assert back.weight.dtype == dtype and back.bias.dtype == dtype
    exact = SpectralLinear.from_dense(copy.deepcopy(dense).double(), Q, rank=rank)
    assert found.double().relative_error(exact.to_dense()) < tolerance
    close(blocks(found), blocks(exact), tolerance)


def test_the_layer_trains_and_draws_no_random_numbers() -> None:
    dense = linear(dtype=torch.float32)
    state = torch.random.get_rng_state()
    layer = SpectralLinear.from_dense(dense, Q, rank=2)
    layer.to_dense()
    assert torch.equal(torch.random.get_rng_state(), state)
    layer(torch.randn(N, I, Q)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in layer.parameters())
    again = SpectralLinear(I, O, Q, rank=2)
    again.load_state_dict(layer.state_dict())
    close(again.to_dense().weight, layer.to_dense().weight, 1e-6)


def test_inputs_are_left_alone() -> None:
    dense, transform = linear(), random_matrix(learned=True)
    before = dense.weight.detach().clone(), dense.bias.detach().clone(), transform.weight.detach().clone()
    layer = SpectralLinear.from_dense(dense, Q, transform)
    out = layer.to_dense()
    with torch.no_grad():
        for p in (layer.weight, layer.bias, out.weight, out.bias):
            p.fill_(7)
    for now, then in zip((dense.weight, dense.bias, transform.weight), before, strict=True):
        assert torch.equal(now, then)
    assert layer.transform is transform


def test_relative_error_of_zero() -> None:
    dense = linear(bias=False)
    nn.init.zeros_(dense.weight)
    assert SpectralLinear.from_dense(dense, Q).relative_error(dense) == 0
    other = layer_of("default", bias=False)
    assert other.relative_error(dense) == pytest.approx(other.to_dense().weight.norm().item())


def test_subclasses_keep_their_type() -> None:
    class Mine(SpectralLinear):
        pass

    assert type(Mine.from_dense(linear(), Q)) is Mine
    with pytest.raises(ValueError, match=r"^Mine\.from_dense: branches must divide"):
        Mine.from_dense(linear(), 7)


def test_transforms_of_any_class() -> None:
    class Reversed(Transform):
        is_orthogonal = True

        @property
        def matrix(self) -> Tensor:
            return torch.eye(self.length, dtype=F64).flip(0)

    layer = SpectralLinear(I, O, Q, Reversed(Q), dtype=F64)
    assert SpectralLinear.from_dense(layer.to_dense(), Q, Reversed(Q)).relative_error(layer.to_dense()) < 1e-15
