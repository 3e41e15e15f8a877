"""to_csg: convolutions of a model become generated ones, from random codes or fitted to the weights that are there."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..nn import CSG, CSGConv2d
from .csg_fit import fit_csg, slices_of_filters
from .layers import LayerChange, Select, Summary, count, owners, put, wanted

INITS = ("variance", "fit")


@dataclass(frozen=True)
class CSGSummary(Summary):
    """What `to_csg` did: a `Summary`, and the generators by name, whose parameters count once each."""

    generators: dict[str, CSG] = field(default_factory=dict)

    @property
    def parameters(self) -> int:
        return sum(layer.parameters for layer in self.layers) + sum(count(csg) for csg in self.generators.values())

    def _lines(self) -> Iterator[str]:
        yield from super()._lines()
        for name, csg in self.generators.items():
            yield f"generator {name}: {csg.extra_repr()}, {count(csg)} parameters"


def to_csg(
    model: nn.Module,
    slice_shape: Sequence[int] = (16, 16, 3, 3),
    code_size: int = 128,
    select: Select | None = None,
    generators: int | CSG | Mapping[str, str | CSG] = 1,
    init: str = "variance",
    binary: bool = False,
    layout: str = "block",
    hidden: int | None = None,
) -> tuple[nn.Module, CSGSummary]:
    """A copy of `model` whose convolutions are generated from codes by one generator, or by several.

    Args:
        model: left as it is; device, dtype, training mode and `requires_grad` of its layers are kept.
        slice_shape, code_size, binary, layout, hidden: of a new `CSG`.
        select: None: all Conv2d without groups whose window is that of a slice, but the first; the others are listed
            with the reason. Names, or a function of a layer's name and module: exactly these.
        generators: 1: one for all. A CSG: this one, pre-trained perhaps, with its own sizes. A mapping from names to
            patterns: a generator of that name for the selected layers whose name the regular expression finds; the
            first pattern that does counts.
        init: "variance": normal codes, so that each filter has the mean square of the weight it replaces. "fit": the
            codes and the generator that come nearest to the weights (`fit_csg`); codes alone, where the generator was
            given or is binary.

    Returns: (model, summary). Layers are `CSGConv2d`; their parameters `<layer>.codes` and, shared by the layers of a
        generator, `<layer>.csg.generator`. `spectral_ops.nn.csg_scope(model)` generates all of them at once.
    Raises: ValueError, naming the layer, where a selected layer shares its weight or pads with other than zeros; for
        names that the model has not, and for what `CSG` refuses. TypeError for wrong types.
    Source: Omidvar et al., Associative Convolutional Layers, sections 2 to 4.
    """
    op = "to_csg"
    if not isinstance(model, nn.Module):
        raise TypeError(f"{op}: model must be a torch.nn.Module, got {type(model).__name__}")
    if init not in INITS:
        raise ValueError(f"{op}: init must be one of {', '.join(INITS)}, got {init!r}")
    if init == "fit" and hidden is not None:
        raise ValueError(f"{op}: init must be variance for a generator with a hidden layer, got 'fit'")
    model = copy.deepcopy(model)
    modules = list(model.named_modules(remove_duplicate=False))
    chosen = wanted(op, modules, select, kinds=(nn.Conv2d,))
    named = _generators(op, generators, lambda: CSG(slice_shape, code_size, binary, True, layout, hidden))
    users: dict[str, list[tuple[str, nn.Conv2d]]] = {name: [] for name in named}
    changes: dict[str, LayerChange] = {}
    seen: set[int] = set()
    first, shared = next((m for _, m in modules if isinstance(m, nn.Conv2d)), None), owners(model)
    for name, module in modules:
        if name not in chosen or id(module) in seen or not isinstance(module, nn.Conv2d):
            continue
        seen.add(id(module))
        owner = next((g for g, (pattern, _) in named.items() if re.search(pattern, name)), None)
        csg = None if owner is None else named[owner][1]
        reason = _why_not(module, csg, shared[id(module.weight)] > 1, select is None, module is first)
        if reason is not None and select is not None:
            raise ValueError(f"{op}: layer {name!r} cannot be converted: {reason}")
        if reason is None and owner is not None:
            users[owner].append((name, module))
        size = module.weight.numel()
        changes[name] = LayerChange(
            name, "Conv2d", tuple(module.weight.shape), count(module), count(module), size, size, 0.0, reason
        )
    made: dict[int, CSGConv2d] = {}
    for owner, layers in users.items():
        _convert(named[owner][1], [m for _, m in layers], init, isinstance(generators, int | Mapping), made)
    for name, module in modules:
        if id(module) not in made:
            continue
        new = made[id(module)]
        if name in changes:
            was, own = changes[name], new.codes.numel() + (0 if new.bias is None else new.bias.numel())
            error = _relative(new, module)
            changes[name] = LayerChange(
                name, "Conv2d", was.shape, was.parameters_before, own, was.operations_before, was.operations, error
            )
        model = put(model, name, new)
    used = {name: csg for name, (_, csg) in named.items() if users[name]}
    return model, CSGSummary(list(changes.values()), [], used)


def _generators(op: str, given: Any, new: Any) -> dict[str, tuple[str, CSG]]:
    """By name, the pattern of its layers and the generator."""
    if isinstance(given, CSG):
        return {"csg": ("", given)}
    if isinstance(given, Mapping) and given:
        return {str(name): (str(pattern), new()) for name, pattern in given.items()}
    if given != 1:
        raise ValueError(f"{op}: generators must be 1, a CSG, or a mapping from names to patterns, got {given!r}")
    return {"csg": ("", new())}


def _why_not(conv: nn.Conv2d, csg: CSG | None, shared: bool, automatic: bool, first: bool) -> str | None:
    if csg is None:
        return "no generator's pattern finds it"
    if shared:
        return "weight must belong to this layer alone, got a shared one"
    if conv.padding_mode != "zeros":
        return f"padding_mode must be 'zeros', got {conv.padding_mode!r}"
    if not automatic:
        return None
    if first:
        return "the first convolution"
    if conv.groups > 1:
        return f"{conv.groups} groups"
    if tuple(conv.kernel_size) != csg.slice_shape[2:]:
        window, own = ("x".join(map(str, size)) for size in (conv.kernel_size, csg.slice_shape[2:]))
        return f"a window of {window}, where slices have {own}"
    return None


def _convert(csg: CSG, convs: list[nn.Conv2d], init: str, ours: bool, made: dict[int, CSGConv2d]) -> None:
    """New layers for `convs`, with one generator; ours: it is new, so that its values may be fitted."""
    if not convs:
        return
    csg.to(convs[0].weight.device)
    if ours and not csg.binary:
        csg.to(convs[0].weight.dtype)
    codes: list[Tensor] | None = None
    if init == "fit":
        given = None if ours and not csg.binary else csg.generator
        weights = [conv.weight for conv in convs]
        codes, generator = fit_csg(weights, csg.slice_shape, csg.code_size, given, csg.layout)
        if given is None:
            csg.generator.data.copy_(generator)
    for j, conv in enumerate(convs):
        like = {"device": conv.weight.device, "dtype": conv.weight.dtype}
        padding: Any = conv.padding
        new = CSGConv2d(
            conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, padding,  # type: ignore[arg-type]
            conv.dilation, conv.groups, conv.bias is not None, csg=csg, **like,  # type: ignore[arg-type]
        )  # fmt: skip
        with torch.no_grad():
            power = float(conv.weight.double().square().mean()) if not conv.weight.is_meta else 0.0
            if codes is not None:
                new.codes.copy_(codes[j])
            elif power:
                new.codes.normal_(std=csg.code_std(power))
            if conv.bias is not None and new.bias is not None:
                new.bias.copy_(conv.bias)
                new.bias.requires_grad_(conv.bias.requires_grad)
        new.codes.requires_grad_(conv.weight.requires_grad)
        made[id(conv)] = new.train(conv.training)


def _relative(new: CSGConv2d, conv: Any) -> float:
    """||D - W||_F / ||W||_F of the generated filter D."""
    if conv.weight.is_meta:
        return float("nan")
    with torch.no_grad():
        size = conv.weight.double().norm()
        return float((new.weight().double() - conv.weight.double()).norm() / (size or 1))


def load_published(model: nn.Module, state_dict: Mapping[str, Tensor]) -> list[str]:
    """Load a checkpoint of the paper's authors into a model of `to_csg(..., layout="flat")`.

    Their generator is `CSG.weight` or `CLG.weight`, their codes have names with "code" in them, in the order of the
    layers, and their other layers other names than ours, but the same order; "module." in front is dropped.

    Args:
        model: with one generator; its values are overwritten. state_dict: theirs, `checkpoint["net"]` of a file.

    Returns: the names of the tensors that were taken, in order.
    Raises: ValueError where the number or the shapes of the tensors differ.
    """
    op = "load_published"
    theirs = {re.sub(r"^module\.", "", name): t for name, t in state_dict.items()}
    theirs = {name: t for name, t in theirs.items() if not name.endswith("num_batches_tracked")}
    generator = [name for name in theirs if re.search(r"(^|\.)C[SL]G\.weight$", name)][:1]
    if not generator:
        raise ValueError(f"{op}: state_dict must hold a generator, CSG.weight or CLG.weight, got none")
    repeated = {name for name in theirs if re.search(r"(^|\.)C[SL]G\.", name)}
    layers = [m for m in model.modules() if isinstance(m, CSGConv2d)]
    codes = [name for name in theirs if re.search(r"code\w*$", name)]
    rest = [name for name in theirs if name not in repeated and name not in codes]
    ours = [m.codes for m in layers]
    own = {id(t) for m in layers for t in (m.codes, m.csg.generator)}
    others = [t for name, t in model.state_dict(keep_vars=True).items() if id(t) not in own]
    others = [t for t in others if t.is_floating_point()]
    pairs = [(layers[0].csg.generator, generator[0])] if layers else []
    for label, mine, names in (("codes", ours, codes), ("other tensors", others, rest)):
        if len(mine) != len(names):
            raise ValueError(f"{op}: state_dict must hold {len(mine)} {label}, as model, got {len(names)}")
        pairs += list(zip(mine, names, strict=True))
    for tensor, name in pairs:
        if tensor.shape != theirs[name].shape:
            raise ValueError(f"{op}: {name} must be {tuple(tensor.shape)} as in model, got {tuple(theirs[name].shape)}")
    with torch.no_grad():
        for tensor, name in pairs:
            tensor.copy_(theirs[name])
    return [name for _, name in pairs]


def slices_of_model(model: nn.Module, slice_shape: Sequence[int], select: Select | None = None) -> Tensor:
    """All whole slices (S, F K h w) of a model's Conv2d weights, for `code_size_study`; cropped ones are left out."""
    modules = [(name, m) for name, m in model.named_modules() if isinstance(m, nn.Conv2d)]
    chosen = wanted("slices_of_model", modules, select, kinds=(nn.Conv2d,))
    weights = [m.weight.detach() for name, m in modules if name in chosen]
    rows, there = slices_of_filters(weights, slice_shape)
    return rows[there.all(1)]
