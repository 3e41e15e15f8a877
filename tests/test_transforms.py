"""The transform objects: matrix, inverse, adjoint and `fast` are one map; learned matrices train."""

from __future__ import annotations

import copy
import pickle
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import scipy.fft
import scipy.linalg
import torch
from torch import Tensor
from torch.nn.utils import parametrizations

import spectral_ops
from spectral_ops import cli
from spectral_ops.nn import SpectralLinear, SpectralMLP, TNNLinear
from spectral_ops.recipes import bases
from spectral_ops.transforms import DCT, DFT, DST, Haar, Hadamard, Identity, Matrix, Transform

D = torch.float64
SHAPES = [((5, 0), 0), ((1,), 0), ((2, 3, 1), 1), ((2, 1, 3, 4), -3), ((1, 2), -2)]  # the 1 becomes Q


def seeded(*shape: int, dtype: torch.dtype = D, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def general(q: int) -> Tensor:
    return 2 * torch.eye(q, dtype=D) + 0.5 * seeded(q, q) / q**0.5


def rotation(q: int) -> Tensor:
    return torch.linalg.qr(seeded(q, q))[0]


TRANSFORMS: dict[str, Callable[[int], Transform]] = {
    **{f"DCT-{t}-{norm}": lambda q, t=t, norm=norm: DCT(q, t, norm) for t in (1, 2, 3, 4) for norm in ("ortho",)},
    **{f"DST-{t}-{norm}": lambda q, t=t, norm=norm: DST(q, t, norm) for t in (1, 2, 3, 4) for norm in ("ortho",)},
    **{f"DCT-{t}-backward": lambda q, t=t: DCT(q, t, "backward") for t in (1, 2)},
    **{f"DST-{t}-forward": lambda q, t=t: DST(q, t, "forward") for t in (3, 4)},
    **{f"DFT-{norm}": lambda q, norm=norm: DFT(q, norm=norm) for norm in ("ortho", "backward", "forward")},
    **{f"DFT-real-{norm}": lambda q, norm=norm: DFT(q, True, norm) for norm in ("ortho", "backward", "forward")},
    "Hadamard": Hadamard,
    "Haar": Haar,
    "Identity": Identity,
    "Matrix": lambda q: Matrix(general(q)),
    "Matrix-rotation": lambda q: Matrix(rotation(q)),
    "Matrix-learned": lambda q: Matrix(general(q), learned=True),
    "Matrix-parametrised": lambda q: parametrizations.orthogonal(Matrix(rotation(q), learned=True), "weight"),
}
LENGTHS = [1, 2, 3, 8, 28, 100, 300]
CASES = [
    pytest.param(name, q, id=f"{name}-{q}")
    for name in TRANSFORMS
    for q in LENGTHS
    if not (name.startswith(("Hadamard", "Haar")) and q & (q - 1)) and not (name.startswith("DCT-1") and q == 1)
] + [pytest.param(name, q, id=f"{name}-{q}") for name in ("Hadamard", "Haar") for q in (64, 128)]
every = pytest.mark.parametrize(("name", "q"), CASES)
each = pytest.mark.parametrize("name", TRANSFORMS)


def equal(a: Tensor, b: Tensor, tolerance: float = 1e-11) -> None:
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def dot(a: Tensor, b: Tensor) -> Tensor:
    return (a.conj() * b).sum()


# ---- one map -------------------------------------------------------------------------------------------------------
@every
def test_adjoint(name: str, q: int) -> None:
    """<A x, y> = <x, A^H y>, complex x and y where the matrix is complex."""
    t = TRANSFORMS[name](q)
    dtype = t.matrix.dtype
    x, y = seeded(q, dtype=dtype), seeded(t.branches, dtype=dtype, seed=1)
    equal(dot(t.matrix @ x, y), dot(x, t.adjoint @ y), 1e-9 * (1 + t.matrix.abs().max().item() * q))


@every
def test_round_trip(name: str, q: int) -> None:
    t = TRANSFORMS[name](q)
    eye = torch.eye(q, dtype=t.matrix.dtype)
    product = t.inverse @ t.matrix
    equal(
        product.real if isinstance(t, DFT) and t.real else product, eye.real if isinstance(t, DFT) and t.real else eye
    )
    x = seeded(2, q, 3)
    back = t.fast_inverse(t.fast(x, 1), 1)
    equal(back.real if back.is_complex() else back, x)
    assert not back.is_complex() or back.imag.abs().max() < 1e-12


@every
def test_orthogonality(name: str, q: int) -> None:
    t = TRANSFORMS[name](q)
    square = t.branches == t.length
    identity = square and torch.allclose(t.adjoint @ t.matrix, torch.eye(q, dtype=t.matrix.dtype), rtol=0, atol=1e-11)
    if name == "Matrix-learned" and q == 1:
        identity = False  # +-1 is orthogonal now, but may leave
    assert t.is_orthogonal == identity or q == 1
    if t.is_orthogonal:
        equal(t.inverse, t.adjoint, 1e-13)
    assert t.is_real == (not t.matrix.is_complex())
    assert (t.matrix.shape, t.inverse.shape) == ((t.branches, t.length), (t.length, t.branches))
    assert t.length == q and t.branches == (q // 2 + 1 if "real" in name else q)


@every
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
def test_fast_is_the_matrix(name: str, q: int, dtype: torch.dtype) -> None:
    t = TRANSFORMS[name](q)
    if dtype.is_complex and "real" in name:
        return
    for shape, dim in SHAPES:
        sizes = [q if i == dim % len(shape) else s for i, s in enumerate(shape)]
        x = seeded(*sizes, dtype=dtype).mT.contiguous().mT if len(sizes) > 1 else seeded(*sizes, dtype=dtype)
        kind = torch.promote_types(t.matrix.dtype, dtype)
        y, wanted = t.fast(x, dim), (x.movedim(dim, -1).to(kind) @ t.matrix.mT.to(kind)).movedim(-1, dim)
        equal(y, wanted, 1e-11 * (1 + q**0.5))
        if "real" not in name:
            back = (x.movedim(dim, -1).to(kind) @ t.inverse.mT.to(kind)).movedim(-1, dim)
            equal(t.fast_inverse(x, dim), back, 1e-11 * (1 + q**0.5))


@pytest.mark.parametrize("q", [1, 2, 3, 4, 7, 8, 29])
@pytest.mark.parametrize("norm", ["ortho", "backward", "forward"])
def test_half_of_a_spectrum(q: int, norm: str) -> None:
    """The inverse of DFT(Q, real=True) takes any spectrum to Re(inverse @ y), as irfft does."""
    t = DFT(q, real=True, norm=norm)
    y = seeded(5, t.branches, dtype=torch.complex128)
    equal(t.fast_inverse(y), (y @ t.inverse.mT).real)
    assert t.fast_inverse(y).dtype == D
    equal(t.matrix, DFT(q, norm=norm).matrix[: t.branches], 1e-15)


def test_what_others_compute() -> None:
    for q in (2, 8, 28):
        eye = torch.eye(q, dtype=D)
        for kind in (1, 2, 3, 4):
            equal(DCT(q, kind).matrix, torch.from_numpy(scipy.fft.dct(eye.numpy(), kind, axis=0, norm="ortho")), 1e-15)
            equal(DST(q, kind).matrix, torch.from_numpy(scipy.fft.dst(eye.numpy(), kind, axis=0, norm="ortho")), 1e-15)
        equal(DFT(q).matrix, torch.from_numpy(scipy.linalg.dft(q, scale="sqrtn")), 1e-14)
    for q in (1, 2, 16):
        assert torch.equal(Hadamard(q).matrix, torch.from_numpy(scipy.linalg.hadamard(q)).double() * q**-0.5)
    r = 2**-0.5
    haar = [[0.5, 0.5, 0.5, 0.5], [0.5, 0.5, -0.5, -0.5], [r, -r, 0, 0], [0, 0, r, -r]]
    equal(Haar(4).matrix, torch.tensor(haar, dtype=D), 1e-16)


# ---- dtypes --------------------------------------------------------------------------------------------------------
KINDS = [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.complex64, torch.complex128, torch.int64]


@each
@pytest.mark.parametrize("dtype", KINDS, ids=str)
def test_dtypes(name: str, dtype: torch.dtype) -> None:
    """The dtype stays, but a DFT makes it complex; the error is the dtype's own."""
    t = TRANSFORMS[name](8).requires_grad_(False)
    if dtype.is_complex and "real" in name:
        return
    x = (4 * seeded(3, 8, 2, dtype=dtype if dtype.is_complex else D)).to(dtype)
    y = t.fast(x, 1)
    kept = dtype if dtype != torch.int64 else torch.get_default_dtype()
    wanted = kept if t.is_real or dtype.is_complex else torch.complex128 if dtype == D else torch.complex64
    assert y.dtype == wanted
    wide = x.to(torch.complex128 if dtype.is_complex else D)
    exact = t.fast(wide, 1)
    assert (y.to(exact.dtype) - exact).norm() <= 4 * torch.finfo(y.dtype).eps * exact.norm()


@each
def test_gradients(name: str) -> None:
    t = TRANSFORMS[name](4).double()
    x = seeded(2, 4, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: t.fast(x, 1), (x,), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(lambda x: t.fast(x, 1), (x,))
    assert torch.autograd.gradcheck(lambda x: t.fast_inverse(t.fast(x, 1), 1), (x,))
    equal(torch.vmap(lambda v: t.fast(v, 0))(x.detach()), t.fast(x.detach(), 1))


@each
def test_copies(name: str) -> None:
    t = TRANSFORMS[name](8)
    x = seeded(3, 4, 8)
    y = t(x)
    assert y.shape == (t.branches, 3, 4) and y.is_contiguous()
    equal(y, t.fast(x).permute(2, 0, 1).contiguous())
    copies = [copy.deepcopy(t)]
    if "parametrised" not in name:  # torch cannot pickle parametrised modules
        copies.append(pickle.loads(pickle.dumps(t)))
    for other in copies:
        equal(other(x), y, 1e-15)
        assert repr(other) == repr(t)


@each
def test_compiles(name: str) -> None:
    t = TRANSFORMS[name](8)
    x = seeded(3, 8)
    torch.compiler.reset()
    compiled = torch.compile(lambda x: t.fast_inverse(2 * t.fast(x)), backend="eager", fullgraph=True)
    equal(compiled(x), t.fast_inverse(2 * t.fast(x)))


# ---- learned matrices ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("method", ["fast", "fast_inverse"])
def test_a_learned_matrix_finds_a_transform(method: str) -> None:
    """Least squares against a DCT of the same data: the gradient reaches the matrix, through its inverse too."""
    torch.manual_seed(0)
    target, x = DCT(6), torch.randn(256, 6)
    t = Matrix(target.matrix.float() + 0.2 * torch.randn(6, 6), learned=True)
    optimizer = torch.optim.Adam(t.parameters(), lr=0.02)
    losses = []
    for _ in range(200):
        loss = (getattr(t, method)(x) - getattr(target, method)(x)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 0.05 and losses[-1] < 1e-5
    torch.testing.assert_close(t.matrix.detach(), target.matrix.float(), rtol=0, atol=0.01)


def test_gradients_of_a_learned_matrix() -> None:
    t, x = Matrix(general(4), learned=True), seeded(2, 4, 3)
    for method in ("fast", "fast_inverse"):

        def along(weight: Tensor, method: str = method) -> Tensor:
            return torch.func.functional_call(_Method(t, method), {"transform.weight": weight}, (x,))

        assert torch.autograd.gradcheck(along, (t.weight,))
        assert torch.autograd.gradgradcheck(along, (t.weight,))


class _Method(torch.nn.Module):
    def __init__(self, transform: Transform, method: str) -> None:
        super().__init__()
        self.transform, self.method = transform, method

    def forward(self, x: Tensor) -> Tensor:
        return getattr(self.transform, self.method)(x, 1)


@pytest.mark.parametrize("layer", [SpectralLinear, TNNLinear])
def test_an_orthogonal_parametrisation_trains_and_stays_orthogonal(layer: type) -> None:
    torch.manual_seed(0)
    t = parametrizations.orthogonal(Matrix(torch.randn(6, 6), learned=True), "weight")
    net = layer(4, 3, 6, transform=t)
    before = t.matrix.detach().clone()
    teacher = layer(4, 3, 6, transform=DCT(6))
    x = torch.randn(128, 4, 6)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    losses = []
    for _ in range(100):
        loss = (net(x) - teacher(x).detach()).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]
    assert (t.matrix - before).abs().max() > 0.02, "the matrix has moved"
    assert t.is_orthogonal and not Matrix(torch.eye(2), learned=True).is_orthogonal
    equal(t.matrix @ t.matrix.mT, torch.eye(6), 1e-5)
    equal(t.inverse @ t.matrix, torch.eye(6), 1e-5)


# ---- layers --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", [name for name in TRANSFORMS if "DFT" not in name])
@pytest.mark.parametrize("layer", [SpectralLinear, TNNLinear])
def test_layers_take_every_real_transform(name: str, layer: type) -> None:
    t = TRANSFORMS[name](8).double()
    torch.manual_seed(1)
    net = layer(3, 2, 8, transform=t, activation="tanh").double()
    x = seeded(5, 3, 8)
    branches = torch.einsum("qp,nip->qni", t.matrix, x) @ net.weight.mT + net.bias[:, None]
    inner = branches.tanh() if layer is SpectralLinear else branches
    y = torch.einsum("qp,pno->noq", torch.linalg.inv(t.matrix), inner)
    equal(net(x), y if layer is SpectralLinear else y.tanh())
    net(x).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    assert SpectralMLP([3, 4], 8, transform=TRANSFORMS[name](8))(x.float()).shape == (8, 5, 4)


# ---- spectral plot transforms --------------------------------------------------------------------------------------
def test_the_picture_of_the_bases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """`python -m spectral_ops plot transforms` writes a picture that has every colour of the scale in it."""
    image = pytest.importorskip("matplotlib.image")
    out = tmp_path / "bases.png"
    monkeypatch.setattr(sys, "argv", ["spectral", "plot", "transforms", "--out", str(out)])
    with pytest.raises(SystemExit) as exit:
        runpy.run_module("spectral_ops", run_name="__main__")
    assert exit.value.code == 0 and capsys.readouterr().out == f"{out}\n"
    pixels = image.imread(out)[..., :3].reshape(-1, 3)
    assert len(pixels) > 1_000_000
    dark_red, dark_blue = (pixels - torch.tensor(c).numpy() for c in ([0.40, 0.0, 0.12], [0.02, 0.19, 0.38]))
    for difference in (dark_red, dark_blue):
        assert ((abs(difference) < 0.02).all(-1)).mean() > 0.01
    with pytest.raises(SystemExit, match=r"^spectral: .*Format 'xyz' is not supported"):
        cli.main(["plot", "transforms", "--out", str(tmp_path / "bases.xyz")])


def test_the_pictures_are_the_matrices() -> None:
    for length, power in ((8, 8), (28, 32)):
        rows = dict(picture for row in bases.pictures(length) for picture in row)
        assert len(rows) == 14
        equal(rows["DCT-III"], DCT(length, 3).matrix, 0)
        equal(rows["DFT, imaginary part"], DFT(length).matrix.imag, 0)
        for title, matrix in rows.items():
            if "DFT" not in title:
                equal(matrix @ matrix.mT, torch.eye(power if title[:2] == "Ha" else length, dtype=D))


def test_names() -> None:
    assert spectral_ops.transforms.__all__ == sorted(spectral_ops.transforms.__all__)
    assert repr(DST(8, 4)) == "DST(8, type=4, norm='ortho')"
    assert repr(DFT(8, real=True)) == "DFT(8, real=True, norm='ortho')"
    assert repr(Haar(8)) == "Haar(8)"
