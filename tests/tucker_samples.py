"""Rows of right arguments for convolutions in Tucker form; see `samples.py`."""

from __future__ import annotations

from typing import Any

from samples import Sample, T, make_row

from spectral_ops.ops.checks import convolved

Pair = tuple[int, int]

# N, C, O, r_in, r_out, (H, W), window, (r_h, r_w), groups, bias, (stride, padding, dilation). A rank 0 of a spatial
# mode: the mode has no factor. groups: negative where the groups share one core.
_PLAIN = ((1, 1), (0, 0), (1, 1))
_SAME = ((1, 1), (1, 1), (1, 1))
_ROWS = [
    (8, 16, 20, 4, 5, (12, 12), (3, 3), (0, 0), 1, True, _SAME),
    (2, 9, 7, 9, 7, (8, 7), (3, 3), (3, 3), 1, True, _PLAIN),
    (1, 1, 1, 1, 1, (1, 1), (1, 1), (0, 0), 1, False, _PLAIN),
    (3, 12, 8, 1, 1, (9, 10), (3, 2), (2, 1), 1, True, ((2, 1), (0, 2), (1, 2))),
    (0, 3, 4, 2, 2, (5, 5), (3, 3), (0, 0), 1, True, _PLAIN),
    (2, 12, 18, 2, 3, (6, 9), (3, 3), (0, 0), 3, True, ((1, 3), (0, 1), (1, 1))),
    (5, 33, 31, 7, 29, (7, 5), (5, 5), (2, 0), 1, True, ((2, 2), (2, 2), (1, 1))),
    (2, 12, 18, 3, 2, (11, 6), (2, 2), (0, 2), -3, False, ((3, 2), (1, 0), (4, 3))),
    (4, 64, 48, 3, 5, (6, 6), (1, 1), (0, 0), 1, True, ((2, 2), (0, 0), (1, 1))),
    (3, 5, 40, 5, 2, (20, 18), (3, 3), (0, 0), 1, False, _SAME),
    (3, 40, 5, 2, 5, (20, 18), (3, 3), (0, 0), 1, True, _SAME),
    (16, 8, 8, 1, 1, (5, 5), (3, 3), (0, 0), 8, True, _SAME),
    (1, 2, 2, 2, 1, (4, 3), (2, 2), (0, 0), 1, True, ((1, 1), (1, 0), (1, 1))),
    (2, 3, 2, 1, 2, (3, 3), (3, 2), (2, 1), 1, True, ((2, 1), (1, 1), (1, 2))),
    (1, 4, 2, 1, 1, (2, 3), (1, 2), (1, 2), 2, False, _PLAIN),
    (2, 2, 4, 1, 2, (3, 3), (2, 2), (0, 1), -2, True, _PLAIN),
]


def rows() -> list[Sample]:
    found = []
    for n, c, o, r_in, r_out, image, window, spatial, groups, bias, geometry in _ROWS:
        cores, inner = max(groups, 1) * r_out, [r or k for r, k in zip(spatial, window, strict=True)]
        u_h, u_w = (T((k, r), "random") if r else None for r, k in zip(spatial, window, strict=True))
        args = [
            T((n, c, *image)), T((cores, r_in, *inner), "filter"), T((o, r_out), "weight"), T((c, r_in), "weight"),
            T((o,), "bias") if bias else None, *(list(pair) for pair in geometry), u_h, u_w, abs(groups),
        ]  # fmt: skip
        sizes = ("x".join(map(str, pair)) for pair in (image, window, spatial, *geometry))
        words = (f"N{n}-C{c}-O{o}-r{r_in}to{r_out}", *sizes, f"g{groups}", "b" if bias else "0")
        found.append(make_row("tucker_conv2d", args, *words))
        if groups > 0:
            found += _backward_rows(n, c, o, r_in, r_out, image, window, groups, geometry, *words[:3], *words[4:-1])
    return found


def _backward_rows(
    n: int, c: int, o: int, r_in: int, r_out: int, image: Pair, window: Pair, groups: int, geometry: Any, *words: str
) -> list[Sample]:
    """With the gradient of x and, of small images, without it but with other cores for the factors."""
    core = T((groups, *window, r_out, r_in), "random")
    y = (n, o, *convolved(image, window, *geometry))
    args = [T(y), T((n, c, *image)), core, T((o, r_out), "weight"), T((c, r_in), "weight"), *map(list, geometry)]
    rows = [make_row("tucker_conv2d_backward", [*args, True, None, None], *words, "x")]
    if c * image[0] * image[1] < 1000:
        rows.append(make_row("tucker_conv2d_backward", [*args, False, core, core], *words, "K"))
    return rows
