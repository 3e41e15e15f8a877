"""The layers: shapes, values, initial weights, errors, and the promised counts of operations and parameters."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from spectral_ops import ensemble
from spectral_ops.nn import BranchEnsemble, SpectralLinear, SpectralMLP, TNNLinear
from spectral_ops.transforms import DCT, DST, Identity, Matrix

ACTIVATIONS = {
    "none": lambda z: z,
    "relu": functional.relu,
    "gelu": functional.gelu,
    "silu": functional.silu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}
N, I, O, Q = 5, 4, 3, 6
FULL_AND_LOW_RANK = pytest.mark.parametrize("rank", [None, 2])
EVERY_ACTIVATION = pytest.mark.parametrize("activation", ACTIVATIONS)
TUBE_LAYERS = pytest.mark.parametrize("layer", [SpectralLinear, TNNLinear])
MNIST = [28] * 8 + [10]
DENSE_WEIGHTS = 784 * 784 * 7 + 784 * 10


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def double(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def matrix(seed: int = 1) -> Tensor:
    """(Q, Q), well conditioned and not orthogonal."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(Q, Q, generator=generator, dtype=torch.float64)
    return 2 * torch.eye(Q, dtype=torch.float64) + 0.2 * noise


def transforms() -> list:
    fixed = [DCT(Q, 3), DCT(Q, norm="backward"), DCT(Q, 1), DST(Q, 4), Identity(Q), Matrix(matrix())]
    return [None, *fixed, Matrix(matrix(), learned=True)]


def weight_of(layer: SpectralLinear | TNNLinear) -> Tensor:
    return layer.weight if layer.rank is None else torch.einsum("qor,qri->qoi", layer.weight_out, layer.weight_in)


def random_biases(module: nn.Module) -> None:
    """Biases start at zero, where a forgotten one would not show."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if "bias" in name:
                parameter.normal_()


def linear_branches(layer: SpectralLinear | TNNLinear, x: Tensor) -> Tensor:
    """W_q L(x)_q + b_q, (Q', N, O)."""
    h = torch.einsum("qp,nip->qni", layer.transform.matrix, x)
    y = torch.einsum("qoi,qni->qno", weight_of(layer), h)
    return y if layer.bias is None else y + layer.bias[:, None]


def inverted(layer: SpectralLinear | TNNLinear, branches: Tensor) -> Tensor:
    return torch.einsum("qp,pno->noq", torch.linalg.inv(layer.transform.matrix), branches)


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-11, atol=1e-11)


# ---- SpectralLinear, TNNLinear -------------------------------------------------------------------------------------
@FULL_AND_LOW_RANK
@EVERY_ACTIVATION
@pytest.mark.parametrize("bias", [True, False])
def test_spectral_linear_is_its_definition(rank: int | None, activation: str, bias: bool) -> None:
    layer = SpectralLinear(I, O, Q, bias=bias, activation=activation, rank=rank, dtype=torch.float64)
    random_biases(layer)
    x = double(N, I, Q)
    y = layer(x)
    assert y.shape == (N, O, Q) and y.is_contiguous()
    close(y, inverted(layer, ACTIVATIONS[activation](linear_branches(layer, x))))


@FULL_AND_LOW_RANK
@EVERY_ACTIVATION
@pytest.mark.parametrize("bias", [True, False])
def test_tnn_linear_is_its_definition(rank: int | None, activation: str, bias: bool) -> None:
    """act(W • x + b), with the t-product in the original domain: the activation comes after the inverse."""
    layer = TNNLinear(I, O, Q, bias=bias, activation=activation, rank=rank, dtype=torch.float64)
    random_biases(layer)
    x = double(N, I, Q)
    y = layer(x)
    assert y.shape == (N, O, Q) and y.is_contiguous()
    close(y, ACTIVATIONS[activation](inverted(layer, linear_branches(layer, x))))


@TUBE_LAYERS
@pytest.mark.parametrize("number", range(len(transforms())))
def test_tube_layers_take_every_transform(layer: type, number: int) -> None:
    net = layer(I, O, Q, transforms()[number], activation="none", dtype=torch.float64)
    random_biases(net)
    x = double(N, I, Q)
    close(net(x), inverted(net, linear_branches(net, x)))


@TUBE_LAYERS
@FULL_AND_LOW_RANK
def test_tube_layers_gradients(layer: type, rank: int | None) -> None:
    """To x, to every parameter and to a learned transform, through it and through its inverse."""
    net = layer(2, 2, Q, Matrix(matrix(), learned=True), activation="tanh", rank=rank, dtype=torch.float64)
    names, parameters = zip(*net.named_parameters(), strict=True)
    assert "transform.weight" in names

    def call(x: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(net, dict(zip(names, values, strict=True)), x)

    x = double(3, 2, Q).requires_grad_()
    assert torch.autograd.gradcheck(call, (x, *parameters))


@TUBE_LAYERS
def test_tube_layer_stands_for_a_matrix(layer: type) -> None:
    """With a DCT the layer is a linear map of the IQ numbers of x, with Q times fewer parameters."""
    net = layer(I, O, Q, bias=False, activation="none", dtype=torch.float64)
    basis = torch.eye(I * Q, dtype=torch.float64)
    dense = net(basis.view(-1, I, Q)).flatten(1).mT
    x = double(N, I, Q)
    close(net(x).flatten(1), x.flatten(1) @ dense.mT)
    assert dense.numel() == Q * net.weight.numel()


def test_default_activations() -> None:
    assert SpectralLinear(I, O, Q).activation == "none"
    assert TNNLinear(I, O, Q).activation == "relu"
    assert SpectralMLP([I, O], Q).activation == "relu"


# ---- SpectralMLP ---------------------------------------------------------------------------------------------------
def mlp_logits(net: SpectralMLP, x: Tensor) -> Tensor:
    h = torch.einsum("qp,nip->qni", net.transform.matrix, x)
    weights, biases = list(net.weights), iter(net.biases)
    for j in range(net.layers):
        if net.rank is None:
            h = torch.einsum("qoi,qni->qno", weights.pop(0), h)
        else:
            h = torch.einsum("qri,qni->qnr", weights.pop(0), h)
            h = torch.einsum("qor,qnr->qno", weights.pop(0), h)
        last = j == net.layers - 1
        if net.output_bias if last else net.bias:
            h = h + next(biases)[:, None]
        h = h if last else ACTIVATIONS[net.activation](h)
    assert not weights and next(biases, None) is None
    return h


@FULL_AND_LOW_RANK
@EVERY_ACTIVATION
@pytest.mark.parametrize("bias, output_bias", [(True, False), (False, True), (True, True), (False, False)])
def test_mlp_is_its_definition(rank: int | None, activation: str, bias: bool, output_bias: bool) -> None:
    net = SpectralMLP(
        [I, 5, 3, 4], Q, rank=rank, activation=activation, bias=bias, output_bias=output_bias, dtype=torch.float64
    )
    random_biases(net)
    x, target, weights = double(N, I, Q), torch.tensor([0, 3, 1, 2, 0]), torch.softmax(double(Q), 0)
    expected = mlp_logits(net, x)
    logits = net(x)
    assert logits.shape == (Q, N, 4) and logits.is_contiguous()
    close(logits, expected)

    losses, logits = net.loss(x, target)
    rows = -torch.log_softmax(expected, -1)[:, torch.arange(N), target]
    close(losses, rows.mean(1))
    close(logits, expected)

    mixture = torch.einsum("q,qnc->nc", weights, torch.softmax(expected, -1))
    close(net.predict(x, weights), mixture)
    close(net.predict(x, weights).sum(-1), torch.ones(N, dtype=torch.float64))
    close(net.predict(x, weights, space="logits"), torch.einsum("q,qnc->nc", weights, expected))


@pytest.mark.parametrize("number", range(len(transforms())))
def test_mlp_takes_every_transform(number: int) -> None:
    net = SpectralMLP([I, 5, 3], Q, transforms()[number], dtype=torch.float64)
    x = double(N, I, Q)
    close(net(x), mlp_logits(net, x))


@FULL_AND_LOW_RANK
def test_mlp_gradients_reach_every_parameter(rank: int | None) -> None:
    net = SpectralMLP([I, 5, 3], Q, Matrix(matrix(), learned=True), rank, "tanh", output_bias=True, dtype=torch.float64)
    x, target = double(N, I, Q), torch.tensor([0, 2, 1, 2, 0])
    parameters = list(net.parameters())
    ours = torch.autograd.grad(net.loss(x, target)[0].sum(), parameters)
    expected = torch.autograd.grad(ensemble.branch_cross_entropy(mlp_logits(net, x), target).sum(), parameters)
    for (name, _), a, b in zip(net.named_parameters(), ours, expected, strict=True):
        assert a.abs().max() > 0, name
        close(a, b)


def test_a_branch_gets_the_gradient_of_its_own_loss_only() -> None:
    net = SpectralMLP([I, 5, 3], Q, output_bias=True)
    losses, _ = net.loss(torch.randn(N, I, Q), torch.tensor([0, 2, 1, 2, 0]))
    losses[2].backward()
    for parameter in net.parameters():
        assert parameter.grad is not None
        used = parameter.grad.flatten(1).abs().amax(1) > 0
        assert used.tolist() == [q == 2 for q in range(Q)]


def test_predict_casts_the_weights() -> None:
    net = SpectralMLP([I, 3], Q)
    weights = torch.softmax(double(Q), 0)
    assert net.predict(torch.randn(N, I, Q), weights).dtype == torch.float32


def test_learned_transform_is_trained() -> None:
    net = SpectralMLP([I, 5, 3], Q, Matrix(matrix().float(), learned=True))
    before = net.transform.weight.detach().clone()
    x, target = torch.randn(64, I, Q), torch.randint(3, (64,))
    first = net.loss(x, target)[0].mean().item()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    for _ in range(20):
        optimizer.zero_grad()
        net.loss(x, target)[0].sum().backward()
        optimizer.step()
    assert net.loss(x, target)[0].mean().item() < 0.9 * first  # the new matrix is used, not an older copy
    assert not torch.equal(net.transform.weight, before)


# ---- initial weights -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("rank", [None, 32])
@pytest.mark.parametrize("activation", ["relu", "gelu", "silu", "none"])
def test_initial_weights_keep_the_second_moment(activation: str, rank: int | None) -> None:
    net = SpectralMLP([64] * 9, 16, rank=rank, activation=activation)  # eight layers, the last without activation
    h = net.transform(torch.randn(200, 64, 16))
    ratio = (net(h.permute(1, 2, 0)).square().mean() / h.square().mean()).item()
    # He's gain is exact for relu; gelu and silu, nearly linear at 0, lose somewhat more in every layer
    low = 1 / 12 if activation in ("gelu", "silu") else 1 / 4
    assert low < ratio < 4, ratio


@pytest.mark.parametrize("activation, gain", [("none", 1), ("relu", 2**0.5), ("tanh", 5 / 3), ("sigmoid", 1)])
def test_initial_weights_have_hes_variance_per_branch(activation: str, gain: float) -> None:
    full = SpectralLinear(200, 100, 8, activation=activation).weight
    low = weight_of(SpectralLinear(200, 100, 8, activation=activation, rank=50))
    for weight, tolerance in ((full, 0.03), (low, 0.1)):
        torch.testing.assert_close(weight.var((1, 2)), torch.full((8,), gain**2 / 200), rtol=2 * tolerance, atol=0)
        assert abs(weight.var().item() * 200 / gain**2 - 1) < tolerance
        assert abs(weight.mean().item()) < 5 * weight.std().item() / weight.numel() ** 0.5 * 3


@pytest.mark.parametrize("module", [SpectralLinear(I, O, Q), TNNLinear(I, O, Q, rank=2), SpectralMLP([I, 5, O], Q)])
def test_reset_parameters_draws_again(module: SpectralLinear | TNNLinear | SpectralMLP) -> None:
    random_biases(module)
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    module.reset_parameters()
    for name, p in module.named_parameters():
        assert not torch.equal(p, before[name]), name
        if "bias" in name:
            assert not p.any(), name


# ---- errors --------------------------------------------------------------------------------------------------------
WRONG = [
    (lambda: SpectralLinear(0, O, Q), ValueError, "SpectralLinear: in_features must be at least 1, got 0"),
    (lambda: TNNLinear(I, -1, Q), ValueError, "TNNLinear: out_features must be at least 1, got -1"),
    (lambda: SpectralLinear(I, O, 0), ValueError, "SpectralLinear: branches must be at least 1, got 0"),
    (lambda: SpectralLinear(2.0, O, Q), TypeError, "SpectralLinear: in_features must be an int, got 2.0"),
    (lambda: SpectralLinear(True, O, Q), TypeError, "SpectralLinear: in_features must be an int, got True"),
    (lambda: TNNLinear(I, O, Q, rank=0), ValueError, "TNNLinear: rank must be at least 1, got 0"),
    (lambda: SpectralMLP([I, O], Q, rank="2"), TypeError, "SpectralMLP: rank must be an int, got '2'"),
    (
        lambda: SpectralLinear(I, O, Q, activation="swish"),
        ValueError,
        "SpectralLinear: activation must be one of none, relu, gelu, silu, tanh, sigmoid, got 'swish'",
    ),
    (
        lambda: TNNLinear(I, O, Q, DCT(5)),
        ValueError,
        "TNNLinear: transform must have length 6 as branches, got 5",
    ),
    (
        lambda: SpectralLinear(I, O, Q, "dct"),
        TypeError,
        "SpectralLinear: transform must be a spectral_ops.transforms.Transform or None, got 'dct'",
    ),
    (
        lambda: SpectralMLP([I], Q),
        ValueError,
        "SpectralMLP: features must be at least two sizes, input and output, got [4]",
    ),
    (
        lambda: SpectralMLP(28, Q),
        ValueError,
        "SpectralMLP: features must be at least two sizes, input and output, got 28",
    ),
    (lambda: SpectralMLP([I, 0], Q), ValueError, "SpectralMLP: features[1] must be at least 1, got 0"),
    (lambda: SpectralMLP([I, 2.5], Q), TypeError, "SpectralMLP: features[1] must be an int, got 2.5"),
    (
        lambda: SpectralLinear(I, O, Q)(torch.rand(N, I, 5)),
        ValueError,
        "spectral_linear: transform must be (Q', Q) with Q = 5 as in x, got (6, 6)",
    ),
    (
        lambda: SpectralMLP([I, O], Q)(torch.rand(N, Q)),
        ValueError,
        "spectral_mlp: x must be (N, I, Q), got (5, 6)",
    ),
    (
        lambda: SpectralMLP([I, O], Q)(torch.rand(N, I, Q).double()),
        TypeError,
        "spectral_mlp: weights[0] must be torch.float64 or torch.complex128 as x, got torch.float32",
    ),
]  # fmt: skip


@pytest.mark.parametrize("call, error, message", WRONG, ids=[row[2].split(" must")[0] for row in WRONG])
def test_errors(call, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match="^" + re.escape(message) + "$"):
        call()


# ---- as modules ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("rank", [None, 2])
def test_device_and_dtype_arguments(rank: int | None) -> None:
    kwargs = {"device": "meta", "dtype": torch.float64}
    layers = [cls(I, O, Q, rank=rank, **kwargs) for cls in (SpectralLinear, TNNLinear)]
    for net in (*layers, SpectralMLP([I, 5, O], Q, rank=rank, output_bias=True, **kwargs)):
        for name, p in net.named_parameters():
            assert p.device.type == "meta" and p.dtype == torch.float64, name
        assert net(torch.empty(N, I, Q, device="meta", dtype=torch.float64)).device.type == "meta"


def test_parameter_names_and_shapes() -> None:
    def shapes(net: nn.Module) -> dict[str, tuple[int, ...]]:
        return {name: tuple(p.shape) for name, p in net.named_parameters()}

    assert shapes(SpectralLinear(I, O, Q)) == {"weight": (Q, O, I), "bias": (Q, O)}
    low = {"weight_in": (Q, 2, I), "weight_out": (Q, O, 2)}
    assert shapes(TNNLinear(I, O, Q, rank=2)) == {**low, "bias": (Q, O)}
    assert shapes(TNNLinear(I, O, Q, rank=2, bias=False)) == low


def test_extra_repr() -> None:
    assert repr(SpectralLinear(I, O, Q, rank=2)).startswith(
        "SpectralLinear(\n  4, 3, branches=6, bias=True, activation='none', rank=2\n"
    )
    assert TNNLinear(I, O, Q, bias=False).extra_repr() == "4, 3, branches=6, bias=False, activation='relu'"
    assert SpectralMLP([I, 5, O], Q, rank=2).extra_repr() == (
        "[4, 5, 3], branches=6, rank=2, activation='relu', bias=True, output_bias=False"
    )
    assert BranchEnsemble(Q).extra_repr() == "6, 'average', space='probabilities'"
    assert BranchEnsemble(Q, "geometric", space="logits").extra_repr() == "6, 'geometric', p=0.3, space='logits'"


# ---- what the compression promises ---------------------------------------------------------------------------------
@pytest.mark.parametrize("rank, fewer", [(None, 23.5), (8, 36.4)])
def test_operations_of_the_mnist_network(rank: int | None, fewer: float) -> None:
    net = SpectralMLP(MNIST, 28, rank=rank)
    layers = [(28, 28)] * 7 + [(28, 10)]
    weights = sum(i * o if rank is None else rank * (i + o) for i, o in layers)
    assert net.operations() == 28**3 + 28 * weights
    assert round(DENSE_WEIGHTS / net.operations(), 1) == fewer


@pytest.mark.parametrize("rank, hidden, weights, whole", [(None, 28, 26.7, 25.8), (8, 49, 44.8, 42.4)])
def test_compression_of_the_mnist_network(rank: int | None, hidden: float, weights: float, whole: float) -> None:
    """Of one hidden weight, of all weights, and of all parameters with the biases of the seven hidden layers."""
    net = SpectralMLP(MNIST, 28, rank=rank)
    with_output_bias = SpectralMLP(MNIST, 28, rank=rank, output_bias=True)
    assert with_output_bias.parameter_count() == net.parameter_count() + 28 * 10
    assert 784 * 784 / sum(w.numel() for w in net.weights[: 1 if rank is None else 2]) == hidden
    assert round(DENSE_WEIGHTS / sum(w.numel() for w in net.weights), 1) == weights
    assert round((DENSE_WEIGHTS + 7 * 784) / net.parameter_count(), 1) == whole


@TUBE_LAYERS
def test_operations_of_a_tube_layer(layer: type) -> None:
    assert layer(I, O, Q).operations() == (I + O) * Q * Q + Q * I * O
    assert layer(I, O, Q, rank=2).operations() == (I + O) * Q * Q + Q * 2 * (I + O)
