"""TLS: on every way to a connection, and turned on later. Certificates are made here, for "localhost"."""

import asyncio
import contextlib
import gc
import socket
import ssl
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest
import trustme

ASYNCIO_TOO = True
pytestmark = pytest.mark.usefixtures("no_descriptor_left")
ours = pytest.mark.asyncio(loop_factories=["epoll_loop"])

AUTHORITY = trustme.CA()
CERTIFICATE = AUTHORITY.issue_cert("localhost")
DISTRUSTFUL = ssl.create_default_context()
LARGE = 3_000_000


@pytest.fixture
def server_context() -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    CERTIFICATE.configure_cert(context)
    return context


@pytest.fixture
def client_context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    return context


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass  # the client's test is over
    finally:
        writer.close()


async def check_echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """More comes back than all buffers on the way hold."""
    data = bytes(range(256)) * (LARGE // 256)
    writer.write(data)
    assert await reader.readexactly(len(data)) == data
    assert isinstance(writer.get_extra_info("ssl_object"), ssl.SSLObject)
    assert writer.get_extra_info("cipher")
    assert writer.get_extra_info("peername") is not None
    writer.close()
    await writer.wait_closed()


async def test_tcp(server_context: ssl.SSLContext, client_context: ssl.SSLContext) -> None:
    server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=server_context)
    async with server:
        address = server.sockets[0].getsockname()
        for _ in range(2):
            await check_echo(
                *await asyncio.open_connection(*address, ssl=client_context, server_hostname="localhost")
            )


async def test_a_socket_that_is_connected_already(
    server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=server_context)
    async with server:
        sock = socket.create_connection(server.sockets[0].getsockname())
        await check_echo(
            *await asyncio.open_connection(sock=sock, ssl=client_context, server_hostname="localhost")
        )


async def test_unix(server_context: ssl.SSLContext, client_context: ssl.SSLContext, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    server = await asyncio.start_unix_server(echo, path, ssl=server_context)
    async with server:
        await check_echo(
            *await asyncio.open_unix_connection(path, ssl=client_context, server_hostname="localhost")
        )


async def test_an_accepted_socket(server_context: ssl.SSLContext, client_context: ssl.SSLContext) -> None:
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = listening.getsockname()
        connecting = asyncio.create_task(
            asyncio.open_connection(*address, ssl=client_context, server_hostname="localhost")
        )
        accepted, _ = await asyncio.to_thread(listening.accept)
    reader = asyncio.StreamReader()
    await loop.connect_accepted_socket(
        lambda: asyncio.StreamReaderProtocol(reader, echo), accepted, ssl=server_context
    )
    await check_echo(*await connecting)


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
        await writer.start_tls(client_context, server_hostname="localhost")
        await check_echo(reader, writer)


@ours  # asyncio does it from 3.14 on
async def test_start_tls_when_the_client_has_begun(
    server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    """What the handshake begins with comes together with the line, and the reader has it."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        await writer.start_tls(server_context)
        await echo(reader, writer)

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"in the clear\n")
        await writer.start_tls(client_context, server_hostname="localhost")
        await check_echo(reader, writer)


async def test_tls_inside_tls(server_context: ssl.SSLContext, client_context: ssl.SSLContext) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        await writer.start_tls(server_context)
        await echo(reader, writer)

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_context) as server:
        address = server.sockets[0].getsockname()
        reader, writer = await asyncio.open_connection(*address, ssl=client_context, server_hostname="localhost")
        writer.write(b"one layer\n")
        assert await reader.readline() == b"one layer\n"
        await writer.start_tls(client_context, server_hostname="localhost")
        await check_echo(reader, writer)


async def test_a_certificate_that_is_not_trusted(server_context: ssl.SSLContext) -> None:
    server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=server_context)
    async with server:
        address = server.sockets[0].getsockname()
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.open_connection(
                *address, ssl=ssl.create_default_context(), server_hostname="localhost"
            )


@ours  # asyncio does it from 3.14 on
@pytest.mark.skipif(sys.version_info < (3, 13), reason="a handshake of asyncio's own has cycles on this Python")
@pytest.mark.parametrize("later", [False, True], ids=["create_connection", "start_tls"])
async def test_a_failed_handshake_leaves_nothing_to_the_collector(
    server_context: ssl.SSLContext, later: bool
) -> None:
    loop = asyncio.get_running_loop()
    made = []

    class Protocol(asyncio.Protocol):
        def __init__(self) -> None:
            made.append(weakref.ref(self))

    async def connect(address: Any) -> None:
        tls: dict[str, Any] = {"server_hostname": "localhost"}
        with contextlib.suppress(ssl.SSLCertVerificationError):
            if later:
                await loop.start_tls(*await loop.create_connection(Protocol, *address), DISTRUSTFUL, **tls)
            else:
                await loop.create_connection(Protocol, *address, ssl=DISTRUSTFUL, **tls)

    server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=server_context)
    async with server:
        gc.disable()
        try:
            await connect(server.sockets[0].getsockname())
            await asyncio.sleep(0)  # connection_lost()
            assert [protocol() for protocol in made] == [None]
        finally:
            gc.enable()


async def test_a_server_without_tls(client_context: ssl.SSLContext) -> None:
    async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
        with pytest.raises(ssl.SSLError):
            await asyncio.open_connection(
                *server.sockets[0].getsockname(), ssl=client_context, server_hostname="localhost"
            )


async def test_a_peer_that_resets_in_the_handshake(client_context: ssl.SSLContext) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        connecting = asyncio.create_task(
            asyncio.open_connection(*listening.getsockname(), ssl=client_context, server_hostname="localhost")
        )
        accepted, _ = await asyncio.to_thread(listening.accept)
        accepted.close()  # with the first message unread, that is a reset
        with pytest.raises(OSError):
            await connecting


async def test_a_handshake_that_takes_too_long(client_context: ssl.SSLContext) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening, pytest.raises(ConnectionAbortedError):
        await asyncio.open_connection(
            *listening.getsockname(), ssl=client_context, server_hostname="localhost", ssl_handshake_timeout=0.05
        )


async def test_cancelled_in_the_handshake(client_context: ssl.SSLContext) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        connecting = asyncio.create_task(
            asyncio.open_connection(*listening.getsockname(), ssl=client_context, server_hostname="localhost")
        )
        accepted, _ = await asyncio.to_thread(listening.accept)
        with accepted:
            assert await asyncio.to_thread(accepted.recv, 1)  # the handshake has begun
            connecting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await connecting


async def test_garbage_does_not_disturb_the_others(
    server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=server_context)
    async with server:
        address = server.sockets[0].getsockname()
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        await reader.read()
        writer.close()
        await check_echo(*await asyncio.open_connection(*address, ssl=client_context, server_hostname="localhost"))


@pytest.mark.parametrize(
    ("transport", "context", "message"),
    [
        (None, ssl.create_default_context(), "transport None is not supported by start_tls"),
        (None, None, "sslcontext is expected to be an instance of ssl.SSLContext, got None"),
    ],
)
async def test_what_start_tls_does_not_take(transport: Any, context: Any, message: str) -> None:
    loop = asyncio.get_running_loop()
    with pytest.raises(TypeError) as caught:
        await loop.start_tls(transport, asyncio.Protocol(), context)
    assert message in str(caught.value)


async def test_start_tls_when_the_peer_has_gone(client_context: ssl.SSLContext) -> None:
    """The end of the stream was told to the protocol before; TLS hears of it too."""

    async def leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(leave, "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        assert await reader.read() == b""
        with pytest.raises(ConnectionError):
            await writer.start_tls(client_context, server_hostname="localhost", ssl_handshake_timeout=20)


@pytest.mark.asyncio(loop_factories=["epoll_loop"])  # asyncio leaves it to the collector
async def test_options_that_are_refused(client_context: ssl.SSLContext) -> None:
    """The connection that was made for nothing is closed, says the fixture."""
    async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
        with pytest.raises(ValueError, match="ssl_handshake_timeout should be a positive number"):
            await asyncio.open_connection(
                *server.sockets[0].getsockname(), ssl=client_context, server_hostname="x", ssl_handshake_timeout=-1
            )
