"""to_spectral: Linear and Conv2d layers of a model become spectral layers, as near as their structure allows."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

from torch import Tensor, nn

from ..nn import SpectralConv2d, SpectralLinear, arguments
from ..transforms import Transform

Select = Collection[str] | Callable[[str, nn.Module], bool]


class FlatSpectralLinear(nn.Module):
    """A `SpectralLinear` for flat features, in the place of a torch.nn.Linear: (..., I Q) -> (..., O Q).

    Feature i Q + q is feature i of branch q, as `x.flatten(1)` of x (N, I, Q) has it.
    """

    def __init__(self, linear: SpectralLinear) -> None:
        super().__init__()
        self.linear = linear
        self.in_features, self.out_features = (
            linear.in_features * linear.branches,
            linear.out_features * linear.branches,
        )

    def forward(self, x: Tensor) -> Tensor:
        """(..., I Q) -> (..., O Q)."""
        if x.shape[-1] != self.in_features:
            must = f"(..., I Q) with I Q = {self.in_features}"
            raise ValueError(f"FlatSpectralLinear: x must be {must}, got {tuple(x.shape)}")
        y = self.linear(x.reshape(-1, self.linear.in_features, self.linear.branches))
        return y.reshape(*x.shape[:-1], self.out_features)


@dataclass(frozen=True)
class LayerChange:
    """What became of one layer.

    name: its path in the model. kind: "Linear" or "Conv2d". shape: of its dense weight.
    parameters, parameters_before: trained numbers, biases included.
    operations, operations_before: multiply-adds of a sample, or of one output pixel of a convolution,
        transforms as matrices included.
    error: ||D - W||_F / ||W||_F, of the new layer's matrix D from the dense W. kept: why it was left as it is, or None.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters_before: int
    parameters: int
    operations_before: int
    operations: int
    error: float
    kept: str | None = None


@dataclass(frozen=True)
class Summary:
    """What `to_spectral` did: `layers`, in the model's order. As text: a line a layer and their sums."""

    layers: list[LayerChange] = field(default_factory=list)

    @property
    def changed(self) -> list[LayerChange]:
        """The layers that became spectral."""
        return [layer for layer in self.layers if layer.kept is None]

    @property
    def parameters_before(self) -> int:
        return sum(layer.parameters_before for layer in self.layers)

    @property
    def parameters(self) -> int:
        return sum(layer.parameters for layer in self.layers)

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        width = max((len(layer.name) for layer in self.layers), default=5)
        yield f"{'layer':<{width}}  {'kind':<6}  {'weight':<18}  {'parameters':>22}  {'operations':>22}  error"
        for layer in self.layers:
            shape = "x".join(map(str, layer.shape))
            start = f"{layer.name or '(model)':<{width}}  {layer.kind:<6}  {shape:<18}"
            if layer.kept is not None:
                yield f"{start}  kept: {layer.kept}"
                continue
            parameters = f"{layer.parameters_before} -> {layer.parameters}"
            operations = f"{layer.operations_before} -> {layer.operations}"
            yield f"{start}  {parameters:>22}  {operations:>22}  {layer.error:.3f}"
        saved = self.parameters_before / max(self.parameters, 1)
        counts = f"{self.parameters_before} -> {self.parameters} parameters, {saved:.2f}x fewer"
        yield f"{len(self.changed)} of {len(self.layers)} layers changed, {counts}"


def to_spectral(
    model: nn.Module,
    transform: Transform | None = None,
    branches: int = 4,
    rank: int | None = None,
    select: Select | None = None,
) -> tuple[nn.Module, Summary]:
    """A copy of `model` whose Linear and Conv2d layers are spectral, each the nearest to the layer it replaces.

    A Linear becomes a `FlatSpectralLinear`, a Conv2d a `SpectralConv2d`, both without an activation, so that the
    model's own stay where they are. Weights are the projections of `from_dense`; biases and geometry are exact. A
    trained dense layer is rarely near to a structured one: train the result, from these weights.

    Args:
        model: left as it is; device, dtype, training mode and `requires_grad` of its layers are kept.
        transform: of length `branches`, shared by all layers: real, or half a spectrum, DFT(branches, real=True), whose
            layers have real results too; default DCT(branches).
        branches: Q. rank: of each branch's matrix, see `SpectralLinear` (the tubal rank) and `SpectralConv2d`, or None.
        select: None: all Linear and Conv2d but the first Conv2d, and what cannot be converted is kept and listed with
            the reason. Names, or a function of a layer's name and module: exactly these, and what cannot be
            converted raises.

    Returns: (model, summary). Without `select`, layers of a type derived from Linear or Conv2d stay: what owns them may
        read their weight.
    Raises: ValueError, naming the layer, where a selected layer does not divide into the branches, has groups, shares
        its weight, or for which the rank is too large; for a name in `select` that the model has not, and for a
        transform of another length or with complex results. TypeError for a selected module that is neither Linear nor
        Conv2d, and for wrong types.
    """
    op = "to_spectral"
    if not isinstance(model, nn.Module):
        raise TypeError(f"{op}: model must be a torch.nn.Module, got {type(model).__name__}")
    arguments.transform(op, transform, arguments.size(op, "branches", branches))
    if transform is not None and not (transform.is_real or transform.is_half):
        must = "transform must be real or half a spectrum, for results to be real"
        raise ValueError(f"{op}: {must}, got {transform!r}")
    if rank is not None:
        arguments.size(op, "rank", rank)
    model = copy.deepcopy(model)
    modules = list(model.named_modules(remove_duplicate=False))
    wanted = _wanted(modules, select)
    first = next((m for _, m in modules if isinstance(m, nn.Conv2d)), None)
    owners, changes = _owners(model), list[LayerChange]()
    made: dict[int, nn.Module] = {}  # a layer that stands in two places stays one layer
    for name, module in modules:
        if name not in wanted or id(module) in made:
            continue
        reason = None
        if select is None and module is first:
            reason = "the first convolution"
        elif select is None and type(module) not in (nn.Linear, nn.Conv2d):
            reason = f"a {type(module).__name__}, whose owner may read its weight"
        elif owners[id(module.weight)] > 1:
            reason = "weight must belong to this layer alone, got a shared one"
        else:
            try:
                made[id(module)] = _converted(module, transform, branches, rank)
            except ValueError as error:
                reason = str(error)
        if reason is not None and select is not None:
            raise ValueError(f"{op}: layer {name!r} cannot be converted: {reason}")
        changes.append(_change(name, module, made.get(id(module)), reason))
    for name, module in modules:
        if id(module) in made:
            model = _put(model, name, made[id(module)])
    return model, Summary(changes)


def _wanted(modules: list[tuple[str, nn.Module]], select: Select | None) -> set[str]:
    """The names of the layers to convert."""
    layers = {name: module for name, module in modules if isinstance(module, nn.Linear | nn.Conv2d)}
    if select is None:
        return set(layers)
    if callable(select):
        return {name for name, module in layers.items() if select(name, module)}
    rest = dict(modules)
    for name in select:
        if name not in rest:
            raise ValueError(f"to_spectral: select must hold names of modules of the model, got {name!r}")
        if name not in layers:
            got = type(rest[name]).__name__
            raise TypeError(f"to_spectral: layer {name!r} must be a Linear or a Conv2d, got {got}")
    return set(select)


def _owners(model: nn.Module) -> Counter[int]:
    """How many modules have each parameter."""
    return Counter(id(p) for module in model.modules() for p in module._parameters.values())


def _converted(module: nn.Module, transform: Transform | None, branches: int, rank: int | None) -> nn.Module:
    """The spectral layer nearest to a Linear or Conv2d."""
    new: nn.Module
    if isinstance(module, nn.Conv2d):
        new = SpectralConv2d.from_dense(module, branches, transform, rank)
    else:
        assert isinstance(module, nn.Linear)
        new = FlatSpectralLinear(SpectralLinear.from_dense(module, branches, transform, rank))
    for name, parameter in new.named_parameters():
        source = module.bias if name.endswith("bias") else module.weight
        parameter.requires_grad_(source is not None and source.requires_grad)
    return new.train(module.training)


def _put(model: nn.Module, name: str, module: nn.Module) -> nn.Module:
    """The model with `module` at the path `name`; the empty path is the model itself."""
    if not name:
        return module
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)
    return model


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _change(name: str, module: nn.Module, new: nn.Module | None, reason: str | None) -> LayerChange:
    weight: Tensor = module.weight  # type: ignore[assignment]
    kind, before, size = ("Conv2d" if isinstance(module, nn.Conv2d) else "Linear"), _count(module), weight.numel()
    if isinstance(new, SpectralConv2d) and isinstance(module, nn.Conv2d):
        after, operations, error = (
            _count(new),
            new.operations(1, new.stride[0] * new.stride[1]),
            new.relative_error(module),
        )
    elif isinstance(new, FlatSpectralLinear) and isinstance(module, nn.Linear):
        after, operations, error = _count(new), new.linear.operations(), new.linear.relative_error(module)
    else:
        after, operations, error = before, size, 0.0
    return LayerChange(name, kind, tuple(weight.shape), before, after, size, operations, error, reason)
