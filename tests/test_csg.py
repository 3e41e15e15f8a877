"""Generated convolutions as layers: values, initial values, sharing, one generation for a model, baking."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import spectral_ops
from spectral_ops import models
from spectral_ops.compress import CSGSummary, to_csg
from spectral_ops.nn import CSG, CSGConv2d, bake, csg_scope

D = torch.float64
pytestmark = pytest.mark.usefixtures("seeded")


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def network(**options) -> tuple[nn.Module, CSGSummary]:
    return to_csg(models.CifarResNet(8), (8, 8, 3, 3), 12, **options)


# ---- CSG, CSGConv2d ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "options",
    [{}, {"stride": 2, "padding": 1}, {"padding": "same", "dilation": 2}, {"groups": 2, "bias": False},
     {"kernel_size": (3, 5), "padding": "same"}],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("layout", ["block", "flat"])
def test_a_layer_is_the_convolution_with_its_filter(options: dict, layout: str) -> None:
    options = {"kernel_size": 3, **options}
    layer = CSGConv2d(6, 10, csg=CSG((4, 2, 3, 3), 5, layout=layout, dtype=D), dtype=D, **options)
    plain = nn.Conv2d(6, 10, dtype=D, **options)
    with torch.no_grad():
        plain.weight.copy_(layer.weight())
        if plain.bias is not None:
            plain.bias.copy_(layer.bias)
    for order in (torch.contiguous_format, torch.channels_last):
        x = torch.randn(2, 6, 9, 8, dtype=D).contiguous(memory_format=order)
        y = layer(x)
        torch.testing.assert_close(y, plain(x))
        torch.testing.assert_close(layer.to_dense()(x), plain(x))
        assert y.is_contiguous(memory_format=order)


def test_the_filter_is_made_of_slices() -> None:
    """Equation (1), slice by slice, for the two layouts."""
    for layout in ("block", "flat"):
        layer = CSGConv2d(3, 4, 3, csg=CSG((2, 2, 3, 3), 5, layout=layout, dtype=D), dtype=D)
        slices = (layer.codes @ layer.csg.generator.mT).view(4, 2, 2, 3, 3)
        if layout == "block":
            wanted = torch.cat([torch.cat([slices[2 * a + b] for b in range(2)], 1) for a in range(2)], 0)
        else:
            wanted = slices.reshape(4, 4, 3, 3)
        torch.testing.assert_close(layer.weight(), wanted[:, :3])


@pytest.mark.parametrize("options", [{}, {"binary": True}, {"trainable": False}, {"hidden": 24}], ids=str)
def test_initial_filters_vary_as_those_of_torch(options: dict) -> None:
    csg = CSG((16, 16, 3, 3), 32, **options)
    for channels in (16, 64, 100):
        layer = CSGConv2d(channels, 96, 3, csg=csg)
        wanted = nn.Conv2d(channels, 96, 3).weight.std()
        assert 0.7 < float((layer.weight().std() / wanted).detach()) < 1.4
    assert count(csg) == (0 if csg.binary or "trainable" in options else 2304 * csg.generator.shape[1]) + (
        0 if csg.encoder is None else csg.encoder.numel()
    )


def test_a_binary_generator_is_binary_and_stays_so() -> None:
    new, _ = network(binary=True)
    (csg,) = {m for m in new.modules() if isinstance(m, CSG)}
    before = csg.generator.clone()
    assert csg.generator.dtype == torch.int8 and set(csg.generator.unique().tolist()) == {-1, 1}
    assert 0.4 < float((csg.generator == 1).double().mean()) < 0.6
    optimizer = torch.optim.SGD(new.parameters(), 0.1)
    functional.cross_entropy(new(torch.randn(4, 3, 16, 16)), torch.arange(4)).backward()
    optimizer.step()
    assert torch.equal(csg.generator, before)
    new.double()
    assert csg.generator.dtype == torch.int8 and new(torch.randn(2, 3, 16, 16, dtype=D)).dtype == D


def test_codes_and_generator_are_trained() -> None:
    """Both reach the optimiser, once each, and both change."""
    new, _ = network()
    parameters = dict(new.named_parameters())
    assert sum(name.endswith("generator") for name in parameters) == 1
    assert sum(name.endswith("codes") for name in parameters) == 6
    optimizer = torch.optim.SGD(new.parameters(), 0.1)
    before = {name: p.detach().clone() for name, p in parameters.items()}
    functional.cross_entropy(new(torch.randn(8, 3, 16, 16)), torch.arange(8)).backward()
    optimizer.step()
    for name, p in parameters.items():
        assert not torch.equal(p, before[name]), name


def test_a_hidden_layer() -> None:
    layer = CSGConv2d(4, 4, 3, csg=CSG((4, 4, 3, 3), 5, hidden=7, activation="tanh", dtype=D), dtype=D)
    csg = layer.csg
    wanted = csg.generator @ torch.tanh(csg.encoder @ layer.codes[0])
    torch.testing.assert_close(layer.weight().flatten(), wanted)
    layer(torch.randn(2, 4, 5, 5, dtype=D)).square().sum().backward()
    assert all(bool(p.grad.any()) for p in layer.parameters())


def test_names_in_a_state_dict() -> None:
    new, _ = network()
    names = [name for name in new.state_dict() if name.startswith("layer2.0.conv1")]
    assert names == ["layer2.0.conv1.codes", "layer2.0.conv1.csg.generator"]
    again, _ = network()
    again.load_state_dict(new.state_dict())
    x = torch.randn(2, 3, 16, 16)
    assert torch.equal(again.eval()(x), new.eval()(x))
    assert len({id(m) for m in again.modules() if isinstance(m, CSG)}) == 1


# ---- csg_scope, bake -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("last", [False, True])
def test_a_scope_changes_the_time_and_not_the_values(last: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    new = network()[0].double()
    x = torch.randn(2, 3, 16, 16, dtype=D)
    if last:
        new, x = new.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
    wanted = new(x)
    grads = torch.autograd.grad(wanted.square().sum(), list(new.parameters()))
    calls, generate = [], CSG.kernels
    monkeypatch.setattr(CSG, "kernels", lambda *args: calls.append(args) or generate(*args))
    with csg_scope(new):
        got = new(x)
        assert [(len(codes), order) for _, codes, _, order in calls] == [(6, last)]
        found = torch.autograd.grad(got.square().sum(), list(new.parameters()))
        new(x)
        assert len(calls) == 2
    torch.testing.assert_close(got, wanted)
    torch.testing.assert_close(found, grads)
    new(x)
    assert len(calls) == 2 and all(m._filter is None for m in new.modules() if isinstance(m, CSGConv2d))


def test_a_scope_forgets_its_filters_after_an_error() -> None:
    new, _ = network()
    with csg_scope(new), pytest.raises(RuntimeError):
        new(torch.randn(2, 5, 16, 16))
    assert all(m._filter is None for m in new.modules() if isinstance(m, CSGConv2d))


def test_filters_in_the_format_of_the_convolutions() -> None:
    new = network()[0].to(memory_format=torch.channels_last)
    seen = []
    conv = new.layer2[0].conv2
    conv.register_forward_pre_hook(lambda module, args: seen.append(module._filter))
    with csg_scope(new):
        new(torch.randn(2, 3, 16, 16))
    assert seen[0].is_contiguous(memory_format=torch.channels_last) and not seen[0].is_contiguous()


def test_bake() -> None:
    new = network()[0].eval()
    scope = csg_scope(new)
    plain = bake(new)
    scope.remove()
    assert not any(isinstance(m, CSG | CSGConv2d) for m in plain.modules()) and not plain._forward_pre_hooks
    assert count(plain) == count(models.CifarResNet(8))
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(plain(x), new(x), rtol=0, atol=1e-6)
    one = CSGConv2d(2, 4, 3, csg=CSG((2, 2, 3, 3), 3))
    assert torch.equal(bake(one).weight, one.weight())
    assert list(plain.state_dict()) == list(models.CifarResNet(8).state_dict())


def test_half_and_autocast() -> None:
    new = network()[0]
    x = torch.randn(2, 3, 16, 16)
    wanted = new(x)
    for scope in (False, True):
        with torch.autocast("cpu", torch.bfloat16):
            if scope:
                with csg_scope(new):
                    y = new(x)
            else:
                y = new(x)
        assert float((y.float() - wanted).detach().norm() / wanted.detach().norm()) < 0.1
        y.float().square().sum().backward()


def test_memory_of_a_scope() -> None:
    """What autograd keeps beyond the plain network: codes, generator and one set of filters, no more."""

    def kept(model: nn.Module, x: Tensor) -> int:
        sizes: dict[int, int] = {}

        def pack(t: Tensor) -> Tensor:
            sizes[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
            return t

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            model(x)
        return sum(sizes.values())

    plain = models.CifarResNet(8)
    new, _ = to_csg(plain, (16, 16, 3, 3), 16)
    x = torch.randn(4, 3, 32, 32)
    filters = sum(m.weight().numel() for m in new.modules() if isinstance(m, CSGConv2d))
    codes = sum(p.numel() for name, p in new.named_parameters() if name.endswith(("codes", "generator")))
    with csg_scope(new):
        assert kept(new, x) <= kept(plain, x) + 4 * (filters + 2 * codes)


def test_memory_of_a_training_step() -> None:
    """The most that is allocated at a time, of forward, backward and update: by the same bound."""

    def most(model: nn.Module, x: Tensor) -> int:
        optimizer, target = torch.optim.SGD(model.parameters(), 0.1), torch.zeros(len(x), dtype=torch.int64)

        def step() -> None:
            optimizer.zero_grad()
            functional.cross_entropy(model(x), target).backward()
            optimizer.step()

        step()  # what is made once
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
            step()
        changes = [event for event in profile.events() if event.name == "[memory]"]
        changes.sort(key=lambda event: event.time_range.start)
        return max(itertools.accumulate(event.cpu_memory_usage for event in changes))

    plain = models.CifarResNet(8).to(memory_format=torch.channels_last)
    new, _ = to_csg(plain, (16, 16, 3, 3), 16)
    x = torch.randn(4, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    filters = sum(m.weight().numel() for m in new.modules() if isinstance(m, CSGConv2d))
    codes = sum(p.numel() for name, p in new.named_parameters() if name.endswith(("codes", "generator")))
    assert count(new) < count(plain)  # parameters and gradients, which a step finds there, are fewer too
    with csg_scope(new):
        assert 0 < most(new, x) <= most(plain, x) + 4 * (filters + codes)


# ---- gradients ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, D, torch.bfloat16])
@pytest.mark.parametrize("wanted", [(True, True), (True, False), (False, True)])
def test_gradients_of_filters_may_lie_in_any_order(
    channels_last: bool, dtype: torch.dtype, wanted: tuple[bool, bool]
) -> None:
    """As a convolution's neighbours hand them over: in either memory format, expanded, negated, or none at all."""
    shapes, step = [12, 9, 3, 3, 8, 16, 3, 3, 5, 4, 1, 1, 8, 8, 3, 3], [4, 8, 3, 3]
    codes, generator = torch.randn(6 + 4 + 2 + 2, 7, dtype=dtype), torch.randn(4 * 8 * 9, 7, dtype=dtype)
    grads = [torch.randn(12, 9, 3, 3, dtype=dtype).contiguous(memory_format=torch.channels_last)]
    grads += [torch.randn(8, 16, 3, 3, dtype=dtype), torch.randn((), dtype=dtype).expand(5, 4, 1, 1)]
    if dtype is not torch.bfloat16:
        grads[1] = torch.complex(grads[1], grads[1]).conj().imag
        assert grads[1].is_neg()

    def gradients() -> tuple[Tensor, ...]:
        args = [t.clone().requires_grad_(want) for t, want in zip((codes, generator), wanted, strict=True)]
        filters = torch.ops.spectral.csg_kernels(*args, shapes, step, "block", channels_last)
        return torch.autograd.grad(filters[:3], [t for t in args if t.requires_grad], grads)

    with spectral_ops.use("reference"):
        exact = gradients()
    for ours, theirs in zip(gradients(), exact, strict=True):
        torch.testing.assert_close(ours, theirs)
