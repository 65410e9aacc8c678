"""What a protocol may do inside its callbacks, and what a transport tells."""

import asyncio
import contextlib
import itertools
import socket
import ssl
from collections.abc import Callable
from typing import Any

import pytest
import tls

ASYNCIO_TOO = True
pytestmark = pytest.mark.usefixtures("no_descriptor_left", "engine")
ours = pytest.mark.asyncio(loop_factories=["epoll_loop"])

kinds = pytest.mark.parametrize("kind", [tls.Recorder, tls.BufferedRecorder], ids=["Protocol", "BufferedProtocol"])


# Writing


@pytest.mark.usefixtures("version")
async def test_write_in_connection_made(link: tls.Link) -> None:
    protocol = tls.Recorder()
    protocol.hooks["connection_made"] = lambda: protocol.transport.write(b"welcome")
    async with link(protocol) as peer:
        assert await tls.read(peer, 7) == b"welcome"


@pytest.mark.parametrize("how", ["close", "abort"])
async def test_the_end_in_connection_made(
    server_context: ssl.SSLContext, client_context: ssl.SSLContext, how: str
) -> None:
    """There was a connection: who waited for it gets it."""
    protocol = tls.Recorder()
    protocol.hooks["connection_made"] = lambda: getattr(protocol.transport, how)()
    async with await asyncio.start_server(tls.echo, "127.0.0.1", 0, ssl=server_context) as server:
        address = server.sockets[0].getsockname()
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(lambda: protocol, *address, ssl=client_context, **tls.NAME)
        assert transport is protocol.transport
        assert await protocol.until_lost() is None


@kinds
async def test_write_in_data_received(link: tls.Link, kind: Any) -> None:
    protocol = kind()
    sent = [0]

    def send_back() -> None:
        protocol.transport.write(protocol.data[sent[0] :])
        sent[0] = len(protocol.data)

    protocol.hooks["data_received"] = protocol.hooks["buffer_updated"] = send_back
    data = tls.pattern(500_000)
    async with link(protocol) as peer:
        assert await tls.exchange(peer, data, len(data)) == data


@kinds
async def test_write_in_get_buffer_and_eof_received(link: tls.Link, kind: Any) -> None:
    """The peer has said goodbye; it may still read."""
    protocol = kind()
    protocol.hooks["eof_received"] = protocol.hooks["get_buffer"] = lambda: protocol.transport.write(b".")
    async with link(protocol) as peer:
        peer.sendall(b"x")
        await protocol.until_data(1)
        with contextlib.suppress(OSError), await asyncio.to_thread(peer.unwrap):
            pass
        await protocol.until_lost()
    assert protocol.calls.count("eof_received") == protocol.calls.count("connection_lost") == 1


@pytest.mark.parametrize("where", ["pause_writing", "resume_writing"])
async def test_write_in_the_callbacks_of_flow_control(link: tls.Link, where: str) -> None:
    protocol = tls.Recorder()
    size = [0]

    def write(count: int) -> None:
        data = tls.pattern(count, size[0])
        size[0] += count
        protocol.transport.write(data)

    def once() -> None:
        if protocol.calls.count(where) == 1:
            write(1000)

    protocol.hooks[where] = once
    async with link(protocol) as peer:
        while "pause_writing" not in protocol.calls:
            write(65536)
        data = await tls.read(peer, size[0])
        await protocol.until(lambda: "resume_writing" in protocol.calls)
        data += await tls.read(peer, size[0] - len(data))
        assert data == tls.pattern(size[0])


async def test_write_in_connection_lost(link: tls.Link, reports: list[Any]) -> None:
    """Too late, and no error."""
    protocol = tls.Recorder()
    protocol.hooks["connection_lost"] = lambda: protocol.transport.write(b"x")
    async with link(protocol):
        protocol.transport.abort()
        assert await protocol.until_lost() is None
    assert reports == []


async def test_write_eof_is_refused(link: tls.Link) -> None:
    protocol = tls.Recorder()
    async with link(protocol):
        assert protocol.transport.can_write_eof() is False
        with pytest.raises(NotImplementedError):
            protocol.transport.write_eof()


@pytest.mark.parametrize("data", [None, "text", 1, [b"x"]], ids=repr)
async def test_what_write_does_not_take(link: tls.Link, data: Any) -> None:
    protocol = tls.Recorder()
    async with link(protocol) as peer:
        with pytest.raises(TypeError):
            protocol.transport.write(data)
        protocol.transport.write(b"")
        protocol.transport.writelines([])
        protocol.transport.write(b"x")
        assert await tls.read(peer, 1) == b"x"


# Exceptions


@ours  # asyncio has create_connection() raise some of them
@pytest.mark.parametrize("where", ["connection_made", "data_received", "buffer_updated", "get_buffer", "eof_received"])
async def test_a_callback_that_fails(link: tls.Link, where: str, reports: list[Any]) -> None:
    """It is reported; the connection is lost, except after connection_made()."""
    protocol = tls.Recorder() if where == "data_received" else tls.BufferedRecorder()
    error = ZeroDivisionError()

    def fail() -> None:
        protocol.hooks.clear()
        raise error

    protocol.hooks[where] = fail
    async with link(protocol) as peer:
        if where != "connection_made":
            with contextlib.suppress(OSError):
                peer.sendall(b"x")
                with await asyncio.to_thread(peer.unwrap):
                    pass
            await protocol.until_lost()
        await tls.turns()
    assert [report["exception"] for report in reports] == [error]
    assert protocol.calls.count("connection_lost") == 1


# BufferedProtocol, and protocols that change


@pytest.mark.parametrize("size", [1, 7, 1000, 16384, 100_000])
async def test_buffers_of_many_sizes(link: tls.Link, size: int) -> None:
    """The same one each time."""
    count = 200 if size < 1000 else 300_000
    protocol = tls.BufferedRecorder(size)
    async with link(protocol) as peer:
        await asyncio.to_thread(peer.sendall, tls.pattern(count))
        assert await protocol.until_data(count) == tls.pattern(count)


@ours
async def test_a_buffer_that_is_a_bytearray(link: tls.Link) -> None:
    protocol = tls.BufferedRecorder()
    protocol.buffer = bytearray(50_000)
    async with link(protocol) as peer:
        await asyncio.to_thread(peer.sendall, tls.pattern(300_000))
        assert await protocol.until_data(300_000) == tls.pattern(300_000)


@ours  # asyncio takes it for the end of the stream
async def test_an_empty_buffer_is_an_error(link: tls.Link, reports: list[Any]) -> None:
    protocol = tls.BufferedRecorder(0)
    async with link(protocol) as peer:
        with contextlib.suppress(OSError):  # what comes first may be a session ticket
            peer.sendall(b"x")
        exc = await protocol.until_lost()
        assert isinstance(exc, Exception)
        assert [report["exception"] for report in reports] == [exc]


@ours
async def test_others_read_as_much_at_once_as_ever(link: tls.Link) -> None:
    """Also while somebody keeps a transport that a buffer has failed."""
    failed = tls.BufferedRecorder()
    failed.buffer = "text"
    async with link(failed) as peer:
        with contextlib.suppress(OSError):
            peer.sendall(b"x")
        assert await failed.until_lost() is not None
        protocol = tls.Recorder()
        most = 0

        def measure() -> None:
            nonlocal most
            most = max(most, len(protocol.data))
            protocol.data.clear()

        protocol.hooks["data_received"] = measure
        async with link(protocol) as other:
            protocol.transport.pause_reading()
            other.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # all of it is here when we read
            await asyncio.to_thread(other.sendall, bytes(50_000))
            protocol.transport.resume_reading()
            await protocol.until(lambda: most)
        assert most > 16384


async def test_the_protocol_changes_while_data_comes(link: tls.Link) -> None:
    """From one kind to the other, inside of the callbacks."""
    chain: list[Any] = [kind() for _ in range(3) for kind in (tls.Recorder, lambda: tls.BufferedRecorder(50))]
    first = chain[0]

    def pass_on(one: Any, other: Any) -> Callable[[], None]:
        def change() -> None:
            one.hooks.clear()
            first.transport.set_protocol(other)
            assert first.transport.get_protocol() is other

        return change

    for one, other in itertools.pairwise(chain):
        one.hooks["data_received"] = one.hooks["buffer_updated"] = pass_on(one, other)
    async with link(first) as peer:
        for i, protocol in enumerate(chain):
            protocol.transport = first.transport
            peer.sendall(b"%d" % i)
            assert await protocol.until_data(1) == b"%d" % i
        first.transport.abort()
        await chain[-1].until_lost()
        first.lost = None  # it was told to another one


# get_extra_info()


@pytest.mark.usefixtures("version")
async def test_extra_info(link: tls.Link, version: ssl.TLSVersion) -> None:
    protocol = tls.Recorder()
    found: list[Any] = []
    names = ["sslcontext", "ssl_object", "peercert", "cipher", "compression", "socket", "sockname", "peername"]
    protocol.hooks["connection_made"] = lambda: found.extend(map(protocol.transport.get_extra_info, names))
    async with link(protocol) as peer:
        context, ssl_object, certificate, cipher, compression, sock, sockname, peername = found
        assert isinstance(context, ssl.SSLContext)
        assert isinstance(ssl_object, ssl.SSLObject)
        assert ssl_object.context is context
        assert ssl_object.version() == peer.version()
        assert cipher == ssl_object.cipher()
        assert cipher[0] == peer.cipher()[0]
        assert compression is None
        if ssl_object.server_side:
            assert certificate is None
        else:
            assert certificate == ssl_object.getpeercert()
            assert certificate["subjectAltName"] == (("DNS", "localhost"),)
            assert ssl_object.server_hostname == "localhost"
        assert sock.fileno() >= 0
        assert sockname == peer.getpeername()
        assert peername == peer.getsockname()
        assert protocol.transport.get_extra_info("nothing") is None
        assert protocol.transport.get_extra_info("nothing", 7) == 7
        assert list(map(protocol.transport.get_extra_info, names[:5])) == found[:5]
        protocol.transport.abort()
        await protocol.until_lost()
        assert protocol.transport.get_extra_info("sslcontext") is context
        assert protocol.transport.get_extra_info("ssl_object") is ssl_object
        assert protocol.transport.get_extra_info("peercert") == certificate
        assert protocol.transport.get_extra_info("cipher") == cipher


async def test_what_kind_of_transport_it_is(link: tls.Link) -> None:
    protocol = tls.Recorder()
    async with link(protocol):
        assert isinstance(protocol.transport, asyncio.Transport)
        assert not protocol.transport.is_closing()
        assert protocol.transport.is_reading()
