"""Server: the listening sockets of one `create_server()`, and what is left to wait for once they close."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import stat
import sys
from asyncio import trsock
from collections.abc import Callable, Iterator
from typing import Any

from epoll_loop.transports.listener import Listener

logger = logging.getLogger("asyncio")

# Python 3.12 gave wait_closed() its meaning, and it keeps the meaning of the Python it runs on.
_WAITS_FOR_CLIENTS = sys.version_info >= (3, 12)


# Bound here: tools that look for blocking calls in coroutines replace those of `os`, and let asyncio's modules pass.
_getcwd, _stat, _unlink = os.getcwd, os.stat, os.unlink


class Server(asyncio.AbstractServer):
    """A server, made by `loop.create_server()`; close_clients() and abort_clients() are there on every
    Python.

    Connections are counted, not kept: who asks for them gets them from the loop, which knows its channels.
    See `asyncio.Server`.
    """

    def __init__(
        self,
        loop: Any,
        sockets: list[socket.socket],
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        backlog: int,
        tls: Any,
        cleanup: SocketFile | None = None,
    ) -> None:
        self._loop = loop
        # None once closed.
        self._listeners: list[Listener] | None = [
            Listener(loop, sock, protocol_factory, self, backlog, tls) for sock in sockets
        ]
        self._cleanup = cleanup
        self._connections = 0
        self._serving = False
        # None once it is closed and its last connection is gone.
        self._waiters: list[asyncio.Future[None]] | None = []
        self._forever: asyncio.Future[None] | None = None

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return asyncio.Server  # to isinstance()

    def __reduce__(self) -> Any:
        raise TypeError("a server belongs to its loop and cannot be pickled")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} sockets={self.sockets!r}>"

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop that the server runs on."""
        loop: asyncio.AbstractEventLoop = self._loop
        return loop

    def is_serving(self) -> bool:
        """Return whether the server accepts connections."""
        return self._serving

    @property
    def sockets(self) -> tuple[trsock.TransportSocket, ...]:
        """The listening sockets; none once the server is closed."""
        return tuple(trsock.TransportSocket(listener.sock) for listener in self._listeners or ())

    @property
    def _sockets(self) -> list[socket.socket] | None:
        # asyncio's own name: None once closed.
        return None if self._listeners is None else [listener.sock for listener in self._listeners]

    async def start_serving(self) -> None:
        """Start accepting connections; nothing happens if it does so already. Raises OSError of listen(2)."""
        self._start_serving()

    async def serve_forever(self) -> None:
        """Accept connections until the task is cancelled or the server closed; then close everything."""
        if self._forever is not None:
            raise RuntimeError(f"server {self!r} is already being awaited on serve_forever()")
        self._start_serving()
        self._forever = self._loop.create_future()
        try:
            await self._forever
        except asyncio.CancelledError:
            try:
                self.close()
                if _WAITS_FOR_CLIENTS:
                    self.close_clients()
                await self.wait_closed()
            finally:
                raise
        finally:
            self._forever = None

    def close(self) -> None:
        """Stop listening; open connections stay open."""
        if self._listeners is None:
            return
        listeners, self._listeners = self._listeners, None
        self._serving = False
        for listener in listeners:
            listener.stop()
        if self._cleanup is not None:
            self._cleanup.remove()
        if self._forever is not None and not self._forever.done():
            self._forever.cancel()
        if not self._connections:
            self._wake_up()

    def close_clients(self) -> None:
        """Call `close()` on the transport of every connection."""
        for transport in self._transports():
            transport.close()

    def abort_clients(self) -> None:
        """Call `abort()` on the transport of every connection."""
        for transport in self._transports():
            transport.abort()

    async def wait_closed(self) -> None:
        """Wait until the server is closed and, from Python 3.12 on, all of its connections are."""
        if self._waiters is None or (self._listeners is None and not _WAITS_FOR_CLIENTS):
            return
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        await waiter

    def _start_serving(self) -> None:
        if self._listeners is None:
            raise RuntimeError(f"server {self!r} is closed")
        if self._serving:
            return
        for listener in self._listeners:
            listener.start()
        self._serving = True

    def _transports(self) -> Iterator[Any]:
        channels = list(self._loop._channels())  # closing one takes it off the loop's own list
        for channel in channels:
            if getattr(channel, "_server", None) is self and not isinstance(channel, Listener):
                yield channel

    def _attach(self, transport: object) -> None:
        """A transport of this server begins."""
        self._connections += 1

    def _detach(self, transport: object) -> None:
        """A transport of this server has called connection_lost()."""
        self._connections -= 1
        if not self._connections and self._listeners is None:
            self._wake_up()

    def _wake_up(self) -> None:
        waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(None)


class SocketFile:
    """The file of a listening Unix socket, removed with the server unless another one has taken its place."""

    __slots__ = ("_identity", "_path")

    def __init__(self, path: str | bytes) -> None:
        name = os.fsdecode(path)
        # The program may change its directory; if it has none any more, an absolute path is still good.
        self._path = name if os.path.isabs(name) else os.path.join(_getcwd(), name)
        self._identity = self._identify()

    def remove(self) -> None:
        """Unlink the file if it is still the same one; an error is logged, not raised."""
        try:
            if self._identity is not None and self._identity == self._identify():
                _unlink(self._path)
        except FileNotFoundError:
            pass
        except OSError as exc:
            logger.error("Unable to clean up listening UNIX socket %r: %r", self._path, exc)

    def _identify(self) -> tuple[int, int] | None:
        try:
            found = _stat(self._path)
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    @staticmethod
    def is_abstract(path: str | bytes) -> bool:
        """Return whether it is a name in the abstract space, or none: there is no file then. See unix(7)."""
        return not path or path[0] in (0, "\0")

    @staticmethod
    def remove_stale(path: str | bytes) -> None:
        """Unlink the socket that an earlier server left behind; bind(2) refuses other files."""
        try:
            if stat.S_ISSOCK(_stat(path).st_mode):
                _unlink(path)
        except FileNotFoundError:
            pass
        except OSError as exc:
            # The directory may allow to make a socket and nothing else.
            logger.error("Unable to check or remove stale UNIX socket %r: %r", path, exc)
