"""Every wrong argument raises the promised error with the promised text, on every path into an op."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import torch
from samples import floating, make, map_tensors
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad
from wrong_algebra import WRONG_ALGEBRA
from wrong_layers import WRONG_LAYERS
from wrong_samples import WRONG, WRONG_CALLS, Wrong
from wrong_transforms import WRONG_TRANSFORMS

import spectral_ops

wrong = pytest.mark.parametrize("row", WRONG, ids=lambda row: row.id)


def expect(row: Wrong) -> pytest.RaisesExc:
    return pytest.raises(row.error, match="^" + re.escape(row.message) + "$")


def call(row: Wrong, args: list) -> None:
    getattr(torch.ops.spectral, row.op)(*args)


@wrong
def test_eager(row: Wrong) -> None:
    with expect(row):
        call(row, make(row.args))


@wrong
def test_with_gradients(row: Wrong) -> None:
    args = map_tensors(lambda t: t.requires_grad_() if floating(t) else t, make(row.args))
    with expect(row):
        call(row, args)


@wrong
def test_traced_and_transformed(row: Wrong) -> None:
    args = make(row.args)
    with forward_ad.dual_level(), expect(row):
        call(row, args)
    if "got meta" not in row.text:
        with FakeTensorMode() as mode, expect(row):
            call(row, map_tensors(mode.from_tensor, args))


@pytest.mark.parametrize("row", [row for row in WRONG if "got meta" not in row.text], ids=lambda row: row.id)
def test_explain_checks_too(row: Wrong) -> None:
    with expect(row):
        spectral_ops.explain(row.op, *make(row.args))


@pytest.mark.parametrize(
    ("function", "error", "text"),
    [pytest.param(*row, id=row[2]) for row in (*WRONG_CALLS, *WRONG_TRANSFORMS, *WRONG_ALGEBRA, *WRONG_LAYERS)],
)
def test_python_front(function, error, text) -> None:
    match = re.escape(text.removesuffix("...")) + ("" if text.endswith("...") else "$")
    with pytest.raises(error, match="^" + match):
        function()


@pytest.mark.parametrize("op", ["spectral_mlp_cross_entropy", "spectral_mlp_cross_entropy_with_grads"])
@pytest.mark.parametrize("target", [-1, 2, -100])
def test_class_out_of_range(op: str, target: int) -> None:
    """Nothing is ignored silently, -100 included; and no kernel reads outside the logits."""
    x, w = torch.randn(3, 2, 2), torch.randn(2, 2, 2)
    with pytest.raises(RuntimeError, match=r"out of bounds|must hold classes 0 \.\. 1, got " + str(target)):
        getattr(torch.ops.spectral, op)(x, torch.eye(2), [w], [None], ["none"], torch.tensor([0, target, 1]))


# ---- every message in the source has a row here --------------------------------------------------------------------
_ROOT = Path(spectral_ops.__file__).parent


def _pattern(node: ast.expr) -> str:
    """A regular expression for what an f-string or a string makes; ".+" for what is no literal."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.escape(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_pattern(part) if isinstance(part, ast.Constant) else ".+" for part in node.values)
    return ".+"


def _messages(paths: list[Path]) -> dict[str, str]:
    """Pattern of each message in the files, with the place where it is raised."""
    found = {}
    for path in paths:
        for function in ast.walk(ast.parse(path.read_text())):
            if not isinstance(function, ast.FunctionDef):
                continue
            assigned = [n for n in ast.walk(function) if isinstance(n, ast.Assign)]
            for node in ast.walk(function):
                if not (isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)):
                    continue
                place, args = f"{path.name}:{node.lineno}", node.exc.args
                if ast.unparse(node.exc.func).endswith("wrong_shape"):
                    named = ast.unparse(args[3])
                    last = [n.value for n in assigned if ast.unparse(n.targets[0]) == named and n.lineno < node.lineno]
                    must = last[-1] if last else args[3]
                    for text in [must.body, must.orelse] if isinstance(must, ast.IfExp) else [must]:
                        key = f"{place}: {ast.unparse(text)}"
                        found[key] = f".+: {_pattern(args[1])} must be {_pattern(text)}, got .+"
                else:
                    found[place] = _pattern(args[0])
    return found


def _missing(messages: dict[str, str], texts: list[str]) -> dict[str, str]:
    return {place: p for place, p in messages.items() if not any(re.fullmatch(p, text) for text in texts)}


def test_every_message_has_a_row() -> None:
    messages = _messages(sorted((_ROOT / "ops").glob("*.py")))
    assert len(messages) > 25, "the search for messages finds too little"
    assert not _missing(
        messages, [row.message for row in WRONG] + [text for _, _, text in (*WRONG_CALLS, *WRONG_TRANSFORMS)]
    )


def test_every_message_of_the_algebra_has_a_row() -> None:
    messages = _messages([_ROOT / name for name in ("algebra.py", "faces.py", "nn/structured.py")])
    assert len(messages) > 20, "the search for messages finds too little"
    assert not _missing(messages, [text for _, _, text in (*WRONG_ALGEBRA, *WRONG_LAYERS)])


def test_every_message_of_the_convolutions_has_a_row() -> None:
    messages = _messages(
        [
            _ROOT / name
            for name in ("nn/geometry.py", "nn/conv.py", "nn/images.py", "compress/spectral.py", "compress/layers.py")
        ]
    )
    assert len(messages) > 20, "the search for messages finds too little"
    assert not _missing(messages, [text for _, _, text in WRONG_LAYERS])


def test_every_op_has_wrong_rows() -> None:
    for op in spectral_ops.table.TABLE:
        errors = {row.error for row in WRONG if row.op == op}
        assert errors == {ValueError, TypeError}, op
