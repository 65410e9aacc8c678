"""Servers and loops that close with TLS connections in every state; files that are sent through TLS."""

import array
import asyncio
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import tls
from interpreter import not_on_pypy

ASYNCIO_TOO = True
pytestmark = pytest.mark.usefixtures("no_descriptor_left", "engine")
ours = pytest.mark.asyncio(loop_factories=["epoll_loop"])


class States:
    """A server that has a connection in each state, all with clients that block."""

    def __init__(self, server: ssl.SSLContext, client: ssl.SSLContext) -> None:
        self.contexts = server, client
        self.made: list[tls.Recorder] = []
        self.peers: list[Any] = []

    def factory(self) -> tls.Recorder:
        self.made.append(tls.Recorder())
        return self.made[-1]

    async def open(self, **options: Any) -> Any:
        self.server = await asyncio.get_running_loop().create_server(
            self.factory, "127.0.0.1", 0, ssl=self.contexts[0], **options
        )
        address = self.server.sockets[0].getsockname()
        for state in ("idle", "queued", "paused", "closing"):
            self.peers.append(await asyncio.to_thread(tls.dial, address, self.contexts[1]))
            protocol = self.made[-1]
            await protocol.until(lambda: protocol.transport)  # noqa: B023
            if state == "queued":
                protocol.transport.write(bytes(tls.LARGE * 4))
            elif state == "paused":
                protocol.transport.pause_reading()
            elif state == "closing":
                protocol.transport.close()
        for data in (b"", b"\x16\x03\x01"):  # in the handshake
            self.peers.append(socket.create_connection(address, tls.LIMIT))
            self.peers[-1].sendall(data)
            count = len(self.made)
            async with asyncio.timeout(tls.LIMIT):
                while len(self.made) == count:
                    await asyncio.sleep(0)
        return self.server

    async def close(self) -> None:
        """The clients find that all is over."""
        for peer in self.peers:
            with tls.plain(peer) if isinstance(peer, ssl.SSLSocket) else peer as sock:
                await tls.end_of(sock)

    def check(self) -> None:
        """Each protocol heard of the end that had heard of the beginning, and once."""
        for protocol in self.made:
            assert protocol.calls.count("connection_lost") == protocol.calls.count("connection_made")
        assert sum("connection_made" in protocol.calls for protocol in self.made) == 4


async def test_a_server_that_closes_leaves_its_connections(
    server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    protocol = tls.Recorder()
    async with tls.accepted(protocol, server_context, client_context) as peer:  # closes the server
        peer.sendall(b"x")
        assert await protocol.until_data(1) == b"x"
        protocol.transport.write(b"y")
        assert await tls.read(peer, 1) == b"y"


@pytest.mark.parametrize("how", ["close_clients", "abort_clients"])
@ours  # asyncio has it from 3.13 on, and does not find connections in the handshake
async def test_the_clients_of_a_server(
    server_context: ssl.SSLContext, client_context: ssl.SSLContext, how: str
) -> None:
    """Whatever they are in the middle of; and with that it is closed."""
    states = States(server_context, client_context)
    server = await states.open(ssl_shutdown_timeout=0.05)
    server.close()
    getattr(server, how)()
    async with asyncio.timeout(tls.LIMIT):
        await server.wait_closed()
    for protocol in states.made:
        if protocol.transport is not None:
            await protocol.until_lost()  # which wait_closed() has waited for, from Python 3.12 on
    await states.close()
    states.check()


@ours
@not_on_pypy("a context is for both sides")
async def test_a_context_that_is_for_clients(client_context: ssl.SSLContext, reports: list[Any]) -> None:
    """It is reported with each connection, which is closed."""
    async with tls.accepting(tls.Recorder, client_context) as (sock, _):
        assert await tls.read(sock) == b""
    (report,) = reports
    assert type(report["exception"]) in (ssl.SSLError, ValueError)  # the latter from Python 3.15 on


@ours
async def test_wait_closed_waits_for_connections_in_the_handshake(
    server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    async with tls.accepting(tls.Recorder, server_context) as (sock, _):
        sock.sendall(b"\x16")
        await asyncio.sleep(0.01)
        sock.close()
    # __aexit__() of the server has waited


@pytest.mark.filterwarnings("ignore:unclosed transport:ResourceWarning")
def test_a_loop_that_closes(
    loop: asyncio.AbstractEventLoop, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    """It closes the connections: those who are there hear of it, and those at the other end."""
    states = States(server_context, client_context)
    loop.run_until_complete(states.open())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    asyncio.run(states.close())
    states.check()


@pytest.mark.filterwarnings("ignore:unclosed transport:ResourceWarning")
def test_a_loop_that_closes_with_a_client_in_the_handshake(
    loop: asyncio.AbstractEventLoop, client_context: ssl.SSLContext
) -> None:
    async def begin(address: Any) -> asyncio.Task[Any]:
        connecting = asyncio.create_task(asyncio.open_connection(*address, ssl=client_context, **tls.NAME))
        await tls.turns()
        return connecting

    with socket.create_server(("127.0.0.1", 0)) as listening:
        connecting = loop.run_until_complete(begin(listening.getsockname()))
        loop.close()
        assert connecting.done()
        assert connecting.cancelled() or isinstance(connecting.exception(), (OSError, RuntimeError))
        sock, _ = listening.accept()
        with sock:
            sock.settimeout(tls.LIMIT)
            asyncio.run(tls.end_of(sock))


# sendfile()

CONTENT = array.array("I", range(300_000)).tobytes()


@pytest.fixture
def file(tmp_path: Path) -> Iterator[BinaryIO]:
    (tmp_path / "file").write_bytes(CONTENT)
    with open(tmp_path / "file", "rb") as file:
        yield file


@ours  # up to 3.13 asyncio overwrites what it has not sent yet
@pytest.mark.usefixtures("version")
async def test_sendfile(link: tls.Link, file: BinaryIO) -> None:
    """Encrypted on the way, and between what was written before and after."""
    loop = asyncio.get_running_loop()
    protocol = tls.Recorder()
    async with link(protocol) as peer:
        protocol.transport.write(b"before")
        reading = asyncio.create_task(tls.read(peer, 6 + len(CONTENT) - 4 + 5 + 997))
        assert await loop.sendfile(protocol.transport, file, 4) == len(CONTENT) - 4
        protocol.transport.write(b"after")
        assert await loop.sendfile(protocol.transport, file, 1, 997) == 997
        data = await reading
        assert data[:6] == b"before"
        assert data[6 : 2 + len(CONTENT)] == CONTENT[4:]
        assert data[2 + len(CONTENT) :] == b"after" + CONTENT[1:998]


async def test_sendfile_without_its_fallback(link: tls.Link, file: BinaryIO) -> None:
    protocol = tls.Recorder()
    async with link(protocol):
        with pytest.raises(RuntimeError, match="fallback is disabled"):
            await asyncio.get_running_loop().sendfile(protocol.transport, file, fallback=False)


async def test_sendfile_on_a_connection_that_ends(link: tls.Link, file: BinaryIO) -> None:
    protocol = tls.Recorder()
    loop = asyncio.get_running_loop()
    async with link(protocol) as peer:
        protocol.transport.write(bytes(tls.LARGE * 4))
        sending = asyncio.create_task(loop.sendfile(protocol.transport, file))
        await tls.turns()
        tls.reset(peer)
        with pytest.raises(ConnectionError):
            await sending
        await protocol.until_lost()
        with pytest.raises(RuntimeError, match="Transport is closing"):
            await loop.sendfile(protocol.transport, file)
