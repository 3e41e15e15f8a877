"""Wrong arguments of generated filters and their convolutions: a row for each message."""

from __future__ import annotations

from typing import Any

import torch
from samples import T
from wrong_samples import KINDS, Wrong

I64, F64, I8 = torch.int64, torch.float64, torch.int8
# two layers of 3 + 2 slices (2, 2, 1, 1), n_c = 3
_CODES, _GENERATOR, _SHAPES, _SLICE = T((5, 3)), T((4, 3)), [5, 2, 1, 1, 2, 3, 1, 1], [2, 2, 1, 1]
_ONE = [5, 2, 1, 1]


def _layers() -> list[tuple[Any, ...]]:
    """What all ops check: (error, text, codes, generator, kernel shapes, slice shape, layout) of two layers."""
    return [
        (
            ValueError, "slice_shape must be four ints (F, K, h, w) of at least 1, got [2, 0, 1, 1]",
            _CODES, _GENERATOR, _SHAPES, [2, 0, 1, 1], "block",
        ),
        (
            ValueError, "generator must be (F K h w, n_c) with F K h w = 4 as slice_shape, got (5, 3)",
            _CODES, T((5, 3)), _SHAPES, _SLICE, "block",
        ),
        (ValueError, "layout must be one of block, flat, got 'tile'", _CODES, _GENERATOR, _SHAPES, _SLICE, "tile"),
        (
            TypeError, f"codes must be {KINDS}, got torch.int64",
            T((5, 3), dtype=I64), _GENERATOR, _SHAPES, _SLICE, "flat",
        ),
        (
            TypeError, "generator must be torch.float32 as codes, got torch.float64",
            _CODES, T((4, 3), dtype=F64), _SHAPES, _SLICE, "block",
        ),
        (
            TypeError, "generator must be on cpu as codes, got meta",
            _CODES, T((4, 3), dtype=I8, device="meta"), _SHAPES, _SLICE, "block",
        ),
    ]  # fmt: skip


_KERNELS = [
    *_layers(),
    (
        ValueError, "kernel_shapes must hold four ints (O, I, kh, kw) of at least 1 for each layer, got [5, 2, 1]",
        _CODES, _GENERATOR, [5, 2, 1], _SLICE, "block",
    ),
    (
        ValueError, "kernel_shapes must hold four ints (O, I, kh, kw) of at least 1 for each layer, got []",
        _CODES, _GENERATOR, [], _SLICE, "block",
    ),
    (
        ValueError, "codes must be (S, n_c) with S = 5 slices and n_c = 3 as in generator, got (4, 3)",
        T((4, 3)), _GENERATOR, _SHAPES, _SLICE, "block",
    ),
    (
        ValueError, "codes must be (S, n_c) with S = 5 slices and n_c = 3 as in generator, got (5, 2)",
        T((5, 2)), _GENERATOR, _SHAPES, _SLICE, "block",
    ),
]  # fmt: skip
_G0, _G1 = T((5, 2, 1, 1)), T((2, 3, 1, 1))
_BACKWARD = [
    (ValueError, "grads must have one entry per layer, 2, got 1", [_G0], _CODES, _GENERATOR, False, True),
    (
        ValueError, "grads[1] must be (O, I, kh, kw) = (2, 3, 1, 1) as kernel_shapes, got (2, 2, 1, 1)",
        [_G0, T((2, 2, 1, 1))], _CODES, _GENERATOR, False, True,
    ),
    (
        ValueError, "grads[0] must be (O, kh, kw, I) = (5, 1, 1, 2) as kernel_shapes, got (5, 2, 1, 1)",
        [_G0, None], _CODES, _GENERATOR, True, True,
    ),
    (
        TypeError, "grads[1] must be torch.float32 as codes, got torch.float64",
        [_G0, T((2, 3, 1, 1), dtype=F64)], _CODES, _GENERATOR, False, True,
    ),
    (
        TypeError, "generator must be torch.float32 where its gradient is wanted, got torch.int8",
        [_G0, _G1], _CODES, T((4, 3), dtype=I8), False, True,
    ),
]  # fmt: skip
_X = T((2, 2, 4, 6))
_CONV = [  # x, bias, stride, padding, dilation, groups
    (ValueError, "x must be (N, C, H, W), got (2, 4, 6)", T((2, 4, 6)), None, [1, 1], [0, 0], [1, 1], 1),
    (
        ValueError, "x must be (N, C, H, W) with C = 2 = groups I as in kernel_shape, got (2, 3, 4, 6)",
        T((2, 3, 4, 6)), None, [1, 1], [0, 0], [1, 1], 1,
    ),
    (ValueError, "groups must be a divisor of O = 5 as in kernel_shape, got 2", _X, None, [1, 1], [0, 0], [1, 1], 2),
    (ValueError, "groups must be a divisor of O = 5 as in kernel_shape, got 0", _X, None, [1, 1], [0, 0], [1, 1], 0),
    (ValueError, "bias must be (O,) with O = 5 as in kernel_shape, got (2,)", _X, T((2,)), [1, 1], [0, 0], [1, 1], 1),
    (ValueError, "stride must be two ints of at least 1, got [1, 0]", _X, None, [1, 0], [0, 0], [1, 1], 1),
    (
        ValueError, "x must be at least 1 x 1 pixels with its padding, as kernel_shape and dilation, got 0 x 6",
        T((2, 2, 0, 6)), None, [1, 1], [0, 0], [1, 1], 1,
    ),
    (
        TypeError, "codes must be torch.float64 as x, got torch.float32",
        T((2, 2, 4, 6), dtype=F64), None, [1, 1], [0, 0], [1, 1], 1,
    ),
    (
        TypeError, "bias must be torch.float32 as x, got torch.float64",
        _X, T((5,), dtype=F64), [1, 1], [0, 0], [1, 1], 1,
    ),
]  # fmt: skip

_PLAIN = ([1, 1], [0, 0], [1, 1])
_CONV_BACKWARD = [  # grad_y, generator, geometry, want_generator
    (
        ValueError, "grad_y must be (N, O, H', W') = (2, 5, 4, 6) as the convolution's result, got (2, 2, 4, 6)",
        T((2, 2, 4, 6)), _GENERATOR, _PLAIN, True,
    ),
    (
        ValueError, "grad_y must be (N, O, H', W') = (2, 5, 2, 3) as the convolution's result, got (2, 5, 4, 6)",
        T((2, 5, 4, 6)), _GENERATOR, ([2, 2], [0, 0], [1, 1]), True,
    ),
    (
        TypeError, "grad_y must be torch.float32 as x, got torch.float64",
        T((2, 5, 4, 6), dtype=F64), _GENERATOR, _PLAIN, True,
    ),
    (
        TypeError, "generator must be torch.float32 where its gradient is wanted, got torch.int8",
        T((2, 5, 4, 6)), T((4, 3), dtype=I8), _PLAIN, True,
    ),
]  # fmt: skip


def rows() -> list[Wrong]:
    rows = []
    for error, text, *args in _KERNELS:
        rows.append(Wrong("csg_kernels", error, text, (*args, False)))
        given = ([_G0, _G1], *args, False, True, False)
        rows.append(Wrong("csg_kernels_backward", error, text, given, named="csg_kernels"))
    for error, text, grads, codes, generator, last, want in _BACKWARD:
        args = (grads, codes, generator, _SHAPES, _SLICE, "block", last, True, want)
        rows.append(Wrong("csg_kernels_backward", error, text, args))
    single = T((3, 3))
    must = "kernel_shape must be four ints (O, I, kh, kw) of at least 1, got [5, 2, 1, 0]"
    for op in ("csg_kernel", "csg_conv2d"):
        front = (_X,) if op == "csg_conv2d" else ()
        rows.append(Wrong(op, ValueError, must, (*front, single, _GENERATOR, [5, 2, 1, 0], _SLICE)))
        for error, text, codes, generator, _, step, layout in _layers():
            one = T((3, 3), dtype=codes.dtype)
            tail = (None, [1, 1], [0, 0], [1, 1], layout, 1) if front else (layout, False)
            rows.append(Wrong(op, error, text, (*front, one, generator, _ONE, step, *tail)))
    for error, text, x, bias, *geometry, groups in _CONV:
        args = (x, single, _GENERATOR, _ONE, _SLICE, bias, *geometry, "block", groups)
        rows.append(Wrong("csg_conv2d", error, text, args))
    for error, text, grad, generator, geometry, want in _CONV_BACKWARD:
        args = (grad, _X, single, generator, _ONE, _SLICE, *geometry, "block", 1, True, True, want)
        rows.append(Wrong("csg_conv2d_backward", error, text, args))
    for error, text, *call in _CONV[:2]:
        args = (T((2, 5, 4, 6)), call[0], single, _GENERATOR, _ONE, _SLICE, *call[2:5], "block", 1)
        rows.append(Wrong("csg_conv2d_backward", error, text, args, named="csg_conv2d"))
    return rows
