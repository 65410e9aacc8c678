"""Handle: a callback that the loop is going to run."""

from __future__ import annotations

import asyncio
import sys
import traceback
from asyncio import format_helpers  # type: ignore[attr-defined]
from collections.abc import Callable
from contextvars import Context
from typing import Any

from epoll_loop.core import syscalls
from epoll_loop.core.queue import Link



def outer_stack() -> traceback.StackSummary:
    """Return the stack of the code that called into this package; compiled functions have no frames to leave out."""
    frame = sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("epoll_loop."):
        frame = frame.f_back
    stack: traceback.StackSummary = format_helpers.extract_stack(frame)
    return stack


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
        Link.__init__(self)
        self._callback = callback
        self._args = args
        self._loop = loop
        self._context = syscalls.copy_context() if context is None else context
        self._cancelled = False
        self._source_traceback = outer_stack() if loop.get_debug() else None

    @property
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
        if not self._cancelled:
            try:
                syscalls.call(self._context, self._callback, self._args)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as exc:
                self._failed(exc)
        self = None  # type: ignore[assignment]  # the frame may live on in a traceback: see syscalls.call()

    def _run(self) -> None:
        self.turn()

    def _failed(self, exc: BaseException) -> None:
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


syscalls.keep_memory(Handle)
