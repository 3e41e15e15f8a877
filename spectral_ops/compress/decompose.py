"""Layers in Tucker form in the place of dense ones, before, during and after training: paper 4."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..nn.tucker import Ranked, TuckerConv2d, TuckerLinear
from .layers import LayerChange, Select, Summary, count, owners, put, wanted
from .ranks import Budget, Evbmf, allocate
from .swap import swap_parameters
from .tucker import Tucker, hooi

Ranks = tuple[int, int]
Rule = str | Ranks | Mapping[str, Ranks] | Callable[[Tensor], Ranks] | Budget
_Dense = nn.Conv2d | nn.Linear


def decompose(
    model: nn.Module,
    rank: Rule = "evbmf",
    skip: Select | None = None,
    spatial: bool = False,
    example: Tensor | None = None,
    inplace: bool = False,
) -> tuple[nn.Module, Summary]:
    """The model with its Conv2d and Linear layers in Tucker form, each as near as `hooi` gets with its ranks.

    A layer is replaced only where that saves parameters. Groups are decomposed each by itself, with common ranks.
    Biases are kept as they are, and none is added.

    Args:
        model: any module; device, dtype, training mode and `requires_grad` of its layers are kept.
        rank: "evbmf"; (r_out, r_in) for all layers; names with their own; a rule of `spectral_ops.compress`: Evbmf,
            Energy, Fraction, Budget; or any function of a weight (O, C, ...). More than a layer has is cut to that.
        skip: names of layers to leave alone, or a function of name and module.
        spatial: give convolutions factors for their windows too, at full rank, for `TDLRT` to reduce.
        example: an input of the model. With it the summary counts the operations of one sample, eq. (11); without, of
            one output pixel.
        inplace: change `model` itself, so that what refers to it goes on; else a copy.

    Returns: (model, summary); the summary tells ranks, error, parameters and operations of each layer, and why one was
        kept. `summary.swaps` is what `swap_parameters` needs.
    Raises: ValueError for names in `skip` that the model has not, for a budget that cannot be met, for a budget of
        operations without an example, and for `inplace` where the model is the layer itself; TypeError for types.
    Accuracy: at full ranks the layer is the dense one up to rounding, `tests/test_decompose.py`.
    Source: Elhoushi et al., Accelerating Training using Tensor Decomposition, steps 3 and 4, eq. (7)-(11).
    """
    op = "decompose"
    rule = _rule(op, rank)
    return _replace(op, model, skip, example, inplace, lambda new, layers: _chosen(op, new, rule, layers, spatial))


def to_tucker(
    model: nn.Module,
    rank: Rule,
    skip: Select | None = None,
    spatial: bool = False,
    example: Tensor | None = None,
    inplace: bool = False,
    always: bool = False,
) -> tuple[nn.Module, Summary]:
    """The model with new layers in Tucker form, to be trained from scratch; the dense weights give their shapes only.

    Args, Returns, Raises: as of `decompose`. always: replace also where that saves nothing, for `TDLRT` to start from
        full ranks.

    Each factor has orthonormal columns and the core is normal, so that a layer's output varies as that of a new dense
    one. The error in the summary is 1: nothing of the weight is kept.
    """
    op = "to_tucker"
    rule = _rule(op, rank)
    return _replace(
        op, model, skip, example, inplace, lambda new, layers: _chosen(op, new, rule, layers, spatial, True, always)
    )


def reconstruct(
    model: nn.Module, skip: Select | None = None, example: Tensor | None = None, inplace: bool = False
) -> tuple[nn.Module, Summary]:
    """The model with dense layers again, that compute what the layers in Tucker form compute: no error but rounding.

    Args, Returns, Raises: as of `decompose`.
    Source: Elhoushi et al., Accelerating Training using Tensor Decomposition, step 5.
    """

    def dense(_: nn.Module, layers: Layers) -> Found:
        return {name: (m.to_dense(), 0.0) for name, m, _ in layers if isinstance(m, TuckerConv2d | TuckerLinear)}

    return _replace("reconstruct", model, skip, example, inplace, dense)


class DecomposeAt:
    """The schedule of paper 4, for any training loop: decompose at one epoch, reconstruct at a later one if wanted.

    Args:
        epoch: of the decomposition: so many epochs have been trained. reconstruct_at: of the way back, or None.
        rank, skip, spatial, example: as of `decompose`.

    Call it before each epoch; it changes model and optimiser in place, and keeps the optimiser's state of parameters
    that stay:

    >>> schedule = DecomposeAt(epoch=10, reconstruct_at=190)
    >>> for epoch in range(200):  # doctest: +SKIP
    ...     summary = schedule(model, optimizer, epoch)
    ...     train(model, optimizer)

    Returns (of the call): a `Summary` where something changed, else None.
    Raises: ValueError where reconstruct_at is not after epoch.
    """

    def __init__(
        self,
        epoch: int = 10,
        reconstruct_at: int | None = None,
        rank: Rule = "evbmf",
        skip: Select | None = None,
        spatial: bool = False,
        example: Tensor | None = None,
    ) -> None:
        if reconstruct_at is not None and reconstruct_at <= epoch:
            raise ValueError(f"DecomposeAt: reconstruct_at must be after epoch {epoch}, got {reconstruct_at}")
        self.epoch, self.reconstruct_at = epoch, reconstruct_at
        self._options: dict[str, Any] = {"rank": rank, "skip": skip, "spatial": spatial, "example": example}

    def __call__(self, model: nn.Module, optimizer: torch.optim.Optimizer | None, epoch: int) -> Summary | None:
        if epoch == self.epoch:
            _, summary = decompose(model, **self._options, inplace=True)
        elif epoch == self.reconstruct_at:
            _, summary = reconstruct(model, example=self._options["example"], inplace=True)
        else:
            return None
        if optimizer is not None:
            swap_parameters(optimizer, summary.swaps)
        return summary


Layers = list[tuple[str, nn.Module, tuple[int, int]]]  # name, layer, pixels of its input and of its output
Found = dict[str, tuple[nn.Module, float] | str]  # the new layer and its error, or why there is none


def _replace(
    op: str,
    model: nn.Module,
    skip: Select | None,
    example: Tensor | None,
    inplace: bool,
    choose: Callable[[nn.Module, Layers], Found],
) -> tuple[nn.Module, Summary]:
    if not isinstance(model, nn.Module):
        raise TypeError(f"{op}: model must be a torch.nn.Module, got {type(model).__name__}")
    kinds = (nn.Conv2d, nn.Linear) if op != "reconstruct" else (Ranked,)
    left = set() if skip is None else wanted(op, _modules(model), skip, "skip", kinds)
    if not inplace:
        model = copy.deepcopy(model)
    elif isinstance(model, kinds):
        raise ValueError(f"{op}: model must hold the layer where it is changed in place, got the layer itself")
    modules = _modules(model)
    first = {id(m): name for name, m in reversed(modules)}  # a layer in two places goes by its first
    layers = [(name, m) for name, m in modules if isinstance(m, kinds) and first[id(m)] == name]
    pixels = _pixels(model, layers, example)
    found = choose(model, [(name, m, pixels[name]) for name, m in layers if name not in left])
    changes, made = [], {}
    for name, module in layers:
        entry = "left out by skip" if name in left else found[name]
        if not isinstance(entry, str):
            made[id(module)] = entry[0]
        changes.append(_change(name, module, entry, pixels[name]))
    swaps = []
    for name, module in modules:
        if id(module) in made:
            new = made[id(module)]
            model = put(model, name, new)
            if first[id(module)] == name:
                kept = {id(p) for p in new.parameters()}
                swaps.append(([p for p in module.parameters() if id(p) not in kept], list(new.parameters())))
    return model, Summary(changes, swaps)


def _modules(model: nn.Module) -> list[tuple[str, nn.Module]]:
    return list(model.named_modules(remove_duplicate=False))


def _rule(op: str, rank: Rule) -> Callable[[Tensor], Ranks] | Mapping[str, Ranks] | Budget:
    if rank == "evbmf":
        return Evbmf()
    if isinstance(rank, Sequence) and not isinstance(rank, str) and len(rank) == 2:
        return lambda weight: (rank[0], rank[1])
    if isinstance(rank, Mapping | Budget) or callable(rank):
        return rank
    raise TypeError(f"{op}: rank must be 'evbmf', two ranks, a mapping of names to them, or a rule, got {rank!r}")


def _chosen(
    op: str, model: nn.Module, rule: Any, layers: Layers, spatial: bool, fresh: bool = False, always: bool = False
) -> Found:
    """The new layer of each dense one, with its ranks."""
    sharing = owners(model)
    found: Found = {}
    for name, module, _ in layers:
        weight = module._parameters.get("weight")
        if type(module) not in (nn.Conv2d, nn.Linear):
            found[name] = f"a {type(module).__name__}, whose owner may read its weight"
        elif weight is None:
            found[name] = "its weight is computed from other parameters"
        elif sharing[id(weight)] > 1:
            found[name] = "weight must belong to this layer alone, got a shared one"
        elif isinstance(module, nn.Conv2d) and module.padding_mode != "zeros":
            found[name] = f"padding_mode must be 'zeros', got {module.padding_mode!r}"
        elif isinstance(rule, Budget) and _groups(module) > 1:
            found[name] = "a budget counts layers without groups only"
        elif isinstance(rule, Mapping) and name not in rule:
            found[name] = "rank does not name it"
    open_layers = [(name, m, p) for name, m, p in layers if name not in found]
    if isinstance(rule, Mapping):
        for name in rule:
            if name not in {n for n, _, _ in open_layers}:
                raise ValueError(f"{op}: rank must name layers that can be decomposed, got {name!r}")
        ranks: dict[str, Ranks | None] = {name: rule[name] for name, _, _ in open_layers}
    elif isinstance(rule, Budget):
        ranks = _budgeted(op, model, rule, open_layers, layers)
    else:
        ranks = {name: _largest([rule(w) for w in _parts(m)]) for name, m, _ in open_layers}
    for name, module, _ in open_layers:
        found[name] = _converted(module, ranks[name], spatial, fresh, always)
    return found


def _groups(module: Any) -> int:
    return module.groups if isinstance(module, nn.Conv2d) else 1


def _parts(module: Any) -> tuple[Tensor, ...]:
    """The weight of each group."""
    return module.weight.detach().chunk(_groups(module))


def _largest(ranks: list[Ranks]) -> Ranks:
    return max(r for r, _ in ranks), max(r for _, r in ranks)


def _budgeted(op: str, model: nn.Module, rule: Budget, layers: Layers, everything: Layers) -> dict[str, Ranks | None]:
    weights = [m.weight.detach() for _, m, _ in layers]  # type: ignore[union-attr, operator]
    if rule.of == "parameters":
        total, mine, pixels = count(model), sum(w.numel() for w in weights), None
    else:
        if any(after == 0 for *_, (_, after) in everything):
            raise ValueError(f"{op}: example must be given for a budget of operations, got None")
        total = sum(m.weight.numel() * after for _, m, (_, after) in everything)  # type: ignore[union-attr, operator]
        mine = sum(w.numel() * after for w, (*_, (_, after)) in zip(weights, layers, strict=True))
        pixels = [p for *_, p in layers]
    chosen = allocate(weights, rule.share * total - (total - mine), pixels)
    return {name: ranks for (name, *_), ranks in zip(layers, chosen, strict=True)}


def _converted(
    module: Any, ranks: Ranks | None, spatial: bool, fresh: bool, always: bool
) -> tuple[nn.Module, float] | str:
    """The layer in Tucker form with its error, or why the dense one stays."""
    if ranks is None:
        return "the budget leaves it dense"
    if min(ranks) < 1:
        return f"nothing in it rises above noise: ranks {ranks[0]} and {ranks[1]}"
    groups, weight = _groups(module), module.weight.detach()
    sizes = (weight.shape[0] // groups, *weight.shape[1:])
    cut = [min(rank, size) for rank, size in zip(ranks, sizes, strict=False)]
    cut += list(sizes[2:]) if spatial else []
    like: dict[str, Any] = {"bias": module.bias is not None, "device": "meta", "ranks": cut}
    new: Ranked
    if isinstance(module, nn.Conv2d):
        geometry = (module.kernel_size, module.stride, module.padding, module.dilation, groups)
        new = TuckerConv2d(module.in_channels, module.out_channels, *geometry, **like)
    else:
        new = TuckerLinear(module.in_features, module.out_features, **like)
    if not always and sum(p.numel() for n, p in new.named_parameters() if n != "bias") >= weight.numel():
        return f"ranks {', '.join(map(str, cut))} would not save parameters"
    error = 1.0
    if fresh:
        new.to_empty(device=weight.device).to(weight.dtype).reset_parameters()
    else:
        error = _fill(new, [hooi(w, cut, range(len(cut))) for w in weight.chunk(groups)], weight)
    new.bias = module.bias
    for name, parameter in new.named_parameters():
        if name != "bias":
            parameter.requires_grad_(module.weight.requires_grad)
    return new.train(module.training), error


def _fill(new: Ranked, parts: list[Tucker], weight: Tensor) -> float:
    """Give the layer the decompositions of its groups; the error of all."""
    core = torch.cat([part.core for part in parts])
    rows = [torch.cat([part.factors[mode] for part in parts]) for mode in (0, 1)]  # type: ignore[misc]
    if len(parts) > 1 and any(u is not None for u in parts[0].factors[2:]):
        # the groups share the spatial factors, which are square: turn each core back to the window's own axes
        core = torch.cat([Tucker(p.core, (None, None, *p.factors[2:]), 0.0).full() for p in parts])
        spatial = [torch.eye(n, dtype=core.dtype, device=core.device) for n in core.shape[2:]]
        new.set_factors(core, [*rows, *spatial])
    else:
        new.set_factors(core, [*rows, *parts[0].factors[2:]])
    sizes = [float(w.double().norm()) for w in weight.chunk(len(parts))]
    total = sum(size**2 for size in sizes)
    return (sum((p.error * size) ** 2 for p, size in zip(parts, sizes, strict=True)) / (total or 1)) ** 0.5


def _pixels(
    model: nn.Module, layers: list[tuple[str, nn.Module]], example: Tensor | None
) -> dict[str, tuple[int, int]]:
    """Positions of one sample at each layer's input and output; without an example (0, 0)."""
    found = {name: (0, 0) for name, _ in layers}
    if example is None:
        return found

    def watch(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Tensor, ...], y: Tensor) -> None:
            image = y.dim() == 4 and isinstance(module, nn.Conv2d | TuckerConv2d)
            before, after = (t[0, 0].numel() if image else t[..., 0].numel() // len(t) for t in (args[0], y))
            found[name] = (found[name][0] + before, found[name][1] + after)

        return hook

    handles = [module.register_forward_hook(watch(name)) for name, module in layers]
    training = model.training
    try:
        with torch.no_grad():
            model.eval()(example)
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()
    return found


def _operations(module: nn.Module, pixels: tuple[int, int]) -> int:
    """Multiply-adds of a sample, or of one output pixel where pixels are not known."""
    before, after = pixels
    if not after:
        stride = module.stride if isinstance(module, nn.Conv2d | TuckerConv2d) else (1, 1)
        before, after = int(stride[0]) * int(stride[1]), 1
    if isinstance(module, TuckerConv2d | TuckerLinear):
        return module.operations(after, before)
    return int(module.weight.numel()) * after  # type: ignore[union-attr, operator]


def _change(name: str, module: nn.Module, entry: Any, pixels: tuple[int, int]) -> LayerChange:
    kind = "Conv2d" if isinstance(module, nn.Conv2d | TuckerConv2d) else "Linear"
    before = count(module)
    reason = entry if isinstance(entry, str) else None
    new, error = (module, 0.0) if isinstance(entry, str) else entry
    ranks = next((m.ranks for m in (new, module) if isinstance(m, Ranked)), None)
    dense = module.weight(None) if isinstance(module, TuckerConv2d | TuckerLinear) else module.weight
    return LayerChange(
        name, kind, tuple(dense.shape), before, count(new),  # type: ignore[union-attr, arg-type]
        _operations(module, pixels), _operations(new, pixels), error, reason, ranks,
    )  # fmt: skip
