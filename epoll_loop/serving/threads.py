"""Thread: a worker that is a thread with a loop of its own, for a Python without the GIL."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from typing import Any

from epoll_loop.loop import Loop
from epoll_loop.serving.job import Job
from epoll_loop.serving.server import Serving


class Thread:
    """What the parent has of a worker. `place` is told of it in the parent's thread; see `workers.Place`."""

    def __init__(self, loop: Any, job: Job, index: int, sockets: list[list[socket.socket]], place: Any) -> None:
        self._loop = loop
        self._job = job
        self._index = index
        self._sockets = sockets
        self._place = place
        self._server: Serving | None = None
        self._under_way: dict[socket.socket, int] = {}  # handed over, and not taken yet, with the address
        self._draining = False
        self._over = False  # its loop runs for the last time, to be closed
        self._thread = threading.Thread(target=self._main, name=f"epoll_loop-{index}", daemon=True)
        self._thread.start()

    # In the parent's thread

    def hand(self, index: int, sock: socket.socket) -> None:
        """Hand a connection over."""
        assert self._server is not None
        self._under_way[sock] = index
        self._server.call(self._accept, index, sock)

    def is_behind(self) -> bool:
        """Return whether it can not take what it gets."""
        return False

    def drain(self) -> None:
        """Have it end, with what is queued."""
        self._draining = True
        if self._server is not None:
            with contextlib.suppress(RuntimeError):
                self._server.call(self._server.drain)

    def kill(self) -> None:
        """Nothing can end a thread from outside: it is left behind."""
        self._place.ended("its thread is left behind", None)

    def _ready(self, server: Serving) -> None:
        self._server = server
        if self._draining:
            self.drain()
        self._place.ready()

    def _ended(self, error: BaseException | None) -> None:
        self._thread.join()
        self._place.ended("its thread has ended", error)
        self._place.untaken([(index, sock) for sock, index in self._under_way.items()])

    # In the worker's thread

    def _main(self) -> None:
        error: BaseException | None = None
        try:
            with asyncio.Runner(loop_factory=Loop) as runner:
                try:
                    runner.run(self._job.serve(self._index, self._sockets, self))
                finally:
                    self._over = True
        except BaseException as exc:
            error = exc
        for sockets in self._sockets:
            for sock in sockets:
                sock.close()  # unless it was the server's
        self._tell(self._ended, error)

    def _accept(self, index: int, sock: socket.socket) -> None:
        assert self._server is not None
        if not self._over:  # else it stays under way
            del self._under_way[sock]
            self._server.accept(index, sock)

    def serving(self, server: Serving) -> None:
        """The server listens."""
        self._tell(self._ready, server)

    def released(self) -> None:
        """A connection is not served any more."""
        self._tell(self._place.released, 1)

    def shutdown(self) -> None:
        """All loops are to end."""
        self._tell(self._place.shutdown)

    def _tell(self, *call: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the parent's loop is closed: it was left behind
            self._loop.call_soon_threadsafe(*call)
