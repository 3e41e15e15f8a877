"""What is saved comes back: state_dict, torch.save, safetensors, pickle, deepcopy, and changes of dtype on the way."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from spectral_ops.nn import BranchEnsemble, SpectralLinear, SpectralMLP, TNNLinear
from spectral_ops.transforms import DCT, Identity, Matrix, Transform

N, I, O, Q = 5, 4, 3, 6


def matrix(seed: int = 1) -> Tensor:
    """(Q, Q), float64, well conditioned and not orthogonal."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(Q, Q, generator=generator, dtype=torch.float64)
    return 2 * torch.eye(Q, dtype=torch.float64) + 0.2 * noise


# a builder, and the names in its state_dict
NETS: dict[str, tuple[Callable[[], nn.Module], list[str]]] = {
    "linear": (lambda: SpectralLinear(I, O, Q), ["weight", "bias"]),
    "low-rank": (lambda: SpectralLinear(I, O, Q, DCT(Q, 3), bias=False, rank=2), ["weight_in", "weight_out"]),
    "tnn": (lambda: TNNLinear(I, O, Q, Identity(Q)), ["weight", "bias"]),
    "fixed-matrix": (lambda: TNNLinear(I, O, Q, Matrix(matrix())), ["weight", "bias", "transform.weight"]),
    "learned-matrix": (
        lambda: SpectralLinear(I, O, Q, Matrix(matrix().float(), learned=True)),
        ["weight", "bias", "transform.weight"],
    ),
    "mlp": (
        lambda: SpectralMLP([I, 5, 4, O], Q),
        ["weights.0", "weights.1", "weights.2", "biases.0", "biases.1"],
    ),
    "mlp-low-rank": (
        lambda: SpectralMLP([I, 5, O], Q, rank=2, output_bias=True),
        ["weights.0", "weights.1", "weights.2", "weights.3", "biases.0", "biases.1"],
    ),
    "ensemble": (lambda: BranchEnsemble(Q, "geometric"), ["weights"]),
    "learned-ensemble": (lambda: BranchEnsemble(Q, "learned"), ["scores"]),
}
EVERY_NET = pytest.mark.parametrize("name", NETS)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def build(name: str) -> nn.Module:
    """The net with random numbers in every parameter and buffer but the transform's."""
    net = NETS[name][0]()
    with torch.no_grad():
        for key, value in net.state_dict().items():
            if not key.startswith("transform"):
                value.uniform_(0.1, 1)
    return net


def argument(name: str) -> Tensor:
    return torch.randn(Q, N, O) if "ensemble" in name else torch.randn(N, I, Q)


def saved(value: object, weights_only: bool) -> object:
    memory = io.BytesIO()
    torch.save(value, memory)
    memory.seek(0)
    return torch.load(memory, weights_only=weights_only)


@EVERY_NET
def test_names(name: str) -> None:
    assert sorted(build(name).state_dict()) == sorted(NETS[name][1])


@EVERY_NET
def test_state_dict_round_trip(name: str) -> None:
    net, x = build(name), argument(name)
    state = saved(net.state_dict(), weights_only=True)
    other = NETS[name][0]()
    assert not torch.equal(other(x), net(x))
    assert other.load_state_dict(state).missing_keys == []
    assert torch.equal(other(x), net(x))


@EVERY_NET
def test_safetensors_round_trip(name: str, tmp_path: Path) -> None:
    net, x, path = build(name), argument(name), tmp_path / "net.safetensors"
    save_file(net.state_dict(), path)
    loaded = load_file(path)
    assert {k: (v.dtype, v.shape) for k, v in loaded.items()} == {
        k: (v.dtype, v.shape) for k, v in net.state_dict().items()
    }
    other = NETS[name][0]()
    other.load_state_dict(loaded)
    assert torch.equal(other(x), net(x))


@EVERY_NET
@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net)), lambda net: saved(net, False)]
)
def test_whole_modules(name: str, copied: Callable[[nn.Module], nn.Module]) -> None:
    """A copy computes the same and shares nothing."""
    net, x = build(name), argument(name)
    before = net(x)  # fills the cache of the transform
    twin = copied(net)
    assert torch.equal(twin(x), before)
    with torch.no_grad():
        for value in twin.state_dict().values():
            value.mul_(1.5).add_(torch.rand_like(value))
    assert not torch.equal(twin(x), before)
    assert torch.equal(net(x), before)


def test_an_optimizer_resumes() -> None:
    """Network and Adam saved after 3 of 6 steps, and loaded, go on as if nothing had happened."""
    x, target = torch.randn(16, I, Q), torch.randint(O, (16,))

    def steps(net: SpectralMLP, optimizer: torch.optim.Optimizer, count: int) -> list[float]:
        losses = []
        for _ in range(count):
            optimizer.zero_grad()
            loss = net.loss(x, target)[0].sum()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses

    net = SpectralMLP([I, 5, O], Q)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    steps(net, optimizer, 3)
    state = saved({"net": net.state_dict(), "optimizer": optimizer.state_dict()}, weights_only=True)
    other = SpectralMLP([I, 5, O], Q)
    resumed = torch.optim.Adam(other.parameters(), lr=0.5)
    other.load_state_dict(state["net"])
    resumed.load_state_dict(state["optimizer"])
    assert steps(other, resumed, 3) == steps(net, optimizer, 3)


@pytest.mark.parametrize(
    "wrong", [SpectralMLP([I, 5, O], Q), SpectralMLP([I, 5, 4, O], 5), SpectralMLP([I, 5, 4, O], Q, rank=2)]
)
def test_another_architecture_is_refused(wrong: SpectralMLP) -> None:
    with pytest.raises(RuntimeError, match="Error\\(s\\) in loading state_dict for SpectralMLP"):
        wrong.load_state_dict(build("mlp").state_dict())


# ---- a transform whose matrix is loaded ----------------------------------------------------------------------------
ROTATION = torch.linalg.qr(matrix(3)).Q


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize("before", [matrix(2), ROTATION], ids=["general", "orthogonal"])
def test_a_loaded_matrix_is_used(learned: bool, assign: bool, before: Tensor) -> None:
    """Both the matrix and its inverse are those of the checkpoint, whatever was used before."""
    net = SpectralLinear(I, O, Q, Matrix(before, learned), dtype=torch.float64)
    x = torch.randn(N, I, Q, dtype=torch.float64)
    net(x)
    source = SpectralLinear(I, O, Q, Matrix(matrix(), learned), dtype=torch.float64)
    net.load_state_dict(source.state_dict(), assign=assign)
    torch.testing.assert_close(net.transform.inverse @ net.transform.matrix, torch.eye(Q, dtype=torch.float64))
    assert torch.equal(net(x), source(x))


TRANSFORMS: dict[str, Callable[[], Transform]] = {
    "dct": lambda: DCT(Q),
    "dct-backward": lambda: DCT(Q, norm="backward"),
    "identity": lambda: Identity(Q),
    "rotation": lambda: Matrix(ROTATION),
    "matrix": lambda: Matrix(matrix()),
    "learned": lambda: Matrix(matrix(), learned=True),
}


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_a_network_changes_dtype(transform: str, dtype: torch.dtype) -> None:
    """`net.to(dtype)` and back: parameters are rounded once, and the layer computes at the dtype's accuracy."""
    net = SpectralLinear(I, O, Q, TRANSFORMS[transform](), dtype=torch.float64)
    x = torch.randn(N, I, Q, dtype=torch.float64)
    expected = net(x)
    net.to(dtype)
    y = net(x.to(dtype))
    assert y.dtype == dtype
    assert {p.dtype for p in net.parameters()} == {dtype}
    error = (y.double() - expected).norm() / expected.norm()
    assert error < 20 * torch.finfo(dtype).eps
    net.double()
    assert (net(x) - expected).norm() / expected.norm() < 20 * torch.finfo(dtype).eps


def test_a_fixed_matrix_keeps_float64() -> None:
    """A layer that is made float32 rounds a fixed matrix and its exact inverse, not the inverse of a rounded matrix."""
    transform = Matrix(matrix())
    SpectralLinear(I, O, Q, transform).float()
    assert transform.matrix.dtype == torch.float64
    x = torch.empty(0)
    assert torch.equal(transform.inverse_as(x), torch.linalg.inv(matrix()).float())
