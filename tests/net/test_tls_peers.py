"""Peers that leave without a word, reset, send garbage, or one byte at a time."""

import asyncio
import contextlib
import os
import socket
import ssl
from typing import Any

import pytest
import tls

ASYNCIO_TOO = True
pytestmark = pytest.mark.usefixtures("no_descriptor_left", "engine")


kinds = pytest.mark.parametrize("kind", [tls.Recorder, tls.BufferedRecorder], ids=["Protocol", "BufferedProtocol"])


# The end of a connection


def ends_of(protocol: Any) -> list[str]:
    return [name for name in protocol.calls if name in ("eof_received", "connection_lost")]


@kinds
@pytest.mark.usefixtures("version")
async def test_close_notify(link: tls.Link, kind: Any) -> None:
    protocol = kind()
    async with link(protocol) as peer:
        peer.sendall(b"last words")
        with await asyncio.to_thread(peer.unwrap):  # returns when it was answered
            assert await protocol.until_lost() is None
        assert protocol.data == b"last words"
        assert ends_of(protocol) == ["eof_received", "connection_lost"]


@kinds
@pytest.mark.usefixtures("version")
async def test_the_end_of_the_stream_without_close_notify(
    link: tls.Link, kind: Any, reports: list[Any]
) -> None:
    protocol = kind()
    async with link(protocol) as peer:
        peer.sendall(b"last words")
        peer.shutdown(socket.SHUT_WR)
        assert await protocol.until_lost() is None
        assert protocol.data == b"last words"
        assert ends_of(protocol) == ["eof_received", "connection_lost"]
    assert reports == []


@pytest.mark.usefixtures("version")
async def test_a_reset(link: tls.Link, reports: list[Any]) -> None:
    protocol = tls.Recorder()
    async with link(protocol) as peer:
        tls.reset(peer)
        assert isinstance(await protocol.until_lost(), ConnectionResetError)
        assert protocol.calls == ["connection_made", "connection_lost"]
        protocol.transport.write(b"too late")
    assert reports == []


async def test_a_reset_with_data_queued(link: tls.Link) -> None:
    protocol = tls.Recorder()
    async with link(protocol) as peer:
        protocol.transport.write(bytes(tls.LARGE * 4))
        tls.reset(peer)
        assert isinstance(await protocol.until_lost(), ConnectionError)
        assert protocol.transport.get_write_buffer_size() == 0


@pytest.mark.usefixtures("version")
@pytest.mark.parametrize("size", [1, 5, 100, 100_000])
async def test_garbage_in_the_middle(link: tls.Link, size: int) -> None:
    """The connection ends with the reason."""
    protocol = tls.Recorder()
    async with link(protocol) as peer:
        peer.sendall(b"good")
        await protocol.until_data(4)
        os.write(peer.fileno(), b"\xff" * size)
        if size < 5:
            peer.shutdown(socket.SHUT_WR)  # not a header yet
            assert await protocol.until_lost() is None
        else:
            assert isinstance(await protocol.until_lost(), ssl.SSLError)
        assert protocol.data == b"good"
        assert protocol.calls.count("connection_lost") == 1


@pytest.mark.usefixtures("version")
async def test_a_record_that_was_tampered_with(link: tls.Link) -> None:
    protocol = tls.Recorder()
    async with link(protocol) as peer:
        os.write(peer.fileno(), b"\x17\x03\x03\x00\x40" + bytes(64))
        assert isinstance(await protocol.until_lost(), ssl.SSLError)
        assert not protocol.data


@pytest.mark.usefixtures("version")
async def test_a_fatal_alert(link: tls.Link) -> None:
    """It is not taken for a goodbye: the peer tells what it could not read, and the protocol is told."""
    protocol = tls.Recorder()
    async with link(protocol) as peer:
        os.write(protocol.transport.get_extra_info("socket").fileno(), b"\x17\x03\x03\x00\x40" + bytes(64))
        with pytest.raises(ssl.SSLError):
            await asyncio.to_thread(peer.recv, 1)
        exc = await protocol.until_lost()
        assert isinstance(exc, ssl.SSLError)
        assert "ALERT" in exc.reason
        assert ends_of(protocol) == ["connection_lost"]


# The handshake


def leave(peer: socket.socket) -> None:
    peer.close()


def leave_in_the_middle(peer: socket.socket) -> None:
    peer.sendall(b"\x16\x03\x01\x02")
    peer.close()


def half_close(peer: socket.socket) -> None:
    peer.shutdown(socket.SHUT_WR)


def speak_http(peer: socket.socket) -> None:
    peer.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")


def refuse(peer: socket.socket) -> None:
    """A fatal alert: handshake_failure."""
    peer.sendall(b"\x15\x03\x03\x00\x02\x02\x28")


def send_garbage(peer: socket.socket) -> None:
    peer.sendall(b"\xff\xfe" * 20_000)


def hide_a_reset(peer: socket.socket) -> None:
    peer.sendall(b"\x16")
    tls.reset(peer)


@pytest.mark.parametrize(
    "misbehave", [leave, leave_in_the_middle, half_close, tls.reset, hide_a_reset, refuse, speak_http, send_garbage]
)
async def test_a_handshake_that_can_not_be(beginning: tls.Beginning, misbehave: Any, reports: list[Any]) -> None:
    """Who waits for it gets an OSError; the protocol never hears of it; all is closed."""
    protocol = tls.Recorder()
    async with beginning(lambda: protocol) as (peer, connecting):
        misbehave(peer)
        if connecting is not None:
            with pytest.raises((ConnectionError, ssl.SSLError)):
                await connecting
        if peer.fileno() >= 0:
            await tls.end_of(peer)
        await tls.turns()
    assert protocol.calls == []
    assert reports == []


@pytest.mark.usefixtures("version")
async def test_a_reset_in_the_middle_of_the_handshake(
    beginning: tls.Beginning, client_context: ssl.SSLContext
) -> None:
    """After the first flight, from the client or to it."""
    protocol = tls.Recorder()
    async with beginning(lambda: protocol) as (peer, connecting):
        if connecting is not None:
            assert await asyncio.to_thread(peer.recv, 65536)
            peer.sendall(b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc")  # the head of a ServerHello
        else:
            peer.sendall(tls.hello(client_context))
            assert await asyncio.to_thread(peer.recv, 1)
        tls.reset(peer)
        if connecting is not None:
            with pytest.raises(ConnectionResetError):
                await connecting
        await tls.turns()
    assert protocol.calls == []


async def test_others_are_not_disturbed(server_context: ssl.SSLContext, client_context: ssl.SSLContext) -> None:
    server = await asyncio.start_server(tls.echo, "127.0.0.1", 0, ssl=server_context)
    async with server:
        address = server.sockets[0].getsockname()
        before = await asyncio.open_connection(*address, ssl=client_context, **tls.NAME)
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        await reader.read()
        writer.close()
        await tls.check_echo(*before, 1000)
        await tls.check_echo(*await asyncio.open_connection(*address, ssl=client_context, **tls.NAME), 1000)


async def test_a_server_without_tls(client_context: ssl.SSLContext) -> None:
    async with await asyncio.start_server(tls.echo, "127.0.0.1", 0) as server:
        with pytest.raises(ssl.SSLError):
            await asyncio.open_connection(*server.sockets[0].getsockname(), ssl=client_context, **tls.NAME)


@pytest.mark.usefixtures("version")
async def test_a_client_that_does_not_wait(
    server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    """Its first words come together with the end of its handshake."""
    protocol = tls.Recorder()
    async with tls.accepting(lambda: protocol, server_context) as (sock, _):
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = client_context.wrap_bio(incoming, outgoing, server_hostname="localhost")
        while True:
            with contextlib.suppress(ssl.SSLWantReadError):
                client.do_handshake()
                break
            sock.sendall(outgoing.read())
            incoming.write(await asyncio.to_thread(sock.recv, 65536))
        client.write(b"hello")
        sock.sendall(outgoing.read())
        assert await protocol.until_data(5) == b"hello"


# One byte at a time


class Trickle:
    """TLS by hand on a socket: what goes out goes byte by byte, each seen by the loop before the next one."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, server_side: bool) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = sock
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        name = None if server_side else "localhost"
        self.object = context.wrap_bio(self.incoming, self.outgoing, server_side, name)

    async def call(self, step: Any, *args: Any) -> Any:
        loop = asyncio.get_running_loop()
        result = wanted = object()
        while result is wanted:
            with contextlib.suppress(ssl.SSLWantReadError):
                result = step(*args)
            for byte in self.outgoing.read():
                self.sock.send(bytes([byte]))
                await tls.turns(2)
            if result is wanted:
                self.incoming.write(await loop.sock_recv(self.sock, 65536))
        return result


@pytest.mark.usefixtures("version")
async def test_one_byte_at_a_time(
    beginning: tls.Beginning, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    """The handshake, the data and the end."""
    protocol = tls.Recorder()
    async with beginning(lambda: protocol) as (sock, connecting):
        peer = Trickle(sock, *((client_context, False) if connecting is None else (server_context, True)))
        await peer.call(peer.object.do_handshake)
        await protocol.until(lambda: protocol.transport)
        data = tls.pattern(1000)
        await peer.call(peer.object.write, data)
        assert await protocol.until_data(1000) == data
        protocol.transport.write(data)
        assert await peer.call(peer.object.read, 1000) == data
        await peer.call(peer.object.unwrap)
        assert await protocol.until_lost() is None
        assert ends_of(protocol) == ["eof_received", "connection_lost"]
