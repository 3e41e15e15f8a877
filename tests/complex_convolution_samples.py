"""Rows of complex arguments for the convolutions of branches; see `complex_samples.py`."""

from __future__ import annotations

from collections.abc import Iterator

from samples import Sample, T, make_row

from spectral_ops.ops.checks import convolved

# N, Q, Q', C/Q, O/Q, (H, W), kernel, matrix, inverse, which of x, transform, weight, bias, inverse are complex
# (0: no bias), activation, (stride, padding, dilation). Where matrix is "dft" the kinds of both matrices are complex.
_PLAIN = ((1, 1), (0, 0), (1, 1))
_CONVOLUTIONS = [
    (8, 4, 3, 4, 4, (12, 12), (3, 3), "dft", "rcccc", "modrelu", ((1, 1), (1, 1), (1, 1))),
    (2, 6, 6, 9, 3, (8, 7), (3, 3), "dft", "rcccc", "crelu", _PLAIN),
    (1, 3, 2, 1, 1, (3, 2), (2, 2), "dft", "rcccc", "cardioid", _PLAIN),
    (1, 2, 2, 1, 1, (2, 3), (2, 2), "dft", "ccccc", "none", ((2, 1), (1, 0), (1, 1))),
    (1, 3, 2, 1, 1, (2, 2), (1, 1), "random", "rrc0r", "modrelu:0.3", _PLAIN),
    (1, 3, 3, 1, 1, (3, 2), (2, 1), "dft", "rcrrc", "cardioid", ((1, 2), (0, 1), (1, 2))),
    (1, 2, 2, 1, 1, (2, 2), (2, 1), "random", "crrcr", "zrelu", _PLAIN),
    (1, 2, 1, 2, 1, (2, 2), (2, 1), "random", "cccrc", "none", _PLAIN),
    (0, 4, 3, 2, 3, (5, 5), (3, 3), "dft", "rcccc", "crelu", _PLAIN),
    (2, 8, 5, 1, 2, (9, 10), (3, 2), "dft", "rcccc", "cardioid", ((2, 1), (0, 2), (1, 2))),
]


def rows() -> Iterator[Sample]:
    for n, q, p, i, o, image, kernel, kind, parts, act, geometry in _CONVOLUTIONS:
        sizes = (f"N{n}-Q{q}to{p}-I{i}-O{o}", *("x".join(map(str, pair)) for pair in (image, kernel, *geometry)))
        x, transform, weight, bias, inverse = (part == "c" for part in parts)
        back = "inverse_dft" if kind == "dft" else kind
        layer = [
            T((p, o, i, *kernel), "filter", imaginary=weight),
            None if parts[3] == "0" else T((p, o), "bias", imaginary=bias),
            act,
        ]
        words, pairs = (*sizes, kind, parts, act), [list(pair) for pair in geometry]
        data = transform or x or not (weight or bias)
        yield make_row("branch_conv2d", [T((n, p, i, *image), imaginary=data), *layer, *pairs], *words)
        result = T((n, p, o, *convolved(image, kernel, *geometry)), imaginary=data or weight)
        grads = [result, T((n, p, i, *image), imaginary=data), layer[0], *pairs, True, True]
        if data or weight:
            yield make_row("branch_conv2d_backward", grads, *words)
        matrices = T((p, q), kind, imaginary=transform), T((q, p), back, imaginary=inverse)
        args = [T((n, q * i, *image), imaginary=x), matrices[0], *layer, matrices[1], *pairs]
        yield make_row("spectral_conv2d", args, *words)
