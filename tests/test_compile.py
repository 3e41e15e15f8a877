"""torch.library.opcheck, torch.compile, torch.export and AOTInductor for every op."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from calls import results
from samples import floating, map_tensors, rows_of, small, typical
from torch import Tensor, nn

import spectral_ops
from spectral_ops.autograd import flatten, unflatten
from spectral_ops.nn import SpectralLinear, SpectralMLP, TNNLinear
from spectral_ops.table import TABLE
from spectral_ops.transforms import DCT, DST, Hadamard, Matrix, Transform

ops = torch.ops.spectral
every_op = pytest.mark.parametrize("op", TABLE)
# these take 5 to 20 seconds each: inductor compiles C++
INDUCTOR = ("spectral_mlp_cross_entropy", "spectral_linear")


@pytest.fixture(autouse=True)
def _fresh():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def leaves_of(args: list[Any]) -> list[Tensor]:
    return [t for t in flatten(args)[0] if floating(t)]


@every_op
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
# torch's fake tensors look at the .grad of what an op inside another one is given
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
def test_opcheck(op: str, dtype: torch.dtype) -> None:
    """Schema, fake tensors, autograd registration and AOT dispatch with dynamic shapes."""
    args = map_tensors(lambda t: t.requires_grad_(floating(t)), small(op)[-1].make(dtype))
    checks = ["test_schema", "test_faketensor", "test_autograd_registration"]
    if dtype == torch.float32:
        checks.append("test_aot_dispatch_dynamic")
    found = torch.library.opcheck(getattr(ops, op).default, tuple(args), test_utils=checks)
    assert found == dict.fromkeys(checks, "SUCCESS")


def loss_of(made: list[Tensor]) -> Tensor:
    return sum((y.double().sin() * (k + 1)).sum() for k, y in enumerate(made) if y.numel())


def check_compiled(op: str, sizes: list[list[Any]], **kwargs: Any) -> None:
    """Values and gradients of the compiled op equal the eager ones for all arguments, without a graph break."""
    _, structure = flatten(sizes[0])

    def f(tensors: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        made = results(op, unflatten(tensors, structure))
        return loss_of(made), made

    compiled = torch.compile(f, fullgraph=True, **kwargs)
    for args in sizes:
        tensors = [t.requires_grad_(floating(t)) for t in flatten(args)[0]]
        leaves = [t for t in tensors if t.requires_grad]
        (got, made), (wanted, eager) = compiled(tensors), f(tensors)
        torch.testing.assert_close(made, eager)
        # where an op is made of parts inductor sums them in another order; the loss, in float64, adds nothing to that
        apart = [float((a - b).detach().abs().double().sum()) for a, b in zip(made, eager, strict=True)]
        bound = 1e-7 + sum(distance * (k + 1) for k, distance in enumerate(apart))
        torch.testing.assert_close(got, wanted, rtol=1e-7, atol=bound)
        grads = torch.autograd.grad(got, leaves, allow_unused=True)
        expected = torch.autograd.grad(wanted, leaves, allow_unused=True)
        for a, b in zip(grads, expected, strict=True):
            assert (a is None) == (b is None)
            if a is not None:  # inductor sums in another order
                torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5 * max(1.0, float(b.abs().max())))
        assert any(g is not None and g.abs().sum() > 0 for g in grads)


@every_op
def test_compile_static(op: str) -> None:
    check_compiled(op, [typical(op).make(torch.float32)], backend="aot_eager", dynamic=False)


def other_sizes(op: str) -> list[list[Any]]:
    """The typical arguments with 64, 33 and 7 samples."""
    args = typical(op).make(torch.float32)

    def fewer(n: int) -> list[Any]:
        return map_tensors(lambda t: t.narrow(t.shape.index(64), 0, n).clone() if 64 in t.shape else t.clone(), args)

    return [args, fewer(33), fewer(7)]


@every_op
def test_compile_dynamic(op: str) -> None:
    """One graph for all numbers of samples: compiling again would be an error."""
    with torch._dynamo.config.patch(error_on_recompile=True):
        check_compiled(op, other_sizes(op), backend="aot_eager", dynamic=True)


@pytest.mark.parametrize("op", [op if op in INDUCTOR else pytest.param(op, marks=pytest.mark.slow) for op in TABLE])
def test_compile_with_inductor(op: str) -> None:
    check_compiled(op, [typical(op).make(torch.float32)])


# inductor of torch 2.13 cannot lower a training F.conv2d, its own included, whose channels are symbolic too
@pytest.mark.slow
@pytest.mark.parametrize("op", [op for op in TABLE if not TABLE[op].composed])
def test_compile_with_inductor_dynamic(op: str) -> None:
    check_compiled(op, other_sizes(op), dynamic=True)


def test_compile_of_a_transform() -> None:
    """compile(func.grad): functorch inside dynamo."""
    x, w = (torch.randn(2, 3, 4, dtype=torch.float64) for _ in range(2))

    def f(w: Tensor) -> Tensor:
        return ops.branch_linear(x, w, None, "tanh").square().sum()

    got = torch.compile(lambda w: torch.func.grad(f)(w), fullgraph=True, backend="aot_eager")(w)
    torch.testing.assert_close(got, torch.func.grad(f)(w))


def test_the_op_stays_one_node() -> None:
    """The compiled graph calls the fused op: inductor must not see its parts."""
    seen: list[str] = []

    def keep(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> torch.fx.GraphModule:
        seen.extend(str(node.target) for node in graph.graph.nodes if node.op == "call_function")
        return graph

    args = typical("spectral_mlp").make(torch.float32)
    torch.compile(lambda *a: ops.spectral_mlp(*a), fullgraph=True, backend=keep)(*args)
    assert [name for name in seen if "spectral" in name] == ["spectral.spectral_mlp"]


class Network(nn.Module):
    """A whole inference: the fused network and its ensemble, the parameters as buffers."""

    def __init__(self) -> None:
        super().__init__()
        _, transform, weights, biases, self.activations, shares, self.space = typical("spectral_ensemble").make(
            torch.float32
        )
        self.register_buffer("transform", transform)
        self.register_buffer("shares", shares)
        self.weights = nn.ParameterList(weights)
        self.biases = nn.ParameterList(biases)

    def forward(self, x: Tensor) -> Tensor:
        return ops.spectral_ensemble(
            x, self.transform, list(self.weights), list(self.biases), self.activations, self.shares, self.space
        )


def exported(batch: int | None) -> tuple[Network, Tensor, torch.export.ExportedProgram]:
    network, x = Network().eval(), typical("spectral_ensemble").make(torch.float32)[0]
    shapes = None if batch is None else ({0: torch.export.Dim("n", min=2, max=batch)},)
    return network, x, torch.export.export(network, (x,), dynamic_shapes=shapes)


def test_export(tmp_path: Path) -> None:
    network, x, program = exported(batch=4096)
    targets = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert "spectral.spectral_ensemble.default" in targets
    path = tmp_path / "network.pt2"
    torch.export.save(program, path)
    again = torch.export.load(path).module()
    for n in (64, 5):
        torch.testing.assert_close(again(x[:n]), network(x[:n]))


def test_ahead_of_time_inductor(tmp_path: Path) -> None:
    network, x, program = exported(batch=None)
    package = torch._inductor.aoti_compile_and_package(program, package_path=str(tmp_path / "network.pt2"))
    runner = torch._inductor.aoti_load_package(package)
    torch.testing.assert_close(runner(x), network(x))


def test_compiled_training_step() -> None:
    """Forward, losses and backward of a network in one compiled function, against eager, for a forced backend too."""
    x, t, weights, biases, activations, target = rows_of("spectral_mlp_cross_entropy")[0].make(torch.float32)
    parameters = [p.requires_grad_() for p in (*weights, *biases)]

    def step() -> tuple[Tensor, ...]:
        losses, _ = ops.spectral_mlp_cross_entropy(x, t, weights, biases, activations, target)
        return torch.autograd.grad(losses.sum(), parameters)

    def forward() -> Tensor:
        return ops.spectral_mlp_cross_entropy(x, t, weights, biases, activations, target)[0].sum()

    wanted = step()
    got = torch.autograd.grad(torch.compile(forward, fullgraph=True, backend="aot_eager")(), parameters)
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-6)
    with spectral_ops.use("reference"):
        torch.testing.assert_close(step(), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [SpectralLinear, TNNLinear, SpectralMLP])
@pytest.mark.parametrize("transform", [DCT(6), DST(6), Hadamard(8), Matrix(torch.eye(6) + 0.1, learned=True)])
def test_layers_compile_whole(kind: type, transform: Transform) -> None:
    """No graph break, whatever the transform computes its matrices from; same values and gradients."""
    q = transform.length
    layer = SpectralMLP([4, 5, 3], q, transform) if kind is SpectralMLP else kind(4, 3, q, transform)
    x = torch.randn(5, 4, q)
    parameters = list(layer.parameters())
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), layer(x))
    grads = [torch.autograd.grad(f(x).square().sum(), parameters) for f in (compiled, layer)]
    torch.testing.assert_close(*grads)
