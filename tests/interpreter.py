"""Triton's interpreter with two faults of version 3.9 mended, for tests/interpreted_triton.py.

It truncates where a GPU rounds float32 to bfloat16. And it patches triton.language anew at every call of a kernel's
function, which takes half the time of a test; once a launch is enough.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import triton.language as tl
from triton.runtime import interpreter

_convert, _patch = interpreter._convert_float, interpreter._patch_lang


def _rounded(data: np.ndarray, source: Any, target: Any, rounding: Any) -> np.ndarray:
    if (source, target) == (tl.float32, tl.bfloat16):
        values = torch.from_numpy(np.ascontiguousarray(data)).view(torch.float32)
        return values.bfloat16().view(torch.int16).numpy().view(np.uint16)
    return _convert(data, source, target, rounding)


def _patched_once(fn: Any) -> Any:
    languages = [module for module in (tl, tl.core) if any(value is module for value in fn.__globals__.values())]
    patched = not any(tl.core.is_builtin(module.load) for module in languages)
    return interpreter._LangPatchScope() if patched else _patch(fn)


def mend() -> None:
    interpreter._convert_float, interpreter._patch_lang = _rounded, _patched_once
