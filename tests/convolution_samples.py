"""Rows of right arguments for the convolutions of branches and the product along a dimension; see `samples.py`."""

from __future__ import annotations

from samples import Sample, T, make_row

from spectral_ops.ops.checks import convolved

# ---- branch_conv2d, spectral_conv2d: N, Q, Q', C/Q, O/Q, (H, W), kernel, matrix, bias, activation, geometry --------
# geometry: stride, padding, dilation
_PLAIN = ((1, 1), (0, 0), (1, 1))
_CONVOLUTIONS = [
    (8, 4, 4, 4, 4, (12, 12), (3, 3), "dct2", True, "relu", ((1, 1), (1, 1), (1, 1))),
    (2, 4, 4, 16, 9, (8, 7), (3, 3), "random", True, "none", _PLAIN),
    (1, 1, 1, 1, 1, (1, 1), (1, 1), "identity", True, "none", _PLAIN),
    (3, 8, 8, 1, 2, (9, 10), (3, 2), "dct3", False, "tanh", ((2, 1), (0, 2), (1, 2))),
    (0, 2, 2, 3, 4, (5, 5), (3, 3), "dct2", True, "relu", _PLAIN),
    (2, 3, 5, 2, 7, (6, 9), (1, 3), "random", True, "silu", ((1, 3), (0, 1), (1, 1))),
    (5, 2, 2, 33, 31, (7, 5), (5, 5), "random", True, "gelu", ((2, 2), (2, 2), (1, 1))),
    (2, 6, 3, 8, 5, (11, 6), (2, 2), "near_dct", False, "sigmoid", ((3, 2), (1, 0), (4, 3))),
    (1, 16, 16, 3, 3, (6, 6), (1, 1), "dct2", True, "none", ((2, 2), (0, 0), (1, 1))),
    (3, 70, 70, 1, 1, (4, 4), (3, 3), "random", True, "relu", _PLAIN),
    (1, 2, 2, 1, 1, (4, 3), (2, 2), "dct2", True, "none", ((1, 1), (1, 0), (1, 1))),
    (2, 2, 3, 1, 1, (3, 3), (3, 2), "random", True, "tanh", ((2, 1), (1, 1), (1, 2))),
    (1, 2, 2, 2, 1, (2, 3), (1, 2), "random", False, "gelu", _PLAIN),
]
# ---- mode_product: shape, dim, Q', matrix --------------------------------------------------------------------------
_PRODUCTS = [
    ((64, 28, 28), 1, 28, "dct2"),
    ((3, 5, 7, 4), 3, 4, "random"),
    ((2, 9, 3, 5), 1, 9, "dct3"),
    ((6, 16, 16), 1, 16, "near_dct"),
    ((21, 8), 0, 3, "random"),
    ((2, 70, 3), -2, 70, "random"),
    ((7, 33, 31), -2, 33, "random"),
    ((0, 4, 3), 1, 4, "identity"),
    ((17, 10, 13, 2), 1, 10, "dct2"),
    ((13,), 0, 13, "random"),
    ((2, 3, 4), 1, 3, "dct2"),
    ((3, 2, 2), 0, 3, "random"),
    ((2, 3), -1, 3, "random"),
]


def rows() -> list[Sample]:
    rows = []
    for shape, dim, p, matrix in _PRODUCTS:
        words = ("x".join(map(str, shape)), dim, f"to{p}", matrix)
        rows.append(make_row("mode_product", [T(shape), T((p, shape[dim]), matrix), dim], *words))
    for n, q, p, i, o, image, kernel, matrix, bias, act, geometry in _CONVOLUTIONS:
        sizes = (f"N{n}-Q{q}to{p}-I{i}-O{o}", *("x".join(map(str, pair)) for pair in (image, kernel, *geometry)))
        layer = [T((p, o, i, *kernel), "filter"), T((p, o), "bias") if bias else None, act]
        geometry = [list(pair) for pair in geometry]
        words = (*sizes, matrix, "b" if bias else "0", act)
        rows.append(make_row("branch_conv2d", [T((n, p, i, *image)), *layer, *geometry], *words))
        result = convolved(image, kernel, *geometry)
        wants = (o != 9, o != 7)  # once without each gradient
        grads = [T((n, p, o, *result)), T((n, p, i, *image)), layer[0], *geometry, *wants]
        rows.append(make_row("branch_conv2d_backward", grads, *sizes, f"x{wants[0]:d}w{wants[1]:d}"))
        args = [T((n, q * i, *image)), T((p, q), matrix), *layer, T((q, p), matrix), *geometry]
        rows.append(make_row("spectral_conv2d", args, *words))
    return rows
