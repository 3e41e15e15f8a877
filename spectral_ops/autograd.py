"""Gradients that are right everywhere: one rule for every op of the table.

Under torch.func transforms or forward-mode AD the op becomes its reference, which is made of aten ops and traced.
When a gradient is wanted, one autograd.Function runs the op below autograd and, in backward, the rule module's
`backward` (public ops again, so double backward works and every backend serves it). Without a `backward` the
reference is differentiated. Otherwise the call goes straight down.

The private names of torch that this needs are in this file only; `tests/test_contract.py` fails loudly when one goes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import ModuleType
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd import forward_ad

below_autograd = torch._C._AutoDispatchBelowAutograd
PLAIN_VALUES = frozenset((type(None), str, int, bool, float))
_ORDINARY = (Tensor, torch.nn.Parameter)
_HOLE = object()  # stands where a tensor was taken out


def transforming() -> bool:
    """Whether a torch.func transform or forward-mode AD is active."""
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


@contextlib.contextmanager
def untransformed() -> Iterator[None]:
    """Tensors made inside belong to no torch.func transform and to no inference mode."""
    with torch._C._DisableFuncTorch(), torch.inference_mode(False):
        yield


def outside_modes() -> bool:
    """Whether no dispatch mode is active: under one (a tracer, fake tensors) new tensors belong to it."""
    return torch._C._len_torch_dispatch_stack() == 0


def graph_is_kept() -> bool:
    """Whether the running backward pass keeps its graph (retain_graph), and may so be run again."""
    return torch._C._autograd._get_current_graph_task_keep_graph()


def flatten(values: Sequence[Any]) -> tuple[list[Tensor], list[Any]]:
    """Take the tensors out of arguments or results; what is left tells `unflatten` where they were."""
    tensors: list[Tensor] = []
    structure: list[Any] = []
    for value in values:
        if type(value) in PLAIN_VALUES:
            structure.append(value)
        elif isinstance(value, list | tuple):
            items, inner = flatten(value)
            tensors += items
            structure.append(inner)
        else:
            tensors.append(value)
            structure.append(_HOLE)
    return tensors, structure


def tensors_of(args: Sequence[Any]) -> list[Tensor]:
    """The tensors of `flatten(args)`, without the structure."""
    tensors: list[Tensor] = []
    for value in args:
        if type(value) in PLAIN_VALUES:
            continue
        if isinstance(value, list | tuple):
            tensors += [t for t in value if type(t) not in PLAIN_VALUES]
        else:
            tensors.append(value)
    return tensors


def ordinary(tensors: Sequence[Tensor]) -> bool:
    """Whether all are plain tensors on the CPU or a GPU, outside any dispatch mode.

    They need no second trip through the dispatcher, where boxing lists of tensors costs as much as a small kernel.
    """
    if not outside_modes():
        return False
    for t in tensors:
        # is_grads_batched makes tensors of the plain type that have no storage
        if type(t) not in _ORDINARY or not (t.is_cpu or t.is_cuda) or not torch._C._has_storage(t):
            return False
    return True


def want_grad(tensors: Sequence[Tensor]) -> bool:
    """Whether a gradient is wanted of a call with these arguments."""
    if torch.is_grad_enabled():
        for t in tensors:
            if t.requires_grad:
                return True
    return False


def unflatten(tensors: Iterable[Any], structure: list[Any]) -> list[Any]:
    """Put `tensors` back where `flatten` took them out."""
    rest = iter(tensors)
    values: list[Any] = []
    for value in structure:
        if value is _HOLE:
            values.append(next(rest))
        elif type(value) is list:
            values.append([next(rest) if item is _HOLE else item for item in value])
        else:
            values.append(value)
    return values


def differentiate_reference(rule: ModuleType, args: Sequence[Any], grads: Sequence[Any]) -> list[Any]:
    """Gradients of `rule.reference` at `args`, in the structure of `args` (None where not wanted)."""
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        tensors, structure = flatten(args)
        # an alias per argument: the same tensor given twice must not collect its gradient twice
        aliases = [t.view_as(t) if t.requires_grad else t for t in tensors]
        results = rule.reference(*unflatten(aliases, structure))
        outputs, _ = flatten(results if isinstance(results, tuple) else [results])
        pairs = [(o, g) for o, g in zip(outputs, grads, strict=True) if g is not None and o.requires_grad]
        inputs = [t for t in aliases if t.requires_grad]
        found = torch.autograd.grad(
            [o for o, _ in pairs], inputs, [g for _, g in pairs], allow_unused=True, create_graph=create_graph
        )
    rest = iter(found)
    return unflatten([next(rest) if t.requires_grad else None for t in aliases], structure)


class _Call:
    """What a call is besides its tensors."""

    def __init__(self, op: Op, args: Sequence[Any], structure: list[Any], direct: bool) -> None:
        self.op, self.structure, self.direct = op, structure, direct
        self.again = op.backend_again()
        self.args = args  # until forward has run
        self.results: list[Any] = []


class _Differentiable(torch.autograd.Function):
    """Forward: the op below autograd. Backward: the rule's. Only tensors travel through autograd, one by one."""

    @staticmethod
    def forward(ctx: Any, call: _Call, *tensors: Tensor) -> Any:
        args, call.args = call.args, ()
        ctx.call, ctx.inputs = call, len(tensors)
        ctx.set_materialize_grads(False)
        rule = call.op.rule
        with below_autograd():
            if hasattr(rule, "forward_for_grad"):
                needs = unflatten(ctx.needs_input_grad[1:], call.structure)
                results, extra = rule.forward_for_grad(args, needs, call.direct)
            else:
                results, extra = call.op.run(args, tensors) if call.direct else call.op.below(*args), []
        outputs, call.results = flatten(results if isinstance(results, tuple) else [results])
        kept, ctx.extra = flatten(extra)
        ctx.save_for_backward(*tensors, *kept)
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        call, rule = ctx.call, ctx.call.op.rule
        if all(g is None for g in grads):
            return (None, *[None] * ctx.inputs)
        saved = ctx.saved_tensors
        args = unflatten(saved[: ctx.inputs], call.structure)
        needs = unflatten(ctx.needs_input_grad[1:], call.structure)
        with call.again():
            if not hasattr(rule, "backward"):
                found = differentiate_reference(rule, args, grads)
            elif ctx.extra:
                found = rule.backward(args, grads, needs, unflatten(saved[ctx.inputs :], ctx.extra))
            else:
                found = rule.backward(args, grads, needs)
        flat: list[Tensor | None] = []
        for value, gap in zip(found, call.structure, strict=True):
            if gap is _HOLE:
                flat.append(value)
            elif type(gap) is list and _HOLE in gap:
                flat += [v for v, g in zip(value, gap, strict=True) if g is _HOLE]
        return (None, *flat)


# Function.apply without its look at every argument for torch.func wrappers: none is active where this is called
_apply = super(torch.autograd.Function, _Differentiable).apply


class Op(Protocol):
    """What this file needs to know of an op.

    rule: its rule module. composed: whether a call is made of other ops, through which autograd goes by itself. run:
    what it does below autograd, of the arguments and the tensors among them. below: the same, through the dispatcher.
    complete: fills in the schema's defaults. backend_again: gives a context that repeats `use(...)` in backward.
    stages: whether its C++ calls the library between stages of its own, and returns the results. traced: whether
    autograd is to go through the reference, of ordinary tensors.
    """

    rule: ModuleType
    below: Callable
    complete: Callable
    backend_again: Callable
    stages: bool

    def composed(self, args: Sequence[Any], tensors: Sequence[Tensor]) -> bool: ...

    def traced(self, args: Sequence[Any], tensors: Sequence[Tensor]) -> bool: ...

    def run(self, args: Sequence[Any], tensors: Sequence[Tensor]) -> Any: ...


def autograd_kernel(op: Op) -> Callable:
    """The kernel of `op` at torch's Autograd key."""

    def kernel(*given: Any) -> Any:
        args = op.complete(given)
        if transforming():
            op.rule.check(*args)
            return op.rule.reference(*args)
        tensors = tensors_of(args)
        if op.composed(args, tensors):
            return op.rule.reference(*args)
        direct = ordinary(tensors)
        if want_grad(tensors):
            if direct and op.traced(args, tensors):
                return op.rule.reference(*args)
            call = _Call(op, args, flatten(args)[1], direct)
            outputs = unflatten(_apply(call, *tensors), call.results)  # a list: the one result is a list of tensors
            return outputs[0] if len(outputs) == 1 else tuple(outputs)
        with below_autograd():
            if op.stages:
                return op.rule.cpp(args)
            return op.run(args, tensors) if direct else op.below(*args)

    return kernel
