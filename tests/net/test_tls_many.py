"""Many connections: nothing of them stays, and handshakes leave room for those who are connected."""

import asyncio
import collections
import contextlib
import gc
import itertools
import os
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any

import pytest
import tls

pytestmark = pytest.mark.usefixtures("no_descriptor_left", "engine")


def talk(address: Any, context: ssl.SSLContext) -> None:
    with tls.dial(address, context) as peer:
        peer.sendall(b"x")
        assert peer.recv(1) == b"x"
        peer.unwrap()


def reset(address: Any, context: ssl.SSLContext) -> None:
    with tls.dial(address, context) as peer:
        peer.sendall(b"x")
        tls.reset(peer)


def leave(address: Any, context: ssl.SSLContext) -> None:
    """In the middle of the handshake."""
    with socket.create_connection(address, tls.LIMIT) as sock:
        sock.sendall(b"\x16\x03\x01")


def fail(address: Any, context: ssl.SSLContext) -> None:
    with contextlib.suppress(ssl.SSLCertVerificationError):
        tls.dial(address, DISTRUSTFUL)


DISTRUSTFUL = tls.distrustful_context()
WAYS: list[Callable[[Any, ssl.SSLContext], None]] = [talk, reset, leave, fail]


def objects() -> collections.Counter[str]:
    gc.collect()
    return collections.Counter(type(found).__qualname__ for found in gc.get_objects())


def resident() -> int:
    """Bytes of memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("count", [2000])
async def test_connections_that_come_and_go(
    server_context: ssl.SSLContext, client_context: ssl.SSLContext, count: int
) -> None:
    """Half of them are clients of ours."""
    warm_up = 200

    def of_threads(address: Any, number: int) -> None:
        for way, _ in zip(itertools.cycle(WAYS), range(number), strict=False):
            way(address, client_context)

    async def of_ours(address: Any, number: int) -> None:
        for i in range(number):
            with contextlib.suppress(OSError):
                context = DISTRUSTFUL if i % 4 == 0 else client_context
                reader, writer = await asyncio.open_connection(*address, ssl=context, **tls.NAME)
                writer.write(b"x")
                if i % 4 == 1:
                    writer.transport.abort()
                elif i % 4 == 2:
                    assert await reader.readexactly(1) == b"x"
                writer.close()
                await writer.wait_closed()

    async with await asyncio.start_server(tls.echo, "127.0.0.1", 0, ssl=server_context) as server:
        address = server.sockets[0].getsockname()

        async def come_and_go(number: int) -> None:
            await asyncio.gather(asyncio.to_thread(of_threads, address, number // 2), of_ours(address, number // 2))
            async with asyncio.timeout(tls.LIMIT):
                while len(asyncio.all_tasks()) > 1:
                    await asyncio.sleep(0)
            await tls.turns()

        await come_and_go(warm_up)
        before, memory, descriptors = objects(), resident(), len(os.listdir("/proc/self/fd"))
        await come_and_go(count - warm_up)
        grown = {name: number for name, number in (objects() - before).items() if number > 20}
        assert not grown
        assert len(os.listdir("/proc/self/fd")) == descriptors
        assert resident() - memory < 5_000_000  # a connection has tens of kilobytes


async def test_a_flood_of_handshakes_next_to_an_established_connection(
    server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    """Between two of its answers there are a few of them, not all that wait."""
    loop = asyncio.get_running_loop()
    log: list[str] = []
    count = 200

    class Server(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            log.append("handshake")
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            log.append("echo")
            self.transport.write(data)

    stop = threading.Event()

    def ask(peer: ssl.SSLSocket) -> None:
        """One question after the other."""
        while not stop.is_set():
            peer.sendall(b"?")
            assert peer.recv(1) == b"?"

    def shake_hands(address: Any, number: int) -> list[ssl.SSLSocket]:
        """All at once: first come the sockets, then the first messages, then all the others."""
        socks = [socket.create_connection(address, tls.LIMIT) for _ in range(number)]
        peers = [
            client_context.wrap_socket(sock, server_hostname="localhost", do_handshake_on_connect=False)
            for sock in socks
        ]
        for peer in peers:
            peer.setblocking(False)
        waiting = list(peers)
        while waiting:
            for peer in list(waiting):
                with contextlib.suppress(ssl.SSLWantReadError):
                    peer.do_handshake()
                    waiting.remove(peer)
        return peers

    async with await loop.create_server(Server, "127.0.0.1", 0, ssl=server_context, backlog=count) as server:
        address = server.sockets[0].getsockname()
        with await asyncio.to_thread(tls.dial, address, client_context) as peer:
            asking = asyncio.create_task(asyncio.to_thread(ask, peer))
            peers = await asyncio.to_thread(shake_hands, address, count)
            async with asyncio.timeout(tls.LIMIT):
                while log.count("handshake") <= count:
                    await asyncio.sleep(0)
            stop.set()
            await asking
        for peer in peers:
            peer.close()
    runs = [len(list(run)) for name, run in itertools.groupby(log) if name == "handshake"]
    assert sum(runs) == count + 1
    assert max(runs) <= 50
