"""Pruning baselines of the TDLRT paper, as masks: magnitude with rewinding, SNIP and GraSP, without warm-up.

All three score the weights of Conv2d and Linear layers together and keep the best share of them all. Masks are those of
torch.nn.utils.prune: `weight` becomes weight_orig times weight_mask, and zeros stay zero under any optimiser.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

Loss = Callable[[], Tensor]


def prune_magnitude(model: nn.Module, share: float, train: Callable[[nn.Module], object], rounds: int = 5) -> None:
    """Iterative magnitude pruning: train, drop the smallest weights, go back to the initial ones; so many rounds.

    Round i leaves share^(i / rounds) of the weights, the last `share`; the model ends at its initial weights, masked,
    to be trained once more.

    Args:
        model: changed in place. share: of the weights that stay, in (0, 1]. train: trains the model that it is given.

    Raises: ValueError for share and rounds.
    Source: Frankle and Carbin, The Lottery Ticket Hypothesis (2019).
    """
    _check("prune_magnitude", share)
    if rounds < 1:
        raise ValueError(f"prune_magnitude: rounds must be at least 1, got {rounds}")
    layers = _layers(model)
    for layer in layers:
        prune.identity(layer, "weight")
    initial = copy.deepcopy(model.state_dict())
    for i in range(rounds):
        train(model)
        # what is masked already ranks below every weight that is not
        scores = [torch.where(m.weight_mask > 0, m.weight_orig.detach().abs(), -1.0) for m in layers]
        masks = _best(scores, share ** ((i + 1) / rounds))
        _rewind(model, initial)
        for layer, mask in zip(layers, masks, strict=True):
            prune.remove(layer, "weight")
            layer.weight.data.copy_(initial[_key(model, layer)])
            prune.custom_from_mask(layer, "weight", mask)


def prune_snip(model: nn.Module, share: float, loss: Loss) -> None:
    """Single-shot pruning at the start: keep the weights of largest |w dL/dw|, the loss's sensitivity to the mask.

    Args: model: changed in place. share: of the weights that stay. loss: of a batch or several, without backward.
    Raises: ValueError for share.
    Source: Lee, Ajanthan, Torr, SNIP: Single-shot Network Pruning (2019).
    """
    _check("prune_snip", share)
    layers = _layers(model)
    weights = [m.weight for m in layers]
    gradients = torch.autograd.grad(loss(), weights)
    _mask(layers, _best([(w * g).detach().abs() for w, g in zip(weights, gradients, strict=True)], share))


def prune_grasp(model: nn.Module, share: float, loss: Loss) -> None:
    """Gradient signal preservation: drop the weights whose loss takes least from the gradient's norm.

    Without w the squared norm of the gradient g changes by about -2 w (H g), H the Hessian: the weights of largest
    w (H g) stay.

    Args, Raises: as of `prune_snip`; loss must be twice differentiable.
    Source: Wang, Zhang, Grosse, Picking Winning Tickets Before Training by Preserving Gradient Flow (2020).
    """
    _check("prune_grasp", share)
    layers = _layers(model)
    weights = [m.weight for m in layers]
    gradients = torch.autograd.grad(loss(), weights, create_graph=True)
    size = sum((g * g.detach()).sum() for g in gradients)
    products = torch.autograd.grad(size, weights)  # H g
    _mask(layers, _best([(w * h).detach() for w, h in zip(weights, products, strict=True)], share))


def _check(op: str, share: float) -> None:
    if not 0 < share <= 1:
        raise ValueError(f"{op}: share must be above 0 and at most 1, got {share}")


def _layers(model: nn.Module) -> list[nn.Module]:
    return [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]


def _best(scores: list[Tensor], share: float) -> list[Tensor]:
    """Masks of the highest scores of all: exactly round(share n) ones."""
    flat = torch.cat([s.flatten() for s in scores])
    mask = torch.zeros_like(flat)
    mask[flat.topk(max(round(share * flat.numel()), 1)).indices] = 1
    return [part.view_as(s) for part, s in zip(mask.split([s.numel() for s in scores]), scores, strict=True)]


def _mask(layers: list[nn.Module], masks: list[Tensor]) -> None:
    for layer, mask in zip(layers, masks, strict=True):
        prune.custom_from_mask(layer, "weight", mask)


def _key(model: nn.Module, layer: nn.Module) -> str:
    name = next(name for name, m in model.named_modules() if m is layer)
    return f"{name}.weight_orig" if name else "weight_orig"


def _rewind(model: nn.Module, initial: dict[str, Tensor]) -> None:
    model.load_state_dict({k: v for k, v in initial.items() if not k.endswith("_mask")}, strict=False)
