"""Protocols: BufferedProtocol, those that change in the middle, and those that have few callbacks."""

import array
import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest
import wire

ours = pytest.mark.asyncio(loop_factories=["epoll_loop"])


# Protocol


@pytest.mark.parametrize("size", [1, 600, 1000, 8192, 20_000])
async def test_data_stays_as_it_was_received(size: int) -> None:
    """What a protocol keeps is not touched by what comes later; what it drops may come back, with another hash."""
    kept: list[bytes] = []
    hashes: list[tuple[int, int]] = []

    class Keeper(wire.Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            hashes.append((hash(data), hash(bytes(bytearray(data)))))
            if len(hashes) % 2:
                kept.append(data)

    protocol = Keeper()
    async with wire.accepted(protocol) as peer:
        sent = []
        for i in range(150):
            sent.append(bytes([i]) * (size - i if size > 500 else size))
            peer.sendall(sent[-1])
            await protocol.until_data(sum(map(len, sent)))
        assert bytes(protocol.data) == b"".join(sent)
    assert all(found == expected for found, expected in hashes)
    assert all(set(data) == {data[0]} for data in kept)
    if len(hashes) == len(sent):
        assert kept == sent[::2]


async def test_protocol_that_only_writes(link: wire.Link) -> None:
    """It needs no data_received() as long as nothing is received."""

    class Writer(asyncio.BaseProtocol):
        transport: Any = None

        def connection_made(self, transport: Any) -> None:
            self.transport = transport
            transport.write(b"hello")

        async def until(self, condition: Callable[[], Any]) -> None:
            while not condition():
                await asyncio.sleep(0)

    async with link(Writer()) as peer:
        assert await wire.read(peer, 5) == b"hello"


# BufferedProtocol


@pytest.mark.parametrize("size", [1, 7, 1000, 1 << 20])
async def test_buffered(link: wire.Link, size: int) -> None:
    """The buffer is as large as what comes, smaller, or larger."""
    protocol = wire.BufferedRecorder(size)
    async with link(protocol) as peer:
        total = 0
        for length in (1, 6, 7, 8, 999, 1000, 1001, 2000):
            peer.sendall(wire.pattern(length, total))
            total += length
            await protocol.until_data(total)
        peer.close()
        assert await protocol.until_lost() is None
        assert bytes(protocol.data) == wire.pattern(total)
        assert protocol.calls[-2:] == ["eof_received", "connection_lost"]


@pytest.mark.parametrize(
    "buffer",
    [
        array.array("I", bytes(400)),
        memoryview(bytearray(400)).cast("Q"),
        memoryview(bytearray(400)).cast("B", (20, 20)),
        memoryview(bytearray(500))[100:],
    ],
    ids=["array", "words", "plane", "slice"],
)
async def test_any_writable_buffer(buffer: Any) -> None:
    """A buffer that was filled may have left something in the kernel, whatever its items are."""
    protocol = wire.BufferedRecorder()
    protocol.buffer = buffer
    async with wire.accepted(protocol) as peer:
        await wire.turns()
        peer.sendall(wire.pattern(4000))
        assert await protocol.until_data(4000) == wire.pattern(4000)


@pytest.mark.parametrize(
    ("buffer", "error"),
    [(bytearray(), RuntimeError), (b"", RuntimeError), (bytes(100), (TypeError, BufferError)), (None, TypeError)],
    ids=["empty", "empty bytes", "read-only", "none"],
)
async def test_no_buffer(link: wire.Link, reports: list[dict[str, Any]], buffer: Any, error: Any) -> None:
    protocol = wire.BufferedRecorder()
    protocol.buffer = buffer
    async with link(protocol) as peer:
        peer.sendall(b"x")
        assert isinstance(await protocol.until_lost(), error)
        (report,) = reports
        assert report["exception"] is protocol.lost
        assert report["protocol"] is protocol
        assert await wire.read_all(peer) == b""


@ours
async def test_pause_in_get_buffer(link: wire.Link) -> None:
    protocol = wire.BufferedRecorder()
    async with link(protocol) as peer:
        await wire.turns()
        protocol.hooks["get_buffer"] = lambda: protocol.transport.pause_reading()
        peer.sendall(wire.pattern(5000))
        await protocol.until(lambda: "get_buffer" in protocol.calls)
        del protocol.hooks["get_buffer"]
        await wire.turns()
        assert "buffer_updated" not in protocol.calls
        protocol.transport.resume_reading()
        assert await protocol.until_data(5000) == wire.pattern(5000)


@ours  # asyncio fills the buffer of the one that has gone, and tells the other
async def test_change_in_get_buffer(link: wire.Link, reports: list[dict[str, Any]]) -> None:
    """Nothing was read yet, so it is for the one that has the connection now."""
    first, second = wire.BufferedRecorder(), wire.Recorder()
    first.hooks["get_buffer"] = lambda: first.transport.set_protocol(second)
    async with link(first) as peer:
        second.transport = first.transport
        peer.sendall(b"hello")
        assert await second.until_data(5) == b"hello"
        peer.sendall(b" again")
        assert await second.until_data(11) == b"hello again"
    assert "buffer_updated" not in first.calls
    assert reports == []


async def test_close_in_get_buffer(link: wire.Link) -> None:
    protocol = wire.BufferedRecorder()
    protocol.hooks["get_buffer"] = lambda: protocol.transport.close()
    async with link(protocol) as peer:
        peer.sendall(b"x")
        assert await protocol.until_lost() is None


# set_protocol()


async def test_change_in_the_middle(link: wire.Link) -> None:
    """Each read goes to the protocol of that moment, and every byte to one of them."""
    first, second, third = wire.Recorder(), wire.BufferedRecorder(10), wire.Recorder()
    async with link(first) as peer:
        transport = first.transport
        assert transport.get_protocol() is first
        await wire.turns()

        def become(protocol: Any) -> None:
            transport.set_protocol(protocol)
            assert transport.get_protocol() is protocol

        first.hooks["data_received"] = lambda: become(second)
        second.hooks["buffer_updated"] = lambda: len(second.data) == 30 and become(third)
        peer.sendall(b"first")
        await first.until_data(5)
        peer.sendall(wire.pattern(100))
        peer.shutdown(socket.SHUT_WR)
        assert await third.until_lost() is None
        assert first.calls == ["connection_made", "data_received"]
        assert bytes(second.data + third.data) == wire.pattern(100)
        assert len(second.data) == 30
        assert second.calls == ["get_buffer", "buffer_updated"] * 3
        assert third.calls == ["data_received", "eof_received", "connection_lost"]


async def test_change_while_paused(link: wire.Link) -> None:
    """As an upgrade does: stop reading, hand over, go on."""
    first, second = wire.Recorder(), wire.BufferedRecorder()
    async with link(first) as peer:
        await wire.turns()
        first.transport.pause_reading()
        peer.sendall(wire.pattern(3000))
        await asyncio.sleep(0.01)
        first.transport.set_protocol(second)
        await wire.turns()
        assert second.calls == []  # nor does it resume by itself
        first.transport.resume_reading()
        assert await second.until_data(3000) == wire.pattern(3000)
        assert first.calls == ["connection_made"]


async def test_change_while_blocked(link: wire.Link) -> None:
    """The pause that one protocol got, the other one is released from."""
    first, second = wire.Recorder(), wire.Recorder()
    async with link(first) as peer:
        wire.shrink(first.transport)
        first.transport.write(wire.pattern(wire.LARGE))
        await first.until(lambda: "pause_writing" in first.calls)
        first.transport.set_protocol(second)
        assert await wire.read(peer, wire.LARGE) == wire.pattern(wire.LARGE)
        await second.until(lambda: second.calls)
        assert second.calls == ["resume_writing"]


async def test_change_in_connection_made(link: wire.Link) -> None:
    first, second = wire.Recorder(), wire.BufferedRecorder()
    first.hooks["connection_made"] = lambda: first.transport.set_protocol(second)
    async with link(first) as peer:
        peer.sendall(b"for the second")
        assert await second.until_data(14) == b"for the second"
        peer.close()
        await second.until_lost()
        assert first.calls == ["connection_made"]


async def test_the_lost_connection_has_no_protocol(link: wire.Link) -> None:
    protocol = wire.Recorder()
    protocols = []
    protocol.hooks["connection_lost"] = lambda: protocols.append(protocol.transport.get_protocol())
    async with link(protocol):
        protocol.transport.close()
        await protocol.until_lost()
        await wire.turns()
        assert protocols == [protocol]
        assert protocol.transport.get_protocol() is None
