"""Gradients that are right everywhere: one rule for every op of the table.

Under torch.func transforms or forward-mode AD the op becomes its reference, which is made of aten ops and traced through.
When a gradient is wanted, one autograd.Function runs the op below autograd and, in backward, the rule module's `backward`
(public ops again, so double backward works and every backend serves it). Without a `backward` the reference is
differentiated. Otherwise the call goes straight down.

The private names of torch that this needs are in this file only; `tests/test_contract.py` fails loudly when one goes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

below_autograd = torch._C._AutoDispatchBelowAutograd
_HOLE = object()  # stands where a tensor was taken out


def transforming() -> bool:
    """Whether a torch.func transform or forward-mode AD is active."""
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def flatten(values: Sequence[Any]) -> tuple[list[Tensor], list[Any]]:
    """Take the tensors out of arguments or results; what is left tells `unflatten` where they were."""
    tensors: list[Tensor] = []

    def strip(value: Any) -> Any:
        if isinstance(value, Tensor):
            tensors.append(value)
            return _HOLE
        return [strip(item) for item in value] if isinstance(value, list | tuple) else value

    return tensors, [strip(value) for value in values]


def unflatten(tensors: Sequence[Any], structure: list[Any]) -> list[Any]:
    """Put `tensors` back where `flatten` took them out."""
    rest = iter(tensors)

    def fill(value: Any) -> Any:
        if value is _HOLE:
            return next(rest)
        return [fill(item) for item in value] if isinstance(value, list) else value

    return [fill(value) for value in structure]


def differentiate_reference(rule: ModuleType, args: Sequence[Any], grads: Sequence[Any], needs: list[Any]) -> list[Any]:
    """Gradients of `rule.reference` at `args`, in the structure of `args` (None where not needed)."""
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        tensors, structure = flatten(args)
        wanted = wanted_tensors(needs)
        # an alias per argument: the same tensor given twice must not collect its gradient twice
        tensors = [t.view_as(t) if want else t.detach() for t, want in zip(tensors, wanted, strict=True)]
        results = rule.reference(*unflatten(tensors, structure))
        outputs, _ = flatten(results if isinstance(results, list | tuple) else [results])
        pairs = [(o, g) for o, g in zip(outputs, grads, strict=True) if g is not None and o.requires_grad]
        inputs = [t for t, want in zip(tensors, wanted, strict=True) if want]
        if pairs:
            found = torch.autograd.grad(
                [o for o, _ in pairs], inputs, [g for _, g in pairs], allow_unused=True, create_graph=create_graph
            )
        else:
            found = [None] * len(inputs)
    rest = iter(found)
    return unflatten([next(rest) if want else None for want in wanted], structure)


def wanted_tensors(needs: list[Any]) -> list[bool]:
    """The flags of a `needs` structure in order (None marks an argument that is no tensor)."""
    flat: list[bool] = []
    for need in needs:
        flat += [n for n in (need if isinstance(need, list) else [need]) if n is not None]
    return flat


class _Differentiable(torch.autograd.Function):
    """Forward: the op below autograd. Backward: the rule's. Only tensors travel through autograd, one by one."""

    @staticmethod
    def forward(ctx: Any, spec: _Spec, *tensors: Tensor) -> Any:
        args = unflatten(tensors, spec.structure)
        ctx.spec, ctx.extra = spec, None
        ctx.set_materialize_grads(False)
        needs = _needs(ctx.needs_input_grad[1:], spec.structure)
        with below_autograd():
            if hasattr(spec.rule, "forward_for_grad"):
                results, extra = spec.rule.forward_for_grad(args, needs)
            else:
                results, extra = spec.op(*args), []
        outputs, spec.results = flatten(results if isinstance(results, list | tuple) else [results])
        extra, ctx.extra = flatten(extra)
        ctx.save_for_backward(*tensors, *extra)
        ctx.inputs = len(tensors)
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        spec = ctx.spec
        saved = ctx.saved_tensors
        args = unflatten(saved[: ctx.inputs], spec.structure)
        needs = _needs(ctx.needs_input_grad[1:], spec.structure)
        with spec.backend():
            if all(g is None for g in grads):
                return (None, *[None] * ctx.inputs)
            if not hasattr(spec.rule, "backward"):
                found = differentiate_reference(spec.rule, args, grads, needs)
            else:
                extra = unflatten(saved[ctx.inputs :], ctx.extra)
                found = spec.rule.backward(args, grads, needs, *([extra] if extra else []))
        flat: list[Tensor | None] = []
        for value, gap in zip(found, spec.structure, strict=True):
            if gap is _HOLE:
                flat.append(value)
            elif isinstance(gap, list) and _HOLE in gap:
                flat += [v for v, g in zip(value, gap, strict=True) if g is _HOLE]
        return (None, *flat)


class _Spec:
    """What a call is besides its tensors."""

    def __init__(self, op: Callable, rule: ModuleType, structure: list[Any], backend: Callable) -> None:
        self.op, self.rule, self.structure, self.backend = op, rule, structure, backend
        self.results: list[Any] = []


def _needs(flags: Sequence[bool], structure: list[Any]) -> list[Any]:
    """`needs_input_grad` in the structure of the arguments; None where the argument is no tensor."""
    rest = iter(flags)

    def fill(value: Any) -> Any:
        if value is _HOLE:
            return next(rest)
        return [fill(item) for item in value] if isinstance(value, list) else None

    return [fill(value) for value in structure]


def autograd_kernel(op: Callable, rule: ModuleType, complete: Callable, forced: Callable) -> Callable:
    """The kernel of `op` at torch's Autograd key.

    complete: fills in the schema's defaults. forced: gives a context that repeats the caller's `use(...)` in backward.
    """

    def kernel(*given: Any) -> Any:
        args = complete(given)
        if transforming():
            rule.check(*args)
            return rule.reference(*args)
        tensors, structure = flatten(args)
        if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
            spec = _Spec(op, rule, structure, forced())
            outputs = unflatten(_Differentiable.apply(spec, *tensors), spec.results)
            return outputs[0] if len(outputs) == 1 else tuple(outputs)
        with below_autograd():
            return op(*args)

    return kernel
