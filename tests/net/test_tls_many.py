"""Many connections: nothing of them stays, and handshakes leave room for those who are connected."""

import asyncio
import collections
import contextlib
import gc
import itertools
import os
import select
import socket
import ssl
from collections.abc import Callable
from typing import Any

import garbage
import pytest
import tls
from interpreter import memory_counts
from resources import resident

import epoll_loop.net.tls

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
    garbage.collect()
    return collections.Counter(type(found).__qualname__ for found in gc.get_objects())


@memory_counts
async def test_connections_that_come_and_go(
    server_context: ssl.SSLContext, client_context: ssl.SSLContext, engine: str
) -> None:
    """Half of them are clients of ours."""
    warm_up = 200
    count = 1000 if engine == epoll_loop.net.tls.TLS_ENGINE else 500

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
        # The first two PyPy's collector knows as well, also those of the interpreter. Of the others an abstract class
        # has a pair for every class that was compared with it, by anybody and at any time.
        for name in ("str", "int", "ReferenceType", "builtin_function_or_method"):
            grown.pop(name, None)
        assert not grown
        assert len(os.listdir("/proc/self/fd")) == descriptors
        assert resident() - memory < 5_000_000  # a connection has tens of kilobytes


async def test_a_flood_of_handshakes_next_to_an_established_connection(
    server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    """All of it is in the kernel at once; a question is served after a few of them, and then the next one."""
    count = 300
    greeted = [0]
    established = tls.Recorder()
    protocols = itertools.chain([established], iter(tls.Recorder, None))

    def served() -> None:
        greeted.append(len(select.select(socks, [], [], 0)[0]))
        if greeted[-1] < count:
            peer.sendall(b"?")  # ready in the next iteration

    descriptors = len(os.listdir("/proc/self/fd"))
    server = await asyncio.get_running_loop().create_server(
        lambda: next(protocols), "127.0.0.1", 0, ssl=server_context, backlog=count
    )
    async with server:
        address = server.sockets[0].getsockname()
        with await asyncio.to_thread(tls.dial, address, client_context) as peer, contextlib.ExitStack() as stack:
            await established.until(lambda: established.transport)
            hello = tls.hello(client_context)
            socks = [stack.enter_context(socket.create_connection(address)) for _ in range(count)]
            for sock in socks:
                sock.sendall(hello)
            established.hooks["data_received"] = served
            peer.sendall(b"?")
            await established.until(lambda: greeted[-1] == count)
    async with asyncio.timeout(tls.LIMIT):
        while len(os.listdir("/proc/self/fd")) > descriptors:  # wait_closed() waits for it, from Python 3.12 on
            await asyncio.sleep(0)
    # The kernel may hold a question back for a while; not half of them.
    between = sorted(after - before for before, after in itertools.pairwise(greeted))
    assert between[len(between) // 2] <= 16
