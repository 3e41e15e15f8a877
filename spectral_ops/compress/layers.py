"""The layers of a model: which are to be replaced, what became of each, and putting others in their place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

from torch import nn

Select = Collection[str] | Callable[[str, nn.Module], bool]


@dataclass(frozen=True)
class LayerChange:
    """What became of one layer.

    name: its path in the model. kind: "Linear" or "Conv2d". shape: of its dense weight.
    parameters, parameters_before: trained numbers, biases included.
    operations, operations_before: multiply-adds of a sample, or of one output pixel of a convolution,
        transforms as matrices included.
    error: ||D - W||_F / ||W||_F, of the new layer's matrix D from the dense W. kept: why it was left as it is, or None.
    ranks: of a layer in Tucker form.
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
    ranks: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Summary:
    """What a conversion did: `layers`, in the model's order. As text: a line a layer and their sums.

    swaps: for `swap_parameters`: the old parameters of each replaced layer, and the new ones.
    """

    layers: list[LayerChange] = field(default_factory=list)
    swaps: list[tuple[list[nn.Parameter], list[nn.Parameter]]] = field(default_factory=list, repr=False)

    @property
    def changed(self) -> list[LayerChange]:
        """The layers that were replaced."""
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
            ranks = "" if layer.ranks is None else f"  ranks {', '.join(map(str, layer.ranks))}"
            yield f"{start}  {parameters:>22}  {operations:>22}  {layer.error:.3f}{ranks}"
        saved = self.parameters_before / max(self.parameters, 1)
        counts = f"{self.parameters_before} -> {self.parameters} parameters, {saved:.2f}x fewer"
        yield f"{len(self.changed)} of {len(self.layers)} layers changed, {counts}"


def wanted(
    op: str,
    modules: list[tuple[str, nn.Module]],
    select: Select | None,
    argument: str = "select",
    kinds: tuple[type, ...] = (nn.Linear, nn.Conv2d),
) -> set[str]:
    """The names of the layers that `select`, an argument of `op`, means; None: all of these kinds."""
    layers = {name: module for name, module in modules if isinstance(module, kinds)}
    if select is None:
        return set(layers)
    if callable(select):
        return {name for name, module in layers.items() if select(name, module)}
    rest = dict(modules)
    for name in select:
        if name not in rest:
            raise ValueError(f"{op}: {argument} must hold names of modules of the model, got {name!r}")
        if name not in layers:
            got = type(rest[name]).__name__
            raise TypeError(f"{op}: layer {name!r} must be a Linear or a Conv2d, got {got}")
    return set(select)


def owners(model: nn.Module) -> Counter[int]:
    """How many modules have each parameter."""
    return Counter(id(p) for module in model.modules() for p in module._parameters.values())


def put(model: nn.Module, name: str, module: nn.Module) -> nn.Module:
    """The model with `module` at the path `name`; the empty path is the model itself."""
    if not name:
        return module
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)
    return model


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
