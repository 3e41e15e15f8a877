"""Wrong arguments of convolutions in Tucker form: a row for each message."""

from __future__ import annotations

import torch
from samples import T
from wrong_samples import KINDS, Wrong

I64, F64 = torch.int64, torch.float64
# C = 12, O = 6, images of 5 x 7, core 2 x 4 x 3 x 2
_X, _CORE, _OUT, _IN, _B = T((2, 12, 5, 7)), T((2, 4, 3, 2)), T((6, 2)), T((12, 4)), T((6,))
_ONE, _NONE = [1, 1], [0, 0]
_ROWS = [
    (ValueError, "x must be (N, C, H, W), got (12, 5, 7)", T((12, 5, 7)), _CORE, _OUT, _IN),
    (ValueError, "core must be (r_out, r_in, r_h, r_w), each at least 1, got (2, 4, 3)", _X, T((2, 4, 3)), _OUT, _IN),
    (ValueError, "u_in must be (C, r_in) with C = 12 as in x and r_in = 4 as in core, got (12, 5)",
     _X, _CORE, _OUT, T((12, 5))),
    (ValueError, "u_out must be (O, r_out), each at least 1, got (6, 2, 1)", _X, _CORE, T((6, 2, 1)), _IN),
    (ValueError, "core must be (r_out, r_in, r_h, r_w) with r_out = 3 as in u_out, or groups = 1 times that, "
     "got (2, 4, 3, 2)", _X, _CORE, T((6, 3)), _IN),
    (ValueError, "groups must be a divisor of C = 12 and O = 6, got 4",
     _X, _CORE, _OUT, _IN, _B, _ONE, _NONE, _ONE, None, None, 4),
    (ValueError, "groups must be a divisor of C = 12 and O = 6, got 0",
     _X, _CORE, _OUT, _IN, _B, _ONE, _NONE, _ONE, None, None, 0),
    (ValueError, "u_h must be (kh, r_h) with r_h = 3 as in core, got (3, 2)",
     _X, _CORE, _OUT, _IN, _B, _ONE, _NONE, _ONE, T((3, 2))),
    (ValueError, "u_w must be (kw, r_w) with r_w = 2 as in core, got (0, 2)",
     _X, _CORE, _OUT, _IN, _B, _ONE, _NONE, _ONE, None, T((0, 2))),
    (ValueError, "bias must be (O,) with O = 6 as in u_out, got (6, 1)", _X, _CORE, _OUT, _IN, T((6, 1))),
    (ValueError, "stride must be two ints of at least 1, got [0, 1]", _X, _CORE, _OUT, _IN, _B, [0, 1]),
    (ValueError, "padding must be two ints of at least 0, got [-1, 0]", _X, _CORE, _OUT, _IN, _B, _ONE, [-1, 0]),
    (ValueError, "dilation must be two ints of at least 1, got [1, 0]", _X, _CORE, _OUT, _IN, _B, _ONE, _NONE, [1, 0]),
    (ValueError, "x must be at least 9 x 2 pixels with its padding, as core and dilation, got 5 x 7",
     _X, _CORE, _OUT, _IN, _B, _ONE, _NONE, _ONE, T((9, 3))),
    (TypeError, f"x must be {KINDS}, got torch.int64", T((2, 12, 5, 7), dtype=I64), _CORE, _OUT, _IN),
    (TypeError, "u_out must be torch.float32 as x, got torch.float64", _X, _CORE, T((6, 2), dtype=F64), _IN),
    (TypeError, "core must be on cpu as x, got meta", _X, T((2, 4, 3, 2), device="meta"), _OUT, _IN),
]  # fmt: skip


# the same in the kernels' order: core 1 x 3 x 2 x 2 x 4
_Y, _TAPS = T((2, 6, 3, 6)), T((1, 3, 2, 2, 4))
_BACKWARD = [
    (ValueError, "x must be (N, C, H, W), got (12, 5, 7)", _Y, T((12, 5, 7)), _TAPS, _OUT, _IN),
    (ValueError, "core must be (groups, kh, kw, r_out, r_in), each at least 1, with groups a divisor of C = 12, "
     "got (5, 3, 2, 2, 4)", _Y, _X, T((5, 3, 2, 2, 4)), _OUT, _IN),
    (ValueError, "u_in must be (C, r_in) with C = 12 as in x and r_in = 4 as in core, got (12, 5)",
     _Y, _X, _TAPS, _OUT, T((12, 5))),
    (ValueError, "u_out must be (O, r_out) with O a multiple of groups = 1 and r_out = 2 as in core, got (6, 3)",
     _Y, _X, _TAPS, T((6, 3)), _IN),
    (ValueError, "grad_y must be (2, 6, 3, 6) as the result of tucker_conv2d, got (2, 6, 3, 5)",
     T((2, 6, 3, 5)), _X, _TAPS, _OUT, _IN),
    (ValueError, "core_in must be (1, 3, 2, 2, 4) as core, got (1, 2, 3, 2, 4)",
     _Y, _X, _TAPS, _OUT, _IN, _ONE, _NONE, _ONE, True, None, T((1, 2, 3, 2, 4))),
    (ValueError, "stride must be two ints of at least 1, got [0, 1]", _Y, _X, _TAPS, _OUT, _IN, [0, 1]),
    (TypeError, "core_out must be torch.float32 as x, got torch.float64",
     _Y, _X, _TAPS, _OUT, _IN, _ONE, _NONE, _ONE, True, T((1, 3, 2, 2, 4), dtype=F64)),
]  # fmt: skip


def rows() -> list[Wrong]:
    named = (("tucker_conv2d", _ROWS), ("tucker_conv2d_backward", _BACKWARD))
    return [Wrong(op, error, text, tuple(args)) for op, family in named for error, text, *args in family]
