"""Real sockets around one transport: protocols that keep what they are told, and peers that are plain sockets."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Callable
from typing import Any

from interpreter import PATIENCE

LIMIT = 10 * PATIENCE  # seconds after which a wait has failed; nothing here takes one
SMALL = 131072  # a send buffer that is soon full
LARGE = 1 << 20  # more than it and the receive buffer of the peer take without anybody reading


def pattern(size: int, start: int = 0) -> bytes:
    """Bytes of which every four are different: an order to check."""
    first = start // 4
    words = range(first, first + size // 4 + 2)
    return struct.pack(f">{len(words)}I", *words)[start % 4 : start % 4 + size]


class Calls:
    """What a protocol was told: the names of the calls in `calls`, the bytes in `data`."""

    def __init__(self, keep_open: bool = False) -> None:
        self.calls: list[str] = []
        self.data = bytearray()
        self.keep_open = keep_open
        self.transport: Any = None
        self.lost: Any = self  # what connection_lost() was called with
        self.hooks: dict[str, Callable[[], Any]] = {}  # called by the callback of that name, after it is noted
        self._changed = asyncio.Event()

    def note(self, name: str) -> Any:
        self.calls.append(name)
        self._changed.set()
        return self.hooks[name]() if name in self.hooks else None

    async def until(self, condition: Callable[[], Any]) -> None:
        """Wait for something to be true; it is looked at after every callback."""
        async with asyncio.timeout(LIMIT):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def until_lost(self) -> Any:
        """Wait for connection_lost() and return its argument."""
        await self.until(lambda: self.lost is not self)
        return self.lost

    async def until_data(self, size: int) -> bytes:
        """Wait for that many bytes in all and return them."""
        await self.until(lambda: len(self.data) >= size)
        return bytes(self.data)

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.note("connection_made")

    def eof_received(self) -> Any:
        self.note("eof_received")
        return self.keep_open

    def pause_writing(self) -> None:
        self.note("pause_writing")

    def resume_writing(self) -> None:
        self.note("resume_writing")

    def connection_lost(self, exc: BaseException | None) -> None:
        self.lost = exc
        self.note("connection_lost")


class Recorder(Calls, asyncio.Protocol):
    def data_received(self, data: bytes) -> None:
        assert type(data) is bytes
        assert data
        self.data += data
        self.note("data_received")


class BufferedRecorder(Calls, asyncio.BufferedProtocol):
    def __init__(self, size: int = 1000, keep_open: bool = False) -> None:
        super().__init__(keep_open)
        self.buffer: Any = bytearray(size)

    def get_buffer(self, hint: int) -> Any:
        self.note("get_buffer")
        return self.buffer

    def buffer_updated(self, count: int) -> None:
        self.data += memoryview(self.buffer).cast("B")[:count]
        self.note("buffer_updated")


async def finish(transport: Any) -> None:
    """Abort a transport and wait until its connection_lost() has returned."""
    if transport is not None and transport.get_protocol() is not None:
        transport.abort()
        async with asyncio.timeout(LIMIT):
            while transport.get_protocol() is not None:
                await asyncio.sleep(0)


Link = Callable[[Any], contextlib.AbstractAsyncContextManager[socket.socket]]


@contextlib.asynccontextmanager
async def accepted(protocol: Any, host: str = "127.0.0.1") -> AsyncIterator[socket.socket]:
    """Give the protocol an accepted connection; what is yielded is the client's socket."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    server = await asyncio.get_running_loop().create_server(lambda: protocol, host, 0)
    with socket.socket(family) as peer:
        peer.settimeout(LIMIT)
        peer.connect(server.sockets[0].getsockname())
        await protocol.until(lambda: protocol.transport)
        server.close()
        try:
            yield peer
        finally:
            await finish(protocol.transport)


@contextlib.asynccontextmanager
async def connected(protocol: Any, host: str = "127.0.0.1") -> AsyncIterator[socket.socket]:
    """Give the protocol a client's connection; what is yielded is the server's socket."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listening:
        transport, _ = await asyncio.get_running_loop().create_connection(
            lambda: protocol, *listening.getsockname()[:2]
        )
        peer, _ = listening.accept()
    with peer:
        peer.settimeout(LIMIT)
        try:
            yield peer
        finally:
            await finish(transport)


@contextlib.asynccontextmanager
async def unix(protocol: Any) -> AsyncIterator[socket.socket]:
    """Give the protocol one end of a Unix socket pair."""
    ours, peer = socket.socketpair()
    with peer:
        peer.settimeout(LIMIT)
        transport, _ = await asyncio.get_running_loop().create_unix_connection(lambda: protocol, sock=ours)
        try:
            yield peer
        finally:
            await finish(transport)


def shrink(transport: Any) -> None:
    """Give a transport little room in the kernel, so that it is soon blocked."""
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)


def block(transport: Any) -> int:
    """Write a pattern until the kernel takes no more of it; return how many bytes."""
    size = 0
    while not transport.get_write_buffer_size():
        transport.write(pattern(65536, size))
        size += 65536
    return size


async def read(peer: socket.socket, size: int) -> bytes:
    """Read exactly `size` bytes, in a thread."""
    return await asyncio.to_thread(_read, peer, size)


def _read(peer: socket.socket, size: int) -> bytes:
    found = bytearray()
    while len(found) < size:
        try:
            data = peer.recv(min(size - len(found), 65536))
        except ConnectionResetError:
            break
        if not data:
            break
        found += data
    return bytes(found)


async def read_all(peer: socket.socket) -> bytes:
    """Read up to the end of the stream, in a thread."""
    return await read(peer, 1 << 40)


def empty(peer: socket.socket) -> bytes:
    """Read what the kernel has, and wait for nothing."""
    found = bytearray()
    peer.settimeout(0)
    try:
        while data := peer.recv(65536):
            found += data
    except BlockingIOError:
        pass
    finally:
        peer.settimeout(LIMIT)
    return bytes(found)


def silent(peer: socket.socket) -> bool:
    """Whether the kernel has nothing for this socket, not even an end."""
    peer.settimeout(0)
    try:
        peer.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    finally:
        peer.settimeout(LIMIT)
    return False


def fill(peer: socket.socket, limit: int = 1 << 30) -> int:
    """Send a pattern until the kernel takes no more; return the number of bytes."""
    sent = 0
    peer.settimeout(0)
    try:
        while sent < limit:
            sent += peer.send(pattern(min(65536, limit - sent), sent))
    except BlockingIOError:
        pass
    finally:
        peer.settimeout(LIMIT)
    return sent


def reset(peer: socket.socket) -> None:
    """Close a TCP connection with an RST."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


async def turns(count: int = 5) -> None:
    """Let the loop go round a few times, for what must not happen."""
    for _ in range(count):
        await asyncio.sleep(0)
