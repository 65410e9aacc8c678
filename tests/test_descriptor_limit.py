"""The limit of open descriptors, RLIMIT_NOFILE, for real: what needs one says EMFILE and leaves nothing, and goes on.

Each call is made again and again, with one more descriptor to be had each time, until it has all that it needs.
"""

import asyncio
import contextlib
import errno
import os
import socket
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from interpreter import PATIENCE
from resources import limited, open_fds

import epoll_loop

LIMIT = 20 * PATIENCE  # seconds after which a wait has failed; nothing here takes one
MOST = 16  # descriptors: nothing here needs as many

pytestmark = pytest.mark.usefixtures("no_descriptor_left")


@pytest.fixture
async def reports() -> list[dict[str, Any]]:
    """What the loop's exception handler was called with."""
    found: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: found.append(context))
    return found


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    """A standard socket that listens: the kernel connects without anybody accepting."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.setblocking(False)
        yield sock


# --- what needs descriptors

Call = Callable[[socket.socket], Awaitable[Any]]


class Lost(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.lost = asyncio.get_running_loop().create_future()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)


async def end(made: tuple[Any, Any]) -> None:
    transport, protocol = made
    transport.close()
    await protocol.lost


async def connect(listening: socket.socket) -> None:
    await end(await asyncio.get_running_loop().create_connection(Lost, *listening.getsockname()))


async def connect_to_a_name(listening: socket.socket) -> None:
    await end(await asyncio.get_running_loop().create_connection(Lost, "localhost", listening.getsockname()[1]))


async def connect_unix(listening: socket.socket) -> None:
    await end(await asyncio.get_running_loop().create_unix_connection(Lost, UNIX))


async def sock_connect(listening: socket.socket) -> None:
    with socket.socket() as sock:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, listening.getsockname())


async def sock_accept(listening: socket.socket) -> None:
    """What waits in the kernel is not lost."""
    connection, _ = await asyncio.get_running_loop().sock_accept(listening)
    connection.close()


async def listen(listening: socket.socket) -> None:
    server = await asyncio.get_running_loop().create_server(Lost, "127.0.0.1", 0)
    server.close()
    await server.wait_closed()


async def datagrams(listening: socket.socket) -> None:
    await end(await asyncio.get_running_loop().create_datagram_endpoint(Lost, ("127.0.0.1", 0)))


async def resolve(listening: socket.socket) -> None:
    assert await asyncio.get_running_loop().getaddrinfo("localhost", 1, type=socket.SOCK_STREAM)


async def run(listening: socket.socket) -> None:
    process = await asyncio.create_subprocess_exec("true")
    assert await process.wait() == 0


async def run_with_pipes(listening: socket.socket) -> None:
    three = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = await asyncio.create_subprocess_exec("cat", **three)
    assert await process.communicate(b"data") == (b"data", b"")


async def another_loop(listening: socket.socket) -> None:
    epoll_loop.new_event_loop().close()


CALLS: list[Call] = [
    connect,
    connect_to_a_name,
    connect_unix,
    sock_connect,
    sock_accept,
    listen,
    datagrams,
    resolve,
    run,
    run_with_pipes,
    another_loop,
]
UNIX = f"\0epoll_loop {os.getpid()}"


def says_so(exc: OSError) -> bool:
    """Whether it is EMFILE; the C library looks names up as well as it can, and has other words if it cannot."""
    if isinstance(exc, socket.gaierror):
        return exc.errno in (socket.EAI_SYSTEM, socket.EAI_AGAIN, socket.EAI_NONAME, socket.EAI_MEMORY)
    return exc.errno == errno.EMFILE and os.strerror(errno.EMFILE) in str(exc)


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
async def test_with_one_more_each_time(call: Call, listening: socket.socket, reports: list[Any]) -> None:
    with contextlib.ExitStack() as stack:
        unix = stack.enter_context(socket.socket(socket.AF_UNIX))
        unix.bind(UNIX)
        unix.listen()
        for _ in range(MOST + 2 if call is sock_accept else 0):
            stack.enter_context(socket.create_connection(listening.getsockname()))
        async with asyncio.timeout(LIMIT):
            await call(listening)  # what is imported and made once
            before = set(open_fds())
            failed = []
            for more in range(MOST):
                with limited(more):
                    try:
                        await call(listening)
                    except OSError as exc:
                        failed.append(exc)
                assert set(open_fds()) == before
            await call(listening)
    assert 0 < len(failed) < MOST
    assert [exc for exc in failed if not says_so(exc)] == []
    assert reports == []


# --- servers


class Echo(asyncio.Protocol):
    def __init__(self, connected: set[asyncio.Protocol]) -> None:
        self.connected = connected

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.connected.add(self)

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.connected.remove(self)


async def answered(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(LIMIT):
        await loop.sock_sendall(sock, b"x")
        assert await loop.sock_recv(sock, 1) == b"x"


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_server_says_so_once_each_time(reports: list[Any]) -> None:
    """Who is connected is served meanwhile, and who waits is served after it."""
    loop = asyncio.get_running_loop()
    connected: set[asyncio.Protocol] = set()
    clients = [socket.socket() for _ in range(9)]
    for sock in clients:
        sock.setblocking(False)
    async with await loop.create_server(lambda: Echo(connected), "127.0.0.1", 0) as server:
        await loop.sock_connect(clients[0], server.sockets[0].getsockname())
        await answered(clients[0])
        for times, waiting in (1, clients[1:5]), (2, clients[5:]):
            with limited(0):
                for sock in waiting:
                    await loop.sock_connect(sock, server.sockets[0].getsockname())
                await until(lambda: len(reports) == times)  # noqa: B023
                await answered(clients[0])
            for sock in clients[: 4 * times + 1]:
                await answered(sock)
        for sock in clients:
            sock.close()
        await until(lambda: not connected)
    assert [report["message"] for report in reports] == ["socket.accept() out of system resource"] * 2
    assert all(says_so(report["exception"]) for report in reports)
