"""start_tls(): in both directions, on connections in every state, inside TLS."""

import asyncio
import contextlib
import socket
import ssl
import tempfile
import threading
import weakref
from typing import Any

import garbage
import pytest
import tls
from tls import NAME, check_echo, echo

ASYNCIO_TOO = True
pytestmark = pytest.mark.usefixtures("no_descriptor_left", "engine")
ours = pytest.mark.asyncio(loop_factories=["epoll_loop"])


@pytest.mark.usefixtures("version")
async def test_start_tls(server_context: ssl.SSLContext, client_context: ssl.SSLContext) -> None:
    """In both directions, on a connection that has carried data."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        await writer.start_tls(server_context)
        await echo(reader, writer)

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"in the clear\n")
        assert await reader.readline() == b"in the clear\n"
        await writer.start_tls(client_context, **NAME)
        await check_echo(reader, writer)


@ours  # asyncio does it from 3.14 on
async def test_when_the_client_has_begun(server_context: ssl.SSLContext, client_context: ssl.SSLContext) -> None:
    """What the handshake begins with comes together with the line, and the reader has it."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        await writer.start_tls(server_context)
        await echo(reader, writer)

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"in the clear\n")
        await writer.start_tls(client_context, **NAME)
        await check_echo(reader, writer)


@pytest.mark.parametrize("layers", [2, 3])
async def test_tls_inside_tls(
    server_context: ssl.SSLContext, client_context: ssl.SSLContext, layers: int
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(layers - 1):
            writer.write(await reader.readline())
            await writer.start_tls(server_context)
        await echo(reader, writer)

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_context) as server:
        reader, writer = await asyncio.open_connection(
            *server.sockets[0].getsockname(), ssl=client_context, **NAME
        )
        for _ in range(layers - 1):
            writer.write(b"one layer more\n")
            assert await reader.readline() == b"one layer more\n"
            await writer.start_tls(client_context, **NAME)
        await check_echo(reader, writer, 500_000)


class Layer:
    """The server's end of a TLS in a thread, over a socket or another layer."""

    def __init__(self, below: Any, context: ssl.SSLContext) -> None:
        self.below = below
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.object = context.wrap_bio(self.incoming, self.outgoing, server_side=True)
        self.call(self.object.do_handshake)

    def call(self, step: Any, *args: Any) -> Any:
        while True:
            try:
                result = step(*args)
            except ssl.SSLWantReadError:
                self.flush()
                self.incoming.write(self.below.recv(65536))
            else:
                self.flush()
                return result

    def flush(self) -> None:
        if self.outgoing.pending:
            self.below.sendall(self.outgoing.read())

    def recv(self, size: int) -> bytes:
        data: bytes = self.call(self.object.read, size)
        return data

    def sendall(self, data: bytes) -> None:
        self.call(self.object.write, data)


async def test_the_last_words_inside(server_context: ssl.SSLContext, client_context: ssl.SSLContext) -> None:
    """They come together with the goodbye of the layer outside."""
    loop = asyncio.get_running_loop()
    protocol = tls.Recorder()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(tls.LIMIT)

        def serve() -> None:
            sock, _ = listening.accept()
            with sock:
                sock.settimeout(tls.LIMIT)
                outside = Layer(sock, server_context)
                inside = Layer(outside, server_context)
                inside.object.write(b"last words")
                outside.object.write(inside.outgoing.read())
                with contextlib.suppress(ssl.SSLWantReadError):
                    outside.object.unwrap()
                outside.flush()
                tls.rest_of(sock)

        serving = asyncio.create_task(asyncio.to_thread(serve))
        transport, _ = await loop.create_connection(
            lambda: protocol, *listening.getsockname(), ssl=client_context, **NAME
        )
        await loop.start_tls(transport, protocol, client_context, **NAME)
        await protocol.until_lost()
        assert protocol.data == b"last words"
        assert protocol.calls.count("eof_received") == 1
        await serving


@ours  # asyncio does not tell what its layer of TLS has handed on
async def test_inside_with_data_queued(server_context: ssl.SSLContext, client_context: ssl.SSLContext) -> None:
    """What was written for the layer outside, and the beginning inside: both leave when there is room."""
    loop = asyncio.get_running_loop()
    protocol = tls.Recorder()
    written = 0
    blocked = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(tls.LIMIT)

        def serve() -> None:
            sock, _ = listening.accept()
            with sock:
                sock.settimeout(tls.LIMIT)
                outside = Layer(sock, server_context)
                assert blocked.wait(tls.LIMIT)
                left = written
                while left:
                    left -= len(outside.recv(min(left, 65536)))
                Layer(outside, server_context).sendall(b"x")

        serving = asyncio.create_task(asyncio.to_thread(serve))
        transport, _ = await loop.create_connection(
            lambda: protocol, *listening.getsockname(), ssl=client_context, **NAME
        )
        while not transport.get_write_buffer_size():
            transport.write(bytes(50_000))
            written += 50_000
            await tls.turns()
        transport.write(bytes(1000))
        written += 1000
        upgrading = asyncio.create_task(
            loop.start_tls(transport, protocol, client_context, **NAME, ssl_handshake_timeout=tls.LIMIT)
        )
        await tls.turns()
        blocked.set()
        async with asyncio.timeout(tls.LIMIT):
            await upgrading
        assert await protocol.until_data(1) == b"x"
        await serving
        await protocol.until_lost()


class Upgrade:
    """A connection in the clear: a transport of ours, and a peer that blocks."""

    def __init__(self, server_side: bool, context: ssl.SSLContext) -> None:
        self.loop = asyncio.get_running_loop()
        self.server_side = server_side
        self.context = context
        self.protocol = tls.Recorder()

    async def open(self) -> socket.socket:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            transport, _ = await self.loop.create_connection(lambda: self.protocol, *listening.getsockname())
            peer, _ = listening.accept()
        self.protocol.transport = self.transport = transport
        peer.settimeout(tls.LIMIT)
        return peer

    async def upgrade(self, **options: Any) -> Any:
        name = {} if self.server_side else NAME
        return await self.loop.start_tls(
            self.transport, self.protocol, self.context, server_side=self.server_side, **name, **options
        )

    async def peer(self, sock: socket.socket, context: ssl.SSLContext) -> ssl.SSLSocket:
        return await asyncio.to_thread(tls.secure, sock, context, not self.server_side)


roles = pytest.mark.parametrize("server_side", [False, True], ids=["client", "server"])


@roles
async def test_connection_made_is_not_called_again(
    server_context: ssl.SSLContext, client_context: ssl.SSLContext, server_side: bool
) -> None:
    """And from then on the protocol has to use the transport that it got."""
    ours, its = (server_context, client_context) if server_side else (client_context, server_context)
    end = Upgrade(server_side, ours)
    peering = asyncio.create_task(end.peer(await end.open(), its))
    secured = await end.upgrade()
    with await peering as peer:
        assert secured is not end.transport
        assert secured.get_protocol() is end.protocol
        assert end.protocol.calls == ["connection_made"]
        assert secured.get_extra_info("ssl_object").server_side is server_side
        secured.write(b"ping")
        assert await tls.read(peer, 4) == b"ping"
        peer.sendall(b"pong")
        assert await end.protocol.until_data(4) == b"pong"
        end.protocol.transport = secured
        await tls.finish(end.protocol)
    assert end.protocol.calls.count("connection_lost") == 1


@roles
async def test_on_a_paused_transport(
    server_context: ssl.SSLContext, client_context: ssl.SSLContext, server_side: bool
) -> None:
    """The handshake needs to read."""
    ours, its = (server_context, client_context) if server_side else (client_context, server_context)
    end = Upgrade(server_side, ours)
    sock = await end.open()
    end.transport.pause_reading()
    peering = asyncio.create_task(end.peer(sock, its))
    await tls.turns()
    end.protocol.transport = secured = await end.upgrade()
    with await peering as peer:
        peer.sendall(b"x")
        secured.resume_reading()
        assert await end.protocol.until_data(1) == b"x"
        await tls.finish(end.protocol)


async def test_with_data_queued(server_context: ssl.SSLContext, client_context: ssl.SSLContext) -> None:
    """What was written in the clear goes out in the clear, and first."""
    end = Upgrade(False, client_context)
    sock = await end.open()
    end.transport.write(tls.pattern(tls.LARGE))
    upgrading = asyncio.create_task(end.upgrade())
    assert await tls.read(sock, tls.LARGE) == tls.pattern(tls.LARGE)
    with await end.peer(sock, server_context):
        end.protocol.transport = await upgrading
        await tls.finish(end.protocol)


@ours  # asyncio does not tell the protocol that it may write again
async def test_on_a_transport_that_has_paused_its_protocol(
    server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    """The new one goes on with that."""
    end = Upgrade(False, client_context)
    sock = await end.open()
    end.transport.set_write_buffer_limits(1000, 100)
    size = 0
    while "pause_writing" not in end.protocol.calls:
        end.transport.write(bytes(10_000))
        size += 10_000
        await asyncio.sleep(0)
    upgrading = asyncio.create_task(end.upgrade())
    assert len(await tls.read(sock, size)) == size
    with await end.peer(sock, server_context):
        end.protocol.transport = await upgrading
        await end.protocol.until(lambda: "resume_writing" in end.protocol.calls)
        assert end.protocol.calls == ["connection_made", "pause_writing", "resume_writing"]
        await tls.finish(end.protocol)


async def test_a_reader_that_is_full(server_context: ssl.SSLContext, client_context: ssl.SSLContext) -> None:
    """It pauses the transport that it began with, and that pauses the connection."""
    piece, most = 100_000, 200  # more than all buffers on the way hold
    sent = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await writer.start_tls(server_context)
        while sent < most:
            writer.write(bytes(piece))
            sent += 1
            await asyncio.sleep(0)
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        await writer.start_tls(client_context, **NAME)
        before = -1
        while before != sent:
            before = sent
            await tls.turns(200)
        assert sent < most
        assert len(await reader.readexactly(piece * most)) == piece * most
        writer.close()
        await writer.wait_closed()


@ours
async def test_the_old_transport_is_free(server_context: ssl.SSLContext, client_context: ssl.SSLContext) -> None:
    """It is not left to the collector."""
    end = Upgrade(False, client_context)
    sock = await end.open()
    end.transport.write(b"starttls")
    assert await tls.read(sock, 8) == b"starttls"
    old = weakref.ref(end.transport)
    peering = asyncio.create_task(end.peer(sock, server_context))
    with garbage.without_collector():
        end.protocol.transport = end.transport = await end.upgrade()
        await tls.turns()
        garbage.let_go()
        assert old() is None
    with await peering:
        await tls.finish(end.protocol)


@ours  # asyncio starts a second handshake below the first one, or in the middle of the file
@pytest.mark.parametrize("layers", [1, 2])
async def test_a_second_time(server_context: ssl.SSLContext, client_context: ssl.SSLContext, layers: int) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(layers):
            await writer.start_tls(server_context)
        await echo(reader, writer)

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        for _ in range(layers):
            old: Any = writer.transport
            await writer.start_tls(client_context, **NAME)
        for server_side in (False, True):
            with pytest.raises(RuntimeError, match="has TLS now"):
                await asyncio.get_running_loop().start_tls(
                    old, old.get_protocol(), client_context, server_side=server_side
                )
        await check_echo(reader, writer, 1000)


@ours
async def test_while_a_file_is_sent(client_context: ssl.SSLContext) -> None:
    end = Upgrade(False, client_context)
    with await end.open() as sock, tempfile.TemporaryFile() as file:
        file.truncate(tls.LARGE * 4)
        sending = asyncio.create_task(end.loop.sendfile(end.transport, file))
        await tls.turns(20)
        with pytest.raises(RuntimeError, match="sendfile is in progress"):
            await end.upgrade(ssl_handshake_timeout=tls.LIMIT)
        assert await tls.read(sock, tls.LARGE * 4) == bytes(tls.LARGE * 4)
        assert await sending == tls.LARGE * 4
        await tls.finish(end.protocol)


@roles
async def test_a_handshake_that_fails(
    server_context: ssl.SSLContext, client_context: ssl.SSLContext, server_side: bool
) -> None:
    """The connection is closed, and nothing of it left."""
    end = Upgrade(server_side, server_context if server_side else tls.distrustful_context())
    sock = await end.open()
    if server_side:
        sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
        with pytest.raises(ssl.SSLError):
            await end.upgrade()
        await tls.end_of(sock)
        sock.close()
    else:
        peering = asyncio.create_task(end.peer(sock, server_context))
        with pytest.raises(ssl.SSLCertVerificationError):
            await end.upgrade()
        with pytest.raises(ssl.SSLError):
            await peering
    assert end.transport.is_closing()


@roles
async def test_that_times_out(
    server_context: ssl.SSLContext, client_context: ssl.SSLContext, server_side: bool
) -> None:
    end = Upgrade(server_side, server_context if server_side else client_context)
    with await end.open() as sock:
        with pytest.raises(ConnectionAbortedError):
            await end.upgrade(ssl_handshake_timeout=0.02)
        await tls.end_of(sock)


@roles
async def test_that_is_cancelled(
    server_context: ssl.SSLContext, client_context: ssl.SSLContext, server_side: bool
) -> None:
    end = Upgrade(server_side, server_context if server_side else client_context)
    with await end.open() as sock:
        upgrading = asyncio.create_task(end.upgrade())
        await tls.turns()
        upgrading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await upgrading
        await tls.end_of(sock)


@ours  # asyncio returns a transport that is closed, as if there had been a handshake
@pytest.mark.parametrize("how", ["close", "abort"])
async def test_on_a_transport_that_was_closed(client_context: ssl.SSLContext, how: str) -> None:
    end = Upgrade(False, client_context)
    with await end.open() as sock:
        getattr(end.transport, how)()
        with pytest.raises(ConnectionError):
            await end.upgrade(ssl_handshake_timeout=20)
        await tls.end_of(sock)


async def test_when_the_peer_has_gone(client_context: ssl.SSLContext) -> None:
    """The end of the stream was told to the protocol before; TLS hears of it too."""

    async def leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(leave, "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        assert await reader.read() == b""
        with pytest.raises(ConnectionError):
            await writer.start_tls(client_context, **NAME, ssl_handshake_timeout=20)


@pytest.mark.parametrize(
    ("transport", "context", "message"),
    [
        (None, tls.distrustful_context(), "transport None is not supported by start_tls"),
        (None, None, "sslcontext is expected to be an instance of ssl.SSLContext, got None"),
    ],
)
async def test_what_it_does_not_take(transport: Any, context: Any, message: str) -> None:
    loop = asyncio.get_running_loop()
    with pytest.raises(TypeError) as caught:
        await loop.start_tls(transport, asyncio.Protocol(), context)
    assert message in str(caught.value)


@ours
async def test_after_a_read_that_was_full(server_context: ssl.SSLContext, client_context: ssl.SSLContext) -> None:
    """There may be more behind it, or nothing, as here: the client speaks first all the same."""
    loop = asyncio.get_running_loop()

    class Upgrading(asyncio.BufferedProtocol):
        def __init__(self) -> None:
            self.upgrading: asyncio.Future[asyncio.Task[Any]] = loop.create_future()
            self.buffer = bytearray(5)

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport

        def get_buffer(self, sizehint: int) -> bytearray:
            return self.buffer

        def buffer_updated(self, count: int) -> None:
            starting = loop.start_tls(self.transport, self, client_context, **NAME)  # type: ignore[arg-type]
            self.upgrading.set_result(loop.create_task(starting))

    def serve(connection: socket.socket) -> None:
        connection.settimeout(tls.LIMIT)
        connection.sendall(b"hello")
        with server_context.wrap_socket(connection, server_side=True) as peer:
            peer.unwrap()

    ours, theirs = socket.socketpair()
    serving = asyncio.create_task(asyncio.to_thread(serve, theirs))
    _, protocol = await loop.create_connection(Upgrading, sock=ours)
    async with asyncio.timeout(tls.LIMIT):
        secured = await (await protocol.upgrading)
    assert protocol.buffer == b"hello"
    secured.close()
    await serving
