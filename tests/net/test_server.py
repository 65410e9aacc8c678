"""asyncio's Server: its states, who waits for what, and what becomes of the connections."""

import asyncio
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

waits_for_clients = pytest.mark.skipif(
    sys.version_info < (3, 12), reason="wait_closed() does not wait for connections on this Python"
)


async def make(factory: Any = asyncio.Protocol, **kwargs: Any) -> Any:
    return await asyncio.get_running_loop().create_server(factory, "127.0.0.1", 0, **kwargs)


class Clients:
    """A server and real clients of it."""

    def __init__(self, recorder: Any) -> None:
        self.recorder = recorder
        self.protocols: list[Any] = []
        self.next: asyncio.Future[None] | None = None
        self.server: Any = None

    def factory(self) -> Any:
        protocol = self.recorder()
        self.protocols.append(protocol)
        assert self.next is not None
        self.next.set_result(None)
        return protocol

    async def start(self, **kwargs: Any) -> Any:
        self.server = await make(self.factory, **kwargs)
        return self.server

    async def connect(self) -> socket.socket:
        """Return the client's end, once the server has its own."""
        self.next = asyncio.get_running_loop().create_future()
        client = socket.create_connection(self.server.sockets[0].getsockname(), timeout=30)
        await self.next
        await self.protocols[-1].made
        return client


@pytest.fixture
async def clients(recorder: Any) -> Any:
    return Clients(recorder)


async def test_states() -> None:
    server = await make()
    assert isinstance(server, asyncio.AbstractServer)
    assert server.get_loop() is asyncio.get_running_loop()
    assert server.is_serving()
    (sock,) = server.sockets
    assert isinstance(sock, asyncio.trsock.TransportSocket)
    assert repr(server) == f"<Server sockets=({sock!r},)>"
    server.close()
    assert not server.is_serving()
    assert server.sockets == ()
    assert repr(server) == "<Server sockets=()>"
    server.close()
    await server.wait_closed()


async def test_closed_server_does_not_start_again() -> None:
    server = await make()
    server.close()
    with pytest.raises(RuntimeError, match="is closed"):
        await server.start_serving()
    with pytest.raises(RuntimeError, match="is closed"):
        await server.serve_forever()


async def test_closed_server_refuses_and_its_connections_go_on(clients: Any) -> None:
    server = await clients.start()
    address = server.sockets[0].getsockname()
    with await clients.connect() as client:
        server.close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)
        (protocol,) = clients.protocols
        client.send(b"still here")
        await protocol.received.wait()
        assert protocol.data == b"still here"
        protocol.transport.abort()
        await protocol.lost
    await server.wait_closed()


@waits_for_clients
async def test_wait_closed_waits_for_the_last_connection(clients: Any) -> None:
    server = await clients.start()
    with await clients.connect(), await clients.connect():
        waiting = [asyncio.ensure_future(server.wait_closed()) for _ in range(2)]
        first, second = clients.protocols
        server.close()
        first.transport.close()
        await first.lost
        await asyncio.sleep(0)
        assert not any(waiter.done() for waiter in waiting)
        second.transport.close()
        await asyncio.gather(*waiting)
        assert second.lost.done()


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="wait_closed() waits for connections on this Python")
async def test_wait_closed_of_a_closed_server_returns_at_once(clients: Any) -> None:
    server = await clients.start()
    with await clients.connect():
        server.close()
        await server.wait_closed()
        clients.protocols[0].transport.abort()
        await clients.protocols[0].lost


async def test_wait_closed_waits_for_the_close() -> None:
    server = await make()
    waiting = asyncio.ensure_future(server.wait_closed())
    for _ in range(5):
        await asyncio.sleep(0)
    assert not waiting.done()
    server.close()
    await waiting


async def test_context_manager_closes() -> None:
    async with await make() as server:
        assert server.is_serving()
    assert server.sockets == ()


async def test_close_clients_sends_what_is_written(clients: Any) -> None:
    server = await clients.start()
    with await clients.connect() as first, await clients.connect() as second:
        for protocol in clients.protocols:
            protocol.transport.write(b"bye")
        server.close_clients()
        for protocol in clients.protocols:
            assert await protocol.lost is None
        for client in (first, second):
            with client.makefile("rb") as file:
                assert file.read() == b"bye"
    server.close()
    await server.wait_closed()


async def test_abort_clients_ends_a_connection_that_closing_would_not(clients: Any) -> None:
    server = await clients.start()
    with await clients.connect():
        (protocol,) = clients.protocols
        protocol.transport.write(bytes(32 << 20))  # more than the kernel takes while nobody reads
        server.close_clients()
        await asyncio.sleep(0)
        assert protocol.transport.get_write_buffer_size() > 0
        assert not protocol.lost.done()
        server.abort_clients()
        assert await protocol.lost is None
    server.close()
    await server.wait_closed()


async def test_only_its_own_clients_are_closed(clients: Any, recorder: Any) -> None:
    others = Clients(recorder)
    await clients.start()
    await others.start()
    with await clients.connect(), await others.connect() as client:
        clients.server.close_clients()
        await clients.protocols[0].lost
        client.send(b"x")
        await others.protocols[0].received.wait()
        others.server.abort_clients()
        await others.protocols[0].lost
    assert clients.server.is_serving()
    clients.server.close()
    others.server.close()


async def test_server_keeps_nothing_of_a_connection(clients: Any) -> None:
    server = await clients.start()
    with await clients.connect():
        transport = clients.protocols[0].transport
        assert not any(transport is value for value in vars(server).values())
        assert not any(transport in value for value in vars(server).values() if isinstance(value, (list, set)))
        transport.abort()
        await clients.protocols[0].lost
    server.close()


async def test_serve_forever_until_cancelled(clients: Any) -> None:
    server = await clients.start(start_serving=False)
    serving = asyncio.ensure_future(server.serve_forever())
    while not server.is_serving():
        await asyncio.sleep(0)
    with await clients.connect():
        with pytest.raises(RuntimeError, match="already being awaited"):
            await server.serve_forever()
        serving.cancel()
        await asyncio.wait([serving])
        assert serving.cancelled()
        assert not server.is_serving()
        if sys.version_info < (3, 12):
            server.close_clients()
        assert await clients.protocols[0].lost is None


async def test_serve_forever_ends_with_close() -> None:
    server = await make()
    serving = asyncio.ensure_future(server.serve_forever())
    await asyncio.sleep(0)
    server.close()
    await asyncio.wait([serving])
    assert serving.cancelled()
    await server.wait_closed()


STRICT = """
import asyncio, os, sys
import epoll_loop

async def main():
    loop = asyncio.get_running_loop()
    for path in (sys.argv[1], os.fsencode(sys.argv[1]), f"\\0{sys.argv[1]}", b"\\0" + os.fsencode(sys.argv[1])):
        server = await loop.create_unix_server(asyncio.Protocol, path)
        transport, _ = await loop.create_unix_connection(asyncio.Protocol, path)
        transport.abort()
        server.close()
    print("served")

with asyncio.Runner(loop_factory=epoll_loop.new_event_loop) as runner:
    runner.run(main())
"""


def test_paths_are_not_compared_with_bytes(tmp_path: Path) -> None:
    """`python -bb` makes that an error."""
    done = subprocess.run(
        [sys.executable, "-bb", "-c", STRICT, str(tmp_path / "s")],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.stdout.split() == ["served"], done.stderr
