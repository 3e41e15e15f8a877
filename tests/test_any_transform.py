"""Every layer takes any transform: its fast algorithm gives what its matrix says, forward and backward."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from tubes import Table

from spectral_ops.nn import SpectralConv2d, SpectralLinear, SpectralMLP, SpectralRNN, TNNLinear
from spectral_ops.transforms import DCT, DFT, DST, Haar, Hadamard, Identity, Matrix, Transform

Q, D = 8, torch.float64


def oblique(learned: bool = False) -> Matrix:
    """Invertible, and not orthogonal."""
    noise = torch.randn(Q, Q, generator=torch.Generator().manual_seed(1), dtype=D)
    return Matrix(2 * torch.eye(Q, dtype=D) + 0.5 * noise, learned=learned)


TRANSFORMS: dict[str, Callable[[], Transform]] = {
    **{f"dct{type}": lambda type=type: DCT(Q, type) for type in (1, 2, 3, 4)},
    **{f"dst{type}": lambda type=type: DST(Q, type) for type in (1, 2, 3, 4)},
    "dct, norm backward": lambda: DCT(Q, norm="backward"),
    "dft": lambda: DFT(Q),
    "half of a dft": lambda: DFT(Q, real=True),
    "hadamard": lambda: Hadamard(Q),
    "haar": lambda: Haar(Q),
    "identity": lambda: Identity(Q),
    "matrix": oblique,
}
LAYERS: dict[str, tuple[Callable[[Transform], nn.Module], tuple[int, ...]]] = {
    "SpectralLinear": (lambda t: SpectralLinear(3, 4, Q, t, dtype=D), (5, 3, Q)),
    "TNNLinear": (lambda t: TNNLinear(3, 4, Q, t, dtype=D), (5, 3, Q)),
    "SpectralMLP": (lambda t: SpectralMLP([3, 4, 2], Q, transform=t, dtype=D), (5, 3, Q)),
    "SpectralRNN": (lambda t: SpectralRNN(3, 4, Q, 2, t, dtype=D), (6, 5, 3, Q)),
    "SpectralConv2d": (lambda t: SpectralConv2d(2 * Q, 3 * Q, 3, branches=Q, transform=t, dtype=D), (2, 2 * Q, 5, 6)),
}


def parts(out: Tensor | tuple[Tensor, ...]) -> list[Tensor]:
    tensors = out if isinstance(out, tuple) else (out,)
    return [torch.view_as_real(t) if t.is_complex() else t for t in tensors]


def outcome(net: nn.Module, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """The results of a layer, and the gradients of x and of its parameters but the transform's."""
    x = x.clone().requires_grad_()
    results = parts(net(x))
    own = [p for name, p in net.named_parameters() if not name.startswith("transform.")]
    grads = torch.autograd.grad(
        sum((r * torch.arange(r.numel()).view(r.shape).sin()).sum() for r in results), [x, *own]
    )
    return results, list(grads)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_a_layer_takes_any_transform(layer: str, transform: str) -> None:
    torch.manual_seed(0)
    make, shape = LAYERS[layer]
    given = TRANSFORMS[transform]()
    matrix, inverse = given.matrix.detach(), given.inverse.detach()
    plain = Matrix(matrix) if given.is_real else Table(matrix, inverse)
    net, twin = make(given), make(plain)
    own = {name: p for name, p in net.state_dict().items() if not name.startswith("transform.")}
    twin.load_state_dict(own, strict=False)
    assert set(own) == {name for name in twin.state_dict() if not name.startswith("transform.")}
    x = torch.randn(shape, dtype=D)
    for actual, expected in zip(outcome(net, x), outcome(twin, x), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-11)
        assert all(bool(t.abs().sum() > 0) for t in expected)


@pytest.mark.parametrize("layer", LAYERS)
def test_the_gradient_reaches_a_learned_matrix(layer: str) -> None:
    torch.manual_seed(0)
    make, shape = LAYERS[layer]
    transform = oblique(learned=True)
    net, x = make(transform), torch.randn(shape, dtype=D)

    def loss() -> Tensor:
        return sum((r * torch.arange(r.numel()).view(r.shape).sin()).sum() for r in parts(net(x)))

    (p,) = transform.parameters()
    (grad,) = torch.autograd.grad(loss(), [p])
    direction = torch.randn_like(p)
    with torch.no_grad():
        p += 1e-6 * direction
        above = loss()
        p -= 2e-6 * direction
        below = loss()
    torch.testing.assert_close((grad * direction).sum(), (above - below) / 2e-6, rtol=1e-5, atol=1e-6)
