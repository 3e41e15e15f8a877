"""Wrong arguments: for every message that the package raises, at least one call that brings it about."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from samples import T

import spectral_ops
from spectral_ops import transforms

_KINDS = "float32, float64, bfloat16 or float16"
_NAMES = "none, relu, gelu, silu, tanh, sigmoid"
I64, F64, C64, HALF = torch.int64, torch.float64, torch.complex64, torch.bfloat16


@dataclass(frozen=True)
class Wrong:
    """A wrong call of torch.ops.spectral.<op>; text is the message after the name of the op.

    The helper ops of a gradient check with the public op's own function: some of their messages name that op.
    """

    op: str
    error: type[Exception]
    text: str
    args: tuple[Any, ...]
    named: str = ""

    @property
    def message(self) -> str:
        return f"{self.named or self.op}: {self.text}"

    @property
    def id(self) -> str:
        return f"{self.op}: {self.text}"


def _dct(op: str) -> list[Wrong]:
    x = T((2, 8))

    def row(error: type[Exception], text: str, *args: Any) -> Wrong:
        return Wrong(op, error, text, args)

    return [
        row(TypeError, f"x must be {_KINDS}, got torch.int64", T((2, 8), dtype=I64), 2, -1, "ortho", False, False),
        row(TypeError, f"x must be {_KINDS}, got torch.complex64", T((2, 8), dtype=C64), 2, -1, "ortho", False, False),
        row(ValueError, "type must be one of (2, 3), got 5", x, 5, -1, "ortho", False, False),
        row(ValueError, "norm must be one of backward, ortho, forward, got 'both'", x, 2, -1, "both", False, False),
        row(ValueError, "dim must be in [-2, 1] for x with 2 dimensions, got 2", x, 2, 2, "ortho", False, False),
        row(ValueError, "dim must be in [-2, 1] for x with 2 dimensions, got -3", x, 2, -3, "ortho", False, False),
        row(ValueError, "dim must be in [0, -1] for x with 0 dimensions, got -1", T(()), 2, -1, "ortho", False, False),
        row(
            ValueError, "x must have at least one value along dim -1, got 0", T((2, 0)), 2, -1, "ortho", False, False
        ),
    ]  # fmt: skip


_BRANCHES = [
    ("to_branches", ValueError, "x must be (N, I, Q), got (3, 4)", T((3, 4)), T((4, 4))),
    ("to_branches", ValueError, "transform must be (Q', Q) with Q = 5 as in x, got (5, 4)", T((2, 3, 5)), T((5, 4))),
    ("to_branches", ValueError, "transform must be (Q', Q) with Q = 5 as in x, got (5,)", T((2, 3, 5)), T((5,))),
    ("to_branches", TypeError, f"x must be {_KINDS}, got torch.int64", T((2, 3, 5), dtype=I64), T((5, 5), dtype=I64)),
    (
        "to_branches", TypeError, "transform must be torch.float32 as x, got torch.float64",
        T((2, 3, 5)), T((5, 5), dtype=F64),
    ),
    ("to_branches", TypeError, "transform must be on cpu as x, got meta", T((2, 3, 5)), T((5, 5), device="meta")),
    ("from_branches", ValueError, "y must be (Q', N, I), got (3,)", T((3,)), T((3, 3))),
    ("from_branches", ValueError, "inverse must be (Q, Q') with Q' = 3 as in y, got (3, 4)", T((3, 2, 2)), T((3, 4))),
    (
        "from_branches", TypeError, "inverse must be torch.bfloat16 as y, got torch.float32",
        T((3, 2, 2), dtype=HALF), T((3, 3)),
    ),
    ("from_branches", TypeError, f"y must be {_KINDS}, got torch.complex64", T((3, 2, 2), dtype=C64), T((3, 3))),
]  # fmt: skip
_X, _W, _B = T((3, 5, 4)), T((3, 6, 4)), T((3, 6))
_LINEAR = [
    (ValueError, "x must be (Q, N, I), got (5, 4)", T((5, 4)), _W, _B, "none"),
    (ValueError, "weight must be (Q, O, I) with Q = 3 and I = 4 as in x, got (3, 6, 5)", _X, T((3, 6, 5)), _B, "none"),
    (ValueError, "weight must be (Q, O, I) with Q = 3 and I = 4 as in x, got (2, 6, 4)", _X, T((2, 6, 4)), _B, "none"),
    (ValueError, "weight must be (Q, O, I) with Q = 3 and I = 4 as in x, got (6, 4)", _X, T((6, 4)), _B, "none"),
    (ValueError, "bias must be (Q, O) with Q = 3 and O = 6 as in weight, got (3, 5)", _X, _W, T((3, 5)), "none"),
    (ValueError, "bias must be (Q, O) with Q = 3 and O = 6 as in weight, got (6,)", _X, _W, T((6,)), "none"),
    (ValueError, f"activation must be one of {_NAMES}, got 'softplus'", _X, _W, _B, "softplus"),
    (TypeError, f"x must be {_KINDS}, got torch.int64", T((3, 5, 4), dtype=I64), _W, _B, "none"),
    (TypeError, "bias must be torch.float32 as x, got torch.int64", _X, _W, T((3, 6), dtype=I64), "none"),
    (TypeError, "weight must be torch.float32 as x, got torch.float64", _X, T((3, 6, 4), dtype=F64), _B, "none"),
    (TypeError, "bias must be on cpu as x, got meta", _X, _W, T((3, 6), device="meta"), "none"),
]

# networks: x (N = 5, I = 4, Q = 3), transform, two layers 4 -> 6 -> 2
_IN, _L = T((5, 4, 3)), T((3, 3))
_WS, _BS, _AS = [_W, T((3, 2, 6))], [_B, None], ["relu", "none"]
_FIRST = "weights[0] must be (Q', O, I) with Q' = 3 and I = 4 as in x, got"
_NETWORK = [
    (ValueError, "x must be (N, I, Q), got (5, 4)", T((5, 4)), _L, _WS, _BS, _AS),
    (ValueError, "x must be (Q, N, I) where transform is None, got (5, 4)", T((5, 4)), None, _WS, _BS, _AS),
    (ValueError, "transform must be (Q', Q) with Q = 3 as in x, got (3, 5)", _IN, T((3, 5)), _WS, _BS, _AS),
    (ValueError, "weights must hold at least one (Q', O, I) tensor, got none", _IN, _L, [], [], []),
    (ValueError, "biases must have one entry per weight, 2, got 1", _IN, _L, _WS, [_B], _AS),
    (ValueError, "activations must have one entry per weight, 2, got 3", _IN, _L, _WS, _BS, [*_AS, "none"]),
    (ValueError, f"{_FIRST} (2, 6, 4)", _IN, _L, [T((2, 6, 4)), _WS[1]], _BS, _AS),
    (ValueError, f"{_FIRST} (3, 4)", _IN, _L, [T((3, 4)), _WS[1]], _BS, _AS),
    (
        ValueError, "weights[1] must be (Q', O, I) with Q' = 3 and I = 6 as in weights[0], got (3, 2, 5)",
        _IN, _L, [_W, T((3, 2, 5))], _BS, _AS,
    ),
    (
        ValueError, "biases[1] must be (Q', O) with Q' = 3 and O = 2 as in weights[1], got (3, 6)",
        _IN, _L, _WS, [None, _B], _AS,
    ),
    (ValueError, f"activations[1] must be one of {_NAMES}, got 'ReLU'", _IN, _L, _WS, _BS, ["relu", "ReLU"]),
    (TypeError, f"x must be {_KINDS}, got torch.int64", T((5, 4, 3), dtype=I64), _L, _WS, _BS, _AS),
    (
        TypeError, "weights[1] must be torch.float32 as x, got torch.float64",
        _IN, _L, [_W, T((3, 2, 6), dtype=F64)], _BS, _AS,
    ),
    (TypeError, "biases[0] must be on cpu as x, got meta", _IN, _L, _WS, [T((3, 6), device="meta"), None], _AS),
    (TypeError, "transform must be torch.float32 as x, got torch.complex64", _IN, T((3, 3), dtype=C64), _WS, _BS, _AS),
]  # fmt: skip
_TARGET = [
    (TypeError, "target must be int64, got torch.int32", T((5,), "class2", dtype=torch.int32)),
    (TypeError, "target must be on cpu as x, got meta", T((5,), "class2", device="meta")),
    (ValueError, "target must be (N,) with N = 5 as in x, got (4,)", T((4,), "class2")),
    (ValueError, "target must be (N,) with N = 5 as in x, got (5, 1)", T((5, 1), "class2")),
]
_SPECTRAL_LINEAR = [
    (ValueError, "x must be (N, I, Q), got (4,)", T((4,)), _L, _W, _B, "none", _L, "none"),
    (ValueError, "transform must be (Q', Q) with Q = 3 as in x, got (3,)", _IN, T((3,)), _W, _B, "none", _L, "none"),
    (
        ValueError, "weight must be (Q', O, I) with Q' = 3 as in transform and I = 4 as in x, got (3, 6, 3)",
        _IN, _L, T((3, 6, 3)), _B, "none", _L, "none",
    ),
    (
        ValueError, "bias must be (Q', O) with Q' = 3 and O = 6 as in weight, got (3, 4)",
        _IN, _L, _W, T((3, 4)), "none", _L, "none",
    ),
    (
        ValueError, "inverse must be (Q, Q') with Q = 3 as in x and Q' = 3 as in transform, got (2, 3)",
        _IN, _L, _W, _B, "none", T((2, 3)), "none",
    ),
    (ValueError, f"activation must be one of {_NAMES}, got ''", _IN, _L, _W, _B, "", _L, "none"),
    (ValueError, f"output_activation must be one of {_NAMES}, got 'elu'", _IN, _L, _W, _B, "none", _L, "elu"),
    (
        TypeError, "inverse must be torch.float32 as x, got torch.float16",
        _IN, _L, _W, _B, "none", T((3, 3), dtype=torch.float16), "none",
    ),
]  # fmt: skip
# grad_y, x, y and the rest of the layer: y is (N, O, Q) = (5, 6, 3)
_Y = T((5, 6, 3))
_LINEAR_BACKWARD = [
    (ValueError, "grad_y must be (N, O, Q) with N = 5, O = 6 and Q = 3, got (5, 6)", T((5, 6)), _IN, _Y, _W, "relu"),
    (ValueError, "y must be (N, O, Q) with N = 5, O = 6 and Q = 3, got (5, 4, 3)", _Y, _IN, T((5, 4, 3)), _W, "relu"),
    (
        ValueError, "output_activation must be none, relu, tanh or sigmoid, whose derivatives y tells, got 'gelu'",
        _Y, _IN, _Y, _W, "gelu",
    ),
    (ValueError, f"output_activation must be one of {_NAMES}, got 'elu'", _Y, _IN, _Y, _W, "elu"),
    (
        ValueError, "weight must be (Q', O, I) with Q' = 3 as in transform and I = 4 as in x, got (3, 6, 3)",
        _Y, _IN, _Y, T((3, 6, 3)), "none",
    ),
    (TypeError, "y must be torch.float32 as x, got torch.float64", _Y, _IN, T((5, 6, 3), dtype=F64), _W, "relu"),
]  # fmt: skip
_Z = T((3, 5, 2))
_SPACES = "space must be one of probabilities, logits, got 'odds'"
_ENSEMBLE = [
    (ValueError, "logits must be (Q, N, C), got (5, 2)", T((5, 2)), T((5,)), "logits"),
    (ValueError, "weights must be (Q,) with Q = 3 as in logits, got (2,)", _Z, T((2,)), "logits"),
    (ValueError, "weights must be (Q,) with Q = 3 as in logits, got (3, 1)", _Z, T((3, 1)), "logits"),
    (ValueError, _SPACES, _Z, T((3,)), "odds"),
    (TypeError, "weights must be torch.float32 as logits, got torch.float64", _Z, T((3,), dtype=F64), "logits"),
    (TypeError, f"logits must be {_KINDS}, got torch.int64", T((3, 5, 2), dtype=I64), T((3,)), "logits"),
]

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
    (ValueError, f"activation_h must be one of {_NAMES}, got 'elu'", 6, "elu"),
    (ValueError, f"activation_y must be one of {_NAMES}, got 'softmax'", 7, "softmax"),
    (ValueError, "lengths must be (N,) with N = 5 as in x, got (3,)", 8, T((3,), "class2")),
    (TypeError, "lengths must be int64, got torch.int32", 8, T((5,), "class2", dtype=torch.int32)),
    (TypeError, "lengths must be on cpu as x, got meta", 8, T((5,), "class2", device="meta")),
    (TypeError, f"x must be {_KINDS}, got torch.int64", 0, T((2, 3, 5, 4), dtype=I64)),
    (TypeError, "weight_h must be torch.float32 as x, got torch.float64", 2, T((3, 6, 6), dtype=F64)),
    (TypeError, "h0 must be on cpu as x, got meta", 5, T((3, 5, 6), device="meta")),
]
_RNN_GRADS: list[tuple[type[Exception], str, int, Any]] = [
    (ValueError, "grad_y must be (T, Q, N, O) = (2, 3, 5, 2), got (2, 3, 5, 6)", 0, T((2, 3, 5, 6))),
    (ValueError, "grad_h must be (Q, N, P) = (3, 5, 6), got (3, 6)", 1, T((3, 6))),
    (ValueError, "grad_states must be (T, Q, N, P) = (2, 3, 5, 6), got (3, 5, 6)", 2, T((3, 5, 6))),
    (ValueError, "states must be (T, Q, N, P) = (2, 3, 5, 6), got (2, 3, 5, 5)", 3, T((2, 3, 5, 5))),
    (TypeError, "states must be torch.float32 as x, got torch.float64", 3, T((2, 3, 5, 6), dtype=F64)),
    (TypeError, "grad_h must be torch.float32 as x, got torch.bfloat16", 1, T((3, 5, 6), dtype=HALF)),
]

_LOSS = "spectral_mlp_cross_entropy"


def _wrong() -> list[Wrong]:
    rows = [*_dct("dct"), *_dct("dct_adjoint")]
    rows += [Wrong(op, error, text, tuple(args)) for op, error, text, *args in _BRANCHES]
    rows += [Wrong("branch_linear", error, text, tuple(args)) for error, text, *args in _LINEAR]
    rows += [Wrong("spectral_linear", error, text, tuple(args)) for error, text, *args in _SPECTRAL_LINEAR]
    for error, text, grad, x, y, weight, output in _LINEAR_BACKWARD:
        args = (grad, x, y, _L, weight, _B, "none", _L, output, True)
        rows.append(Wrong("spectral_linear_backward", error, text, args))
    right = (_IN, _L, _WS, _BS, _AS)
    target, shares = T((5,), "class2"), T((3,), "share")
    for error, text, *net in _NETWORK:
        rows.append(Wrong("spectral_mlp", error, text, tuple(net)))
        rows.append(Wrong(_LOSS, error, text, (*net, target)))
        rows.append(Wrong(f"{_LOSS}_with_grads", error, text, (*net, target, True), named=_LOSS))
        rows.append(Wrong("spectral_ensemble", error, text, (*net, shares, "logits")))
        rows.append(Wrong("spectral_ensemble_backward", error, text, (T((5, 2)), *net, shares, "logits")))
    for error, text, wrong in _TARGET:
        rows.append(Wrong(_LOSS, error, text, (*right, wrong)))
        rows.append(Wrong(f"{_LOSS}_with_grads", error, text, (*right, wrong, False), named=_LOSS))
    for error, text, *tail in [
        (ValueError, "branch_weights must be (Q',) with Q' = 3 as in weights, got (2,)", T((2,)), "logits"),
        (ValueError, _SPACES, shares, "odds"),
        (TypeError, "branch_weights must be torch.float32 as x, got torch.float64", T((3,), dtype=F64), "logits"),
    ]:
        rows.append(Wrong("spectral_ensemble", error, text, (*right, *tail)))
        rows.append(Wrong("spectral_ensemble_backward", error, text, (T((5, 2)), *right, *tail)))
    for error, text, wrong in [
        (ValueError, "grad_y must be (N, C) with N = 5 and C = 2 as in the output, got (2, 5)", T((2, 5))),
        (TypeError, "grad_y must be torch.float32 as x, got torch.float64", T((5, 2), dtype=F64)),
    ]:
        rows.append(Wrong("spectral_ensemble_backward", error, text, (wrong, *right, shares, "logits", False)))
    grad, wide = T((3, 5, 2)), T((3, 5, 6))
    for error, text, wrong, *layers in [
        (ValueError, "x must be (Q, N, I) where transform is None, got (5, 4)", grad, T((5, 4)), _WS, _BS, _AS),
        (ValueError, "grad_y must be (Q, N, O) with Q = 3, N = 5 and O = 2, got (3, 5, 6)", wide, _X, _WS, _BS, _AS),
        (ValueError, "grad_y must be (Q, N, O) with Q = 3, N = 5 and O = 2, got (5, 2)", T((5, 2)), _X, _WS, _BS, _AS),
        (ValueError, "biases must have one entry per weight, 2, got 0", grad, _X, _WS, [], _AS),
        (TypeError, "grad_y must be torch.float32 as x, got torch.float64", T((3, 5, 2), dtype=F64), _X, _WS, _BS, _AS),
    ]:  # fmt: skip
        rows.append(Wrong("branch_mlp_backward", error, text, (wrong, *layers, True)))
    for error, text, *args in _ENSEMBLE:
        rows.append(Wrong("branch_ensemble", error, text, tuple(args)))
        rows.append(Wrong("branch_ensemble_backward", error, text, (T((5, 2)), *args)))
    for error, text, wrong in [
        (ValueError, "grad_y must be (N, C) with N = 5 and C = 2 as in logits, got (2, 5)", T((2, 5))),
        (TypeError, "grad_y must be torch.float32 as logits, got torch.float64", T((5, 2), dtype=F64)),
    ]:
        rows.append(Wrong("branch_ensemble_backward", error, text, (wrong, _Z, T((3,)), "logits")))
    return [*rows, *_rnn()]


def _rnn() -> Iterator[Wrong]:
    y, h, states = T((2, 3, 5, 2)), T((3, 5, 6)), T((2, 3, 5, 6))
    for error, text, place, wrong in _RNN:
        layer = [wrong if i == place else right for i, right in enumerate(_LAYER)]
        yield Wrong("branch_rnn", error, text, tuple(layer))
        yield Wrong("branch_rnn_with_states", error, text, tuple(layer), named="branch_rnn")
        yield Wrong("branch_rnn_backward", error, text, (y, h, None, *layer[:6], states, *layer[6:]))
    for error, text, place, wrong in _RNN_GRADS:
        given = [wrong if i == place else right for i, right in enumerate((y, h, states, states))]
        yield Wrong("branch_rnn_backward", error, text, (*given[:3], *_LAYER[:6], given[3], *_LAYER[6:], False))


WRONG: list[Wrong] = _wrong()


def _entered(context: Any) -> None:
    with context:
        raise AssertionError("entered")


_LEVELS = ", ".join(spectral_ops.cpu_levels())
_OPS = ", ".join(spectral_ops.table.TABLE)
# the Python front: what is called, the error, the whole message (a "..." at the end: the beginning)
WRONG_CALLS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: spectral_ops.dct(torch.ones(4).bool()), TypeError, "dct: x must be a number, got torch.bool"),
    (lambda: spectral_ops.idct(torch.ones(4).bool()), TypeError, "idct: x must be a number, got torch.bool"),
    (lambda: spectral_ops.dct(torch.ones(4), n=0), ValueError, "dct: n must be at least 1, got 0"),
    (lambda: spectral_ops.idct(torch.ones(4), n=-1), ValueError, "idct: n must be at least 1, got -1"),
    (
        lambda: spectral_ops.dct(torch.ones(4, 2), n=3, dim=2), ValueError,
        "dct: dim must be in [-2, 1] for x with 2 dimensions, got 2",
    ),
    (lambda: spectral_ops.dct(torch.ones(4), type=5), ValueError, "dct: type must be one of (2, 3), got 5"),
    (
        lambda: _entered(spectral_ops.use("cuda")), ValueError,
        "use: backend must be one of reference, cpp, triton, got 'cuda'",
    ),
    (lambda: spectral_ops.explain("dft", torch.ones(4)), ValueError, f"op must be one of {_OPS}, got 'dft'"),
    (lambda: spectral_ops.backends("dft", torch.ones(4)), ValueError, f"op must be one of {_OPS}, got 'dft'"),
    (
        lambda: _entered(spectral_ops.cpu_level("sse9")), ValueError,
        f"cpu_level: name must be one of the levels of this machine, {_LEVELS}...",
    ),
    (lambda: transforms.DCT(0), ValueError, "DCT: length must be at least 1, got 0"),
    (lambda: transforms.DCT(4, type=1), ValueError, "DCT: type must be one of (2, 3), got 1"),
    (lambda: transforms.DCT(4, norm="max"), ValueError, "DCT: norm must be one of backward, ortho, forward, got 'max'"),
    (lambda: transforms.Identity(0), ValueError, "Identity: length must be at least 1, got 0"),
    (
        lambda: transforms.Matrix(torch.eye(3, dtype=torch.int64)), TypeError,
        "Matrix: matrix must be a real floating point tensor, got torch.int64",
    ),
    (lambda: transforms.Matrix([[1.0]]), TypeError, "Matrix: matrix must be a real floating point tensor, got list"),
    (lambda: transforms.Matrix(torch.ones(2, 3)), ValueError, "Matrix: matrix must be (Q, Q), got (2, 3)"),
    (
        lambda: transforms.Matrix(torch.ones(2, 2)), ValueError,
        "Matrix: matrix must be finite and invertible, got a singular one",
    ),
    (
        lambda: transforms.Matrix(torch.tensor([[float("nan")]])), ValueError,
        "Matrix: matrix must be finite and invertible, got a singular one",
    ),
    (lambda: transforms.Matrix(torch.ones(0, 0)), ValueError, "Matrix: length must be at least 1, got 0"),
    (lambda: transforms.Transform(3).matrix, AttributeError, "'Transform' object has no attribute 'matrix'"),
]  # fmt: skip
