"""Listeners: every connection is accepted, whatever happens to the one before."""

import asyncio
import contextvars
import fcntl
import json
import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import wire

import epoll_loop

ours = pytest.mark.asyncio(loop_factories=["epoll_loop"])
ROOT = Path(epoll_loop.__file__).parent.parent


async def serve(factory: Any, **kwargs: Any) -> tuple[Any, Any]:
    server = await asyncio.get_running_loop().create_server(factory, "127.0.0.1", 0, **kwargs)
    return server, server.sockets[0].getsockname()


async def until(condition: Any) -> None:
    async with asyncio.timeout(wire.LIMIT):
        while not condition():
            await asyncio.sleep(0.001)


async def test_connections_that_waited_are_all_accepted() -> None:
    """They are one edge, and more than one budget (I20)."""
    protocols: list[wire.Recorder] = []

    def factory() -> wire.Recorder:
        protocols.append(wire.Recorder())
        return protocols[-1]

    server, address = await serve(factory, backlog=300)
    clients = [socket.create_connection(address) for _ in range(200)]
    for i, client in enumerate(clients):
        client.sendall(b"%03d" % i)
    await until(lambda: len(protocols) == 200)
    for protocol in protocols:
        await protocol.until_data(3)
    assert sorted(bytes(protocol.data) for protocol in protocols) == [b"%03d" % i for i in range(200)]
    for client in clients:
        client.close()
    for protocol in protocols:
        assert await protocol.until_lost() is None
    server.close()


async def test_a_connection_reset_before_it_was_accepted_does_not_stop_the_others() -> None:
    protocols: list[wire.Recorder] = []

    def factory() -> wire.Recorder:
        protocols.append(wire.Recorder())
        return protocols[-1]

    server, address = await serve(factory)
    for _ in range(3):
        wire.reset(socket.create_connection(address))
        with socket.create_connection(address) as client:
            client.sendall(b"x")
    await until(lambda: sum(protocol.data == b"x" for protocol in protocols) == 3)
    for protocol in protocols:
        await protocol.until_lost()
    server.close()


@ours  # asyncio leaves the connection to the garbage collector
async def test_factory_that_fails(reports: list[dict[str, Any]]) -> None:
    """That connection is closed and reported; the listener goes on."""
    protocol = wire.Recorder()
    answers: list[Any] = [ValueError("first"), ValueError("second"), protocol]

    def factory() -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    server, address = await serve(factory)
    clients = [socket.create_connection(address) for _ in range(3)]
    await until(lambda: protocol.transport)
    for client in clients[:2]:
        assert await wire.read_all(client) == b""
    assert [str(report["exception"]) for report in reports] == ["first", "second"]
    for client in clients:
        client.close()
    await protocol.until_lost()
    server.close()


async def test_server_closed_by_a_new_connection(reports: list[dict[str, Any]]) -> None:
    """The ones that waited behind it are refused; nothing is accepted after close()."""
    made: list[Any] = []

    class Closer(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            made.append(transport)
            server.close()
            transport.abort()

    server, address = await serve(Closer)
    clients = [socket.create_connection(address) for _ in range(5)]
    await until(lambda: made)
    await wire.turns()
    seen = len(made)
    await wire.turns()
    assert len(made) == seen
    if isinstance(asyncio.get_running_loop(), epoll_loop.Loop):
        assert seen == 1
        assert reports == []
    for client in clients:
        client.close()


async def test_each_connection_has_its_own_copy_of_the_servers_context() -> None:
    variable = contextvars.ContextVar("variable", default="nothing")
    seen: list[str] = []

    class Setter(wire.Recorder):
        def __init__(self, name: str) -> None:
            super().__init__()
            seen.append(variable.get())
            variable.set(name)

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            seen.append(variable.get())

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            seen.append(variable.get())

        def connection_lost(self, exc: BaseException | None) -> None:
            super().connection_lost(exc)
            seen.append(variable.get())

    protocols: list[Setter] = []

    def factory() -> Setter:
        protocols.append(Setter(f"connection {len(protocols)}"))
        return protocols[-1]

    variable.set("server")
    server, address = await serve(factory)
    variable.set("later")
    for i in range(3):
        del seen[:]
        with socket.create_connection(address) as client:
            client.sendall(b"x")
            await until(lambda: len(protocols) > i and protocols[i].data)  # noqa: B023
        await protocols[i].until_lost()
        assert seen == ["server"] + [f"connection {i}"] * 3
    assert variable.get() == "later"
    server.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("way", [wire.accepted, wire.connected])
async def test_sockets(way: Any, host: str) -> None:
    """Not blocking, not inherited, without Nagle's delay; and both ends know each other."""
    protocol = wire.Recorder()
    async with way(protocol, host) as peer:
        sock = protocol.transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert not os.get_inheritable(sock.fileno())
        assert fcntl.fcntl(sock.fileno(), fcntl.F_GETFL) & os.O_NONBLOCK
        assert sock.gettimeout() == 0
        assert sock.family == (socket.AF_INET6 if ":" in host else socket.AF_INET)
        assert sock.type == socket.SOCK_STREAM
        assert sock.proto in (0, socket.IPPROTO_TCP)
        assert protocol.transport.get_extra_info("peername") == peer.getsockname()
        assert protocol.transport.get_extra_info("sockname") == peer.getpeername()


async def test_unix_server(tmp_path: Path) -> None:
    protocol = wire.Recorder()
    path = str(tmp_path / "socket")
    server = await asyncio.get_running_loop().create_unix_server(lambda: protocol, path)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        client.sendall(b"x")
        await protocol.until_data(1)
        protocol.transport.write(b"y")
        assert await wire.read(client, 1) == b"y"
        sock = protocol.transport.get_extra_info("socket")
        assert sock.family == socket.AF_UNIX
        assert fcntl.fcntl(sock.fileno(), fcntl.F_GETFL) & os.O_NONBLOCK
        assert protocol.transport.get_extra_info("sockname") == path
        assert protocol.transport.get_extra_info("peername") == ""
    await protocol.until_lost()
    server.close()


def test_interrupted_accepts_go_on(loop: asyncio.AbstractEventLoop) -> None:
    """A KeyboardInterrupt between two accepts of one edge costs the one connection, and no descriptor."""
    made: list[Any] = []
    interrupts = 2

    class Newcomer(asyncio.Protocol):
        def __init__(self) -> None:
            nonlocal interrupts
            if interrupts:
                interrupts -= 1
                raise KeyboardInterrupt

        def connection_made(self, transport: Any) -> None:
            made.append(transport)
            transport.abort()
            if len(made) == 8:
                loop.call_later(0, loop.stop)

    server, address = loop.run_until_complete(serve(Newcomer))
    clients = [socket.create_connection(address) for _ in range(10)]
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            loop.run_forever()
    loop.run_forever()
    assert len(made) == 8
    for client in clients:
        client.close()
    server.close()


EXHAUSTED = """
    import asyncio, json, os, resource, socket, sys
    import epoll_loop

    served = []
    reports = []

    class Server(asyncio.Protocol):
        def connection_made(self, transport):
            served.append(transport)

        def data_received(self, data):
            served[-1].write(data)

    async def main():
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: reports.append(context))
        server = await loop.create_server(Server, "127.0.0.1", 0)
        clients = [socket.socket() for _ in range(3)]
        spare = os.open("/dev/null", os.O_RDONLY)
        ballast = [os.open("/dev/null", os.O_RDONLY) for _ in range(5)]
        resource.setrlimit(resource.RLIMIT_NOFILE, (spare, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        for client in clients:
            client.connect(server.sockets[0].getsockname())
        while not reports:
            await asyncio.sleep(0.001)
        # Longer than one retry, so that a second failure had its chance to be reported.
        await asyncio.sleep(1.3)
        before = len(served)
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, soft))
        while len(served) < 3:
            await asyncio.sleep(0.001)
        clients[-1].sendall(b"x")
        await asyncio.sleep(0)
        answer = await asyncio.to_thread(clients[-1].recv, 1)
        error = reports[0]["exception"]
        print(json.dumps([before, len(served), len(reports), reports[0]["message"], error.errno, answer.decode()]))
        server.close()
        for transport in served:
            transport.abort()

    loop_factory = epoll_loop.new_event_loop
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(asyncio.wait_for(main(), 20))
"""


def test_no_descriptors_left_and_recovery() -> None:
    """EMFILE for real: one report, and what waited is served once there are descriptors again."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(EXHAUSTED)],
        cwd=ROOT, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [0, 3, 1, "socket.accept() out of system resource", 24, "x"]


INTERRUPTED_RETRY = """
    import asyncio, os, resource, socket
    import epoll_loop

    made = []
    interrupts = [KeyboardInterrupt]

    class Server(asyncio.Protocol):
        def __init__(self):
            if interrupts:
                raise interrupts.pop()

        def connection_made(self, transport):
            made.append(transport)
            if len(made) == 2:
                loop.stop()

    loop = epoll_loop.new_event_loop()
    loop.set_exception_handler(lambda loop, context: loop.stop())
    server = loop.run_until_complete(loop.create_server(Server, "127.0.0.1", 0))
    clients = [socket.socket() for _ in range(3)]
    spare = os.open("/dev/null", os.O_RDONLY)
    os.close(spare)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (spare, limits[1]))
    for client in clients:
        client.connect(server.sockets[0].getsockname())
    loop.run_forever()  # up to the report
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    try:
        loop.run_forever()  # up to the next try
    except KeyboardInterrupt:
        print("interrupted")
    loop.call_later(10, loop.stop)
    loop.run_forever()
    print(len(made))
"""


def test_an_interrupt_of_the_next_try_forgets_nobody() -> None:
    """Three wait, and no other comes: the kernel has told of them long ago. The interrupt costs one of them."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(INTERRUPTED_RETRY)],
        cwd=ROOT, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.stdout.split() == ["interrupted", "2"], done.stderr
