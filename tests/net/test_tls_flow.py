"""Flow control through the layer of TLS: nothing is lost, nothing grows without bound, and no byte is counted twice."""

import asyncio
import contextlib
import itertools
import random
import socket
import ssl
from collections.abc import Callable
from typing import Any

import pytest
import tls
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from interpreter import memory_counts
from resources import resident

import epoll_loop

ASYNCIO_TOO = True
pytestmark = pytest.mark.usefixtures("no_descriptor_left", "engine")
ours = pytest.mark.asyncio(loop_factories=["epoll_loop"])

kinds = pytest.mark.parametrize("kind", [tls.Recorder, tls.BufferedRecorder], ids=["Protocol", "BufferedProtocol"])


# Writing


def read_and_forget(peer: ssl.SSLSocket, size: int) -> None:
    buffer = bytearray(65536)
    while size:
        size -= peer.recv_into(buffer, min(size, len(buffer)))


def write_until(protocol: Any, condition: Callable[[], Any], piece: int = 65536) -> int:
    """Write a pattern until something is true; return how many bytes."""
    size = 0
    while not condition():
        protocol.transport.write(tls.pattern(piece, size))
        size += piece
    return size


async def test_a_peer_that_does_not_read(link: tls.Link) -> None:
    """The protocol is told to stop, and to go on when there is room again: in turns."""
    protocol = tls.Recorder()
    async with link(protocol) as peer:
        size = write_until(protocol, lambda: "pause_writing" in protocol.calls)
        assert protocol.calls.count("pause_writing") == 1
        assert await tls.read(peer, size) == tls.pattern(size)
        await protocol.until(lambda: "resume_writing" in protocol.calls)
        low, _ = protocol.transport.get_write_buffer_limits()
        assert protocol.transport.get_write_buffer_size() <= low
        marks = [name for name in protocol.calls if "writing" in name]
        assert marks[:2] == ["pause_writing", "resume_writing"]


@ours
async def test_one_large_write(link: tls.Link) -> None:
    """It is more than is sent at once, and so a reason to stop, whether or not the kernel would take more."""
    size = 8_000_000
    protocol = tls.Recorder()
    async with link(protocol) as peer:
        protocol.transport.write(tls.pattern(size))
        assert protocol.calls[-1] == "pause_writing"
        assert await tls.read(peer, size) == tls.pattern(size)
        await protocol.until(lambda: "resume_writing" in protocol.calls)
        low, _ = protocol.transport.get_write_buffer_limits()
        assert protocol.transport.get_write_buffer_size() <= low


@ours
@memory_counts
async def test_a_slow_reader_costs_no_memory(
    server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    """Nothing of what was sent is kept, although something is always waiting."""
    protocol = tls.Recorder()
    size = 15 * tls.LARGE
    async with tls.accepted(protocol, server_context, client_context) as peer:
        protocol.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 50_000)
        protocol.transport.set_write_buffer_limits(1_000_000, 500_000)
        reading = asyncio.create_task(asyncio.to_thread(read_and_forget, peer, size))
        before = most = resident()
        for _ in range(size // 150_000):
            protocol.transport.write(bytes(150_000))
            await protocol.until(lambda: protocol.calls[-1] != "pause_writing")
            most = max(most, resident())
        await reading
        assert most - before < 5 * tls.LARGE


@ours  # asyncio does not count what its layer of TLS has handed on
async def test_what_is_buffered_is_counted_once(link: tls.Link) -> None:
    protocol = tls.Recorder()
    async with link(protocol) as peer:
        transport = protocol.transport
        assert transport.get_write_buffer_size() == 0
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 131072)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 131072)
        size = 0
        for _ in range(50):
            transport.write(tls.pattern(100_000, size))
            size += 100_000
            assert transport.get_write_buffer_size() <= size * 1.01 + 1000  # a record has its own bytes
        await tls.turns()
        before = transport.get_write_buffer_size()
        assert size - 4_000_000 < before <= size * 1.01 + 1000  # the rest is in the kernel, and at the peer
        assert await tls.read(peer, size // 2) == tls.pattern(size // 2)
        assert await tls.read(peer, size - size // 2) == tls.pattern(size - size // 2, size // 2)
        async with asyncio.timeout(tls.LIMIT):
            while transport.get_write_buffer_size():
                await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("arguments", "limits"),
    [({"high": 1000, "low": 10}, (10, 1000)), ({"high": 1000}, (250, 1000)), ({"low": 10}, (10, 40))],
)
async def test_water_marks(link: tls.Link, arguments: dict[str, int], limits: tuple[int, int]) -> None:
    protocol = tls.Recorder()
    async with link(protocol) as peer:
        low, high = protocol.transport.get_write_buffer_limits()
        assert 0 < low < high
        protocol.transport.set_write_buffer_limits(**arguments)
        assert protocol.transport.get_write_buffer_limits() == limits
        with pytest.raises(ValueError, match=r"high \(1\) must be >= low \(2\) must be >= 0"):
            protocol.transport.set_write_buffer_limits(high=1, low=2)
        size = write_until(protocol, lambda: "pause_writing" in protocol.calls)
        assert await tls.read(peer, size) == tls.pattern(size)
        await protocol.until(lambda: "resume_writing" in protocol.calls)


@ours  # asyncio has read buffer limits instead
async def test_new_water_marks_count_at_once(link: tls.Link) -> None:
    protocol = tls.Recorder()
    async with link(protocol):
        protocol.transport.set_write_buffer_limits(high=1 << 30)
        write_until(protocol, lambda: protocol.transport.get_write_buffer_size() > 500_000)
        assert "pause_writing" not in protocol.calls
        protocol.transport.set_write_buffer_limits(high=1000)
        await tls.turns()
        assert protocol.calls.count("pause_writing") == 1


# Reading


@kinds
@pytest.mark.usefixtures("version")
async def test_pause_and_resume(link: tls.Link, kind: Any) -> None:
    protocol = kind()
    async with link(protocol) as peer:
        transport = protocol.transport
        assert transport.is_reading()
        transport.pause_reading()
        transport.pause_reading()
        assert not transport.is_reading()
        peer.sendall(b"first")
        await asyncio.sleep(0.01)
        assert not protocol.data
        transport.resume_reading()
        transport.pause_reading()
        await tls.turns()
        assert not protocol.data  # the last word counts
        transport.resume_reading()
        transport.resume_reading()
        assert await protocol.until_data(5) == b"first"
        transport.write(b"x")
        assert await tls.read(peer, 1) == b"x"


@kinds
async def test_pause_inside_the_callback(link: tls.Link, kind: Any) -> None:
    """Though more is decrypted, or received, already."""
    size = 500_000
    protocol = kind(20_000) if kind is tls.BufferedRecorder else kind()
    name = "buffer_updated" if kind is tls.BufferedRecorder else "data_received"
    protocol.hooks[name] = lambda: protocol.transport.pause_reading()
    async with link(protocol) as peer:
        sending = asyncio.create_task(asyncio.to_thread(peer.sendall, tls.pattern(size)))
        for count in itertools.count(1):
            await protocol.until(lambda: protocol.calls.count(name) == count)  # noqa: B023
            await tls.turns()
            assert protocol.calls.count(name) == count
            if len(protocol.data) == size:
                break
            protocol.transport.resume_reading()
        await sending
        assert protocol.data == tls.pattern(size)
        assert protocol.calls.count(name) > 1


async def test_paused_is_bounded(link: tls.Link) -> None:
    """What the peer can get rid of has an end."""
    protocol = tls.Recorder()
    sent = [0]

    def pour(peer: ssl.SSLSocket) -> None:
        peer.settimeout(0.05)
        with contextlib.suppress(TimeoutError):
            while sent[0] < 100_000_000:
                sent[0] += peer.send(bytes(65536))

    async with link(protocol) as peer:
        protocol.transport.pause_reading()
        await asyncio.to_thread(pour, peer)
        assert not protocol.data
        assert sent[0] < 50_000_000


@pytest.mark.parametrize("clean", [False, True], ids=["FIN", "close_notify"])
async def test_the_end_comes_while_paused(link: tls.Link, clean: bool) -> None:
    """What was sent before it is delivered when reading goes on; then the end is."""
    protocol = tls.Recorder()
    async with link(protocol) as peer:
        protocol.transport.pause_reading()
        peer.sendall(b"last words")
        if clean:
            peer.settimeout(0.01)
            with contextlib.suppress(TimeoutError):
                peer.unwrap()
        else:
            peer.shutdown(socket.SHUT_WR)
        await asyncio.sleep(0.01)
        assert protocol.calls == ["connection_made"]
        protocol.transport.resume_reading()
        assert await protocol.until_lost() is None
        assert protocol.data == b"last words"
        assert protocol.calls[-2:] == ["eof_received", "connection_lost"]


async def test_a_paused_transport_writes(link: tls.Link) -> None:
    protocol = tls.Recorder()
    async with link(protocol) as peer:
        protocol.transport.pause_reading()
        peer.sendall(b"not yet")
        protocol.transport.write(tls.pattern(tls.LARGE))
        assert await tls.read(peer, tls.LARGE) == tls.pattern(tls.LARGE)
        assert not protocol.data


@pytest.mark.parametrize("piece", [20_000, 262_144, 300_000])
async def test_what_waits_comes_first(link: tls.Link, piece: int) -> None:
    """What is written while the kernel takes a part of what waits, and then another, comes behind all of it."""
    protocol = tls.Recorder()
    async with link(protocol) as peer:
        transport = protocol.transport
        size = write_until(protocol, lambda: transport.get_write_buffer_size() > 8 * piece, piece)
        reading = asyncio.create_task(tls.read(peer, size + 20 * piece))
        for _ in range(20):
            before = transport.get_write_buffer_size()
            while transport.get_write_buffer_size() == before > 0:
                await asyncio.sleep(0)
            transport.write(tls.pattern(piece, size))
            size += piece
        assert await reading == tls.pattern(size)


async def test_records_of_all_sizes_while_paused(link: tls.Link) -> None:
    """However many of them a read brings, all come."""
    protocol = tls.Recorder()
    async with link(protocol) as peer:
        for record in (16384, 16000, 10000):
            protocol.transport.pause_reading()
            protocol.data.clear()
            size = 30 * record  # less than the buffers on the way hold
            for start in range(0, size, record):
                await asyncio.to_thread(peer.sendall, tls.pattern(record, start))
            protocol.transport.resume_reading()
            assert await protocol.until_data(size) == tls.pattern(size)


# Both directions


sizes = st.one_of(st.integers(1, 100), st.integers(16000, 17000), st.integers(1, 200_000))
forms = st.sampled_from([bytes, bytearray, memoryview, lambda data: memoryview(bytearray(data))])
steps = st.lists(st.tuples(st.sampled_from(["write", "writelines", "pause", "turn"]), sizes, forms), max_size=20)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=steps, back=st.integers(0, 400_000), buffer=st.one_of(st.none(), sizes), seed=st.integers(0, 9))
def test_what_is_written_arrives(
    server_context: ssl.SSLContext, client_context: ssl.SSLContext, steps: Any, back: int, buffer: Any, seed: int
) -> None:
    """Whole and in order, both ways, however it is cut, and whoever pauses."""
    if buffer is not None:
        back = min(back, 2000 * buffer)  # which is filled as often

    async def main(link: Any) -> None:
        protocol: Any = tls.Recorder() if buffer is None else tls.BufferedRecorder(buffer)
        expected = sum(size for name, size, _ in steps if name.startswith("write"))
        async with link(protocol, server_context, client_context) as peer:
            exchanging = asyncio.create_task(tls.exchange(peer, tls.pattern(back), expected))
            written = 0
            for name, size, form in steps:
                data = tls.pattern(size, written)
                if name == "write":
                    given = form(data)
                    protocol.transport.write(given)
                    written += size
                    if not memoryview(given).readonly:
                        memoryview(given)[:] = bytes(size)  # it is the program's again
                elif name == "writelines":
                    cut = size // 3
                    protocol.transport.writelines([form(data[:cut]), b"", form(data[cut:])])
                    written += size
                elif name == "pause":
                    protocol.transport.pause_reading()
                else:
                    protocol.transport.resume_reading()
                    await tls.turns(1)
            protocol.transport.resume_reading()
            assert await exchanging == tls.pattern(expected)
            assert await protocol.until_data(back) == tls.pattern(back)

    link = random.Random(seed).choice([tls.accepted, tls.connected])
    with asyncio.Runner(loop_factory=epoll_loop.new_event_loop) as runner:
        runner.run(main(link))
