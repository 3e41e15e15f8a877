"""Rows of complex arguments for the recurrent ops; see `complex_samples.py`."""

from __future__ import annotations

from collections.abc import Iterator

from samples import Sample, T, make_row

# T, Q, N, I, P, O, which of x, weight_x, weight_h, weight_y, bias, h0 are complex (None: no bias), activations, lengths
_RNN = [
    (7, 15, 64, 28, 28, 28, "cccccc", "modrelu", "none", False),
    (5, 3, 17, 10, 15, 9, "cccccc", "crelu", "cardioid", True),
    (2, 1, 2, 2, 2, 1, "cccccc", "cardioid", "none", False),
    (2, 2, 1, 2, 2, 2, "cccccr", "modrelu:0.3", "zrelu", True),
    (3, 1, 2, 2, 2, 1, "rcrrrr", "none", "modrelu", False),
    (2, 1, 2, 2, 2, 1, "crrr0r", "crelu", "none", False),
    (3, 1, 1, 1, 2, 2, "rrrcrc", "zrelu", "crelu", False),
    (2, 1, 2, 1, 2, 1, "rrrrcr", "none", "none", True),
    (6, 2, 33, 7, 8, 0, "cccccc", "modrelu", "none", True),
    (40, 2, 1, 3, 7, 2, "cccc0c", "modrelu", "none", False),
    (0, 2, 3, 4, 5, 2, "cccccc", "crelu", "none", False),
    (3, 2, 0, 4, 5, 2, "rcccrc", "crelu", "none", True),
]


def rows() -> Iterator[Sample]:
    for number, (t, q, n, i, p, o, kinds, act, out, ends) in enumerate(_RNN):
        shapes = ((t, q, n, i), (q, p, i), (q, p, p), (q, o, p), (q, p), (q, n, p))
        values = ("normal", "weight", "weight", "weight", "bias", "state")
        layer = [
            None if kind == "0" else T(shape, value, imaginary=kind == "c")
            for shape, value, kind in zip(shapes, values, kinds, strict=True)
        ]
        options = [act, out, T((n,), f"class{t + 1}") if ends else None]
        words = (f"T{t}-Q{q}-N{n}-I{i}-P{p}-O{o}", kinds, act, out, "ends" if ends else "all")
        yield make_row("branch_rnn", [*layer, *options], *words)
        yield make_row("branch_rnn_with_states", [*layer, *options], *words)
        states = T((t, q, n, p), "state", imaginary=True)
        # in turns without the gradient of one result
        grads: list[T | None] = [T((t, q, n, o), imaginary=True), T((q, n, p), imaginary=True), states]
        if number % 4:
            grads[number % 4 - 1] = None
        args = [*grads, *layer, states, *options, number % 3 != 0]
        yield make_row("branch_rnn_backward", args, *words, f"x{number % 3 != 0:d}")
