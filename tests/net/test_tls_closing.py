"""close() and abort() of TLS connections in every state; what was written goes out first, and then a close_notify."""

import asyncio
import contextlib
import socket
import ssl
import threading
import time
from typing import Any

import pytest
import tls

ASYNCIO_TOO = True
pytestmark = pytest.mark.usefixtures("no_descriptor_left", "engine")
ours = pytest.mark.asyncio(loop_factories=["epoll_loop"])


# close()


@pytest.mark.usefixtures("version")
async def test_both_ends_say_goodbye(link: tls.Link) -> None:
    protocol = tls.Recorder()
    async with link(protocol) as peer:
        transport = protocol.transport
        transport.write(b"last words")
        transport.close()
        assert transport.is_closing()
        transport.write(b"not these")
        assert await tls.read(peer) == b"last words"  # with a clean end, or there was an exception
        assert protocol.lost is tls.NOT_YET
        with await asyncio.to_thread(peer.unwrap):
            assert await protocol.until_lost() is None
        assert protocol.calls.count("connection_lost") == 1


@ours  # the second close() takes asyncio's transport out of service
async def test_closed_twice(link: tls.Link) -> None:
    protocol = tls.Recorder()
    async with link(protocol) as peer:
        protocol.transport.close()
        protocol.transport.close()
        protocol.transport.write(b"x")
        assert protocol.transport.get_extra_info("cipher")
        assert await tls.read(peer) == b""
        protocol.transport.abort()
        assert await protocol.until_lost() is None


@pytest.mark.usefixtures("version")
async def test_all_that_was_written_is_sent(link: tls.Link) -> None:
    """To a peer that reads a little now and then."""
    size = 5_000_000
    protocol = tls.Recorder()

    def read_slowly(peer: ssl.SSLSocket) -> bytes:
        found = bytearray()
        while data := peer.recv(300_000):
            found += data
            time.sleep(0)
        peer.unwrap()
        return bytes(found)

    async with link(protocol) as peer:
        protocol.transport.write(tls.pattern(size))
        protocol.transport.close()
        await tls.turns()
        assert protocol.lost is tls.NOT_YET
        assert await asyncio.to_thread(read_slowly, peer) == tls.pattern(size)
        assert await protocol.until_lost() is None


@pytest.mark.parametrize("later", [False, True], ids=["at once", "in the middle"])
async def test_an_endless_download_is_not_read_on(link: tls.Link, later: bool) -> None:
    """The connection is lost although the peer never stops, nor answers; how much it got rid of has a bound."""
    protocol = tls.Recorder()
    sent = [0]

    def pour(sock: ssl.SSLSocket) -> None:
        data = bytes(65536)
        with contextlib.suppress(OSError):
            while sent[0] < 1 << 29:
                sent[0] += sock.send(data)

    async with link(protocol, ssl_shutdown_timeout=tls.LIMIT / 2) as peer:
        thread = threading.Thread(target=pour, args=(peer,))
        try:
            if later:
                thread.start()
                await protocol.until_data(1_000_000)
            protocol.transport.close()
            received, before = len(protocol.data), sent[0]
            if not later:
                thread.start()
            await protocol.until_lost()
            assert len(protocol.data) - received <= 1 << 20
        finally:
            await tls.finish(protocol)
            thread.join()
        assert sent[0] - before < 50_000_000


async def test_the_peer_goes_on_after_close(link: tls.Link) -> None:
    """What it has on the way does not reach the protocol. Whether that is an error, OpenSSL decides."""
    protocol = tls.Recorder()
    async with link(protocol) as peer:
        protocol.transport.close()
        assert await tls.read(peer) == b""
        peer.sendall(b"still here")
        with await asyncio.to_thread(peer.unwrap):
            exc = await protocol.until_lost()
            assert exc is None or isinstance(exc, ssl.SSLError)
        assert not protocol.data


CALLBACKS = ["connection_made", "data_received", "eof_received", "pause_writing", "connection_lost"]


@pytest.mark.parametrize("how", ["close", "abort"])
@pytest.mark.parametrize("where", CALLBACKS)
async def test_from_inside_a_callback(
    beginning: tls.Beginning, where: str, how: str, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    protocol = tls.Recorder()
    protocol.hooks[where] = lambda: getattr(protocol.transport, how)()

    def converse(sock: socket.socket) -> None:
        client = connecting is None
        with tls.secure(sock, client_context if client else server_context, not client) as peer:
            peer.sendall(b"x")
            while where == "pause_writing" and peer.recv(65536):
                pass
            peer.unwrap()

    async with beginning(lambda: protocol) as (sock, connecting):
        talking = asyncio.create_task(asyncio.to_thread(converse, sock))
        await protocol.until(lambda: protocol.transport)
        if where == "pause_writing":
            block(protocol)
        await protocol.until_lost()
        with contextlib.suppress(OSError):
            await talking  # after an abort not even the handshake is sure to end
        await tls.turns()
    assert protocol.calls[-1] == "connection_lost"
    assert protocol.calls.count("connection_lost") == 1
    if where == "connection_made":
        assert "data_received" not in protocol.calls
    if where == "data_received":
        assert protocol.data == b"x"


@ours  # asyncio drops what was written, and connection_lost() has an SSLError
async def test_in_the_middle_of_what_the_peer_has_sent(link: tls.Link) -> None:
    """Records are left that nobody wants to read."""
    protocol = tls.BufferedRecorder(100)

    def answer() -> None:
        protocol.transport.write(tls.pattern(50_000))
        protocol.transport.close()

    protocol.hooks["buffer_updated"] = answer
    async with link(protocol) as peer:
        peer.sendall(tls.pattern(40_000))
        assert await tls.read(peer) == tls.pattern(50_000)
        peer.close()
        assert await protocol.until_lost() is None
        assert protocol.data == tls.pattern(100)


async def test_what_comes_after_close_is_not_sent(link: tls.Link) -> None:
    protocol = tls.Recorder()
    async with link(protocol) as peer:
        protocol.transport.write(tls.pattern(tls.LARGE))
        protocol.transport.close()
        protocol.transport.writelines([b"late", b"later"])
        assert await tls.read(peer) == tls.pattern(tls.LARGE)


def block(protocol: Any) -> None:
    """Write until the protocol is told to stop."""
    while "pause_writing" not in protocol.calls:
        protocol.transport.write(bytes(65536))


async def test_while_reading_is_paused(link: tls.Link) -> None:
    """What stands before the answer of the peer is not waited for."""
    protocol = tls.Recorder()
    async with link(protocol) as peer:
        protocol.transport.pause_reading()
        peer.sendall(b"never seen")
        protocol.transport.close()
        assert await tls.read(peer) == b""
        with await asyncio.to_thread(peer.unwrap):
            exc = await protocol.until_lost()
            assert exc is None or isinstance(exc, ssl.SSLError)
        assert not protocol.data


@pytest.mark.parametrize("how", ["close", "abort"])
async def test_half_closed_peer(link: tls.Link, how: str) -> None:
    """It sends FIN while ours has data queued: all is over, once."""
    protocol = tls.Recorder()
    async with link(protocol) as peer:
        protocol.transport.write(bytes(tls.LARGE * 4))
        peer.shutdown(socket.SHUT_WR)
        getattr(protocol.transport, how)()
        await tls.end_of(peer)
        await protocol.until_lost()


# abort()


@pytest.mark.usefixtures("version")
async def test_abort_drops_what_is_queued(link: tls.Link) -> None:
    protocol = tls.Recorder()
    async with link(protocol) as peer:
        block(protocol)
        protocol.transport.abort()
        assert protocol.transport.is_closing()
        assert await protocol.until_lost() is None
        assert protocol.transport.get_write_buffer_size() == 0
        with tls.plain(peer) as sock:
            await tls.end_of(sock)
    assert protocol.calls.count("connection_lost") == 1


@pytest.mark.parametrize("queued", [0, tls.LARGE * 4])
async def test_abort_while_closing(link: tls.Link, queued: int) -> None:
    """The peer does not answer; without abort() this would take until the timeout."""
    protocol = tls.Recorder()
    async with link(protocol) as peer:
        protocol.transport.write(bytes(queued))
        protocol.transport.close()
        await tls.turns()
        assert protocol.lost is tls.NOT_YET
        protocol.transport.abort()
        protocol.transport.abort()
        assert await protocol.until_lost() is None
        with tls.plain(peer) as sock:
            await tls.end_of(sock)
        protocol.transport.abort()
        protocol.transport.close()
        await tls.turns()
    assert protocol.calls.count("connection_lost") == 1


async def test_cancelled_in_the_handshake(client_context: ssl.SSLContext) -> None:
    """Which aborts a transport that nobody has seen yet."""
    async with tls.connecting(tls.Recorder, client_context) as (peer, connecting):
        assert await asyncio.to_thread(peer.recv, 1)  # the handshake has begun
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        await tls.end_of(peer)


async def test_cancelled_when_the_handshake_is_done(
    server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    """Between connection_made() and the return of create_connection()."""
    protocol = tls.Recorder()
    async with tls.connecting(lambda: protocol, client_context) as (sock, connecting):
        protocol.hooks["connection_made"] = connecting.cancel
        with await asyncio.to_thread(tls.secure, sock, server_context, True) as peer:
            with pytest.raises(asyncio.CancelledError):
                await connecting
            with contextlib.suppress(OSError), await asyncio.to_thread(peer.unwrap):
                pass
        await protocol.until_lost()


# What can still be asked


@pytest.mark.parametrize("how", ["close", "abort"])
async def test_a_closed_transport_still_answers(link: tls.Link, how: str) -> None:
    protocol = tls.Recorder()
    async with link(protocol) as peer:
        transport: Any = protocol.transport
        getattr(transport, how)()
        with contextlib.suppress(OSError), await asyncio.to_thread(peer.unwrap):
            pass
        await protocol.until_lost()
        await tls.turns()
        assert transport.is_closing()
        for _ in range(7):
            transport.write(b"x")
            transport.writelines([b"x", b"y"])
        assert transport.get_write_buffer_size() == 0
        assert transport.get_extra_info("nothing", 7) == 7
        transport.pause_reading()
        transport.resume_reading()
        transport.abort()
        assert "closed" in repr(transport) or "object at" in repr(transport)
