"""Wrong arguments of the convolutions of branches and of the product along a dimension: a row for each message."""

from __future__ import annotations

import torch
from samples import T
from wrong_samples import ALL_KINDS, COMPLEX_NAMES, NAMES, SINGLE, Wrong

I64, F64, HALF, C64 = torch.int64, torch.float64, torch.bfloat16, torch.complex64
_B, _L = T((3, 6)), T((3, 3))
# branches: Q' = 3, C/Q = 4, O/Q = 6, images of 5 x 7, windows of 3 x 2
_IMAGES, _KERNEL, _ONE, _NONE = T((2, 3, 4, 5, 7)), T((3, 6, 4, 3, 2)), [1, 1], [0, 0]
_BRANCH_CONV = [
    (ValueError, "x must be (N, Q', C/Q, H, W), got (3, 4, 5, 7)", T((3, 4, 5, 7)), _KERNEL, _B),
    (
        ValueError, "weight must be (Q', O/Q, C/Q, kh, kw) with Q' = 3 and C/Q = 4 as in x, got (3, 6, 5, 3, 2)",
        _IMAGES, T((3, 6, 5, 3, 2)), _B,
    ),
    (TypeError, f"x must be {ALL_KINDS}, got torch.int64", T((2, 3, 4, 5, 7), dtype=I64), _KERNEL, _B),
    (
        TypeError, "x must be float32 or float64 where weight is complex, got torch.bfloat16",
        T((2, 3, 4, 5, 7), dtype=HALF), T((3, 6, 4, 3, 2), dtype=C64), _B,
    ),
]  # fmt: skip
_CHANNELS = T((2, 12, 5, 7))
_SPECTRAL_CONV = [
    (ValueError, "x must be (N, C, H, W), got (2, 3, 4, 5, 7)", _IMAGES, _L, _KERNEL, _L),
    (
        ValueError, "transform must be (Q', Q) with Q a divisor of C = 13 as in x, got (3, 3)",
        T((2, 13, 5, 7)), _L, _KERNEL, _L,
    ),
    (
        ValueError, "weight must be (Q', O/Q, C/Q, kh, kw) with Q' = 3 as in transform and C/Q = 4 as in x, "
        "got (3, 6, 3, 3, 2)", _CHANNELS, _L, T((3, 6, 3, 3, 2)), _L,
    ),
    (
        ValueError, "inverse must be (Q, Q') with Q = 3 and Q' = 3 as in transform, got (2, 3)",
        _CHANNELS, _L, _KERNEL, T((2, 3)),
    ),
    (TypeError, f"inverse must be {SINGLE} as x, got torch.float64", _CHANNELS, _L, _KERNEL, T((3, 3), dtype=F64)),
]  # fmt: skip
_CONV = [  # of both: what follows the images and the matrices
    (
        ValueError, "weight must be (Q', O/Q, C/Q, kh, kw), each at least 1, got (3, 0, 4, 3, 2)",
        T((3, 0, 4, 3, 2)), None, "none",
    ),
    (ValueError, "bias must be (Q', O/Q) with Q' = 3 and O/Q = 6 as in weight, got (6,)", _KERNEL, T((6,)), "none"),
    (ValueError, "stride must be two ints of at least 1, got [1, 0]", _KERNEL, _B, "none", [1, 0]),
    (ValueError, "padding must be two ints of at least 0, got [-1, 0]", _KERNEL, _B, "none", _ONE, [-1, 0]),
    (ValueError, "dilation must be two ints of at least 1, got [0, 1]", _KERNEL, _B, "none", _ONE, _NONE, [0, 1]),
    (
        ValueError, "x must be at least 9 x 2 pixels with its padding, as weight and dilation, got 7 x 7",
        _KERNEL, _B, "none", _ONE, [1, 0], [4, 1],
    ),
    (ValueError, f"activation must be one of {NAMES}, got 'elu'", _KERNEL, _B, "elu"),
    (
        ValueError, f"activation must be, for complex numbers, one of {COMPLEX_NAMES}, got 'relu'",
        T((3, 6, 4, 3, 2), dtype=C64), _B, "relu",
    ),
    (TypeError, f"weight must be {SINGLE} as x, got torch.float64", T((3, 6, 4, 3, 2), dtype=F64), _B, "none"),
    (TypeError, "bias must be on cpu as x, got meta", _KERNEL, T((3, 6), device="meta"), "none"),
]  # fmt: skip
_PRODUCT = [
    (ValueError, "dim must be in [-2, 1] for x with 2 dimensions, got 2", T((2, 3)), _L, 2),
    (ValueError, "dim must be in [0, -1] for x with 0 dimensions, got 0", T(()), _L, 0),
    (ValueError, "matrix must be (Q', Q) with Q = 2 as x along dim 0, got (3, 3)", T((2, 3)), _L, 0),
    (TypeError, "matrix must be torch.float32 as x, got torch.float64", T((2, 3)), T((3, 3), dtype=F64), 1),
]


# ---- branch_conv2d_backward: grad_y, x, weight ---------------------------------------------------------------------
_GRAD = T((2, 3, 6, 3, 6))
_BACKWARD = [
    (
        ValueError, "grad_y must be (N, Q', O/Q, H', W') = (2, 3, 6, 3, 6), got (2, 3, 6, 3, 5)",
        T((2, 3, 6, 3, 5)), _IMAGES, _KERNEL,
    ),
    (ValueError, "x must be (N, Q', C/Q, H, W), got (2, 3, 4)", _GRAD, T((2, 3, 4)), _KERNEL),
    (
        TypeError, "grad_y must be torch.float32 as the result, got torch.float64",
        T(_GRAD.shape, dtype=F64), _IMAGES, _KERNEL,
    ),
    (TypeError, "grad_y must be on cpu as the result, got meta", T(_GRAD.shape, device="meta"), _IMAGES, _KERNEL),
]  # fmt: skip


def rows() -> list[Wrong]:
    """Of the ops."""
    rows: list[Wrong] = []
    rows += [Wrong("mode_product", error, text, tuple(args)) for error, text, *args in _PRODUCT]
    rows += [Wrong("branch_conv2d", error, text, tuple(args)) for error, text, *args in _BRANCH_CONV]
    rows += [Wrong("branch_conv2d_backward", error, text, tuple(args)) for error, text, *args in _BACKWARD]
    for error, text, x, transform, weight, inverse in _SPECTRAL_CONV:
        rows.append(Wrong("spectral_conv2d", error, text, (x, transform, weight, _B, "none", inverse)))
    for error, text, weight, bias, act, *geometry in _CONV:
        rows.append(Wrong("branch_conv2d", error, text, (_IMAGES, weight, bias, act, *geometry)))
        rows.append(Wrong("spectral_conv2d", error, text, (_CHANNELS, _L, weight, bias, act, _L, *geometry)))
    return rows
