"""Nobody starves: one bounded read and a bounded number of accepts an iteration, then the others."""

import asyncio
import contextlib
import itertools
import socket
import threading
from typing import Any

import pytest
import wire

ours = pytest.mark.asyncio(loop_factories=["epoll_loop"])


class Named(wire.Recorder):
    """Notes its name in a list that several share."""

    def __init__(self, name: str, log: list[str]) -> None:
        super().__init__(keep_open=True)
        self.hooks["data_received"] = lambda: log.append(name)


class NamedBuffered(wire.BufferedRecorder):
    def __init__(self, name: str, log: list[str]) -> None:
        super().__init__(4096, keep_open=True)
        self.hooks["buffer_updated"] = lambda: log.append(name)


@pytest.mark.parametrize("kind", [Named, NamedBuffered])
async def test_a_quiet_connection_has_its_turn_after_one_read_of_the_busy_one(kind: type[Any]) -> None:
    log: list[str] = []
    busy, quiet = kind("busy", log), kind("quiet", log)
    async with wire.accepted(busy) as a, wire.accepted(quiet) as b:
        await wire.turns()
        for protocol in (busy, quiet):
            protocol.transport.pause_reading()
        size = wire.fill(a)
        b.sendall(b"x")
        await asyncio.sleep(0.01)
        loop = asyncio.get_running_loop()

        def count() -> None:
            log.append("callback")
            if len(busy.data) < size:
                loop.call_soon(count)

        busy.transport.resume_reading()
        quiet.transport.resume_reading()
        loop.call_soon(count)
        loop.call_later(0, log.append, "timer")
        await busy.until_data(size)
        assert log.count("busy") >= 4  # otherwise nothing was shown
        assert log.index("quiet") - log.index("busy") <= 2  # at most a callback between the two
        assert log[: log.index("quiet")].count("busy") <= 1
        assert log[: log.index("timer")].count("busy") <= 2
        reads = [i for i, name in enumerate(log) if name == "busy"]
        assert all("callback" in log[i:j] for i, j in itertools.pairwise(reads))


@pytest.mark.parametrize("kind", [Named, NamedBuffered])
async def test_endless_input_next_to_a_quiet_connection(kind: type[Any]) -> None:
    """Between a question of the quiet one and its answer the busy one gets a few reads, not all of them."""
    log: list[str] = []
    busy, quiet = kind("busy", log), kind("quiet", log)
    stop = threading.Event()

    def pour(sock: socket.socket) -> None:
        data = bytes(1 << 20)
        with contextlib.suppress(OSError):
            while not stop.is_set():
                sock.sendall(data)

    async with wire.accepted(busy) as a, wire.accepted(quiet) as b:
        thread = threading.Thread(target=pour, args=(a,))
        thread.start()
        try:
            await busy.until(lambda: log)
            for i in range(50):
                del log[:]
                busy.data.clear()
                b.sendall(b"?")  # in the kernel of the same machine: ready when the call returns
                await quiet.until_data(i + 1)
                assert log.count("busy") <= 3
            await busy.until(lambda: "busy" in log[1:])  # nor does the busy one starve
        finally:
            stop.set()
            await wire.finish(busy.transport)
            thread.join()


@ours
async def test_a_flood_of_connections_next_to_an_established_one() -> None:
    """What waits to be accepted is taken a budget at a time."""
    log: list[str] = []
    established = Named("data", log)
    count = 300
    loop = asyncio.get_running_loop()

    class Newcomer(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            log.append("new")
            transport.abort()

    async with wire.accepted(established) as peer:
        established.transport.pause_reading()
        server = await loop.create_server(Newcomer, "127.0.0.1", 0, backlog=count)
        clients = [socket.create_connection(server.sockets[0].getsockname()) for _ in range(count)]
        peer.sendall(b"x")
        established.transport.resume_reading()
        while log.count("new") < count:
            await asyncio.sleep(0)
        for client in clients:
            client.close()
        server.close()
        assert log.index("data") < count  # it did not wait for all of them
        assert log.index("data") <= 64


async def test_a_writer_that_never_ends_does_not_starve_the_others() -> None:
    """A peer that reads as fast as we write keeps the transport writable all the time."""
    log: list[str] = []
    writer, quiet = wire.Recorder(), Named("quiet", log)
    stop = threading.Event()
    loop = asyncio.get_running_loop()

    def swallow(sock: socket.socket) -> None:
        piece = bytearray(1 << 20)
        with contextlib.suppress(OSError):
            while not stop.is_set() and sock.recv_into(piece):
                pass

    def go_on() -> None:
        if not stop.is_set():
            log.append("write")
            writer.transport.write(bytes(100_000))
            if "pause_writing" in writer.calls[-1:]:
                return
            loop.call_soon(go_on)

    async with wire.accepted(writer) as a, wire.accepted(quiet) as b:
        thread = threading.Thread(target=swallow, args=(a,))
        thread.start()
        try:
            writer.hooks["resume_writing"] = go_on
            go_on()
            for i in range(20):
                del log[:]
                b.sendall(b"?")
                await quiet.until_data(i + 1)
                assert log.count("write") <= 3
        finally:
            stop.set()
            await wire.finish(writer.transport)
            thread.join()
