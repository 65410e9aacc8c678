"""Peers that do not answer: in the handshake and at the end. Whatever happens, all is freed."""

import asyncio
import contextlib
import socket
import ssl
import weakref
from typing import Any

import garbage
import pytest
import tls

ASYNCIO_TOO = True
pytestmark = pytest.mark.usefixtures("no_descriptor_left", "engine")
ours = pytest.mark.asyncio(loop_factories=["epoll_loop"])
SOON = 0.02  # seconds


class Forgetful(asyncio.Protocol):
    """Keeps no exception: that knows the frames which it came through."""


class Weak:
    """A factory that knows whether its protocols are still there."""

    def __init__(self, kind: Any = tls.Recorder) -> None:
        self.kind = kind
        self.made: list[weakref.ref[Any]] = []

    def __call__(self) -> Any:
        protocol = self.kind()
        self.made.append(weakref.ref(protocol))
        return protocol

    def all_gone(self) -> bool:
        garbage.let_go()
        return bool(self.made) and not any(protocol() for protocol in self.made)


# The handshake


async def test_a_client_whose_server_says_nothing(client_context: ssl.SSLContext) -> None:
    async with tls.connecting(tls.Recorder, client_context, ssl_handshake_timeout=SOON) as (peer, connecting):
        with pytest.raises(ConnectionAbortedError) as caught:
            await connecting
        assert str(caught.value) == f"SSL handshake is taking longer than {SOON} seconds: aborting the connection"
        await tls.end_of(peer)


async def test_a_server_whose_client_says_nothing(server_context: ssl.SSLContext, reports: list[Any]) -> None:
    """The protocol never hears of the connection, nor does the exception handler."""
    protocol = tls.Recorder()
    async with tls.accepting(lambda: protocol, server_context, ssl_handshake_timeout=SOON) as (peer, _):
        await tls.end_of(peer)
    assert protocol.calls == []
    assert reports == []


async def test_a_client_that_stops_in_the_middle(server_context: ssl.SSLContext) -> None:
    async with tls.accepting(tls.Recorder, server_context, ssl_handshake_timeout=SOON) as (peer, _):
        peer.sendall(b"\x16\x03\x01")
        await tls.end_of(peer)


@ours  # asyncio leaves some of it to the collector, which of it depends on the version
@pytest.mark.parametrize("unix", [False, True], ids=["TCP", "Unix"])
async def test_nothing_is_left_of_a_client(client_context: ssl.SSLContext, unix: bool) -> None:
    loop = asyncio.get_running_loop()
    weak = Weak()
    ends = socket.socketpair()
    with tls.nothing_for_the_collector(), ends[1]:
        with contextlib.suppress(ConnectionAbortedError):
            if unix:
                await loop.create_unix_connection(
                    weak, sock=ends[0], ssl=client_context, **tls.NAME, ssl_handshake_timeout=SOON
                )
            else:
                async with tls.connecting(weak, client_context, ssl_handshake_timeout=SOON) as (_, connecting):
                    with contextlib.suppress(ConnectionAbortedError):
                        await connecting
                    del connecting
        ends[0].close()
        await tls.turns()
        assert weak.all_gone()
    assert asyncio.all_tasks() == {asyncio.current_task()}


@ours
async def test_nothing_is_left_of_a_server(server_context: ssl.SSLContext) -> None:
    weak = Weak()
    with tls.nothing_for_the_collector():
        async with tls.accepting(weak, server_context, ssl_handshake_timeout=SOON) as (peer, _):
            await tls.end_of(peer)
            await tls.turns()
            assert weak.all_gone()


@ours
@pytest.mark.parametrize("later", [False, True], ids=["create_connection", "start_tls"])
async def test_nothing_is_left_of_a_failed_handshake(server_context: ssl.SSLContext, later: bool) -> None:
    loop = asyncio.get_running_loop()
    weak = Weak(Forgetful)
    distrustful = tls.distrustful_context()

    async def connect(address: Any) -> None:
        with contextlib.suppress(ssl.SSLCertVerificationError):
            if later:
                await loop.start_tls(*await loop.create_connection(weak, *address), distrustful, **tls.NAME)
            else:
                await loop.create_connection(weak, *address, ssl=distrustful, **tls.NAME)

    server = await asyncio.start_server(tls.echo, "127.0.0.1", 0, ssl=server_context)
    async with server:
        with garbage.without_collector():
            await connect(server.sockets[0].getsockname())
            await tls.turns()  # connection_lost()
            assert weak.all_gone()


async def test_a_handshake_cancels_its_timer(
    server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    """Who is connected has no time limit any more."""
    protocol = tls.Recorder()
    async with tls.accepted(protocol, server_context, client_context, ssl_handshake_timeout=0.2) as peer:
        await asyncio.sleep(0.21)
        peer.sendall(b"x")
        assert await protocol.until_data(1) == b"x"


@ours
async def test_an_orderly_connection_leaves_nothing_to_the_collector(link: tls.Link) -> None:
    weak = Weak()

    async def converse() -> None:
        protocol = weak()
        async with link(protocol) as peer:
            protocol.transport.write(b"ping")
            assert await tls.read(peer, 4) == b"ping"
            peer.sendall(b"pong")
            await protocol.until_data(4)
            protocol.transport.close()
            await asyncio.to_thread(peer.unwrap)
            assert await protocol.until_lost() is None

    await converse()  # what is made once
    with tls.nothing_for_the_collector():
        await converse()
        await tls.turns()
        assert weak.all_gone()


# The end


@pytest.mark.usefixtures("version")
async def test_a_peer_that_does_not_answer_close_notify(link: tls.Link, reports: list[Any]) -> None:
    protocol = tls.Recorder()
    async with link(protocol, ssl_shutdown_timeout=SOON) as peer:
        protocol.transport.close()
        exc = await protocol.until_lost()
        assert exc is None or isinstance(exc, TimeoutError)
        assert protocol.calls == ["connection_made", "connection_lost"]
        assert peer.recv(1) == b""  # it was told
        with tls.plain(peer) as sock:
            await tls.end_of(sock)
    assert reports == []


@ours
async def test_the_limit_begins_when_the_last_was_taken(link: tls.Link) -> None:
    """What is sent at the end, our goodbye for one, does not double it."""
    loop: Any = asyncio.get_running_loop()
    now = loop.time()
    protocol = tls.Recorder()
    async with link(protocol, ssl_shutdown_timeout=100) as peer:
        loop.time = lambda: now
        try:
            protocol.transport.write(b"the last")
            protocol.transport.close()
            await tls.turns()
            assert peer.recv(100) == b"the last"
            now += 99
            await tls.turns()
            assert "connection_lost" not in protocol.calls
            now += 1.1
            await tls.turns()
            assert protocol.calls[-1] == "connection_lost"
        finally:
            del loop.time


async def test_a_peer_that_does_not_read_either(link: tls.Link) -> None:
    """What was written can not be sent: the time limit is for that as well."""
    protocol = tls.Recorder()
    async with link(protocol, ssl_shutdown_timeout=SOON):
        protocol.transport.write(bytes(tls.LARGE * 4))
        protocol.transport.close()
        assert isinstance(await protocol.until_lost(), TimeoutError)


@ours
async def test_nothing_is_left_after_the_shutdown_timeout(link: tls.Link) -> None:
    weak = Weak()

    async def converse() -> None:
        protocol = weak()
        async with link(protocol, ssl_shutdown_timeout=SOON):
            protocol.transport.close()
            await protocol.until_lost()

    await converse()
    with tls.nothing_for_the_collector():
        await converse()
        await tls.turns()
        assert weak.all_gone()
