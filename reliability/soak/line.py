"""The connections of those who put in faults, with the address of the fault: on a socket, or with TLS on streams."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator

from reliability.soak.content import limit_buffers, local_name
from reliability.soak.fault import Fault
from reliability.soak.world import World

_LINGER_0 = struct.pack("ii", 1, 0)


class Line:
    """A connection on a socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._loop = asyncio.get_running_loop()

    async def send(self, data: bytes) -> None:
        """Send all of it."""
        await self._loop.sock_sendall(self._sock, data)

    async def receive_some(self, size: int) -> bytes:
        """Receive what there is, up to so much; nothing at the end."""
        return await self._loop.sock_recv(self._sock, size)

    async def receive(self, size: int) -> bytes:
        """Receive as much, or less where it ends before."""
        found = bytearray()
        while len(found) < size and (data := await self.receive_some(min(size - len(found), 65536))):
            found += data
        return bytes(found)

    async def until_end(self) -> bytes:
        """Receive up to the end."""
        return await self.receive(1 << 40)

    async def head(self) -> bytes:
        """Receive the head of a response."""
        found = b""
        while not found.endswith(b"\r\n\r\n") and (data := await self.receive_some(1)):
            found += data
        return found

    def reset(self) -> None:
        """Close with an RST; a Unix socket has none, and is closed."""
        if self._sock.family != socket.AF_UNIX:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_0)
        self.close()

    def close(self) -> None:
        """Close without reading what may have come."""
        self._sock.close()


class SecureLine(Line):
    """A connection with TLS. What is not asked for is not read: the stream stops reading at its limit."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        super().__init__(writer.get_extra_info("socket"))
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        for start in range(0, len(data), 65536):
            self._writer.write(data[start : start + 65536])
            await self._writer.drain()

    async def receive_some(self, size: int) -> bytes:
        return await self._reader.read(size)

    def close(self) -> None:
        self._writer.transport.abort()


@contextlib.asynccontextmanager
async def connected(world: World, fault: Fault, place: str, *, bare: bool = False) -> AsyncIterator[Line]:
    """Connect to a place, and close afterwards; `bare` is without TLS also where the server speaks it."""
    sock = socket.socket(socket.AF_UNIX if place == "unix" else socket.AF_INET)
    line = Line(sock)
    try:
        sock.setblocking(False)
        sock.bind(local_name(fault.number) if place == "unix" else (fault.address, 0))
        limit_buffers(sock)
        await asyncio.get_running_loop().sock_connect(sock, world.places[place])
        if place in ("tls", "https") and not bare:
            context = world.client_context
            line = SecureLine(*await asyncio.open_connection(sock=sock, ssl=context, server_hostname="127.0.0.1"))
        yield line
    finally:
        line.close()


def client_hello(context: ssl.SSLContext) -> bytes:
    """Return what a client of TLS says first."""
    outgoing = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="127.0.0.1").do_handshake()
    return outgoing.read()
