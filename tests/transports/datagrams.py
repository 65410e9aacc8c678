"""Datagram sockets around one transport: a protocol that keeps what it is told, and peers that are plain sockets."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import wire


class Recorder(wire.Calls, asyncio.DatagramProtocol):
    """Keeps datagrams, their senders and errors."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[bytes, Any]] = []
        self.errors: list[Exception] = []

    def datagram_received(self, data: bytes, addr: Any) -> None:
        assert type(data) is bytes
        self.found.append((data, addr))
        self.note("datagram_received")

    def error_received(self, exc: Exception) -> None:
        self.errors.append(exc)
        self.note("error_received")

    @property
    def datagrams(self) -> list[bytes]:
        return [data for data, _ in self.found]

    async def until_datagrams(self, count: int) -> list[bytes]:
        await self.until(lambda: len(self.found) >= count)
        return self.datagrams


def bound(kind: str, folder: Path) -> socket.socket:
    family = {"IPv4": socket.AF_INET, "IPv6": socket.AF_INET6}.get(kind, socket.AF_UNIX)
    number = len(os.listdir(folder))
    address: Any = {
        "IPv4": ("127.0.0.1", 0),
        "IPv6": ("::1", 0),
        "Unix": str(folder / f"socket{number}"),
        "abstract": b"",  # the kernel chooses a name
    }[kind]
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.settimeout(wire.LIMIT)
    sock.bind(address)
    return sock


@contextlib.asynccontextmanager
async def endpoint(sock: socket.socket, protocol: Recorder) -> AsyncIterator[Any]:
    """A transport on a socket."""
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(lambda: protocol, sock=sock)
    try:
        yield transport
    finally:
        await wire.finish(transport)
        sock.close()


@contextlib.contextmanager
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two Unix datagram sockets, connected with each other."""
    first, second = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    second.settimeout(wire.LIMIT)
    with first, second:
        yield first, second


def receive_all(sock: socket.socket) -> list[bytes]:
    """What is in the kernel for a socket."""
    found = []
    sock.settimeout(0)
    try:
        while True:
            found.append(sock.recv(300_000))
    except BlockingIOError:
        return found
    finally:
        sock.settimeout(wire.LIMIT)


async def blocked(protocol: Recorder, transport: Any, name: Any = None) -> int:
    """Send until some of it is left in the queue; return how many datagrams it has been."""
    count = 0
    while not transport.get_write_buffer_size():
        transport.sendto(b"%06d" % count, name)
        count += 1
        await asyncio.sleep(0)
    return count
