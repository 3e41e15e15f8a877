"""join_norms: layers in Tucker form together with the batch norms after them."""

from __future__ import annotations

import copy

from torch import nn

from ..nn.tucker import TuckerConv2d
from ..nn.tucker_norm import TuckerNorm2d


def join_norms(model: nn.Module, inplace: bool = False) -> tuple[nn.Module, int]:
    """The model with a `TuckerNorm2d` for each TuckerConv2d that a BatchNorm2d follows directly in a Sequential.

    The same function and the same parameters, which any optimiser keeps; in training on a CPU faster, in channels_last.
    Call it after `decompose` or `to_tucker`. A joined pair stands in the place of its convolution, and an Identity in
    that of its batch norm, so that other layers keep their names; in a state_dict the pair's are 0. and 1. below it.

    Args:
        model: any module. inplace: change `model` itself; else a copy.

    Returns: (model, the number of pairs).
    Raises: TypeError for anything but a module.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"join_norms: model must be a torch.nn.Module, got {type(model).__name__}")
    model = model if inplace else copy.deepcopy(model)
    pairs = 0
    for row in [m for m in model.modules() if isinstance(m, nn.Sequential) and not isinstance(m, TuckerNorm2d)]:
        for i, (conv, norm) in enumerate(zip(list(row), list(row)[1:], strict=False)):
            if isinstance(conv, TuckerConv2d) and type(norm) is nn.BatchNorm2d:
                row[i], row[i + 1] = TuckerNorm2d(conv, norm), nn.Identity()
                pairs += 1
    return model, pairs
