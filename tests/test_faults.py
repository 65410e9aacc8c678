"""The kernel says no: each system call of the pure build's `syscalls` fails once, with what its man page lists."""

import asyncio
import errno
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pollers import epoll_only

import epoll_loop
from epoll_loop.core import syscalls

pytestmark = pytest.mark.skipif(epoll_loop.COMPILED, reason="what is compiled can not be replaced")

BUFFERED_SIZE = 100


class Recorder(asyncio.Protocol):
    def __init__(self) -> None:
        self.lost = asyncio.get_running_loop().create_future()
        self.data = bytearray()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.data += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)


class Buffered(Recorder, asyncio.BufferedProtocol):
    def get_buffer(self, hint: int) -> bytearray:
        self.buffer = bytearray(BUFFERED_SIZE)
        return self.buffer

    def buffer_updated(self, count: int) -> None:
        self.data += self.buffer[:count]


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, peer = socket.socketpair()
    with ours, peer:
        ours.setblocking(False)
        peer.settimeout(10)
        yield ours, peer


@pytest.fixture
def fail_once(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], list[int]]:
    """Make a function of syscalls return -errno, the next time only; the list has what was not used up yet."""

    def install(name: str, number: int) -> list[int]:
        real = getattr(syscalls, name)
        left = [number]
        monkeypatch.setattr(syscalls, name, lambda *args: -left.pop() if left else real(*args))
        return left

    return install


def refuse(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Make epoll_ctl(2) refuse to register anything, as it does when /proc/sys/fs/epoll/max_user_watches is reached."""

    def add(self: Any, fd: int, mask: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(syscalls.EpollSet, "add", add)


ERRORS = [errno.ECONNRESET, errno.ETIMEDOUT, errno.ENOBUFS, errno.ENOMEM, errno.EIO, errno.EPIPE]


def says(exc: BaseException, number: int) -> bool:
    """Whether an exception is the one of that number: asyncio's class, and the standard text."""
    return type(exc) is type(OSError(number, "")) and exc.args == (number, os.strerror(number))


@pytest.mark.parametrize("number", ERRORS)
@pytest.mark.parametrize(("name", "factory"), [("recv", Recorder), ("recv_into", Buffered)])
async def test_a_read_fails(name: str, factory: Any, number: int, pair: Any, fail_once: Any) -> None:
    loop = asyncio.get_running_loop()
    _, protocol = await loop.create_unix_connection(factory, sock=pair[0])
    left = fail_once(name, number)
    pair[1].send(b"data")
    assert says(await asyncio.wait_for(protocol.lost, 10), number)
    assert left == []
    with pytest.raises(ConnectionResetError):  # our end is closed, with what has come unread
        pair[1].recv(10)


@pytest.mark.parametrize(("name", "factory"), [("recv", Recorder), ("recv_into", Buffered)])
async def test_a_read_that_finds_nothing_after_all(name: str, factory: Any, pair: Any, fail_once: Any) -> None:
    """EAGAIN after an edge: the data that come later have an edge of their own."""
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_unix_connection(factory, sock=pair[0])
    left = fail_once(name, errno.EAGAIN)
    pair[1].send(b"one ")
    while left:
        await asyncio.sleep(0)
    assert protocol.data == b""
    pair[1].send(b"two")
    while len(protocol.data) < 7:
        await asyncio.sleep(0)
    assert protocol.data == b"one two"
    transport.close()
    await protocol.lost


@pytest.mark.parametrize("number", ERRORS)
@pytest.mark.parametrize(("name", "chunks"), [("send", 1), ("sendmsg", 3)])
async def test_a_write_fails(name: str, chunks: int, number: int, pair: Any, fail_once: Any) -> None:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_unix_connection(Recorder, sock=pair[0])
    fail_once(name, number)
    for _ in range(chunks):
        transport.write(b"data")
    assert says(await asyncio.wait_for(protocol.lost, 10), number)
    assert transport.get_write_buffer_size() == 0
    assert pair[1].recv(10) == b""


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
async def test_an_accept_fails(number: int, fail_once: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is reported, and tried again."""
    monkeypatch.setattr("epoll_loop.transports.listener._RETRY", 0.001)
    loop = asyncio.get_running_loop()
    reports: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda loop, context: reports.append(context))
    accepted = loop.create_future()
    server = await asyncio.start_server(lambda reader, writer: accepted.set_result(writer), "127.0.0.1", 0)
    fail_once("accept", number)
    async with server:
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        (await asyncio.wait_for(accepted, 10)).close()
        writer.close()
    assert [report["exception"].errno for report in reports] == [number]


@epoll_only
async def test_an_accepted_connection_can_not_be_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    reports: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda loop, context: reports.append(context))
    server = await loop.create_server(Recorder, "127.0.0.1", 0)
    refuse(monkeypatch, errno.ENOSPC)
    with socket.create_connection(server.sockets[0].getsockname()) as client:
        client.settimeout(10)
        assert await asyncio.to_thread(client.recv, 1) == b""  # closed at once
    assert [report["exception"].errno for report in reports] == [errno.ENOSPC]
    server.close()


@epoll_only
@pytest.mark.parametrize("method", ["create_connection", "create_unix_connection", "create_datagram_endpoint"])
async def test_what_can_not_be_registered_is_closed(
    method: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    before = len(os.listdir("/proc/self/fd"))
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tmp_path / "socket"))
        unix.listen()
        arguments: tuple[Any, ...] = {
            "create_connection": tcp.getsockname(),
            "create_unix_connection": (unix.getsockname(),),
            "create_datagram_endpoint": (("127.0.0.1", 0),),
        }[method]
        refuse(monkeypatch, errno.ENOSPC)
        with pytest.raises(OSError) as caught:
            await getattr(loop, method)(asyncio.DatagramProtocol, *arguments)
        assert says(caught.value, errno.ENOSPC)
    caught = None  # type: ignore[assignment]
    assert len(os.listdir("/proc/self/fd")) == before


@epoll_only
@pytest.mark.parametrize("operation", ["sock_recv", "sock_accept", "sock_recvfrom"])
async def test_a_wait_that_can_not_be_registered(operation: str, pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        refuse(monkeypatch, errno.ENOSPC)
        arguments = (listening,) if operation == "sock_accept" else (pair[0], 10)
        with pytest.raises(OSError) as caught:
            await getattr(loop, operation)(*arguments)
    assert says(caught.value, errno.ENOSPC)


@pytest.mark.parametrize("number", ERRORS)
@pytest.mark.parametrize(
    ("name", "operation", "argument"),
    [
        ("try_recv", "sock_recv", 10),
        ("try_recv_into", "sock_recv_into", bytearray(10)),
        ("try_send", "sock_sendall", b"data"),
    ],
)
async def test_a_coroutine_on_a_socket_fails(
    name: str, operation: str, argument: Any, number: int, pair: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(syscalls, name, fail)
    with pytest.raises(OSError) as caught:
        await getattr(asyncio.get_running_loop(), operation)(pair[0], argument)
    assert says(caught.value, number)
