"""Connections to the workers: the parent accepts, and hands each over to the one whose turn it is."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Sequence
from typing import Any

from epoll_loop.transports.listener import EXHAUSTED

RANDOM, ROUND_ROBIN, LEAST_CONNECTIONS = "random", "round-robin", "least-connections"
BALANCES = (RANDOM, ROUND_ROBIN, LEAST_CONNECTIONS)

# Accepts an iteration, and seconds before another try when the system has run out of what a connection needs.
_BUDGET = 64
_RETRY = 1.0


class Accepting:
    """Accepts on listening sockets, by the index of their address, and chooses among the places of workers."""

    def __init__(self, loop: Any, places: Sequence[Any], balance: str) -> None:
        self._loop = loop
        self._places = places
        self._least = balance == LEAST_CONNECTIONS
        self._last = -1  # the index of the place that was chosen last
        self._sockets: list[tuple[int, socket.socket]] = []
        self._paused = True
        self._exhausted = False

    def start(self, sockets: Sequence[tuple[int, socket.socket]], backlog: int) -> None:
        """Listen, and let what comes wait until `resume()`. Raises OSError."""
        for _, sock in sockets:
            sock.setblocking(False)
            sock.listen(backlog)
        self._sockets = list(sockets)

    def stop(self) -> None:
        """Accept no more; the sockets are the caller's."""
        self._pause()
        self._sockets = []

    def resume(self) -> None:
        """Go on: a worker takes connections again, or for the first time."""
        if self._paused:
            self._paused = False
            for index, sock in self._sockets:
                self._loop.add_reader(sock, self._accept, index, sock)

    def _pause(self) -> None:
        self._paused = True
        for _, sock in self._sockets:
            self._loop.remove_reader(sock)

    def _accept(self, index: int, listening: socket.socket) -> None:
        for _ in range(_BUDGET):
            place = self.choose()
            if place is None:
                self._pause()  # until a worker is ready
                return
            try:
                sock, _ = listening.accept()
            except BlockingIOError:
                return
            except OSError as exc:
                if exc.errno in EXHAUSTED:
                    self._wait(exc.errno)
                    return
                continue  # that one is gone
            self._exhausted = False
            self._last = place.index
            place.hand(index, sock)

    def choose(self) -> Any:
        """Return the place that is next, or None if no worker takes connections now."""
        order = [*self._places[self._last + 1 :], *self._places[: self._last + 1]]
        ready = [place for place in order if place.takes()]
        if not ready:
            return None
        return min(ready, key=lambda place: place.connections) if self._least else ready[0]

    def _wait(self, number: int | None) -> None:
        self._pause()
        self._loop.call_later(_RETRY, self.resume)
        if not self._exhausted:
            self._exhausted = True
            exc = OSError(number, os.strerror(number or errno.EMFILE))
            self._loop.call_exception_handler({"message": "socket.accept() out of system resource", "exception": exc})
