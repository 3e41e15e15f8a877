"""Rows of right arguments for generated filters and their convolutions; see `samples.py`."""

from __future__ import annotations

import math

import torch
from samples import Sample, T, make_row

# ---- csg_kernels, csg_kernels_backward: kernel shapes, slice shape, n_c, layout, channels_last, signs --------------
_KERNELS = [
    ([(16, 16, 3, 3), (32, 16, 3, 3), (32, 32, 3, 3)], (16, 16, 3, 3), 128, "block", True, False),
    ([(16, 16, 3, 3), (32, 16, 3, 3), (32, 32, 3, 3)], (16, 16, 3, 3), 128, "block", False, False),
    ([(16, 16, 3, 3), (64, 16, 3, 3)], (16, 16, 3, 3), 37, "flat", False, False),
    ([(48, 24, 3, 3), (33, 17, 3, 3)], (12, 12, 3, 3), 72, "block", True, True),
    ([(33, 17, 3, 3), (5, 7, 1, 1), (3, 9, 5, 5)], (12, 12, 3, 3), 29, "block", False, False),
    ([(33, 17, 3, 3), (5, 7, 1, 1), (3, 9, 5, 5)], (12, 12, 3, 3), 29, "block", True, False),
    ([(33, 17, 3, 3), (3, 9, 5, 5)], (12, 12, 3, 3), 57, "flat", True, True),
    ([(33, 17, 3, 3), (5, 7, 1, 1)], (12, 12, 3, 3), 30, "flat", False, False),
    ([(96, 16, 1, 1), (40, 24, 1, 1)], (16, 16, 1, 1), 16, "block", True, False),
    ([(7, 5, 2, 3), (1, 1, 1, 1)], (3, 2, 2, 1), 1, "block", False, True),
    ([(70, 1, 3, 3)], (2, 1, 3, 3), 300, "block", False, False),
    ([(2, 2, 2, 2), (1, 1, 1, 1)], (2, 1, 2, 2), 2, "block", False, False),
    ([(3, 2, 1, 2)], (2, 2, 1, 1), 2, "block", True, False),
    ([(3, 2, 1, 2)], (2, 1, 1, 2), 3, "flat", True, False),
    ([(2, 3, 1, 1)], (2, 2, 1, 1), 2, "flat", False, True),
]
# ---- csg_conv2d: N, groups, kernel shape, (H, W), slice shape, n_c, bias, stride, padding, dilation, layout, signs -
_CONVOLUTIONS = [
    (4, 1, (16, 16, 3, 3), (8, 8), (16, 16, 3, 3), 32, True, ((1, 1), (1, 1), (1, 1)), "block", False),
    (2, 1, (24, 20, 3, 3), (9, 7), (12, 12, 3, 3), 19, False, ((2, 1), (1, 0), (1, 2)), "block", False),
    (2, 4, (8, 3, 3, 3), (6, 5), (2, 3, 3, 3), 5, True, ((1, 1), (1, 1), (1, 1)), "block", False),
    (3, 1, (10, 5, 1, 1), (4, 4), (4, 4, 1, 1), 3, True, ((1, 1), (0, 0), (1, 1)), "flat", True),
    (0, 1, (4, 4, 3, 3), (5, 5), (4, 4, 3, 3), 3, True, ((1, 1), (1, 1), (1, 1)), "block", False),
    (1, 1, (1, 1, 1, 1), (1, 1), (1, 1, 1, 1), 1, False, ((1, 1), (0, 0), (1, 1)), "flat", False),
    (2, 6, (6, 1, 5, 5), (7, 8), (6, 1, 5, 5), 4, True, ((2, 2), (2, 2), (1, 1)), "block", True),
    (2, 1, (7, 9, 2, 3), (8, 9), (3, 4, 3, 3), 11, True, ((1, 2), (0, 3), (3, 1)), "flat", False),
    (1, 1, (2, 2, 2, 2), (4, 3), (2, 1, 2, 2), 2, True, ((1, 1), (1, 0), (1, 1)), "block", False),
    (2, 2, (2, 1, 2, 1), (3, 3), (1, 1, 2, 1), 3, False, ((2, 1), (1, 1), (1, 2)), "block", False),
    (1, 1, (3, 2, 1, 1), (2, 3), (2, 2, 1, 1), 2, True, ((1, 1), (0, 0), (1, 1)), "flat", True),
    (1, 1, (80, 71, 1, 1), (2, 2), (16, 16, 1, 1), 3, True, ((1, 1), (0, 0), (1, 1)), "block", False),
    (1, 1, (15, 29, 1, 2), (2, 3), (8, 16, 1, 2), 3, True, ((1, 1), (0, 0), (1, 1)), "flat", False),
]


def _generator(slice_shape: tuple[int, ...], size: int, signs: bool) -> T:
    shape = (math.prod(slice_shape), size)
    return T(shape, "sign", torch.int8) if signs else T(shape, "weight")


def _slices(kernel: tuple[int, ...], slice_shape: tuple[int, ...]) -> int:
    return math.prod(-(-a // b) for a, b in zip(kernel, slice_shape, strict=True))


def _by(*sizes: tuple[int, ...]) -> list[str]:
    return ["x".join(map(str, size)) for size in sizes]


def rows() -> list[Sample]:
    rows = []
    for kernels, step, size, layout, channels_last, signs in _KERNELS:
        codes, generator = T((sum(_slices(k, step) for k in kernels), size)), _generator(step, size, signs)
        words = (*_by(*kernels, step), size, layout, "last" if channels_last else "first", "signs" if signs else "real")
        tail = [codes, generator, [n for k in kernels for n in k], list(step), layout, channels_last]
        rows.append(make_row("csg_kernels", tail, *words))
        if len(kernels) == 1 or signs:
            one = [T((_slices(kernels[0], step), size)), generator, list(kernels[0]), list(step), layout, channels_last]
            rows.append(make_row("csg_kernel", one, *words))
        order = (0, 2, 3, 1) if channels_last else (0, 1, 2, 3)
        grads: list[T | None] = [T(tuple(k[d] for d in order)) for k in kernels]
        for want_codes, want_generator in ((True, False),) if signs else ((True, True), (False, True), (True, False)):
            args = [list(grads), *tail, want_codes, want_generator]
            rows.append(make_row("csg_kernels_backward", args, *words, f"c{want_codes:d}g{want_generator:d}"))
            if len(grads) > 1:
                grads[1] = None  # a layer that no loss depends on
    for number, (n, groups, kernel, image, step, size, bias, geometry, layout, signs) in enumerate(_CONVOLUTIONS):
        o, i = kernel[:2]
        codes, generator = T((_slices(kernel, step), size)), _generator(step, size, signs)
        if not number:
            rows.append(make_row("csg_kernel", [codes, generator, list(kernel), list(step), layout, True], "first"))
        words = (f"N{n}-G{groups}", *_by(image, kernel, step), size, "b" if bias else "0", *_by(*geometry), layout)
        args = [
            T((n, i * groups, *image)),
            codes,
            generator,
            list(kernel),
            list(step),
            T((o,), "bias") if bias else None,
        ]
        args += [*(list(pair) for pair in geometry), layout, groups]
        rows.append(make_row("csg_conv2d", args, *words, "signs" if signs else "real"))
        sizes = [
            (s + 2 * p - d * (k - 1) - 1) // t + 1 for s, k, t, p, d in zip(image, kernel[2:], *geometry, strict=True)
        ]
        wants = [number % 3 != 1, number % 4 != 1, not signs and number % 5 != 3]
        rows.append(make_row("csg_conv2d_backward", [T((n, o, *sizes)), *args[:5], *args[6:], *wants], *words, *wants))
    return rows
