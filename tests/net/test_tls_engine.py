"""Which engine does TLS, and what it does with contexts and objects that it does not know."""

import asyncio
import os
import socket
import ssl
import subprocess
import sys
from typing import Any

import pytest
import tls

import epoll_loop
from epoll_loop.net.tls import ENGINES, WHY_NOT_DIRECT
from epoll_loop.transports.engine import Engine, Nested

pytestmark = pytest.mark.usefixtures("no_descriptor_left")


def chosen(**environment: str) -> subprocess.CompletedProcess[str]:
    """Import the package, of the build that runs here, in a new Python."""
    env = {key: value for key, value in os.environ.items() if key != "EPOLL_LOOP_TLS"}
    command = [sys.executable, "-c", "import epoll_loop; print(epoll_loop.TLS_ENGINE)"]
    return subprocess.run(command, env=env | environment, capture_output=True, text=True)


def test_the_direct_engine_runs_or_says_why_it_does_not() -> None:
    assert ("direct" in ENGINES) == (WHY_NOT_DIRECT == "")
    assert epoll_loop.COMPILED or WHY_NOT_DIRECT
    assert chosen().stdout.strip() == ("object" if WHY_NOT_DIRECT else "direct")


def test_the_proof_holds_as_often_as_it_is_made() -> None:
    if WHY_NOT_DIRECT:
        pytest.skip(WHY_NOT_DIRECT)
    from epoll_loop.transports import libssl  # type: ignore[attr-defined]

    assert [libssl.prove() for _ in range(3)] == ["", "", ""]


def test_the_environment_chooses() -> None:
    assert chosen(EPOLL_LOOP_TLS="object").stdout.strip() == "object"
    direct = chosen(EPOLL_LOOP_TLS="direct")
    if WHY_NOT_DIRECT:
        assert "RuntimeError: EPOLL_LOOP_TLS=direct, but" in direct.stderr
    else:
        assert direct.stdout.strip() == "direct"
    wrong = chosen(EPOLL_LOOP_TLS="fast")
    assert "ValueError: EPOLL_LOOP_TLS is 'fast'; it can be 'direct' or 'object'" in wrong.stderr


class Wrapped:
    """What a context of somebody else's may return: it does all that an `ssl.SSLObject` does, and is none."""

    def __init__(self, inner: ssl.SSLObject) -> None:
        for name in ("cipher", "do_handshake", "getpeercert", "pending", "read", "write", "unwrap"):
            setattr(self, name, getattr(inner, name))
        self.shutdown = inner.unwrap


class Wrapping(ssl.SSLContext):
    def wrap_bio(self, *args: Any, **kwargs: Any) -> Any:
        return Wrapped(super().wrap_bio(*args, **kwargs))


@pytest.mark.usefixtures("engine")
async def test_a_context_that_makes_objects_of_its_own(server_context: ssl.SSLContext) -> None:
    context = Wrapping(ssl.PROTOCOL_TLS_CLIENT)
    tls.AUTHORITY.configure_trust(context)
    async with await asyncio.start_server(tls.echo, "127.0.0.1", 0, ssl=server_context) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname(), ssl=context, **tls.NAME)
        writer.write(tls.pattern(100_000))
        assert await reader.readexactly(100_000) == tls.pattern(100_000)
        assert isinstance(writer.get_extra_info("ssl_object"), Wrapped)
        writer.close()
        await writer.wait_closed()


@pytest.mark.usefixtures("engine")
async def test_the_object_is_used_by_hand(link: tls.Link) -> None:
    """It finds nothing to read, and what it writes goes out with what the transport writes, before it."""
    protocol = tls.Recorder()
    async with link(protocol) as peer:
        ssl_object = protocol.transport.get_extra_info("ssl_object")
        with pytest.raises(ssl.SSLWantReadError):
            ssl_object.read(1)
        assert ssl_object.write(b"one ") == 4
        protocol.transport.write(b"two")
        assert await tls.read(peer, 7) == b"one two"
        await asyncio.to_thread(peer.sendall, b"three")
        assert await protocol.until_data(5) == b"three"


def shake_hands(*ends: tuple[Engine, socket.socket]) -> None:
    done = [False]
    while not all(done):
        done = []
        for engine, sock in ends:
            engine.fill(sock, sock.fileno())
            done.append(engine.handshake())
            send_all(engine, sock)


def send_all(engine: Engine, sock: socket.socket) -> None:
    while engine.unsent and engine.flush(sock, sock.fileno()) > 0:
        pass


def test_both_layers_say_goodbye_to_a_peer_that_sends_on(
    server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    ours, peer = socket.socketpair()
    with ours, peer:
        ours.setblocking(False)
        peer.setblocking(False)
        inner, inner_peer = Engine(server_context, True, None), Engine(client_context, False, "localhost")
        shake_hands((inner, ours), (inner_peer, peer))
        outer = Nested(server_context, True, None, inner)
        outer_peer = Nested(client_context, False, "localhost", inner_peer)
        shake_hands((outer, ours), (outer_peer, peer))
        outer_peer.write(bytes(50_000), 0)
        send_all(outer_peer, peer)
        outer.fill(ours, ours.fileno())
        with pytest.raises(ssl.SSLError):
            outer.shutdown()
        send_all(outer, ours)
        ours.close()
        plain: list[bytes | None] = []
        while inner_peer.fill(peer, peer.fileno()) > 0:
            while inner_peer.pending:
                plain.append(inner_peer.read())
                if plain[-1] == b"":
                    return
        raise AssertionError(f"no goodbye of the inner layer among {plain}")
