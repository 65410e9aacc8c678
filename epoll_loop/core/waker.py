"""Waker: ends the sleep of a back end that has no eventfd(2)."""

from __future__ import annotations

import socket
import threading

_ROOM = 4096


class Waker:
    """A pair of sockets, which every platform can wait for: a byte at one end is an event at the other.

    Where there is no such pair, there are neither threads nor signals (WASI), and `fd` is -1.
    """

    __slots__ = ("_ends", "_lock", "fd")

    def __init__(self) -> None:
        self._ends: tuple[socket.socket, ...] = ()
        self._lock = threading.Lock()
        self.fd = -1
        if hasattr(socket, "socketpair"):
            self._ends = socket.socketpair()
            for end in self._ends:
                end.setblocking(False)
            self.fd = self._ends[0].fileno()

    def wake(self) -> None:
        """Make an event at `fd`; none once it is closed. Any thread and any signal handler may call it."""
        # The lock: close() must not give the number away between our looking at it and the kernel's.
        with self._lock:
            if self._ends:
                try:
                    self._ends[1].send(b"\0")
                except BlockingIOError:
                    pass  # full: there is an event that nobody has seen yet (I24)

    def drain(self) -> None:
        """Make room, and an end to the event."""
        try:
            while len(self._ends[0].recv(_ROOM)) == _ROOM:
                pass
        except BlockingIOError:
            pass

    def after_fork(self) -> None:
        """Be of use in a forked child: a thread that is not in this process may have held the lock."""
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close both ends."""
        with self._lock:
            for end in self._ends:
                end.close()
            self._ends = ()
