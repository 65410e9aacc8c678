"""Waker: ends the sleep of a back end that has no eventfd(2)."""

from __future__ import annotations

import socket
import threading

_ROOM = 4096


class Waker:
    """A pair of sockets, which every platform can wait for: a byte at one end is an event at the other."""

    __slots__ = ("_inner", "_lock", "_outer", "fd")

    def __init__(self) -> None:
        self._inner, self._outer = socket.socketpair()
        self._inner.setblocking(False)
        self._outer.setblocking(False)
        self.fd = self._inner.fileno()
        self._lock = threading.Lock()

    def wake(self) -> None:
        """Make an event at `fd`; none once it is closed. Any thread and any signal handler may call it."""
        # The lock: close() must not give the number away between our looking at it and the kernel's.
        with self._lock:
            if self._outer.fileno() >= 0:
                try:
                    self._outer.send(b"\0")
                except BlockingIOError:
                    pass  # full: there is an event that nobody has seen yet (I24)

    def drain(self) -> None:
        """Make room, and an end to the event."""
        try:
            while len(self._inner.recv(_ROOM)) == _ROOM:
                pass
        except BlockingIOError:
            pass

    def after_fork(self) -> None:
        """Be of use in a forked child: a thread that is not in this process may have held the lock."""
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close both ends."""
        with self._lock:
            self._inner.close()
            self._outer.close()
