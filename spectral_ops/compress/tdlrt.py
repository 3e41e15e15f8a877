"""TDLRT: dynamical low-rank training of layers in Tucker form, whose ranks adapt (Algorithm 1 of its paper)."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..nn.tucker import Ranked, TuckerConv2d, TuckerLinear
from .k_step import KPass, batched
from .tucker import attainable, kept, mode_multiply, multiply, unfold_mode

_NORMS = (nn.modules.batchnorm._NormBase,)


@dataclass
class _Layer:
    """A layer with its momentum. Of the modes in `q` the basis moves; in the others it is complete.

    q[i], s[i]: Mat_i(C)^T = Q_i S_i^T. k[i]: the momentum of K_i, (n_i, r_i). core: that of the core, at its bases.
    """

    module: Ranked
    q: dict[int, Tensor] = field(default_factory=dict)
    s: dict[int, Tensor] = field(default_factory=dict)
    k: dict[int, Tensor] = field(default_factory=dict)
    core: Tensor | None = None

    @property
    def bases(self) -> dict[int, Tensor]:
        return {i: u.detach() for i, u in enumerate(self.module.factors) if u is not None}

    def put(self, core: Tensor, bases: dict[int, Tensor]) -> None:
        self.module.set_factors(core, [bases.get(i) for i in range(core.dim())])


class TDLRT(torch.optim.Optimizer):
    """Algorithm 1: each step finds new bases from the gradients of K_i, steps the core in them, and rounds it.

    1. A pass at the old point gives grad K_i of all modes of all layers at once (`k_step.py`).
    2. The bases become orthonormal bases of [K_i - lr grad K_i | U_i] (adaptive), or of K_i - lr grad K_i.
    3. A pass at the new bases gives the gradient of the core C x_i (U_i_new^T U_i), which is stepped.
    4. The core is rounded to the relative error tau (`tucker_round`), which sets the ranks (adaptive).

    Factors and core are the only stored weights: memory shrinks with the ranks. A mode whose basis is complete
    (r_i = n_i, as windows mostly are) has nothing to move. In place of [K - lr g | U] the basis is taken of [U | g],
    which spans the same and does not lose the g that is small beside K.

    Args:
        model: its TuckerConv2d (without groups) and TuckerLinear layers are trained; `to_tucker(..., spatial=True)` or
            `decompose(..., spatial=True)` makes them. Their factors are made orthonormal, W staying as it is.
        tau: relative tolerance of the rounding in each step, at least 0.
        lr: of both descent steps. momentum: of both, or with core_momentum_only of the core's.
        adaptive: False: the ranks stay.
        min_rank, max_rank: bounds for every rank when rounding; max_rank None: no bound.

    Usage: `step(closure)`; closure() gives the loss, without calling backward. It is called twice, with the same random
    numbers, and the running statistics of batch norms are those of the second call. All other parameters, `rest`,
    have their gradient from the second call then, for any optimiser to step:

    >>> trainer = TDLRT(model, tau=0.03, lr=0.05)  # doctest: +SKIP
    >>> others = torch.optim.SGD(trainer.rest, lr=0.05, momentum=0.1)
    >>> loss = trainer.step(lambda: criterion(model(x), target))
    >>> others.step()

    Learning-rate schedulers of torch act on it. `state_dict` holds the momentum, the model's the ranks: loading both
    resumes a training, bit for bit.

    Raises: ValueError for a model without such layers, negative or inconsistent numbers, a step without closure;
        TypeError for anything but a module; FloatingPointError in a step after which values are not finite.
    Source: Rank-adaptive spectral pruning of convolutional layers during training, Algorithm 1, Theorem 1.
    """

    def __init__(
        self,
        model: nn.Module,
        tau: float = 0.03,
        lr: float = 0.05,
        momentum: float = 0.1,
        adaptive: bool = True,
        min_rank: int = 1,
        max_rank: int | None = None,
        core_momentum_only: bool = False,
    ) -> None:
        op = "TDLRT"
        if not isinstance(model, nn.Module):
            raise TypeError(f"{op}: model must be a torch.nn.Module, got {type(model).__name__}")
        for name, value in (("tau", tau), ("lr", lr), ("momentum", momentum)):
            if not value >= 0:
                raise ValueError(f"{op}: {name} must be at least 0, got {value}")
        if min_rank < 1 or (max_rank is not None and max_rank < min_rank):
            raise ValueError(f"{op}: ranks must have 1 <= min_rank <= max_rank, got {min_rank} and {max_rank}")
        self._model, self.adaptive, self.min_rank, self.max_rank = model, adaptive, min_rank, max_rank
        self.core_momentum_only = core_momentum_only
        self._layers = {
            name: _Layer(m)
            for name, m in model.named_modules()
            if isinstance(m, TuckerConv2d | TuckerLinear) and m.groups == 1 and m.core.requires_grad
        }
        if not self._layers:
            raise ValueError(f"{op}: model must have layers in Tucker form without groups, got none")
        _orthonormalise(list(self._layers.values()))
        super().__init__(self._parameters(), {"lr": lr, "momentum": momentum, "tau": tau})
        self._split()

    @property
    def rest(self) -> list[nn.Parameter]:
        """The parameters of the model that this does not step, biases of its own layers among them."""
        own = {id(p) for p in self._parameters()}
        return [p for p in self._model.parameters() if id(p) not in own]

    @property
    def ranks(self) -> dict[str, tuple[int, ...]]:
        """The ranks of each trained layer, by name."""
        return {name: layer.module.ranks for name, layer in self._layers.items()}

    def _parameters(self) -> list[nn.Parameter]:
        return [p for x in self._layers.values() for p in (x.module.core, *x.module.factors) if p is not None]

    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor:  # type: ignore[override]
        """One step of Algorithm 1. Returns the loss at the point where it began (the first call's)."""
        if closure is None:
            raise ValueError("TDLRT: closure must be given, a function of the loss, got None")
        layers = list(self._layers.values())
        rest = self.rest
        for p in rest:
            p.grad = None
        loss, gradients = self._first_pass(closure, rest)
        with torch.no_grad():
            old = [layer.bases for layer in layers]
            new = self._new_bases(layers, gradients)
            for layer, before, after in zip(layers, old, new, strict=True):
                turns = {i: after[i].mT @ before[i] for i in layer.q}
                layer.put(_turned(layer.module.core.detach(), turns), after)
                if layer.core is not None:
                    layer.core = _turned(layer.core, turns)
        with _alone([layer.module for layer in layers]), torch.enable_grad():
            closure().backward()
        with torch.no_grad():
            self._core_step(layers)
            if self.adaptive:
                self._round(layers)
            self._split(old)
        self.param_groups[0]["params"] = self._parameters()
        return loss

    def _first_pass(self, closure: Callable[[], Tensor], rest: list[nn.Parameter]) -> tuple[Tensor, list[dict]]:
        """The loss, and grad K_i of the moving modes of each layer."""
        runs = []
        for layer in self._layers.values():
            m = layer.module
            shapes = {i: [q.shape[1], *(r for j, r in enumerate(m.core.shape) if j != i)] for i, q in layer.q.items()}
            cores = {i: q.mT.reshape(shapes[i]).movedim(0, i) for i, q in layer.q.items()}
            runs.append(KPass(cores, {i: layer.bases[i] @ s for i, s in layer.s.items()}))
        wanted = [p for p in rest if p.requires_grad]
        random = torch.random.fork_rng({p.device for p in self._model.parameters() if p.is_cuda})
        with contextlib.ExitStack() as stack:
            stack.enter_context(random)
            stack.enter_context(_still_statistics(self._model))
            for p in wanted:
                stack.callback(p.requires_grad_, True)
                p.requires_grad_(False)
            for layer, run in zip(self._layers.values(), runs, strict=True):
                name = "convolve" if isinstance(layer.module, TuckerConv2d) else "multiply"
                stack.callback(layer.module.__dict__.pop, name)
                layer.module.__dict__[name] = getattr(run, name)
            with torch.enable_grad():
                loss = closure()
                loss.backward()
        return loss.detach(), [run.gradients for run in runs]

    def _new_bases(self, layers: list[_Layer], gradients: list[dict[int, Tensor]]) -> list[dict[int, Tensor]]:
        group = self.param_groups[0]
        momentum = 0.0 if self.core_momentum_only else group["momentum"]
        new = [layer.bases for layer in layers]
        places, matrices = [], []
        for n, (layer, found) in enumerate(zip(layers, gradients, strict=True)):
            for i in layer.q:
                if i not in found:  # the loss does not depend on this layer
                    continue
                v = found[i]
                if momentum and i in layer.k:
                    v = v + momentum * layer.k[i]
                if momentum:
                    layer.k[i] = v
                u = new[n][i]
                places.append((n, i))
                matrices.append(torch.cat([u, v], 1) if self.adaptive else u @ layer.s[i] - group["lr"] * v)
        for (n, i), (q, _) in zip(places, batched(torch.linalg.qr, matrices), strict=True):
            new[n][i] = q
        return new

    def _core_step(self, layers: list[_Layer]) -> None:
        group = self.param_groups[0]
        for layer in layers:
            v = layer.module.core.grad
            if v is None:
                continue
            if group["momentum"]:
                v = v if layer.core is None else v + group["momentum"] * layer.core
                layer.core = v
            layer.module.core.sub_(v, alpha=group["lr"])
            layer.module.core.grad = None
            if not all(bound.isfinite() for bound in layer.module.core.aminmax()):
                raise FloatingPointError(f"TDLRT: each step must end in finite cores, got others at lr {group['lr']:g}")

    def _round(self, layers: list[_Layer]) -> None:
        """Line 11, 12: mode after mode of all layers together; each may drop tau ||C|| / sqrt(modes)."""
        tau = self.param_groups[0]["tau"]
        cores = [layer.module.core.detach() for layer in layers]
        bases = [layer.bases for layer in layers]
        allowed = [
            tau * float(c.norm()) / math.sqrt(max(len(b), 1)) for c, b in zip(cores, bases, strict=True)
        ]  # fmt: skip
        for i in range(4):
            having = [n for n, b in enumerate(bases) if i in b]
            found = batched(_svd, [unfold_mode(cores[n], i) for n in having])
            for n, (p, values) in zip(having, found, strict=True):
                rank = max(kept(values, allowed[n]), self.min_rank)
                rank = min(rank, values.numel() if self.max_rank is None else self.max_rank, values.numel())
                if rank == cores[n].shape[i]:  # a turn of the basis only
                    continue
                p = p[:, :rank]
                cores[n] = mode_multiply(cores[n], p.mT, i)
                bases[n][i] = bases[n][i] @ p
                if layers[n].core is not None:
                    layers[n].core = mode_multiply(layers[n].core, p.mT, i)  # type: ignore[arg-type]
        for layer, core, own in zip(layers, cores, bases, strict=True):
            core, turns = attainable(core, own)
            for i, turn in turns.items():
                own[i] = own[i] @ turn
                layer.core = None if layer.core is None else mode_multiply(layer.core, turn.mT, i)
            layer.put(core.contiguous(), own)

    def _split(self, old: list[dict[int, Tensor]] | None = None) -> None:
        """Lines 2, 3 of the next step; and with the old bases, each momentum of K_i in the new coordinates.

        Its full-space form Ten_i(V Q_i^T) x_(j != i) U_j is projected on the new bases and the new Q_i.
        """
        layers = list(self._layers.values())
        places, matrices = [], []
        for n, layer in enumerate(layers):
            core = layer.module.core.detach()
            for i, u in layer.bases.items():
                if u.shape[1] < u.shape[0]:
                    places.append((n, i))
                    matrices.append(unfold_mode(core, i).mT)
        splits = batched(torch.linalg.qr, matrices)
        previous = [(layer.q, layer.k) for layer in layers]
        for layer in layers:
            layer.q, layer.s, layer.k = {}, {}, {}
        for (n, i), (q, r) in zip(places, splits, strict=True):
            layer, (before, momentum) = layers[n], previous[n]
            layer.q[i], layer.s[i] = q, r.mT
            if old is not None and i in momentum:
                shape = [old[n][j].shape[1] if j in old[n] else size for j, size in enumerate(layer.module.core.shape)]
                shape[i] = momentum[i].shape[0]
                flat = [shape[i], *(size for j, size in enumerate(shape) if j != i)]
                full = (momentum[i] @ before[i].mT).view(flat).movedim(0, i)
                turns = {j: u.mT @ old[n][j] for j, u in layer.bases.items() if j != i}
                layer.k[i] = unfold_mode(_turned(full, turns), i) @ q

    def state_dict(self) -> dict[str, Any]:  # type: ignore[override]
        """Momentum of each layer by name, and the options; the weights are in the model's."""
        layers = {name: {"k": dict(x.k), "core": x.core} for name, x in self._layers.items()}
        return {"layers": layers, "options": {k: v for k, v in self.param_groups[0].items() if k != "params"}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:  # type: ignore[override]
        """Resume: call it after the model has loaded its own state, whatever ranks that has.

        Raises: ValueError where the layers are others.
        """
        if state_dict["layers"].keys() != self._layers.keys():
            must, got = (", ".join(names) for names in (self._layers, state_dict["layers"]))
            raise ValueError(f"TDLRT: state_dict must be of the layers {must}, got {got}")
        self._split()
        self.param_groups[0].update(state_dict["options"])
        self.param_groups[0]["params"] = self._parameters()
        for name, found in state_dict["layers"].items():
            layer, like = self._layers[name], self._layers[name].module.core
            layer.k = {i: v.to(like).clone() for i, v in found["k"].items()}
            layer.core = None if found["core"] is None else found["core"].to(like).clone()


def _svd(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Left singular vectors and singular values, descending.

    Of float32 by way of M M^T in float64, which squares the condition and has twice the digits: half of the time of a
    QR followed by the SVD of R, which itself takes a tenth of that of M's SVD, for (154, 1386).
    """
    if matrix.dtype != torch.float64:
        exact = matrix.double()
        squares, u = torch.linalg.eigh(exact @ exact.mT)
        least = min(matrix.shape[-2:])
        return u.flip(-1)[..., :least].to(matrix.dtype), squares.flip(-1)[..., :least].clamp(min=0).sqrt()
    if matrix.shape[-1] > matrix.shape[-2]:
        matrix = torch.linalg.qr(matrix.mT, mode="r")[1].mT
    u, values, _ = torch.linalg.svd(matrix, full_matrices=False)
    return u, values


def _turned(core: Tensor, turns: dict[int, Tensor]) -> Tensor:
    """core x_i turns[i]."""
    return multiply(core, [turns.get(i) for i in range(core.dim())]).contiguous()


def _orthonormalise(layers: list[_Layer]) -> None:
    """Orthonormal bases for the same W, and no rank beyond the product of the others."""
    with torch.no_grad():
        for layer in layers:
            found, core = layer.bases, layer.module.core.detach()
            for i, u in found.items():
                # a basis stays as it is, so that its momentum, when a training is resumed, stays right
                if (u.mT @ u - torch.eye(u.shape[1]).to(u)).abs().max() > 100 * torch.finfo(u.dtype).eps:
                    found[i], r = torch.linalg.qr(u)
                    core = mode_multiply(core, r, i)
            core, turns = attainable(core, found)
            for i, turn in turns.items():
                found[i] = found[i] @ turn
            layer.put(core.contiguous(), found)


@contextlib.contextmanager
def _alone(modules: list[Ranked]) -> Iterator[None]:
    """Of these layers only the core wants a gradient, which is empty at first."""
    factors = [u for m in modules for u in m.factors if u is not None]
    for u in factors:
        u.requires_grad_(False)
    try:
        yield
    finally:
        for u in factors:
            u.requires_grad_(True)


@contextlib.contextmanager
def _still_statistics(model: nn.Module) -> Iterator[None]:
    """Batch norms in training normalise as they do, and leave their running statistics alone."""
    norms = [m for m in model.modules() if isinstance(m, _NORMS) and m.training and m.track_running_stats]
    for m in norms:
        m.track_running_stats = False
    try:
        yield
    finally:
        for m in norms:
            m.track_running_stats = True
