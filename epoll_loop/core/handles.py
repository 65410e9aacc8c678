"""Handle: a callback that the loop is going to run."""

from __future__ import annotations

import asyncio
import sys
import traceback
from asyncio import format_helpers
from collections.abc import Callable
from contextvars import Context
from typing import Any

from epoll_loop.core import syscalls
from epoll_loop.core.syscalls import Link


def outer_stack() -> traceback.StackSummary:
    """Return the stack of the code that called into this package; compiled functions have no frames to leave out."""
    frame = sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("epoll_loop."):
        frame = frame.f_back
    stack: traceback.StackSummary = format_helpers.extract_stack(frame)
    return stack


# A handle is made and dropped with every callback: the compiled build uses those again that only the loop still knows.
_MOST_SPARES = 1024
_spare: Handle | None = None  # the first of a chain
_spares = 0


class Handle(Link):
    """A scheduled callback, the `asyncio.Handle` of this loop.

    It cannot inherit from asyncio's class, whose slots are laid out differently; `isinstance()` says yes all the same.
    """

    __slots__ = (
        "__weakref__",
        "_args",
        "_callback",
        "_cancelled",
        "_context",
        "_loop",
        "_source_traceback",
    )

    def __init__(
        self,
        callback: Callable[..., Any],
        args: tuple[Any, ...],
        loop: Any,
        context: Context | None = None,
    ) -> None:
        self._callback = callback
        self._args = args
        self._loop = loop
        self._context = syscalls.copy_context() if context is None else context
        self._cancelled = False
        self._source_traceback = outer_stack() if loop.get_debug() else None

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return asyncio.Handle

    def __reduce__(self) -> Any:
        raise TypeError("a handle belongs to its loop and cannot be pickled")

    def cancel(self) -> None:
        """Do not run the callback. Calling it again, or after the callback has run, has no effect."""
        if not self._cancelled:
            self._cancelled = True
            if self._source_traceback is None:  # in debug mode repr() goes on showing what was cancelled
                self._callback = None  # type: ignore[assignment]
                self._args = None  # type: ignore[assignment]

    def cancelled(self) -> bool:
        """Return True if the handle was cancelled."""
        return self._cancelled

    def get_context(self) -> Context:
        """Return the `contextvars.Context` that the callback runs in."""
        return self._context

    def turn(self) -> None:
        try:
            if not self._cancelled:
                syscalls.call(self._context, self._callback, self._args)
        finally:
            self = None  # type: ignore[assignment]  # the frame may live on in a traceback: see syscalls.call()

    def recycle(self) -> None:
        global _spare, _spares
        if _spares < _MOST_SPARES and type(self) is Handle:
            self._callback = None  # type: ignore[assignment]
            self._args = None  # type: ignore[assignment]
            self._loop = None
            self._context = None  # type: ignore[assignment]
            self._source_traceback = None
            self.next = _spare  # type: ignore[misc]
            _spare = self
            _spares += 1

    def _run(self) -> None:
        try:
            self.turn()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self.failed(exc)

    def failed(self, exc: BaseException) -> None:
        source = format_helpers._format_callback_source(self._callback, self._args)
        report = {"message": f"Exception in callback {source}", "exception": exc, "handle": self}
        if self._source_traceback:
            report["source_traceback"] = self._source_traceback
        self._loop.call_exception_handler(report)

    def _describe(self) -> list[str]:
        words = [type(self).__name__]
        if self._cancelled:
            words.append("cancelled")
        if self._callback is not None:
            words.append(format_helpers._format_callback_source(self._callback, self._args))
        if self._source_traceback:
            frame = next(reversed(self._source_traceback))
            words.append(f"created at {frame.filename}:{frame.lineno}")
        return words

    def __repr__(self) -> str:
        return f"<{' '.join(self._describe())}>"


def new_handle(callback: Callable[..., Any], args: tuple[Any, ...], loop: Any, context: Context | None) -> Handle:
    """Return `Handle(callback, args, loop, context)`, without a traceback; faster."""
    global _spare, _spares
    handle = _spare
    if handle is None:
        handle = Handle.__new__(Handle)
    else:
        _spare = handle.next
        _spares -= 1
        handle.next = None  # type: ignore[misc]
    handle._callback = callback
    handle._args = args
    handle._loop = loop
    handle._context = syscalls.copy_context() if context is None else context
    handle._cancelled = False
    handle._source_traceback = None
    return handle
