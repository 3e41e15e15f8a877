"""The calls that `benchmarks/resources.py` compiles: for each Triton kernel the ops that launch it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from spectral_ops.ops.csg_kernels import slices_of

from .filters import CODE, SLICE, resnet56

Q, N = 28, 4096  # branches and samples, of which the tiles do not depend


def _empty(*shape: int, dtype: torch.dtype) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def _to_branches(width: int, dtype: torch.dtype) -> list[Any]:
    return [_empty(N, width, width, dtype=dtype), _empty(width, width, dtype=dtype)]


def _along(dim: int) -> Callable[[int, torch.dtype], list[Any]]:
    return lambda width, dtype: [_empty(N, width, width, dtype=dtype), 2, dim, "ortho", False, True]


def _blocks(width: int, dtype: torch.dtype) -> list[Any]:
    """Of images: the planes of blocks that lie side by side."""
    x = _empty(4, 64, width, 64, width, dtype=dtype)
    return [x, [2, 4], 2, "ortho", False, False, False, False]


def _branch_linear(width: int, dtype: torch.dtype) -> list[Any]:
    tensors = ((Q, N, width), (Q, width, width), (Q, width))
    return [*(_empty(*shape, dtype=dtype) for shape in tensors), "crelu" if dtype.is_complex else "gelu"]


def _network(width: int, dtype: torch.dtype, transform: bool = True) -> list[Any]:
    """Of eight layers; a kernel's registers do not hang on how many there are."""
    x, matrix = ((N, width, Q), (Q, Q)) if transform else ((Q, N, width), None)
    name = "cardioid" if dtype.is_complex else "gelu"
    return [
        _empty(*x, dtype=dtype),
        None if matrix is None else _empty(*matrix, dtype=dtype),
        [_empty(Q, width, width, dtype=dtype) for _ in range(8)],
        [_empty(Q, width, dtype=dtype) for _ in range(8)],
        [name] * 7 + ["none"],
    ]


def _cross_entropy(width: int, dtype: torch.dtype) -> list[Any]:
    return [*_network(width, dtype), torch.empty(N, dtype=torch.int64, device="meta")]


def _ensemble(width: int, dtype: torch.dtype) -> list[Any]:
    return [*_network(width, dtype), _empty(Q, dtype=dtype.to_real()), "probabilities"]


def _ensemble_backward(width: int, dtype: torch.dtype) -> list[Any]:
    return [_empty(N, width, dtype=dtype.to_real()), *_ensemble(width, dtype), True]


def _mixture(width: int, dtype: torch.dtype) -> list[Any]:
    return [_empty(Q, N, width, dtype=dtype), _empty(Q, dtype=dtype.to_real()), "probabilities"]


def _backward(width: int, dtype: torch.dtype) -> list[Any]:
    x, _, *layers = _network(width, dtype, False)
    return [_empty(Q, N, width, dtype=dtype), x, *layers, True]


def _with_grads(width: int, dtype: torch.dtype) -> list[Any]:
    return [*_cross_entropy(width, dtype), True]


def _layer_by_layer(width: int, dtype: torch.dtype) -> list[Any]:
    """Past one kernel, two layers, each with an activation before and after."""
    grad, x, weights, biases, *_ = _backward(max(width, 128), dtype)
    return [grad, x, weights[:2], biases[:2], ["modrelu" if dtype.is_complex else "gelu"] * 2, True]


def _classes(width: int, dtype: torch.dtype) -> list[Any]:
    """Past one kernel, so many classes."""
    x, matrix, weights, biases, names, *rest = _with_grads(128, dtype)
    weights, biases = [weights[0], _empty(Q, width, 128, dtype=dtype)], [biases[0], _empty(Q, width, dtype=dtype)]
    return [x, matrix, weights, biases, names[-2:], *rest]


def _mixture_backward(width: int, dtype: torch.dtype) -> list[Any]:
    return [_empty(N, width, dtype=dtype.to_real()), *_mixture(width, dtype)]


def _spectral_linear(width: int, dtype: torch.dtype) -> list[Any]:
    name = "cardioid" if dtype.is_complex else "gelu"
    x, matrix = _empty(N, width, Q, dtype=dtype.to_real()), _empty(Q, Q, dtype=dtype)
    return [x, matrix, _empty(Q, width, width, dtype=dtype), _empty(Q, width, dtype=dtype), name, matrix, "none"]


def _recurrent(width: int, dtype: torch.dtype) -> list[Any]:
    weights = [_empty(Q, width, width, dtype=dtype) for _ in range(3)]
    x, state = _empty(28, Q, N, width, dtype=dtype), _empty(Q, N, width, dtype=dtype)
    name = "modrelu" if dtype.is_complex else "tanh"
    return [x, *weights, _empty(Q, width, dtype=dtype), state, name, "none", None]


def _recurrent_backward(width: int, dtype: torch.dtype) -> list[Any]:
    width = min(width, 64)  # what the states may have
    x, *weights, state, _, _, lengths = _recurrent(width, dtype)
    names = ["cardioid", "modrelu"] if dtype.is_complex else ["gelu", "tanh"]
    return [x, state, x, x, *weights, state, x, *names, lengths, True]


def _convolution(width: int, dtype: torch.dtype) -> list[Any]:
    channels, name = min(width, 64), "modrelu" if dtype.is_complex else "gelu"
    layer = [_empty(4, channels, channels, 3, 3, dtype=dtype), _empty(4, channels, dtype=dtype), name]
    return [_empty(32, 4, channels, 32, 32, dtype=dtype), *layer, (1, 1), (1, 1), (1, 1)]


def _strided_backward(width: int, dtype: torch.dtype) -> list[Any]:
    """In channels_last, stride 2."""
    x, weight, *_ = _convolution(width, dtype)
    images = x.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
    return [x[..., ::2, ::2].contiguous(), images, weight, (2, 2), (1, 1), (1, 1), True, True]


def _csg(width: int, dtype: torch.dtype) -> list[Any]:
    """The 54 generated filters of a ResNet-56."""
    shapes = [n for shape, _ in slices_of(resnet56()[0], SLICE) for n in shape]
    codes = _empty(368, CODE, dtype=dtype)
    return [codes, _empty(math.prod(SLICE), CODE, dtype=dtype), shapes, SLICE, "block", True]


def _csg_backward(width: int, dtype: torch.dtype) -> list[Any]:
    args = _csg(width, dtype)
    grads = [_empty(o, kh, kw, i, dtype=dtype) for (o, i, kh, kw), _ in slices_of(args[2], SLICE)]
    return [grads, *args, True, True]


def _tucker(rank: int, dtype: torch.dtype) -> list[Any]:
    """256 channels of 56 x 56 pixels in channels_last, 3 x 3, padded."""
    x = _empty(64, 256, 56, 56, dtype=dtype).contiguous(memory_format=torch.channels_last)
    tensors = [_empty(*shape, dtype=dtype) for shape in ((rank, rank, 3, 3), (256, rank), (256, rank), (256,))]
    return [x, *tensors, [1, 1], [1, 1], [1, 1], None, None, 1]


def _tucker_backward(rank: int, dtype: torch.dtype) -> list[Any]:
    """The gradients of a K-step beside that of x."""
    x, _, *factors, _, stride, padding, dilation, _, _, _ = _tucker(rank, dtype)
    core = _empty(1, 3, 3, rank, rank, dtype=dtype)
    return [x, x, core, *factors, stride, padding, dilation, True, core, core]


def _csg_conv2d(width: int, dtype: torch.dtype) -> list[Any]:
    """Wide filters on small images, and narrow ones on images for a persistent kernel."""
    n, size = (8, 8) if width > 64 else (128, 32)
    x = _empty(n, width, size, size, dtype=dtype).contiguous(memory_format=torch.channels_last)
    codes = _empty((width // 16) ** 2, CODE, dtype=dtype)
    geometry = ([1, 1], [1, 1], [1, 1], "block", 1)
    return [x, codes, _empty(math.prod(SLICE), CODE, dtype=dtype), [width, width, 3, 3], SLICE, None, *geometry]


def _csg_conv2d_backward(width: int, dtype: torch.dtype) -> list[Any]:
    x, *args = _csg_conv2d(width, dtype)
    return [x, x, *args[:4], *args[5:], True, True, True]


Make = Callable[[int, torch.dtype], list[Any]]
CASES: dict[str, list[tuple[str, Make]]] = {
    "tubes": [("to_branches", _to_branches), ("dst", _along(1))],
    "planes": [("dctn", _blocks)],
    "branch_linear": [("branch_linear", _branch_linear)],
    "network": [
        ("spectral_mlp", _network),
        ("spectral_mlp_cross_entropy", _cross_entropy),
        ("spectral_ensemble", _ensemble),
    ],
    "network_gradients": [
        ("branch_mlp_backward", _backward),
        ("spectral_mlp_cross_entropy_with_grads", _with_grads),
        ("spectral_ensemble_backward", _ensemble_backward),
    ],
    "layer": [("branch_mlp_backward", _layer_by_layer), ("branch_rnn_backward", _recurrent_backward)],
    "weights": [("branch_mlp_backward", _layer_by_layer), ("branch_rnn_backward", _recurrent_backward)],
    "branch_conv2d": [("branch_conv2d", _convolution), ("branch_conv2d_backward", _strided_backward)],
    "conv2d_weights": [("branch_conv2d_backward", _strided_backward)],
    "spectral_linear": [("spectral_linear", _spectral_linear)],
    "branch_rnn": [("branch_rnn_with_states", _recurrent)],
    "branch_rnn_backward": [("branch_rnn_backward", _recurrent_backward)],
    "tucker_conv2d": [("tucker_conv2d", _tucker)],
    "tucker_conv2d_backward": [("tucker_conv2d_backward", _tucker_backward)],
    "branch_ensemble": [
        ("branch_ensemble", _mixture),
        ("branch_ensemble_backward", _mixture_backward),
        ("spectral_mlp_cross_entropy_with_grads", _classes),
    ],
    "csg_kernels": [("csg_kernels", _csg)],
    "csg_conv2d": [("csg_conv2d", _csg_conv2d), ("csg_conv2d_backward", _csg_conv2d_backward)],
    "csg_conv2d_persistent": [("csg_conv2d", _csg_conv2d), ("csg_conv2d_backward", _csg_conv2d_backward)],
    "csg_conv2d_codes": [("csg_conv2d_backward", _csg_conv2d_backward)],
    "csg_conv2d_generator": [("csg_conv2d_backward", _csg_conv2d_backward)],
    "csg_codes": [("csg_kernels_backward", _csg_backward)],
    "csg_generator": [("csg_kernels_backward", _csg_backward)],
    "sums": [("branch_mlp_backward", _backward), ("spectral_ensemble", _ensemble)],
}
