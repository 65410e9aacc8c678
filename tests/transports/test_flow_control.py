"""pause_reading(), and the water marks of writing: nothing is lost, nothing grows without bound."""

import asyncio
import contextlib
import socket
import threading
import zlib
from collections.abc import Callable
from typing import Any

import pytest
import wire
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from interpreter import has_tracemalloc, tracemalloc

import epoll_loop

ours = pytest.mark.asyncio(loop_factories=["epoll_loop"])


# Reading


async def test_pause_in_the_middle_of_input_loses_nothing(tcp: wire.Link) -> None:
    protocol = wire.Recorder()
    async with tcp(protocol) as peer:
        await wire.turns()
        protocol.hooks["data_received"] = lambda: protocol.transport.pause_reading()
        size = wire.fill(peer)
        peer.shutdown(socket.SHUT_WR)
        reads = 0
        while len(protocol.data) < size:
            await protocol.until(lambda: protocol.calls.count("data_received") > reads)  # noqa: B023
            reads += 1
            await wire.turns()
            assert protocol.calls.count("data_received") == reads  # paused is paused
            protocol.transport.resume_reading()
        assert reads > 1
        assert await protocol.until_lost() is None
        assert bytes(protocol.data) == wire.pattern(size)


async def test_pause_in_connection_made(link: wire.Link) -> None:
    protocol = wire.Recorder()
    protocol.hooks["connection_made"] = lambda: protocol.transport.pause_reading()
    async with link(protocol) as peer:
        peer.sendall(b"early")
        await asyncio.sleep(0.01)
        assert protocol.calls == ["connection_made"]
        peer.sendall(b" late")
        protocol.transport.resume_reading()
        assert await protocol.until_data(10) == b"early late"


async def test_data_that_came_before_the_pause_and_data_that_comes_in_it(link: wire.Link) -> None:
    """The edges that the kernel reports while reading is paused are remembered, and it reports them once."""
    protocol = wire.Recorder()
    async with link(protocol) as peer:
        await wire.turns()
        protocol.transport.pause_reading()
        for i in range(5):
            peer.sendall(b"%d" % i)
            await asyncio.sleep(0.002)
        assert not protocol.data
        protocol.transport.resume_reading()
        assert await protocol.until_data(5) == b"01234"


async def test_resume_never_reads_inside_the_call(link: wire.Link) -> None:
    protocol = wire.Recorder()
    async with link(protocol) as peer:
        await wire.turns()
        protocol.transport.pause_reading()
        peer.sendall(b"x")
        await asyncio.sleep(0.01)
        protocol.transport.resume_reading()
        assert not protocol.data
        protocol.transport.pause_reading()
        await wire.turns()
        assert not protocol.data  # the last word counts
        protocol.transport.resume_reading()
        protocol.transport.pause_reading()
        protocol.transport.resume_reading()
        assert await protocol.until_data(1) == b"x"
        await wire.turns()
        assert protocol.calls.count("data_received") == 1


async def test_is_reading(link: wire.Link) -> None:
    protocol = wire.Recorder()
    async with link(protocol):
        transport = protocol.transport
        assert transport.is_reading()
        transport.resume_reading()
        transport.pause_reading()
        transport.pause_reading()
        assert not transport.is_reading()
        transport.resume_reading()
        assert transport.is_reading()
        transport.close()
        assert not transport.is_reading()
        transport.resume_reading()
        transport.pause_reading()
        assert not transport.is_reading()
        await protocol.until_lost()
        transport.resume_reading()
        assert not transport.is_reading()


async def test_paused_transport_still_writes(link: wire.Link) -> None:
    protocol = wire.Recorder()
    async with link(protocol) as peer:
        wire.shrink(protocol.transport)
        protocol.transport.pause_reading()
        peer.sendall(b"not yet")
        protocol.transport.write(wire.pattern(wire.LARGE))
        assert await wire.read(peer, wire.LARGE) == wire.pattern(wire.LARGE)
        assert not protocol.data


# Writing


@pytest.mark.parametrize(
    ("given_", "marks"),
    [
        ({}, (16384, 65536)),
        ({"high": 1000}, (250, 1000)),
        ({"low": 1000}, (1000, 4000)),
        ({"high": 1000, "low": 999}, (999, 1000)),
        ({"high": 0}, (0, 0)),
    ],
)
async def test_limits(given_: dict[str, int], marks: tuple[int, int]) -> None:
    protocol = wire.Recorder()
    async with wire.accepted(protocol):
        assert protocol.transport.get_write_buffer_limits() == (16384, 65536)
        protocol.transport.set_write_buffer_limits(**given_)
        assert protocol.transport.get_write_buffer_limits() == marks


@pytest.mark.parametrize(("high", "low"), [(10, 11), (-1, None), (None, -1), (5, -1)])
async def test_limits_that_make_no_sense(high: int | None, low: int | None) -> None:
    protocol = wire.Recorder()
    async with wire.accepted(protocol):
        with pytest.raises(ValueError, match=r"^high \(.*\) must be >= low \(.*\) must be >= 0$"):
            protocol.transport.set_write_buffer_limits(high, low)
        assert protocol.transport.get_write_buffer_limits() == (16384, 65536)


@ours  # asyncio does not look at the water marks in writelines()
@pytest.mark.parametrize("ending", [b"", b"last"])
async def test_pause_writing_comes_after_all_lines(link: wire.Link, ending: bytes) -> None:
    """What it writes comes behind them, and its write_eof() refuses none of them."""
    protocol = wire.Recorder()

    def pause_writing() -> None:
        protocol.transport.write(ending)
        protocol.transport.write_eof()

    async with link(protocol) as peer:
        wire.shrink(protocol.transport)
        size = wire.block(protocol.transport)
        protocol.hooks["pause_writing"] = pause_writing
        protocol.calls.clear()
        protocol.transport.set_write_buffer_limits(high=protocol.transport.get_write_buffer_size())
        protocol.transport.writelines([b"1", b"2", b"3"])
        assert protocol.calls == ["pause_writing"]
        assert (await wire.read_all(peer))[size:] == b"123" + ending


async def test_water_marks(link: wire.Link) -> None:
    """Above `high` one pause; at `low`, and not before, one resume."""
    protocol = wire.Recorder()
    async with link(protocol) as peer:
        transport = protocol.transport
        wire.shrink(transport)
        size = wire.block(transport)
        queued = transport.get_write_buffer_size()
        protocol.calls.clear()
        transport.set_write_buffer_limits(high=queued + 1000, low=2)
        transport.write(b"a" * 1000)
        assert transport.get_write_buffer_size() == queued + 1000
        assert protocol.calls == []
        transport.write(b"b")
        transport.write(b"c")
        assert protocol.calls == ["pause_writing"]
        at_resume: list[int] = []
        protocol.hooks["resume_writing"] = lambda: at_resume.append(transport.get_write_buffer_size())
        await wire.read(peer, size + 1002)
        await protocol.until(lambda: "resume_writing" in protocol.calls)
        await wire.turns()
        assert protocol.calls == ["pause_writing", "resume_writing"]
        assert at_resume[0] <= 2


async def test_lower_limits_pause_what_is_queued_already(link: wire.Link) -> None:
    protocol = wire.Recorder()
    async with link(protocol) as peer:
        wire.shrink(protocol.transport)
        protocol.transport.set_write_buffer_limits(high=1 << 30)
        size = wire.block(protocol.transport)
        protocol.transport.write(bytes(wire.LARGE))
        await wire.turns()
        assert "pause_writing" not in protocol.calls
        protocol.transport.set_write_buffer_limits(high=0)
        assert protocol.calls == ["connection_made", "pause_writing"]
        await wire.read(peer, size + wire.LARGE)
        await protocol.until(lambda: "resume_writing" in protocol.calls)


def small_chunks(transport: Any) -> None:
    for _ in range(1000):
        transport.write(b"x" * 100)


def many_chunks_and_a_big_one(transport: Any) -> None:
    transport.writelines([b"x"] * 3000 + [b"y" * 70_000])


def limits_set_after_a_write(transport: Any) -> None:
    transport.write(b"x" * 100)
    transport.set_write_buffer_limits(0)


async def nobody_is_paused(write: Callable[[Any], None]) -> None:
    protocol = wire.Recorder()
    async with wire.unix(protocol):
        protocol.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
        protocol.transport.set_write_buffer_limits(high=10)
        write(protocol.transport)
        while protocol.transport.get_write_buffer_size():
            await asyncio.sleep(0)
        await wire.turns()
        assert protocol.calls == ["connection_made"]


@pytest.mark.parametrize("write", [small_chunks, limits_set_after_a_write])
async def test_a_kernel_that_takes_everything_is_no_reason_to_pause(write: Callable[[Any], None]) -> None:
    await nobody_is_paused(write)


@ours  # newer asyncio pauses between two sendmsg(2) of IOV_MAX chunks
async def test_more_chunks_than_one_send_takes_are_no_reason_to_pause() -> None:
    await nobody_is_paused(many_chunks_and_a_big_one)


@ours  # asyncio loses its place when resume_writing() writes
async def test_resume_before_the_end_of_a_closing_transport(link: wire.Link) -> None:
    """The calls are paired, and what resume_writing() writes is still sent."""
    protocol = wire.Recorder()
    async with link(protocol) as peer:
        last_words = [b"last words"]
        wire.shrink(protocol.transport)
        protocol.transport.set_write_buffer_limits(high=0)
        protocol.hooks["resume_writing"] = lambda: last_words and protocol.transport.write(last_words.pop())
        size = wire.block(protocol.transport)
        protocol.transport.close()
        found = await wire.read_all(peer)
        assert await protocol.until_lost() is None
        assert protocol.calls[1:3] == ["pause_writing", "resume_writing"]
        assert found[size:] == b"last words"


SIZE = 100 * 1024 * 1024


def drain_slowly(peer: socket.socket, result: list[int]) -> None:
    """Read everything in small pieces, and keep a checksum only."""
    piece = bytearray(32768)
    checksum = size = 0
    while count := peer.recv_into(piece):
        checksum = zlib.crc32(memoryview(piece)[:count], checksum)
        size += count
    result += [size, checksum]


@contextlib.contextmanager
def slow_reader(peer: socket.socket, result: list[int]) -> Any:
    thread = threading.Thread(target=drain_slowly, args=(peer, result))
    thread.start()
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()
        peer.shutdown(socket.SHUT_RD)
        thread.join()


@has_tracemalloc
async def test_100_mb_to_a_slow_reader() -> None:
    """A writer that heeds the water marks needs no more memory than they say."""
    protocol = wire.Recorder()
    piece = wire.pattern(65536)
    result: list[int] = []
    async with wire.accepted(protocol) as peer:
        transport = protocol.transport
        left, paused, most = SIZE, False, 0

        def go_on() -> None:
            nonlocal left, paused, most
            paused = False
            while left and not paused:
                transport.write(piece)
                left -= len(piece)
                most = max(most, transport.get_write_buffer_size())
            if not left:
                transport.close()

        def pause() -> None:
            nonlocal paused
            paused = True

        protocol.hooks = {"pause_writing": pause, "resume_writing": go_on}
        with slow_reader(peer, result):
            tracemalloc.reset_peak()
            go_on()
            assert await protocol.until_lost() is None
            _, peak = tracemalloc.get_traced_memory()
            while not result:
                await asyncio.sleep(0.001)
        checksum = 0
        for _ in range(SIZE // len(piece)):
            checksum = zlib.crc32(piece, checksum)
        assert result == [SIZE, checksum]
        assert most <= 2 * 65536  # the high water mark, and the piece that went beyond it
        assert peak < 2_000_000
        marks = protocol.calls[1:-1]
        assert len(marks) > 10
        assert marks == ["pause_writing", "resume_writing"] * (len(marks) // 2)


@ours
@has_tracemalloc
async def test_100_mb_in_one_write_is_not_copied() -> None:
    protocol = wire.Recorder()
    data = wire.pattern(1 << 20) * 100
    result: list[int] = []
    async with wire.accepted(protocol) as peer:
        with slow_reader(peer, result):
            protocol.transport.write(data)
            protocol.transport.close()
            assert await protocol.until_lost() is None
            _, peak = tracemalloc.get_traced_memory()
            while not result:
                await asyncio.sleep(0.001)
        assert result == [SIZE, zlib.crc32(data)]
        assert peak < 2_000_000
        assert protocol.calls == ["connection_made", "pause_writing", "resume_writing", "connection_lost"]


# Both ends, at random


class Step:
    """One thing that one of the two ends does."""

    def __init__(self, end: int, what: str, size: int) -> None:
        self.end, self.what, self.size = end, what, size

    def __repr__(self) -> str:
        return f"<{self.end}: {self.what} {self.size}>"


steps = st.lists(
    st.builds(
        Step,
        st.sampled_from([0, 1]),
        st.sampled_from(["write", "write", "write", "pause", "resume", "go round"]),
        st.one_of(st.integers(0, 10), st.integers(0, 70_000), st.integers(200_000, 400_000)),
    ),
    max_size=40,
)


@pytest.mark.parametrize("buffered", [False, True], ids=["protocol", "buffered"])
@given(script=steps)
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_order_of_writes_and_pauses_delivers_everything(buffered: bool, script: list[Step]) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        ends: list[Any] = [wire.Recorder(keep_open=True), wire.Recorder(keep_open=True)]
        if buffered:
            ends[1] = wire.BufferedRecorder(5000, keep_open=True)
        for end, sock in zip(ends, socket.socketpair(), strict=True):
            await loop.create_unix_connection(lambda end=end: end, sock=sock)
        try:
            await play(ends)
        finally:
            for end in ends:
                await wire.finish(end.transport)

    async def play(ends: list[Any]) -> None:
        written = [0, 0]
        for step in script:
            transport = ends[step.end].transport
            if step.what == "write":
                transport.write(wire.pattern(step.size, written[step.end]))
                written[step.end] += step.size
            elif step.what == "pause":
                transport.pause_reading()
            elif step.what == "resume":
                transport.resume_reading()
            else:
                await wire.turns(step.size % 3)
        for end in ends:
            end.transport.resume_reading()
            end.transport.write_eof()
        for end, size in zip(ends, reversed(written), strict=True):
            await end.until(lambda end=end: "eof_received" in end.calls)
            assert bytes(end.data) == wire.pattern(size)
        for end in ends:
            marks = [call for call in end.calls if call.endswith("_writing")]
            assert marks == ["pause_writing", "resume_writing"] * (len(marks) // 2)

    epoll_loop.run(main())
