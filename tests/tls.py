"""TLS in the tests: certificates for "localhost", protocols that keep what they are told, and peers that block."""

import asyncio
import collections
import contextlib
import gc
import select
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import garbage
from authority import Authority
from interpreter import PATIENCE

LIMIT = 10 * PATIENCE  # seconds after which a wait has failed; nothing here takes one
LARGE = 3_000_000  # more than all buffers on the way hold
AUTHORITY = Authority()
CERTIFICATE = AUTHORITY.issue_cert("localhost")
NAME = {"server_hostname": "localhost"}


# Not create_default_context(), which reads all the authorities of the system.


def server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    CERTIFICATE.configure_cert(context)
    return context


def client_context() -> ssl.SSLContext:
    context = distrustful_context()
    AUTHORITY.configure_trust(context)
    return context


def distrustful_context() -> ssl.SSLContext:
    """A client that knows no authority."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def pattern(size: int, start: int = 0) -> bytes:
    """Bytes of which every four are different: an order to check."""
    words = range(start // 4, (start + size) // 4 + 1)
    return struct.pack(f">{len(words)}I", *words)[start % 4 :][:size]


# Protocols

NOT_YET = object()


class Calls:
    """What a protocol was told: the names of the calls in `calls`, the bytes in `data`."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.data = bytearray()
        self.transport: Any = None
        self.lost: Any = NOT_YET  # what connection_lost() was called with
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
        await self.until(lambda: self.lost is not NOT_YET)
        return self.lost

    async def until_data(self, size: int) -> bytes:
        """Wait for that many bytes in all and return them."""
        await self.until(lambda: len(self.data) >= size)
        return bytes(self.data)

    def connection_made(self, transport: Any) -> None:
        assert self.transport is None
        self.transport = transport
        self.note("connection_made")

    def eof_received(self) -> None:
        self.note("eof_received")

    def pause_writing(self) -> None:
        self.note("pause_writing")

    def resume_writing(self) -> None:
        self.note("resume_writing")

    def connection_lost(self, exc: BaseException | None) -> None:
        assert self.lost is NOT_YET
        self.lost = exc
        self.note("connection_lost")


class Recorder(Calls, asyncio.Protocol):
    def data_received(self, data: bytes) -> None:
        assert data
        self.data += data
        self.note("data_received")


class BufferedRecorder(Calls, asyncio.BufferedProtocol):
    def __init__(self, size: int = 1000) -> None:
        super().__init__()
        self.buffer: Any = memoryview(bytearray(size))  # of a bytearray asyncio fills no more than a record

    def get_buffer(self, hint: int) -> Any:
        self.note("get_buffer")
        return self.buffer

    def buffer_updated(self, count: int) -> None:
        assert count
        self.data += self.buffer[:count]
        self.note("buffer_updated")


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass  # the client's test is over
    finally:
        writer.close()


async def check_echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, size: int = LARGE) -> None:
    """More comes back than all buffers on the way hold."""
    data = pattern(size)
    writer.write(data)
    assert await reader.readexactly(len(data)) == data
    assert isinstance(writer.get_extra_info("ssl_object"), ssl.SSLObject)
    assert writer.get_extra_info("cipher")
    assert writer.get_extra_info("peername") is not None
    writer.close()
    await writer.wait_closed()


async def finish(protocol: Any) -> None:
    """Abort a connection and wait until nothing is left of it."""
    if protocol.transport is not None and protocol.lost is NOT_YET:
        protocol.transport.abort()
        await protocol.until_lost()
    await turns()


# Connections: one end is a transport, the other a socket that blocks.


def secure(sock: socket.socket, context: ssl.SSLContext, server_side: bool = False) -> ssl.SSLSocket:
    """Do the handshake of a socket; the end of the stream without a close_notify is an error."""
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    sock.settimeout(LIMIT)
    name = None if server_side else "localhost"
    return context.wrap_socket(sock, server_side, server_hostname=name, suppress_ragged_eofs=False)


def dial(address: Any, context: ssl.SSLContext) -> ssl.SSLSocket:
    return secure(socket.create_connection(address, LIMIT), context)


def answer(listening: socket.socket, context: ssl.SSLContext) -> ssl.SSLSocket:
    listening.settimeout(LIMIT)
    return secure(listening.accept()[0], context, server_side=True)


@contextlib.asynccontextmanager
async def accepted(
    protocol: Any, server: ssl.SSLContext, client: ssl.SSLContext, **options: Any
) -> AsyncIterator[ssl.SSLSocket]:
    """Give the protocol a connection of a server; what is yielded is the client."""
    loop = asyncio.get_running_loop()
    async with await loop.create_server(lambda: protocol, "127.0.0.1", 0, ssl=server, **options) as listening:
        peer = await asyncio.to_thread(dial, listening.sockets[0].getsockname(), client)
        await protocol.until(lambda: protocol.transport)
        listening.close()
        with peer:
            try:
                yield peer
            finally:
                await finish(protocol)


@contextlib.asynccontextmanager
async def connected(
    protocol: Any, server: ssl.SSLContext, client: ssl.SSLContext, **options: Any
) -> AsyncIterator[ssl.SSLSocket]:
    """Give the protocol a connection of a client; what is yielded is the server's socket."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        answering = asyncio.create_task(asyncio.to_thread(answer, listening, server))
        await loop.create_connection(lambda: protocol, *listening.getsockname(), ssl=client, **NAME, **options)
        peer = await answering
    with peer:
        try:
            yield peer
        finally:
            await finish(protocol)


Link = Callable[..., contextlib.AbstractAsyncContextManager[ssl.SSLSocket]]


@contextlib.asynccontextmanager
async def accepting(factory: Any, context: ssl.SSLContext, **options: Any) -> AsyncIterator[tuple[socket.socket, None]]:
    """Let a server begin its handshake; what is yielded is the client's socket, which has sent nothing."""
    loop = asyncio.get_running_loop()
    async with await loop.create_server(factory, "127.0.0.1", 0, ssl=context, **options) as listening:
        sock = await asyncio.to_thread(socket.create_connection, listening.sockets[0].getsockname(), LIMIT)
        with sock:
            yield sock, None


@contextlib.asynccontextmanager
async def connecting(
    factory: Any, context: ssl.SSLContext, **options: Any
) -> AsyncIterator[tuple[socket.socket, asyncio.Task[Any]]]:
    """Let a client begin its handshake; what is yielded is the server's socket, and who waits for the connection."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(LIMIT)
        task = asyncio.create_task(
            loop.create_connection(factory, *listening.getsockname(), ssl=context, **NAME, **options)
        )
        sock, _ = await asyncio.to_thread(listening.accept)
        sock.settimeout(LIMIT)
    with sock:
        try:
            yield sock, task
        finally:
            task.cancel()
            await asyncio.wait([task])


Beginning = Callable[..., contextlib.AbstractAsyncContextManager[tuple[socket.socket, asyncio.Task[Any] | None]]]


# The peer


def _read(peer: socket.socket, size: int) -> bytes:
    found = bytearray()
    while len(found) < size and (data := peer.recv(min(size - len(found), 65536))):
        found += data
    return bytes(found)


async def read(peer: socket.socket, size: int = 1 << 40) -> bytes:
    """Read that many bytes, or up to the end, in a thread."""
    return await asyncio.to_thread(_read, peer, size)


def _exchange(peer: ssl.SSLSocket, data: bytes, size: int) -> bytes:
    found = bytearray()
    sent = 0
    peer.setblocking(False)
    while sent < len(data) or len(found) < size:
        with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
            if sent < len(data):
                sent += peer.send(data[sent : sent + 65536])
        with contextlib.suppress(ssl.SSLWantReadError):
            while len(found) < size:
                found += peer.recv(65536)
        select.select([peer], [peer] if sent < len(data) else [], [], 0 if len(found) == size else LIMIT)
    peer.settimeout(LIMIT)
    return bytes(found)


async def exchange(peer: ssl.SSLSocket, data: bytes, size: int) -> bytes:
    """Send this, and read that many bytes at the same time."""
    return await asyncio.to_thread(_exchange, peer, data, size)


def rest_of(sock: socket.socket) -> None:
    with contextlib.suppress(ConnectionError):
        while sock.recv(65536):
            pass


async def end_of(sock: socket.socket) -> None:
    """Wait until the other end has closed, with or without a reset."""
    await asyncio.to_thread(rest_of, sock)


def hello(context: ssl.SSLContext) -> bytes:
    """What a client begins with."""
    outgoing = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost").do_handshake()
    return outgoing.read()


def plain(peer: ssl.SSLSocket) -> socket.socket:
    """Take the TLS off a peer, without a word to the other end."""
    return socket.socket(fileno=peer.detach())


def reset(peer: socket.socket) -> None:
    """Close a TCP connection with an RST."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


async def turns(count: int = 5) -> None:
    """Let the loop go round a few times, for what must not happen."""
    for _ in range(count):
        await asyncio.sleep(0)


# Leaks


def alive() -> dict[str, int]:
    """How many objects of a connection there are, by their types."""
    names = (type(found).__name__ for found in gc.get_objects())
    return collections.Counter(name for name in names if "Transport" in name or name.startswith(("SSLO", "_SSLS")))


@contextlib.contextmanager
def nothing_for_the_collector() -> Iterator[None]:
    """What is made inside is freed when it is let go, not by the collector."""
    with garbage.without_collector():
        before = alive()
        yield
        garbage.let_go()
        assert alive() == before
