"""Job: what every one of many loops does."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

from epoll_loop.serving.addresses import Address
from epoll_loop.serving.events import Events
from epoll_loop.serving.server import Serving


@dataclasses.dataclass
class Job:
    """What there is to serve."""

    events: Events
    addresses: list[Address]
    names: list[Any]
    """Where each of the addresses is bound."""
    options: dict[str, Any]
    backlog: int
    loops: int
    counted: bool
    """Whether the parent is told of connections that are not served any more."""

    async def serve(self, index: int, sockets: list[list[socket.socket]], owner: Any) -> None:
        """Serve on the running loop, with the sockets for each of the addresses, until it is over.

        `owner` is told by `serving(server)`, `released()` for a connection, and `shutdown()`.
        """
        released = owner.released if self.counted else None
        hooks = {"on_shutdown": owner.shutdown, "released": released}
        server = Serving(self.events, loops=self.loops, loop_index=index, **hooks, **self.options)
        await server.start(self.addresses, self.backlog, list(zip(self.names, sockets, strict=True)))
        owner.serving(server)
        try:
            await server.wait_closed()
        finally:
            server.drain()
            server.abort()


@contextlib.contextmanager
def on_sigterm(loop: Any, callback: Callable[[], Any]) -> Iterator[None]:
    """Have it called at SIGTERM, in the main thread and where there are signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    with contextlib.suppress(NotImplementedError):
        loop.add_signal_handler(signal.SIGTERM, callback)
    try:
        yield
    finally:
        with contextlib.suppress(NotImplementedError):
            loop.remove_signal_handler(signal.SIGTERM)
            if before is not None:  # else it is not Python's
                signal.signal(signal.SIGTERM, before)
