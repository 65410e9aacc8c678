"""Signals: add_signal_handler() and remove_signal_handler().

Python's own C handler writes the number of each signal that has a Python handler to the descriptor of
`signal.set_wakeup_fd()`. Ours is a pipe that the loop reads, so a signal interrupts the loop's sleep, also when it
comes between the last look at pending signals and the system call, or to another thread. It stays installed while there
are handlers, so that a signal that comes when the loop does not run waits in the pipe for the next run. A pipe, since a
number that finds no room is lost: a socket pair has room for some hundred only, whatever their size.
"""

from __future__ import annotations

import asyncio
import errno
import inspect
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

from epoll_loop.core.handles import Handle
from epoll_loop.core.missing import SIGNALS, need
from epoll_loop.core.reactor import Reactor


class Signals(Reactor):
    """The room of the loop that deals with Unix signals."""

    __slots__ = ("_signal_handlers", "_signal_pipe", "_wakeup_before", "_wakeup_file")

    _signal_handlers: dict[int, Handle]
    _signal_pipe: tuple[int, int] | None  # the ends to read from and to write to
    _wakeup_before: int | None  # what set_wakeup_fd() had before ours; None while ours is not installed

    def _signals_init(self) -> None:
        self._signal_handlers = {}
        self._signal_pipe = None
        self._wakeup_before = None
        self._wakeup_file: tuple[int, int] | None = None  # what is open by that number

    def add_signal_handler(self, sig: int, callback: Callable[..., Any], *args: Any) -> None:
        """Call `callback(*args)` in the loop, in order, when the signal arrives; replaces an earlier handler.

        TypeError for a coroutine function or a signal that is no int, ValueError for one that does not exist,
        RuntimeError off the main thread and for one that can not be caught. See signal(7).
        """
        need(SIGNALS, "signals that can be waited for")
        if asyncio.iscoroutine(callback) or inspect.iscoroutinefunction(callback):
            raise TypeError("coroutines cannot be used with add_signal_handler()")
        _check_signal(sig)
        self._check_closed()
        if threading.current_thread() is not threading.main_thread():
            # What Python says where it is not installed yet.
            raise RuntimeError("set_wakeup_fd only works in main thread of the main interpreter")
        try:
            self._signals_install(replace=True)
        except (ValueError, OSError) as exc:
            raise RuntimeError(str(exc)) from exc
        before = self._signal_handlers.get(sig)
        self._signal_handlers[sig] = Handle(callback, args, self)
        try:
            # Only so that the C handler writes the number; the work is done by _signals_read().
            signal.signal(sig, _noop)
            signal.siginterrupt(sig, False)
        except OSError as exc:
            if before is None:
                del self._signal_handlers[sig]
            else:
                self._signal_handlers[sig] = before
            if not self.is_running():
                self._signals_uninstall()
            raise _uncatchable(sig, exc) from None
        if before is not None:
            before.cancel()

    def remove_signal_handler(self, sig: int) -> bool:
        """Restore the default action of a signal; return True if it had a handler here."""
        _check_signal(sig)
        handle = self._signal_handlers.pop(sig, None)
        if handle is None:
            return False
        handle.cancel()
        try:
            signal.signal(sig, signal.default_int_handler if sig == signal.SIGINT else signal.SIG_DFL)
        except OSError as exc:
            raise _uncatchable(sig, exc) from None
        if not self.is_running():
            self._signals_uninstall()
        return True

    def _signals_install(self, *, replace: bool) -> None:
        """Have the wakeup descriptor; with `replace`, even if that of somebody else goes deaf by it.

        A run alone is no reason for that: Twisted, for one, hears of its child processes by a descriptor of its own.
        """
        if not SIGNALS:
            return
        if self._signal_pipe is None:
            ends = self._signal_pipe = os.pipe()
            for fd in ends:
                os.set_blocking(fd, False)
            self.add_reader(ends[0], self._signals_read)
        if self._wakeup_before is None:
            self._wakeup_before = -1  # ours does not stay behind, if an exception interrupts what follows
        elif not replace:
            return
        # Also if ours is there already: somebody may have taken it away. A full pipe is no reason for a warning: the
        # loop is awake; and whether the owner of another one wants to be warned can not be asked.
        before = signal.set_wakeup_fd(self._signal_pipe[1], warn_on_full_buffer=False)
        if before == self._signal_pipe[1]:
            return
        if before == -1 or replace:
            self._wakeup_before, self._wakeup_file = before, _identity(before)
            return
        try:
            signal.set_wakeup_fd(before, warn_on_full_buffer=False)
        except (OSError, ValueError):
            return  # closed by its owner: ours stays
        self._wakeup_before = None
        try:
            os.write(before, os.read(self._signal_pipe[0], 65536))  # what came between the two calls
        except OSError:
            pass  # nothing did

    def _signals_uninstall(self) -> None:
        if self._wakeup_before is None or self._signal_handlers or self._signal_pipe is None:
            return
        before, self._wakeup_before = self._wakeup_before, None
        try:
            current = signal.set_wakeup_fd(-1)
            if current != self._signal_pipe[1]:
                before = current  # somebody has installed another one since: leave it
            elif _identity(before) != self._wakeup_file:
                before = -1  # closed in the meantime, and the number is another file's
            signal.set_wakeup_fd(before, warn_on_full_buffer=False)
        except (OSError, ValueError):
            pass  # closed in the meantime

    def _signals_close(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for sig in list(self._signal_handlers):
                self.remove_signal_handler(sig)
            self._signals_uninstall()
        if self._signal_pipe is not None:
            ends, self._signal_pipe = self._signal_pipe, None
            self.remove_reader(ends[0])
            # Off the main thread the C handler goes on writing to the number, which has to stay ours.
            if self._wakeup_before is None:
                for fd in ends:
                    os.close(fd)

    def _signals_read(self) -> None:
        if self._signal_pipe is None:
            return
        try:
            numbers = os.read(self._signal_pipe[0], 65536)
        except BlockingIOError:
            return
        for number in numbers:
            self.call_soon(self._signal_arrived, number)

    def _signal_arrived(self, sig: int) -> None:
        handle = self._signal_handlers.get(sig)
        if handle is not None:
            handle._run()


def _identity(fd: int) -> tuple[int, int] | None:
    try:
        found = os.fstat(fd)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _noop(signum: int, frame: Any) -> None:
    """Be a Python handler: without one the C handler is not installed, and nothing is written to the wakeup fd."""


def _check_signal(sig: Any) -> None:
    if not isinstance(sig, int):
        raise TypeError(f"sig must be an int, not {sig!r}")
    if sig not in signal.valid_signals():
        raise ValueError(f"invalid signal number {sig}")


def _uncatchable(sig: int, exc: OSError) -> Exception:
    return RuntimeError(f"sig {int(sig)} cannot be caught") if exc.errno == errno.EINVAL else exc
