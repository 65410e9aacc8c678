"""What is said elsewhere than to who asked: the loop's exception handler, logs, warnings, and the hooks of Python."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

from reliability.soak.fault import whose
from reliability.soak.record import Record


class _Log(logging.Handler):
    """Counts what is logged, with the fault whose address is in it."""

    def __init__(self, record: Record) -> None:
        super().__init__(logging.WARNING)
        self._record = record

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        exc = record.exc_info[1] if record.exc_info else None
        fault = whose(text)
        if fault is not None and exc is not None:
            self._record.seen(fault, "server", exc)
        else:
            self._record.seen(None, record.name, f"{text} {exc!r}" if exc else text)


@contextlib.contextmanager
def counted(record: Record) -> Iterator[None]:
    """Have everything that is complained of counted, and none of it printed."""

    def unraisable(args: Any) -> None:
        record.seen(None, "unraisable", f"{args.exc_value!r} in {args.object!r}")

    def in_thread(args: Any) -> None:
        record.seen(None, "thread", f"{args.exc_value!r}")

    def warn(message: Any, category: Any, *args: Any, **kwargs: Any) -> None:
        record.seen(None, "warning", f"{category.__name__}: {message}")

    log, root = _Log(record), logging.getLogger()
    hooks = sys.unraisablehook, threading.excepthook
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = warn
        sys.unraisablehook, threading.excepthook = unraisable, in_thread
        root.addHandler(log)
        try:
            yield
        finally:
            root.removeHandler(log)
            sys.unraisablehook, threading.excepthook = hooks


def handle(record: Record) -> None:
    """Have the running loop's exception handler count."""

    def handler(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        transport = context.get("transport")
        peer = transport.get_extra_info("peername") if transport is not None else None
        record.seen(whose(peer), "server", context.get("exception") or context["message"])

    asyncio.get_running_loop().set_exception_handler(handler)
