"""Wrong arguments of the recurrent ops, as `wrong_samples.py` has them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from samples import T
from wrong_samples import ALL_KINDS, COMPLEX_NAMES, NAMES, SINGLE, Wrong

I64, F64, HALF, C64 = torch.int64, torch.float64, torch.bfloat16, torch.complex64

# branch_rnn: T = 2, Q = 3, N = 5, I = 4, P = 6, O = 2
_LAYER = (T((2, 3, 5, 4)), T((3, 6, 4)), T((3, 6, 6)), T((3, 2, 6)), T((3, 6)), T((3, 5, 6)), "tanh", "none", None)
# what is wrong, and the place of that argument
_RNN: list[tuple[type[Exception], str, int, Any]] = [
    (ValueError, "x must be (T, Q, N, I), got (3, 5, 4)", 0, T((3, 5, 4))),
    (ValueError, "weight_x must be (Q, P, I) with Q = 3 and I = 4 as in x, got (3, 6, 5)", 1, T((3, 6, 5))),
    (ValueError, "weight_x must be (Q, P, I) with Q = 3 and I = 4 as in x, got (6, 4)", 1, T((6, 4))),
    (ValueError, "weight_h must be (Q, P, P) with Q = 3 and P = 6 as in weight_x, got (3, 6, 4)", 2, T((3, 6, 4))),
    (ValueError, "weight_h must be (Q, P, P) with Q = 3 and P = 6 as in weight_x, got (3, 4, 6)", 2, T((3, 4, 6))),
    (ValueError, "weight_y must be (Q, O, P) with Q = 3 and P = 6 as in weight_x, got (2, 2, 6)", 3, T((2, 2, 6))),
    (ValueError, "bias must be (Q, P) with Q = 3 and P = 6 as in weight_x, got (6,)", 4, T((6,))),
    (ValueError, "h0 must be (Q, N, P) with Q = 3, N = 5 and P = 6, got (5, 6)", 5, T((5, 6))),
    (ValueError, "h0 must be (Q, N, P) with Q = 3, N = 5 and P = 6, got (3, 1, 6)", 5, T((3, 1, 6))),
    (ValueError, f"activation_h must be one of {NAMES}, got 'elu'", 6, "elu"),
    (ValueError, f"activation_y must be one of {NAMES}, got 'softmax'", 7, "softmax"),
    (
        ValueError,
        f"activation_h must be, for complex numbers, one of {COMPLEX_NAMES}, got 'tanh'",
        1,
        T((3, 6, 4), dtype=C64),
    ),
    (ValueError, "lengths must be (N,) with N = 5 as in x, got (3,)", 8, T((3,), "class2")),
    (TypeError, "lengths must be int64, got torch.int32", 8, T((5,), "class2", dtype=torch.int32)),
    (TypeError, "lengths must be on cpu as x, got meta", 8, T((5,), "class2", device="meta")),
    (TypeError, f"x must be {ALL_KINDS}, got torch.int64", 0, T((2, 3, 5, 4), dtype=I64)),
    (TypeError, f"weight_h must be {SINGLE} as x, got torch.float64", 2, T((3, 6, 6), dtype=F64)),
    (TypeError, "h0 must be on cpu as x, got meta", 5, T((3, 5, 6), device="meta")),
]
_RNN_GRADS: list[tuple[type[Exception], str, int, Any]] = [
    (ValueError, "grad_y must be (T, Q, N, O) = (2, 3, 5, 2), got (2, 3, 5, 6)", 0, T((2, 3, 5, 6))),
    (ValueError, "grad_h must be (Q, N, P) = (3, 5, 6), got (3, 6)", 1, T((3, 6))),
    (ValueError, "grad_states must be (T, Q, N, P) = (2, 3, 5, 6), got (3, 5, 6)", 2, T((3, 5, 6))),
    (ValueError, "states must be (T, Q, N, P) = (2, 3, 5, 6), got (2, 3, 5, 5)", 3, T((2, 3, 5, 5))),
    (TypeError, "states must be torch.float32 as the result, got torch.float64", 3, T((2, 3, 5, 6), dtype=F64)),
    (TypeError, "grad_h must be torch.float32 as the result, got torch.bfloat16", 1, T((3, 5, 6), dtype=HALF)),
    (TypeError, "grad_y must be on cpu as the result, got meta", 0, T((2, 3, 5, 2), device="meta")),
]


def _complex() -> Iterator[Wrong]:
    """Layers in which more than one argument makes the error."""
    x, wx, wh, _, bias, h0, *_ = _LAYER
    weight_y = T((3, 2, 6), dtype=C64)
    text = f"activation_y must be, for complex numbers, one of {COMPLEX_NAMES}, got 'relu'"
    yield Wrong("branch_rnn", ValueError, text, (x, wx, wh, weight_y, bias, h0, "crelu", "relu", None))
    half = [T(t.shape, dtype=HALF) for t in (x, wx, wh)]
    text = "x must be float32 or float64 where weight_y is complex, got torch.bfloat16"
    yield Wrong("branch_rnn", TypeError, text, (*half, weight_y, bias, h0, "crelu", "none", None))


def rows() -> Iterator[Wrong]:
    yield from _complex()
    y, h, states = T((2, 3, 5, 2)), T((3, 5, 6)), T((2, 3, 5, 6))
    for error, text, place, wrong in _RNN:
        layer = [wrong if i == place else right for i, right in enumerate(_LAYER)]
        yield Wrong("branch_rnn", error, text, tuple(layer))
        yield Wrong("branch_rnn_with_states", error, text, tuple(layer), named="branch_rnn")
        yield Wrong("branch_rnn_backward", error, text, (y, h, None, *layer[:6], states, *layer[6:]))
    for error, text, place, wrong in _RNN_GRADS:
        given = [wrong if i == place else right for i, right in enumerate((y, h, states, states))]
        yield Wrong("branch_rnn_backward", error, text, (*given[:3], *_LAYER[:6], given[3], *_LAYER[6:], False))
