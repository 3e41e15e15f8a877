"""swap_parameters: an optimiser goes on when some of its parameters are replaced by others."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

Swaps = Sequence[tuple[Sequence[nn.Parameter], Sequence[nn.Parameter]]]


def swap_parameters(optimizer: torch.optim.Optimizer, swaps: Swaps) -> None:
    """Replace parameters in an optimiser, in place: learning-rate schedulers that hold it go on as well.

    New parameters enter the group of the ones they replace, at their place, and start without state; the state of all
    others (momentum, moments, steps) is kept.

    Args:
        optimizer: any torch optimiser. swaps: pairs (old parameters, new ones), as `Summary.swaps` of `decompose` has
            them. A pair none of whose old parameters the optimiser has is left out.
    """
    for old, new in swaps:
        gone = {id(p) for p in old}
        for group in optimizer.param_groups:
            places = [i for i, p in enumerate(group["params"]) if id(p) in gone]
            if not places:
                continue
            held = {id(p) for g in optimizer.param_groups for p in g["params"]}
            fresh = [p for p in new if id(p) not in held and p.requires_grad]
            rest = [p for p in group["params"] if id(p) not in gone]
            at = places[0]
            group["params"] = [*rest[:at], *fresh, *rest[at:]]
            break
        for p in old:
            optimizer.state.pop(p, None)
