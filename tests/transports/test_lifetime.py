"""The life of a transport, from connection_made() to the last descriptor; whatever the protocol does in between."""

import asyncio
import os
import random
import socket
import weakref
from typing import Any

import garbage
import pytest
import wire

import epoll_loop

ours = pytest.mark.asyncio(loop_factories=["epoll_loop"])
CALLBACKS = ["connection_made", "data_received", "eof_received", "pause_writing", "resume_writing"]


async def provoke(protocol: Any, peer: socket.socket) -> None:
    """Have every callback of the protocol called, unless it closes before."""
    transport = protocol.transport
    if not transport.is_closing():
        wire.shrink(transport)
        peer.sendall(b"data")
        await protocol.until(lambda: protocol.data or transport.is_closing())
    if not transport.is_closing():
        transport.write(bytes(wire.LARGE))
        await protocol.until(lambda: "pause_writing" in protocol.calls or transport.is_closing())
    if not transport.is_closing():
        await wire.read(peer, wire.LARGE)
        await protocol.until(lambda: "resume_writing" in protocol.calls or transport.is_closing())
    peer.shutdown(socket.SHUT_WR)
    reader = asyncio.ensure_future(wire.read_all(peer))
    await protocol.until_lost()
    await reader


@pytest.mark.parametrize("verb", ["close", "abort"])
@pytest.mark.parametrize("where", CALLBACKS)
async def test_close_in_every_callback(link: wire.Link, where: str, verb: str) -> None:
    protocol = wire.Recorder(keep_open=True)
    during: list[Any] = []

    def end() -> None:
        getattr(protocol.transport, verb)()
        during.append(protocol.lost)
        assert protocol.transport.is_closing()

    protocol.hooks[where] = end
    async with link(protocol) as peer:
        await provoke(protocol, peer)
        assert protocol.lost is None
        assert during[0] is protocol  # connection_lost() never comes inside the call
        await wire.turns()
        assert protocol.calls[0] == "connection_made"
        assert protocol.calls[-1] == "connection_lost"
        assert protocol.calls.count("connection_lost") == 1
        after = protocol.calls[protocol.calls.index(where) + 1 : -1]
        assert not {"data_received", "eof_received"} & set(after)
        if verb == "abort":
            assert after == []


@pytest.mark.parametrize("where", ["data_received", "eof_received"])
async def test_exception_that_ends_the_connection(link: wire.Link, reports: list[dict[str, Any]], where: str) -> None:
    protocol = wire.Recorder(keep_open=True)
    error = ValueError(where)

    def fail() -> None:
        raise error

    protocol.hooks[where] = fail
    async with link(protocol) as peer:
        await provoke(protocol, peer)
        assert protocol.lost is error
        (report,) = reports
        assert report["message"] == f"Fatal error: protocol.{where}() call failed."
        assert report["exception"] is error
        assert report["transport"] is protocol.transport
        assert report["protocol"] is protocol
        assert protocol.calls[-2:] == [where, "connection_lost"]


@pytest.mark.parametrize("where", ["get_buffer", "buffer_updated"])
async def test_exception_of_a_buffered_protocol(link: wire.Link, reports: list[dict[str, Any]], where: str) -> None:
    protocol = wire.BufferedRecorder()
    error = ValueError(where)

    def fail() -> None:
        raise error

    protocol.hooks[where] = fail
    async with link(protocol) as peer:
        peer.sendall(b"x")
        assert await protocol.until_lost() is error
        (report,) = reports
        assert report["message"] == f"Fatal error: protocol.{where}() call failed."
        assert report["exception"] is error


@pytest.mark.parametrize("where", ["connection_made", "pause_writing", "resume_writing", "connection_lost"])
async def test_exception_that_is_only_reported(link: wire.Link, reports: list[dict[str, Any]], where: str) -> None:
    protocol = wire.Recorder()
    error = ValueError(where)

    def fail() -> None:
        raise error

    protocol.hooks[where] = fail
    async with link(protocol) as peer:
        await provoke(protocol, peer)
        assert protocol.lost is None
        (report,) = reports
        assert where in report["message"]
        assert report["exception"] is error
        order = [
            "connection_made",
            "data_received",
            "pause_writing",
            "resume_writing",
            "eof_received",
            "connection_lost",
        ]
        assert [call for call in order if call in protocol.calls] == order
        assert protocol.calls.count("connection_lost") == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("where", ["data_received", "get_buffer", "buffer_updated", "resume_writing"])
def test_interrupt_and_run_again(
    either_loop: asyncio.AbstractEventLoop, where: str, error: type[BaseException]
) -> None:
    """It leaves run_forever(), and nothing of the connection is lost."""
    theirs, ours_ = socket.socketpair()
    with theirs:
        theirs.settimeout(wire.LIMIT)

        async def connect() -> Any:
            protocol = wire.BufferedRecorder(100) if "buffer" in where else wire.Recorder()
            await asyncio.get_running_loop().create_unix_connection(lambda: protocol, sock=ours_)
            return protocol

        def fail() -> None:
            del protocol.hooks[where]
            raise error

        protocol: Any = either_loop.run_until_complete(connect())
        protocol.hooks[where] = fail
        wire.shrink(protocol.transport)
        protocol.transport.write(wire.pattern(wire.LARGE))
        theirs.sendall(wire.pattern(1000))

        async def read_and_wait() -> bytes:
            found = await wire.read(theirs, wire.LARGE)
            await asyncio.sleep(wire.LIMIT)
            return found

        task = either_loop.create_task(read_and_wait())
        with pytest.raises(error):
            either_loop.run_until_complete(task)
        task.cancel()

        async def finish() -> None:
            await protocol.until_data(1000)
            with pytest.raises(asyncio.CancelledError):
                await task
            theirs.sendall(wire.pattern(1000, 1000))
            assert await protocol.until_data(2000) == wire.pattern(2000)
            protocol.transport.close()
            await wire.read_all(theirs)
            assert await protocol.until_lost() is None

        either_loop.run_until_complete(finish())
        assert protocol.calls.count("connection_lost") == 1


async def test_2000_connections_leave_nothing() -> None:
    loop = asyncio.get_running_loop()
    garbage.collect()
    descriptors = len(os.listdir("/proc/self/fd"))
    tasks = len(asyncio.all_tasks())
    transports: weakref.WeakSet[Any] = weakref.WeakSet()
    protocols: weakref.WeakSet[Any] = weakref.WeakSet()
    ends = {"peer": 0, "close": 0, "abort": 0, "reset": 0}
    lost = 0
    rng = random.Random(2000)

    class Dropped(asyncio.Protocol):
        transport: Any

        def connection_made(self, transport: Any) -> None:
            self.transport = transport
            transports.add(transport)
            protocols.add(self)

        def data_received(self, data: bytes) -> None:
            self.transport.write(data)
            if data in (b"close", b"abort"):
                getattr(self.transport, data.decode())()

        def connection_lost(self, exc: BaseException | None) -> None:
            nonlocal lost
            lost += 1

    server = await loop.create_server(Dropped, "127.0.0.1", 0, backlog=100)
    address = server.sockets[0].getsockname()
    for _ in range(40):
        clients = [socket.create_connection(address) for _ in range(50)]
        for client in clients:
            end = rng.choice(list(ends))
            ends[end] += 1
            if end in ("close", "abort"):
                client.sendall(end.encode())
        target = lost + len(clients)
        while len(transports) < 1:
            await asyncio.sleep(0)
        for client in clients:
            wire.reset(client) if rng.random() < 0.5 else client.close()
        while lost < target:
            await asyncio.sleep(0)
    assert lost == 2000
    server.close()
    await server.wait_closed()
    await wire.turns()
    del client, clients
    garbage.collect()
    assert len(transports) == 0
    assert len(protocols) == 0
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert len(asyncio.all_tasks()) == tasks
    if isinstance(loop, epoll_loop.Loop):
        assert not [channel for channel in loop._poller.channels() if isinstance(channel, asyncio.Transport)]
        assert loop._poller.stale == 0


@ours
async def test_a_closed_connection_is_freed_without_the_collector(link: wire.Link) -> None:
    with garbage.without_collector():
        protocol = wire.Recorder()
        async with link(protocol) as peer:
            peer.sendall(b"x")
            await protocol.until_data(1)
            protocol.transport.write(b"x")
            peer.close()
            await protocol.until_lost()
        await wire.turns()
        transport, protocol_ = weakref.ref(protocol.transport), weakref.ref(protocol)
        del protocol
        await wire.turns()
        garbage.let_go()
        assert protocol_() is None
        assert transport() is None


@ours
async def test_unregistered_before_it_is_closed() -> None:
    """A duplicate keeps the kernel's registration alive if it comes too late (I4); then the loop is woken in vain."""
    protocol = wire.Recorder()
    async with wire.accepted(protocol) as peer:
        duplicate = os.dup(protocol.transport.get_extra_info("socket").fileno())
        protocol.transport.close()
        await protocol.until_lost()
        await wire.turns()
        peer.sendall(b"for nobody")
        await asyncio.sleep(0.01)
        os.close(duplicate)
        assert asyncio.get_running_loop()._poller.stale == 0  # type: ignore[attr-defined]
        assert protocol.calls == ["connection_made", "connection_lost"]


@ours
async def test_nothing_is_said_after_the_end_to_whoever_has_the_number_next() -> None:
    """Connections that follow each other on one descriptor number keep their data apart."""
    loop = asyncio.get_running_loop()
    numbers = set()
    for i in range(30):
        theirs, ours_ = socket.socketpair()
        protocol = wire.Recorder()
        await loop.create_unix_connection(lambda protocol=protocol: protocol, sock=ours_)
        numbers.add(ours_.fileno())
        theirs.sendall(b"%02d" % i)
        await protocol.until_data(2)
        protocol.transport.write(b"a%02d" % i)
        theirs.sendall(b"late")
        protocol.transport.close()
        await protocol.until_lost()
        assert protocol.data in (b"%02d" % i, b"%02dlate" % i)
        assert theirs.recv(100) == b"a%02d" % i
        theirs.close()
    assert len(numbers) < 30
