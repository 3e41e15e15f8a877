"""Turns the rows of `table.py` into `torch.ops.spectral.*`.

An op's rule module (`spectral_ops/ops/<name>.py`) has
    check(*args)         raises ValueError (shapes, names) or TypeError (dtypes, devices)
    empty(*args)         checks, and allocates the results: the fake kernel and the allocator are one
    reference(*args)     the definition, in differentiable aten ops; it has the schema's names, as `check` does
    cpp(args, out)       calls the native entry point on dense arguments; cpp(args) where the row has `stages`
and, where there is something to say, `backward`, `forward_for_grad`, `cpp_why_not`, `cpp_slower` (why the reference is
taken although C++ could do it), `kernel_for` (`plans.py`), `autocast`. Triton's are in `triton_kernels/<name>.py`.
"""

from __future__ import annotations

import functools
import importlib
import warnings
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from . import native, triton_backend
from .autograd import autograd_kernel, flatten, ordinary, tensors_of, unflatten
from .forced import again, forced
from .plans import Plans, signature
from .table import TABLE, Row

_HALF = frozenset((torch.bfloat16, torch.float16))
_LIB = torch.library.Library("spectral", "DEF")
_warned: set[str] = set()


@functools.cache
def rule_of(name: str) -> ModuleType:
    """The rule module of an op of the table."""
    return importlib.import_module(f"spectral_ops.ops.{name}")


def _row(name: str) -> Row:
    if name not in TABLE:
        raise ValueError(f"op must be one of {', '.join(TABLE)}, got {name!r}")
    return TABLE[name]


def complete(name: str) -> Callable[[Sequence[Any]], tuple[Any, ...]]:
    """torch drops trailing arguments that equal their defaults: put them back."""
    defaults = [argument.default_value for argument in getattr(torch.ops.spectral, name).default._schema.arguments]
    return lambda args: (*args, *defaults[len(args) :])


def _why_not(row: Row, backend: str, args: Sequence[Any], tensors: Sequence[Tensor]) -> str | None:
    if backend == "reference":
        return None
    if backend not in row.backends:
        return f"{row.name} has no {backend} kernel"
    if backend == "triton":
        reason = _complex_why_not(row, tensors)
        if reason is None and _is_mixture(row, args, tensors):  # sizes and dtypes decide: those that the kernel sees
            args = _complex_together(row, args, device="meta")
        reason = triton_backend.why_not(row.name, args, tensors) or reason
        return triton_backend.slower(row.name, args) if reason is None and forced() is None else reason
    reason = native.why_not(tensors[0].device, row.name)
    reason = reason or native_why_not(row, args, tensors, tensors[0].device.type)
    slower = getattr(rule_of(row.name), "cpp_slower", None)
    return slower(*args) if reason is None and slower is not None and forced() is None else reason


def native_why_not(row: Row, args: Sequence[Any], tensors: Sequence[Tensor], device: str) -> str | None:
    """Why the C++ kernel for `device` cannot take these arguments."""
    for t in tensors:
        if t.layout is not torch.strided:
            return "the native kernels take strided tensors only"
    reason = _complex_why_not(row, tensors)
    if reason:
        return reason
    rule = rule_of(row.name)
    why = getattr(rule, "cpp_why_not", None)
    if device == "cuda":  # where its limits are others
        why = getattr(rule, "cuda_why_not", why)
    return why(*args) if why else None


def _in_order(row: Row, args: Sequence[Any], tensors: Sequence[Tensor]) -> tuple[str, ...]:
    """The row's backends, the preferred one first: on a GPU Triton, where it overtakes CUDA C++ or a composition."""
    if "triton" not in row.backends or not tensors[0].is_cuda:
        return row.backends
    others = tuple(backend for backend in row.backends if backend != "triton")
    if triton_backend.preferred(row.name, args, tensors):
        return ("triton", *others)
    return (*others, "triton") if row.composed else row.backends


def _complex_why_not(row: Row, tensors: Sequence[Tensor]) -> str | None:
    """Why no kernel can take these arguments, if some of them are complex."""
    if not row.complex_together and row.stages is None and any(t.is_complex() for t in tensors):
        return "the native kernel is for real numbers"
    return None


def _complex_together(row: Row, args: Sequence[Any], but: str = "", device: str | None = None) -> list[Any]:
    """args with all those complex that the kernel takes complex together; not `but`, and not x beside a transform.

    device: "meta" for tensors without values.
    """
    named = dict(zip(_names(row.name), args, strict=True))
    for name in row.complex_together:
        if name != but and not (name == "x" and named.get("transform") is not None):  # which makes its branches complex
            named[name] = _as_complex(named[name], device)
    return list(named.values())


def _as_complex(value: Any, device: str | None = None) -> Any:
    if isinstance(value, list | tuple):
        return [_as_complex(t, device) for t in value]
    if value is None or value.is_complex():
        return value
    dtype = value.dtype.to_complex()
    return value.to(dtype) if device is None else value.new_empty(value.shape, dtype=dtype, device=device)


@functools.cache
def _names(name: str) -> list[str]:
    return [argument.name for argument in getattr(torch.ops.spectral, name).default._schema.arguments]


def backends(op: str, *args: Any) -> list[tuple[str, str | None]]:
    """Each backend of `op` in order of preference, with the reason why it cannot take `args` (None: it can)."""
    row, args = _row(op), complete(op)(args)
    rule_of(op).check(*args)
    tensors, _ = flatten(args)
    return [(backend, _why_not(row, backend, args, tensors)) for backend in _in_order(row, args, tensors)]


def explain(op: str, *args: Any) -> str:
    """Which backend `torch.ops.spectral.<op>(*args)` takes, and why not the others: a line each, the taken one marked.

    >>> print(spectral_ops.explain("dct", torch.randn(4, 8)))  # doctest: +SKIP
    dct
    -> cpp
       reference
    """
    rows, given = backends(op, *args), complete(op)(args)
    taken = (wanted := forced()) or next(name for name, reason in rows if reason is None)
    parts = getattr(rule_of(op), "PARTS", ())  # of a composition that has no kernel of its own
    notes = {name: f"  (no: {reason})" for name, reason in rows if reason}
    notes |= {"reference": f"  (made of {', '.join(parts)}: explain these)"} if parts else {}
    if ("triton", None) in rows:
        notes["triton"] = triton_backend.note(op, given, flatten(given)[0])
    lines = [f"{'->' if name == taken else '  '} {name}{notes.get(name, '')}" for name, _ in rows]
    if wanted and wanted not in dict(rows):
        lines.append(f"-> {wanted}  (no: {op} has no {wanted} kernel)")
    return "\n".join([op, *lines])


def _pick(row: Row, args: Sequence[Any], tensors: Sequence[Tensor]) -> str:
    wanted = forced()
    if wanted is not None:
        reason = _why_not(row, wanted, args, tensors)
        if reason:
            raise RuntimeError(f"{row.name}: backend {wanted!r} was asked for, but {reason}")
        return wanted
    for backend in _in_order(row, args, tensors):
        if _why_not(row, backend, args, tensors) is None:
            if backend == "reference" and not row.composed and tensors[0].device.type != "cpu":
                _warn_once(row, args, tensors)
            return backend
    raise AssertionError(f"{row.name} has no reference")


def _warn_once(row: Row, args: Sequence[Any], tensors: Sequence[Tensor]) -> None:
    if row.name in _warned:
        return
    _warned.add(row.name)
    reasons = "; ".join(f"{b}: {_why_not(row, b, args, tensors)}" for b in row.backends if b != "reference")
    warnings.warn(
        f"torch.ops.spectral.{row.name} runs its slow PyTorch reference on {tensors[0].device.type} ({reasons})",
        stacklevel=3,
    )


def _run(row: Row, rule: ModuleType, args: Sequence[Any], tensors: Sequence[Tensor]) -> Any:
    if row.composed and _goes_by_parts(row, rule, args, tensors):
        return rule.reference(*args)
    if row.stages is not None:
        return rule.cpp(args)
    out = rule.empty(*args)
    backend = _pick(row, args, tensors)
    if backend == "reference":
        return rule.reference(*args)
    triton = backend == "triton"
    kernel = functools.partial(triton_backend.run, row.name) if triton else getattr(rule, backend)
    mixed = row.complex_together and _is_mixture(row, args, tensors)
    if not triton and not mixed and _all_native(tensors):
        kernel(args, out)
        return out
    results, result_structure = flatten(out if isinstance(out, tuple) else [out])
    if not any(result.numel() for result in results):
        return out
    made = results
    if mixed:
        # results as the kernel gives them: the gradient of a real argument is complex, until its real part is taken.
        # inverse as it is: the shape of a complex one might say that the real part is meant
        shape = rule.empty(*_complex_together(row, args, but="inverse"))
        made, _ = flatten(shape if isinstance(shape, tuple) else [shape])
        args = _complex_together(row, args)
        tensors = tensors_of(args)
    _, structure = flatten(args)
    # the C++ kernels compute in float32 and float64: half is widened on the way in and rounded once on the way out
    widened = () if triton else _HALF
    strided = triton_backend.reads_strides(row.name) if triton else getattr(rule, "READS_STRIDES", False)
    dense = [_dense(t.float() if t.dtype in widened else t, strided) for t in tensors]
    buffers = [
        torch.empty_like(r, dtype=torch.float32) if r.dtype in widened else r if m.dtype is r.dtype else m
        for r, m in zip(results, made, strict=True)
    ]
    filled = unflatten(buffers, result_structure)
    kernel(unflatten(dense, structure), filled if isinstance(out, tuple) else filled[0])
    for result, buffer in zip(results, buffers, strict=True):
        if buffer is not result:
            result.copy_(buffer.real if buffer.is_complex() and not result.is_complex() else buffer)
    return out


def _goes_by_parts(row: Row, rule: ModuleType, args: Sequence[Any], tensors: Sequence[Tensor]) -> bool:
    """Check the arguments of a composed op; whether its composition runs, not a kernel; of any op: its reference."""
    rule.check(*args)
    if row.composed and row.stages is None and forced() is None and not tensors[0].is_cuda:
        return True  # there is no other backend to choose
    taken = _pick(row, args, tensors)  # which raises a forced one's reason
    return taken == "reference" or (taken == "cpp" and not ordinary(tensors))  # a tracer is to see the parts


def _dense(t: Tensor, strided: bool = False) -> Tensor:
    t = t.resolve_neg().resolve_conj()
    return t if strided else t.contiguous()


def _is_mixture(row: Row, args: Sequence[Any], tensors: Sequence[Tensor]) -> bool:
    """Whether arguments that the kernel takes complex together are partly complex."""
    if not row.complex_together:
        return False
    few = sum(t.is_complex() for t in tensors)
    if few in (0, len(tensors)):
        return False
    together = tensors_of(_complex_together(row, args, device="meta"))
    return any(a is not b for a, b in zip(tensors, together, strict=True))


def _all_native(tensors: Sequence[Tensor]) -> bool:
    """Whether a kernel can read all of them as they are; where one is empty, so may be the results."""
    for t in tensors:
        if t.dtype in _HALF or not t.is_contiguous() or t.is_neg() or t.is_conj() or not t.numel():
            return False
    return True


def _autocast_kernel(op: _Op, device: str) -> Callable:
    def kernel(*given: Any) -> Any:
        args = op.complete(given)
        dtype = torch.get_autocast_dtype(device)
        with torch.amp.autocast(device, enabled=False):
            if any(t.is_complex() for t in tensors_of(args)):  # complex goes with float32, not with half
                return op.below(*lower(args, torch.float32))
            if op.row.autocast == "rule":
                return op.rule.autocast(args, dtype)
            tensors, structure = flatten(args)
            target = torch.float32 if op.row.autocast == "float32" else dtype
            return op.below(*unflatten([lower(t, target) for t in tensors], structure))

    return kernel


def lower(t: Any, dtype: torch.dtype) -> Any:
    """Cast as autocast does: floating tensors other than float64, and nothing else."""
    if isinstance(t, list | tuple):
        return [lower(item, dtype) for item in t]
    castable = isinstance(t, Tensor) and t.is_floating_point() and t.dtype != torch.float64
    return t.to(dtype) if castable else t


class _Op:
    """An op with its table row and rule module; see `autograd.Op`."""

    def __init__(self, row: Row) -> None:
        self.row, self.rule = row, rule_of(row.name)
        self.below = getattr(torch.ops.spectral, row.name).default
        self.complete = complete(row.name)
        self.backend_again = again
        self.plans = Plans(self.rule, self._compute, self._repeats)
        self.stages = row.stages is not None
        self.traced_beyond = getattr(self.rule, "TRACED_BEYOND", None)
        self._by_parts: dict[tuple[Any, ...], bool] = {}  # of calls that were judged

    def composed(self, args: Sequence[Any], tensors: Sequence[Tensor]) -> bool:
        """Whether these arguments go through the parts of a composition, which autograd is to see."""
        if not self.row.composed:
            return False
        if forced() is not None or not tensors[0].is_cpu or not ordinary(tensors):
            return _goes_by_parts(self.row, self.rule, args, tensors)
        return self._judged(args, tensors)

    def traced(self, args: Sequence[Any], tensors: Sequence[Tensor]) -> bool:
        """Whether autograd is to go through the reference of an op that has kernels, for a gradient on the CPU.

        So where a branch is too wide for them: `backward` would compute again what autograd keeps. tensors: ordinary.
        """
        most = self.traced_beyond
        if most is None or forced() is not None or not tensors[0].is_cpu:
            return False
        for t in tensors:
            if len(shape := t.shape) == 3 and (shape[1] > most or shape[2] > most):
                return self._judged(args, tensors)
        return False

    def _judged(self, args: Sequence[Any], tensors: Sequence[Tensor]) -> bool:
        call = signature(args)
        by_parts = self._by_parts.get(call)
        if by_parts is None:
            if len(self._by_parts) >= Plans.MOST:
                self._by_parts.clear()
            by_parts = self._by_parts[call] = _goes_by_parts(self.row, self.rule, args, tensors)
        return by_parts

    def run(self, args: Sequence[Any], tensors: Sequence[Tensor]) -> Any:
        """Check, allocate, pick a backend, compute: what the op does below autograd. tensors: those of args, ordinary.

        A composition takes any.
        """
        anew = self.row.composed or forced() is not None
        return self._compute(args, tensors) if anew else self.plans.run(args, tensors)

    def entry(self, *given: Any) -> Any:
        """`run`, as the dispatcher calls it."""
        args = self.complete(given)
        tensors = tensors_of(args)
        return self.run(args, tensors) if ordinary(tensors) else self._compute(args, tensors)

    def _compute(self, args: Sequence[Any], tensors: Sequence[Tensor]) -> Any:
        return _run(self.row, self.rule, args, tensors)

    def _repeats(self, args: Sequence[Any], tensors: Sequence[Tensor]) -> str | None:
        backend = _pick(self.row, args, tensors) if _all_native(tensors) else None
        mixed = backend == "cpp" and self.row.complex_together and _is_mixture(self.row, args, tensors)
        return None if mixed else backend

    def fake(self, *args: Any) -> Any:
        return self.rule.empty(*self.complete(args))

    def reference(self, *args: Any) -> Any:
        args = self.complete(args)
        self.rule.check(*args)
        return self.rule.reference(*args)


_OPS: dict[str, _Op] = {}


def run_below_autograd(name: str, direct: bool, *args: Any) -> Any:
    """Call an op from inside another op's forward: directly, where the other was called with ordinary tensors."""
    op = _OPS[name]
    return op.run(args, tensors_of(args)) if direct else op.below(*args)


def allocated(name: str, direct: bool, args: Sequence[Any]) -> Any:
    """The results of an op, not filled, where its C++ kernel has taken such ordinary tensors as they are; or None."""
    return _OPS[name].plans.allocated(args, tensors_of(args)) if direct and forced() is None else None


def kernel_alone(name: str, tensors: Sequence[Tensor]) -> bool:
    """Whether a backward pass may call the op's C++ kernel on the CPU past the op, with these tensors in any strides.

    So where no graph of it is wanted and no backend forced: a list of filters costs as much to pass on as to multiply.
    """
    if torch.is_grad_enabled() or forced() is not None or not ordinary(tensors):
        return False
    for t in tensors:
        if not t.is_cpu or t.dtype in _HALF or t.is_neg():
            return False
    return native.why_not(tensors[0].device, name) is None


def _register(row: Row) -> None:
    _LIB.define(row.name + row.schema, tags=(torch.Tag.pt2_compliant_tag, torch.Tag.flexible_layout))
    op = _OPS[row.name] = _Op(row)
    _LIB.impl(row.name, op.entry, "CompositeExplicitAutograd")
    torch.library.register_fake(f"spectral::{row.name}", op.fake, lib=_LIB)
    _LIB.impl(row.name, autograd_kernel(op), "Autograd")
    for key in ("FuncTorchBatched", "Batched"):
        _LIB.impl(row.name, op.reference, key)
    for device in ("cpu", "cuda"):
        _LIB.impl(row.name, _autocast_kernel(op, device), f"Autocast{device.upper()}")


def register_all() -> None:
    """Register every row of the table; called once, when the package is imported."""
    for row in TABLE.values():
        _register(row)
