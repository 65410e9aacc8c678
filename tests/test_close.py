"""Closing a loop with work in flight: every descriptor is closed, and everybody who waits is woken."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Coroutine
from typing import Any

import pytest

import epoll_loop

# As asyncio has it, what was still open is reported when it is dropped.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed transport:ResourceWarning")


class Recorder(asyncio.Protocol):
    def __init__(self, log: list[Any]) -> None:
        self.log = log

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.log.append(exc)


@pytest.fixture
def pair():
    """Two non-blocking ends of a connection."""
    ours, peer = socket.socketpair()
    with ours, peer:
        ours.setblocking(False)
        peer.setblocking(False)
        yield ours, peer


def close_with(loop: Any, *waiting: Coroutine[Any, Any, Any]) -> list[asyncio.Task[Any]]:
    """Close the loop while these coroutines wait, and return their tasks."""

    async def start() -> list[asyncio.Task[Any]]:
        tasks = [asyncio.create_task(coroutine) for coroutine in waiting]
        for _ in range(5):
            await asyncio.sleep(0)
        return tasks

    tasks = loop.run_until_complete(start())
    assert not any(task.done() for task in tasks)
    loop.close()
    assert all(task.done() for task in tasks)
    return tasks


def test_connections_are_lost_and_servers_closed(loop):
    log: list[Any] = []

    async def main() -> Any:
        server = await loop.create_server(lambda: Recorder(log), "127.0.0.1", 0)
        await loop.create_connection(lambda: Recorder(log), *server.sockets[0].getsockname())
        while len(loop._channels()) < 4:  # the server's end of it as well
            await asyncio.sleep(0)
        return server

    server = loop.run_until_complete(main())
    closed, forever = close_with(loop, server.wait_closed(), server.serve_forever())
    assert log == [None, None]
    assert closed.result() is None
    assert forever.cancelled()
    assert server.sockets == ()


def test_a_transport_that_was_closed_just_before(loop):
    log: list[Any] = []

    async def main() -> None:
        ours, peer = socket.socketpair()
        with peer:
            transport, _ = await loop.create_unix_connection(lambda: Recorder(log), sock=ours)
            transport.close()

    loop.run_until_complete(main())
    loop.close()
    assert log == [None]


@pytest.mark.parametrize("operation", ["recv", "recv_into", "recvfrom", "recvfrom_into", "accept", "sendall"])
def test_a_coroutine_on_a_socket_is_cancelled(loop, pair, operation):
    ours = pair[0]
    arguments: tuple[Any, ...] = {
        "recv": (ours, 10),
        "recvfrom": (ours, 10),
        "recv_into": (ours, bytearray(10)),
        "recvfrom_into": (ours, bytearray(10)),
        "sendall": (ours, bytes(10_000_000)),
        "accept": (),
    }[operation]
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        (task,) = close_with(loop, getattr(loop, f"sock_{operation}")(*arguments or (listening,)))
    assert task.cancelled()
    assert ours.fileno() >= 0  # it is not the loop's to close


def test_a_connect_is_cancelled(loop):
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        clients = [socket.socket() for _ in range(8)]  # with the backlog full the kernel does not answer any more
        for client in clients:
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        (task,) = close_with(loop, loop.create_connection(asyncio.Protocol, *full.getsockname()))
        for client in clients:
            client.close()
    assert task.cancelled()


def test_children_are_killed_and_reaped(loop):
    command = sys.executable, "-c", "input()"

    async def start() -> Any:
        return await asyncio.create_subprocess_exec(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    child = loop.run_until_complete(start())
    waited, read = close_with(loop, child.wait(), child.stdout.read())
    assert waited.result() == -9
    assert read.result() == b""
    with pytest.raises(ChildProcessError):
        os.waitpid(child.pid, os.WNOHANG)


def test_pipes_are_closed(loop):
    log: list[Any] = []

    async def main() -> None:
        reader, writer = os.pipe()
        await loop.connect_read_pipe(lambda: Recorder(log), open(reader, "rb", 0))  # noqa: SIM115
        transport, _ = await loop.connect_write_pipe(lambda: Recorder(log), open(writer, "wb", 0))  # noqa: SIM115
        transport.write(bytes(1_000_000))  # more than the pipe takes

    loop.run_until_complete(main())
    loop.close()
    assert log == [None, None]


def test_callbacks_that_wait_are_dropped(loop):
    log: list[str] = []
    loop.call_soon(log.append, "soon")
    loop.call_soon_threadsafe(log.append, "from a thread")
    loop.call_later(0, log.append, "later")
    loop.close()
    assert log == []


def test_a_woken_task_runs_in_the_loop(loop, pair):
    seen: list[Any] = []

    async def wait() -> None:
        try:
            await loop.sock_recv(pair[0], 1)
        finally:
            seen.append(asyncio.get_running_loop())
            await asyncio.sleep(0)
            seen.append("went on")

    close_with(loop, wait())
    assert seen == [loop, "went on"]


def test_a_task_that_does_not_give_up_is_left(loop, pair):
    async def wait() -> None:
        while True:
            try:
                await loop.sock_recv(pair[0], 1)
            except asyncio.CancelledError:
                await asyncio.sleep(0)

    task = loop.create_task(wait())
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    assert not task.done()
    task._log_destroy_pending = False


def test_inside_another_loop(pair):
    inner = epoll_loop.new_event_loop()
    task = inner.create_task(inner.sock_recv(pair[0], 1))
    inner.call_soon(inner.stop)
    inner.run_forever()

    async def main() -> None:
        inner.close()
        assert isinstance(asyncio.get_running_loop(), epoll_loop.Loop)
        assert asyncio.get_running_loop() is not inner

    epoll_loop.run(main())
    assert task.cancelled()


def test_an_exception_on_the_way_does_not_keep_anything_open(loop, pair):
    class Broken(asyncio.Protocol):
        def connection_lost(self, exc: Exception | None) -> None:
            raise KeyboardInterrupt

    transport, _ = loop.run_until_complete(loop.create_unix_connection(Broken, sock=pair[0]))
    with pytest.raises(KeyboardInterrupt):
        loop.close()
    assert loop.is_closed()
    assert transport.is_closing()


def test_devices_that_epoll_does_not_do(loop):
    log: list[Any] = []

    async def main() -> None:
        for connect, mode in ((loop.connect_read_pipe, "rb"), (loop.connect_write_pipe, "wb")):
            transport, _ = await connect(lambda: Recorder(log), open("/dev/zero", mode, 0))  # noqa: SIM115
            if mode == "rb":
                transport.pause_reading()

    loop.run_until_complete(main())
    loop.close()
    assert log == [None, None]


def test_a_datagram_that_waits_for_room_is_cancelled(loop):
    """No edge will tell of it: the coroutine sleeps between its tries."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as full, socket.socket(full.family, full.type) as ours:
        full.bind(b"")  # the kernel chooses a name
        ours.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                ours.sendto(b"in the way", full.getsockname())
        (task,) = close_with(loop, loop.sock_sendto(ours, b"waits", full.getsockname()))
    assert task.cancelled()
