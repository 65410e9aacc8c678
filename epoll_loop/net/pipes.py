"""Pipes, FIFOs and terminals: `connect_read_pipe()` and `connect_write_pipe()`."""

from __future__ import annotations

from asyncio import BaseProtocol, ReadTransport, WriteTransport
from asyncio.log import logger
from collections.abc import Callable
from typing import Any, TypeVar

from epoll_loop.core.missing import PIPES, need
from epoll_loop.core.reactor import Reactor
from epoll_loop.transports.pipe import open_read_pipe, open_write_pipe

P = TypeVar("P", bound=BaseProtocol)


class Pipes(Reactor):
    """The pipes of the loop: file objects of pipes, FIFOs, sockets and character devices.

    A pipe belongs to its transport from then on, which closes it. ValueError for other kinds of files, such as regular
    ones; OSError if the kernel does not watch it. After either it is still the caller's.
    """

    __slots__ = ()

    async def connect_read_pipe(self, protocol_factory: Callable[[], P], pipe: Any) -> tuple[ReadTransport, P]:
        """Read from a file object without blocking. See `loop.connect_read_pipe()` of asyncio and pipe(7)."""
        need(PIPES, "pipes that can be waited for")
        protocol = protocol_factory()
        transport: Any = open_read_pipe(self, pipe, protocol)
        if self._debug:
            logger.debug("Read pipe %r connected: (%r, %r)", pipe.fileno(), transport, protocol)
        return transport, protocol

    async def connect_write_pipe(self, protocol_factory: Callable[[], P], pipe: Any) -> tuple[WriteTransport, P]:
        """Write to a file object without blocking. See `loop.connect_write_pipe()` of asyncio and pipe(7)."""
        need(PIPES, "pipes that can be waited for")
        protocol = protocol_factory()
        transport: Any = open_write_pipe(self, pipe, protocol)
        if self._debug:
            logger.debug("Write pipe %r connected: (%r, %r)", pipe.fileno(), transport, protocol)
        return transport, protocol
