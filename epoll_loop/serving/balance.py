"""Connections to the workers: the parent accepts, and hands each over to the one whose turn it is."""

from __future__ import annotations

import collections
import errno
import os
import socket
from collections.abc import Iterable, Sequence
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
        self._waiting: collections.deque[tuple[int, socket.socket]] = collections.deque()  # taken back
        self._paused = True
        self._exhausted = False

    def start(self, sockets: Sequence[tuple[int, socket.socket]], backlog: int) -> None:
        """Listen, and let what comes wait until `resume()`. Raises OSError."""
        for _, sock in sockets:
            sock.setblocking(False)
            sock.listen(backlog)
        self._sockets = list(sockets)

    def stop(self) -> None:
        """Accept no more, and close what was taken back; the listening sockets are the caller's."""
        self._pause()
        self._sockets = []
        self.take_back(())

    def take_back(self, connections: Iterable[tuple[int, socket.socket]]) -> None:
        """Hand them to others than the worker that did not get them: now, or as soon as one takes connections.

        After `stop()` they are closed.
        """
        self._waiting.extend(connections)
        if self._sockets:
            self._hand_waiting()
            return
        while self._waiting:
            self._waiting.popleft()[1].close()

    def resume(self) -> None:
        """Go on: a worker takes connections again, or for the first time."""
        self._hand_waiting()
        if self._paused:
            self._paused = False
            for index, sock in self._sockets:
                self._loop.add_reader(sock, self._accept, index, sock)

    def _hand_waiting(self) -> None:
        while self._waiting and (place := self.choose()) is not None:
            self._hand(place, *self._waiting.popleft())

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
            self._hand(place, index, sock)

    def _hand(self, place: Any, index: int, sock: socket.socket) -> None:
        self._last = place.index
        place.hand(index, sock)

    def choose(self) -> Any:
        """Return the place that is next, or None if no worker takes connections now."""
        # From the one behind the last; what is below 0 counts from the end.
        turns = range(self._last + 1 - len(self._places), self._last + 1)
        ready = (place for turn in turns if (place := self._places[turn]).takes())
        return min(ready, key=lambda place: place.connections, default=None) if self._least else next(ready, None)

    def _wait(self, number: int | None) -> None:
        self._pause()
        self._loop.call_later(_RETRY, self.resume)
        if not self._exhausted:
            self._exhausted = True
            exc = OSError(number, os.strerror(number or errno.EMFILE))
            self._loop.call_exception_handler({"message": "socket.accept() out of system resource", "exception": exc})
