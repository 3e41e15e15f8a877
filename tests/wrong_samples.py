"""Wrong arguments: for every message that the package raises, at least one call that brings it about."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from samples import T
from wrong_transforms import DCTN

import spectral_ops
from spectral_ops import transforms

KINDS = "float32, float64, bfloat16 or float16"
_REAL = KINDS
_KINDS = "float32, float64, bfloat16, float16, complex64 or complex128"
_SINGLE = "torch.float32 or torch.complex64"
NAMES = "none, relu, gelu, silu, tanh, sigmoid"
_NAMES = NAMES
_COMPLEX_NAMES = "none, crelu, modrelu, modrelu:B, zrelu, cardioid"
ALL_KINDS, SINGLE, COMPLEX_NAMES = _KINDS, _SINGLE, _COMPLEX_NAMES
I64, F64, HALF = torch.int64, torch.float64, torch.bfloat16
C64, C128 = torch.complex64, torch.complex128


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
        row(TypeError, f"x must be {KINDS}, got torch.int64", T((2, 8), dtype=I64), 2, -1, "ortho", False, False),
        row(TypeError, f"x must be {KINDS}, got torch.complex64", T((2, 8), dtype=C64), 2, -1, "ortho", False, False),
        row(ValueError, "type must be one of (1, 2, 3, 4), got 5", x, 5, -1, "ortho", False, False),
        row(ValueError, "norm must be one of backward, ortho, forward, got 'both'", x, 2, -1, "both", False, False),
        row(ValueError, "dim must be in [-2, 1] for x with 2 dimensions, got 2", x, 2, 2, "ortho", False, False),
        row(ValueError, "dim must be in [-2, 1] for x with 2 dimensions, got -3", x, 2, -3, "ortho", False, False),
        row(ValueError, "dim must be in [0, -1] for x with 0 dimensions, got -1", T(()), 2, -1, "ortho", False, False),
        row(
            ValueError, "x must have length at least 1 along dim -1 for type 2, got 0",
            T((2, 0)), 2, -1, "ortho", False, False,
        ),
    ]  # fmt: skip


def _first_type(op: str) -> Wrong:
    text = "x must have length at least 2 along dim 0 for type 1, got 1"
    return Wrong(op, ValueError, text, (T((1, 4)), 1, 0, "ortho", False, False))


_HADAMARD = [
    (TypeError, f"x must be {KINDS}, got torch.int64", T((2, 8), dtype=I64)),
    (TypeError, f"x must be {KINDS}, got torch.complex64", T((2, 8), dtype=C64)),
    (ValueError, "dim must be in [-2, 1] for x with 2 dimensions, got 2", T((2, 8)), 2),
    (ValueError, "x must have a power of two as its length along dim -1, got 6", T((2, 6))),
    (ValueError, "x must have a power of two as its length along dim 0, got 0", T((0, 8)), 0, False),
]
_BRANCHES = [
    ("to_branches", ValueError, "x must be (N, I, Q), got (3, 4)", T((3, 4)), T((4, 4))),
    ("to_branches", ValueError, "transform must be (Q', Q) with Q = 5 as in x, got (5, 4)", T((2, 3, 5)), T((5, 4))),
    ("to_branches", ValueError, "transform must be (Q', Q) with Q = 5 as in x, got (5,)", T((2, 3, 5)), T((5,))),
    ("to_branches", TypeError, f"x must be {_KINDS}, got torch.int64", T((2, 3, 5), dtype=I64), T((5, 5), dtype=I64)),
    (
        "to_branches", TypeError, f"transform must be {_SINGLE} as x, got torch.float64",
        T((2, 3, 5)), T((5, 5), dtype=F64),
    ),
    ("to_branches", TypeError, "transform must be on cpu as x, got meta", T((2, 3, 5)), T((5, 5), device="meta")),
    ("from_branches", ValueError, "y must be (Q', N, I), got (3,)", T((3,)), T((3, 3))),
    ("from_branches", ValueError, "inverse must be (Q, Q') with Q' = 3 as in y, got (3, 4)", T((3, 2, 2)), T((3, 4))),
    (
        "from_branches", TypeError, "inverse must be torch.bfloat16 as y, got torch.float32",
        T((3, 2, 2), dtype=HALF), T((3, 3)),
    ),
    ("from_branches", TypeError, f"y must be {_KINDS}, got torch.int64", T((3, 2, 2), dtype=I64), T((3, 3))),
    (
        "from_branches", TypeError, "inverse must be torch.complex64 or torch.float32 as y, got torch.complex128",
        T((3, 2, 2), dtype=C64), T((3, 3), dtype=C128),
    ),
    (
        "to_branches", TypeError, "x must be float32 or float64 where transform is complex, got torch.bfloat16",
        T((2, 3, 5), dtype=HALF), T((5, 5), dtype=C64),
    ),
    (
        "to_branches", TypeError, "transform must be torch.complex64 or torch.float32 as x, got torch.bfloat16",
        T((2, 3, 5), dtype=C64), T((5, 5), dtype=HALF),
    ),
]  # fmt: skip
_X, _W, _B = T((3, 5, 4)), T((3, 6, 4)), T((3, 6))
_XH, _WH, _BC = T((3, 5, 4), dtype=HALF), T((3, 6, 4), dtype=HALF), T((3, 6), dtype=C64)
_LINEAR = [
    (ValueError, "x must be (Q, N, I), got (5, 4)", T((5, 4)), _W, _B, "none"),
    (ValueError, "weight must be (Q, O, I) with Q = 3 and I = 4 as in x, got (3, 6, 5)", _X, T((3, 6, 5)), _B, "none"),
    (ValueError, "weight must be (Q, O, I) with Q = 3 and I = 4 as in x, got (2, 6, 4)", _X, T((2, 6, 4)), _B, "none"),
    (ValueError, "weight must be (Q, O, I) with Q = 3 and I = 4 as in x, got (6, 4)", _X, T((6, 4)), _B, "none"),
    (ValueError, "bias must be (Q, O) with Q = 3 and O = 6 as in weight, got (3, 5)", _X, _W, T((3, 5)), "none"),
    (ValueError, "bias must be (Q, O) with Q = 3 and O = 6 as in weight, got (6,)", _X, _W, T((6,)), "none"),
    (ValueError, f"activation must be one of {_NAMES}, got 'softplus'", _X, _W, _B, "softplus"),
    (TypeError, f"x must be {_KINDS}, got torch.int64", T((3, 5, 4), dtype=I64), _W, _B, "none"),
    (TypeError, f"bias must be {_SINGLE} as x, got torch.int64", _X, _W, T((3, 6), dtype=I64), "none"),
    (TypeError, f"weight must be {_SINGLE} as x, got torch.float64", _X, T((3, 6, 4), dtype=F64), _B, "none"),
    (TypeError, "bias must be on cpu as x, got meta", _X, _W, T((3, 6), device="meta"), "none"),
    (TypeError, "x must be float32 or float64 where bias is complex, got torch.bfloat16", _XH, _WH, _BC, "none"),
    *[
        (
            ValueError,
            f"activation must be, for complex numbers, one of {_COMPLEX_NAMES}, got {name!r}",
            _X,
            _W,
            _BC,
            name,
        )
        for name in ("relu", "tanh", "modrelu:", "modrelu:x", "modrelu:B", "modrelu:nan", "crelu:1", "")
    ],
    *[
        (ValueError, f"activation must be one of {_NAMES}, got {name!r}", _X, _W, _B, name)
        for name in ("crelu", "modrelu", "modrelu:0.5")
    ],
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
    (ValueError, f"activations[1] must be one of {NAMES}, got 'ReLU'", _IN, _L, _WS, _BS, ["relu", "ReLU"]),
    (TypeError, f"x must be {_KINDS}, got torch.int64", T((5, 4, 3), dtype=I64), _L, _WS, _BS, _AS),
    (
        TypeError, f"weights[1] must be {_SINGLE} as x, got torch.float64",
        _IN, _L, [_W, T((3, 2, 6), dtype=F64)], _BS, _AS,
    ),
    (TypeError, "biases[0] must be on cpu as x, got meta", _IN, _L, _WS, [T((3, 6), device="meta"), None], _AS),
    (TypeError, f"transform must be {_SINGLE} as x, got torch.complex128", _IN, T((3, 3), dtype=C128), _WS, _BS, _AS),
    (
        ValueError, f"activations[0] must be, for complex numbers, one of {_COMPLEX_NAMES}, got 'relu'",
        _IN, T((3, 3), dtype=C64), _WS, _BS, _AS,
    ),
    (ValueError, f"activations[1] must be one of {_NAMES}, got 'cardioid'", _IN, _L, _WS, _BS, ["none", "cardioid"]),
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
    (ValueError, f"activation must be one of {NAMES}, got ''", _IN, _L, _W, _B, "", _L, "none"),
    (ValueError, f"output_activation must be one of {NAMES}, got 'elu'", _IN, _L, _W, _B, "none", _L, "elu"),
    (
        TypeError, f"inverse must be {_SINGLE} as x, got torch.float16",
        _IN, _L, _W, _B, "none", T((3, 3), dtype=torch.float16), "none",
    ),
    (
        ValueError, f"activation must be, for complex numbers, one of {_COMPLEX_NAMES}, got 'relu'",
        _IN, _L, _W, _BC, "relu", _L, "none",
    ),
    (  # the result of a whole spectrum is complex
        ValueError, f"output_activation must be, for complex numbers, one of {_COMPLEX_NAMES}, got 'relu'",
        _IN, _L, _W, _B, "none", T((3, 3), dtype=C64), "relu",
    ),
    (  # that of half a spectrum is real
        ValueError, f"output_activation must be one of {_NAMES}, got 'crelu'",
        _IN, T((2, 3), dtype=C64), T((2, 6, 4)), T((2, 6)), "crelu", T((3, 2), dtype=C64), "crelu",
    ),
]  # fmt: skip
# grad_y, x, y and the rest of the layer: y is (N, O, Q) = (5, 6, 3)
_Y = T((5, 6, 3))
_TOLD = "none, relu, tanh, sigmoid, crelu, zrelu"
_LINEAR_BACKWARD = [
    (ValueError, "grad_y must be (N, O, Q) with N = 5, O = 6 and Q = 3, got (5, 6)", T((5, 6)), _IN, _Y, _W, "relu"),
    (ValueError, "y must be (N, O, Q) with N = 5, O = 6 and Q = 3, got (5, 4, 3)", _Y, _IN, T((5, 4, 3)), _W, "relu"),
    (
        ValueError, f"output_activation must be one of {_TOLD}, whose derivatives y tells, got 'gelu'",
        _Y, _IN, _Y, _W, "gelu",
    ),
    (ValueError, f"output_activation must be one of {NAMES}, got 'elu'", _Y, _IN, _Y, _W, "elu"),
    (
        ValueError, "weight must be (Q', O, I) with Q' = 3 as in transform and I = 4 as in x, got (3, 6, 3)",
        _Y, _IN, _Y, T((3, 6, 3)), "none",
    ),
    (
        TypeError, "y must be torch.float32 as the result, got torch.float64",
        _Y, _IN, T((5, 6, 3), dtype=F64), _W, "relu",
    ),
    (
        TypeError, "y must be torch.float32 as the result, got torch.complex64",
        _Y, _IN, T((5, 6, 3), dtype=C64), _W, "relu",
    ),
    (TypeError, "grad_y must be on cpu as the result, got meta", T((5, 6, 3), device="meta"), _IN, _Y, _W, "relu"),
]  # fmt: skip
_Z = T((3, 5, 2))
_SPACES = "space must be one of probabilities, logits, got 'odds'"
_ENSEMBLE = [
    (ValueError, "logits must be (Q, N, C), got (5, 2)", T((5, 2)), T((5,)), "logits"),
    (ValueError, "weights must be (Q,) with Q = 3 as in logits, got (2,)", _Z, T((2,)), "logits"),
    (ValueError, "weights must be (Q,) with Q = 3 as in logits, got (3, 1)", _Z, T((3, 1)), "logits"),
    (ValueError, _SPACES, _Z, T((3,)), "odds"),
    (TypeError, "weights must be torch.float32 as the result, got torch.float64", _Z, T((3,), dtype=F64), "logits"),
    (
        TypeError, "weights must be torch.float32 as the result, got torch.complex64",
        T((3, 5, 2), dtype=C64), T((3,), dtype=C64), "logits",
    ),
    (TypeError, f"logits must be {_KINDS}, got torch.int64", T((3, 5, 2), dtype=I64), T((3,)), "logits"),
]  # fmt: skip
_LOSS = "spectral_mlp_cross_entropy"


def _wrong() -> list[Wrong]:
    rows = [row for op in ("dct", "dct_adjoint", "dst", "dst_adjoint") for row in _dct(op)]
    rows += [_first_type("dct"), _first_type("dct_adjoint")]
    rows += [Wrong("dctn", error, text, (T(shape, dtype=dtype), *rest)) for error, text, shape, dtype, *rest in DCTN]
    rows += [Wrong("hadamard", error, text, tuple(args)) for error, text, *args in _HADAMARD]
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
        (
            TypeError,
            "branch_weights must be torch.float32 as the result, got torch.float64",
            T((3,), dtype=F64),
            "logits",
        ),
        (
            TypeError,
            "branch_weights must be torch.float32 as the result, got torch.complex64",
            T((3,), dtype=C64),
            "logits",
        ),
    ]:
        rows.append(Wrong("spectral_ensemble", error, text, (*right, *tail)))
        rows.append(Wrong("spectral_ensemble_backward", error, text, (T((5, 2)), *right, *tail)))
    for error, text, wrong in [
        (ValueError, "grad_y must be (N, C) with N = 5 and C = 2 as in the output, got (2, 5)", T((2, 5))),
        (TypeError, "grad_y must be torch.float32 as the result, got torch.float64", T((5, 2), dtype=F64)),
    ]:
        rows.append(Wrong("spectral_ensemble_backward", error, text, (wrong, *right, shares, "logits", False)))
    grad, wide = T((3, 5, 2)), T((3, 5, 6))
    for error, text, wrong, *layers in [
        (ValueError, "x must be (Q, N, I) where transform is None, got (5, 4)", grad, T((5, 4)), _WS, _BS, _AS),
        (ValueError, "grad_y must be (Q, N, O) with Q = 3, N = 5 and O = 2, got (3, 5, 6)", wide, _X, _WS, _BS, _AS),
        (ValueError, "grad_y must be (Q, N, O) with Q = 3, N = 5 and O = 2, got (5, 2)", T((5, 2)), _X, _WS, _BS, _AS),
        (ValueError, "biases must have one entry per weight, 2, got 0", grad, _X, _WS, [], _AS),
        (TypeError, f"grad_y must be {_SINGLE} as x, got torch.float64", T((3, 5, 2), dtype=F64), _X, _WS, _BS, _AS),
    ]:  # fmt: skip
        rows.append(Wrong("branch_mlp_backward", error, text, (wrong, *layers, True)))
    for error, text, *args in _ENSEMBLE:
        rows.append(Wrong("branch_ensemble", error, text, tuple(args)))
        rows.append(Wrong("branch_ensemble_backward", error, text, (T((5, 2)), *args)))
    for error, text, wrong in [
        (ValueError, "grad_y must be (N, C) with N = 5 and C = 2 as in logits, got (2, 5)", T((2, 5))),
        (TypeError, "grad_y must be torch.float32 as the result, got torch.float64", T((5, 2), dtype=F64)),
    ]:
        rows.append(Wrong("branch_ensemble_backward", error, text, (wrong, _Z, T((3,)), "logits")))
    from wrong_convolutions import rows as convolutions  # here, because they are made of this file's parts
    from wrong_csg import rows as csg
    from wrong_recurrent import rows as recurrent
    from wrong_tucker import rows as tucker

    return [*rows, *recurrent(), *convolutions(), *csg(), *tucker()]


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
    (lambda: spectral_ops.dctn(torch.ones(4), s=0), ValueError, "dctn: s must be at least 1, got 0"),
    (lambda: spectral_ops.dstn(torch.ones(4).bool()), TypeError, "dstn: x must be a number, got torch.bool"),
    (lambda: spectral_ops.dst(torch.ones(4), type=5), ValueError, "dst: type must be one of (1, 2, 3, 4), got 5"),
    (
        lambda: spectral_ops.dct(torch.ones(3, 1), 1), ValueError,
        "dct: x must have length at least 2 along dim -1 for type 1, got 1",
    ),
    (
        lambda: spectral_ops.idctn(torch.ones(2, 3), dim=(0, -2)), ValueError,
        "idctn: dim must name each dimension once, got (0, -2)",
    ),
    (
        lambda: spectral_ops.idstn(torch.ones(2, 3), s=(2, 3), axes=1), ValueError,
        "idstn: s must have one length for each of 1 dims, got 2",
    ),
    (
        lambda: spectral_ops.dctn(torch.ones(2, 3), s=(2, 3, 4)), ValueError,
        "dctn: s must have at most 2 lengths as x has dimensions, got 3",
    ),
    (
        lambda: spectral_ops.dstn(torch.ones(2, 3), axes=(0, 2)), ValueError,
        "dstn: dim must be in [-2, 1] for x with 2 dimensions, got 2",
    ),
    (
        lambda: spectral_ops.dct(torch.ones(4, 2), n=3, dim=2), ValueError,
        "dct: dim must be in [-2, 1] for x with 2 dimensions, got 2",
    ),
    (lambda: spectral_ops.dct(torch.ones(4), type=5), ValueError, "dct: type must be one of (1, 2, 3, 4), got 5"),
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
    (lambda: transforms.DCT(4, type=0), ValueError, "DCT: type must be one of (1, 2, 3, 4), got 0"),
    (lambda: transforms.DCT(4, norm="max"), ValueError, "DCT: norm must be one of backward, ortho, forward, got 'max'"),
    (lambda: transforms.Identity(0), ValueError, "Identity: length must be at least 1, got 0"),
]  # fmt: skip
