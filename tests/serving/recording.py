"""What the tests of servers share: events that keep what they are told, and a client with a limit to its waiting."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from interpreter import PATIENCE

import epoll_loop

LIMIT = 10 * PATIENCE  # seconds after which a wait has failed; nothing here takes one


class Recording(epoll_loop.Events):
    """Echoes, and keeps what it is told."""

    def __init__(self) -> None:
        self.instead: dict[str, Callable[..., Any]] = {}  # what a callback does, by its name
        self.told: list[Any] = []
        self.changed = asyncio.Event()

    def note(self, *what: Any) -> None:
        self.told.append(what)
        self.changed.set()

    def does(self, name: str, *args: Any, usually: Any = None) -> Any:
        return self.instead[name](*args) if name in self.instead else usually

    def names(self) -> list[str]:
        return [what[0] for what in self.told]

    async def until(self, condition: Callable[[], Any]) -> None:
        """Wait for something to be true; it is looked at after every callback."""
        async with asyncio.timeout(LIMIT):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    def serving(self, server: epoll_loop.Serving) -> Any:
        self.note("serving", list(server.addresses))
        return self.does("serving", server)

    def opened(self, conn: epoll_loop.Conn) -> Any:
        self.note("opened", conn)
        return self.does("opened", conn)

    def data(self, conn: epoll_loop.Conn, data: Any) -> Any:
        self.note("data", bytes(data))
        return self.does("data", conn, data, usually=data)

    def closed(self, conn: epoll_loop.Conn, error: BaseException | None) -> Any:
        self.note("closed", error)
        return self.does("closed", conn, error)

    def detached(self, conn: epoll_loop.Conn, sock: socket.socket) -> Any:
        self.note("detached", sock)
        return self.does("detached", conn, sock)


class Talk:
    """A client: a stream, with a limit to all that it waits for."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def say(self, data: bytes, size: int | None = None) -> bytes:
        """Send, and read as many bytes, or that many."""
        self.writer.write(data)
        return await self.read(len(data) if size is None else size)

    async def read(self, size: int) -> bytes:
        async with asyncio.timeout(LIMIT):
            return await self.reader.readexactly(size)

    async def rest(self) -> bytes:
        """All that comes until the end."""
        async with asyncio.timeout(LIMIT):
            return await self.reader.read()
