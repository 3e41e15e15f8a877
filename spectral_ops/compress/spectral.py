"""to_spectral: Linear and Conv2d layers of a model become spectral layers, as near as their structure allows."""

from __future__ import annotations

import copy

from torch import Tensor, nn

from ..nn import SpectralConv2d, SpectralLinear, arguments
from ..transforms import Transform
from .layers import LayerChange, Select, Summary, count, owners, put, wanted


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
    chosen = wanted(op, modules, select)
    first = next((m for _, m in modules if isinstance(m, nn.Conv2d)), None)
    sharing, changes = owners(model), list[LayerChange]()
    made: dict[int, nn.Module] = {}  # a layer that stands in two places stays one layer
    for name, module in modules:
        if name not in chosen or id(module) in made:
            continue
        reason = None
        if select is None and module is first:
            reason = "the first convolution"
        elif select is None and type(module) not in (nn.Linear, nn.Conv2d):
            reason = f"a {type(module).__name__}, whose owner may read its weight"
        elif sharing[id(module.weight)] > 1:
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
            model = put(model, name, made[id(module)])
    return model, Summary(changes)


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


def _change(name: str, module: nn.Module, new: nn.Module | None, reason: str | None) -> LayerChange:
    weight: Tensor = module.weight  # type: ignore[assignment]
    kind, before, size = ("Conv2d" if isinstance(module, nn.Conv2d) else "Linear"), count(module), weight.numel()
    if isinstance(new, SpectralConv2d) and isinstance(module, nn.Conv2d):
        after, operations, error = (
            count(new),
            new.operations(1, new.stride[0] * new.stride[1]),
            new.relative_error(module),
        )
    elif isinstance(new, FlatSpectralLinear) and isinstance(module, nn.Linear):
        after, operations, error = count(new), new.linear.operations(), new.linear.relative_error(module)
    else:
        after, operations, error = before, size, 0.0
    return LayerChange(name, kind, tuple(weight.shape), before, after, size, operations, error, reason)
