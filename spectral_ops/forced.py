"""The backend that a caller forces, for a block of calls."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar

BACKENDS = ("reference", "cpp", "triton")
_forced: ContextVar[str | None] = ContextVar("spectral_ops_backend", default=None)


def forced() -> str | None:
    """Its name, or None."""
    return _forced.get()


@contextlib.contextmanager
def use(backend: str) -> Iterator[None]:
    """Force one backend for every op called inside, and for the gradients of those calls.

    Args:
        backend: "reference", "cpp" or "triton".

    Raises:
        ValueError: no backend has that name.
        RuntimeError: (from the op) this backend cannot take these arguments; the text is the backend's reason.
    """
    if backend not in BACKENDS:
        raise ValueError(f"use: backend must be one of {', '.join(BACKENDS)}, got {backend!r}")
    token = _forced.set(backend)
    try:
        yield
    finally:
        _forced.reset(token)


def again() -> Callable[[], contextlib.AbstractContextManager]:
    """The caller's forced backend, to be forced again in backward (which may run in another thread)."""
    backend = _forced.get()
    return contextlib.nullcontext if backend is None else lambda: use(backend)
