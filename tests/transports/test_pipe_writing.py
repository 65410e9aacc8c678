"""connect_write_pipe(): what becomes of what a protocol writes."""

import asyncio
import errno
from typing import Any

import pytest
import wire
from ends import PIPES, Kind, a_master, a_pipe, all_kinds, one_of, pipes, read, writing


@all_kinds
async def test_what_is_written_arrives(kind: Kind) -> None:
    protocol = wire.Recorder()
    async with writing(protocol, kind()) as peer:
        for i in range(3):
            protocol.transport.write(b"%d" % i)
        protocol.transport.writelines([b"3", bytearray(b"4"), memoryview(b"5")])
        protocol.transport.write(b"")
        assert await read(peer, 6) == b"012345"
        assert protocol.transport.get_write_buffer_size() == 0
        protocol.transport.write(b"again")
        assert await read(peer, 5) == b"again"
        assert protocol.calls == ["connection_made"]


@all_kinds
async def test_much_is_written_in_order_and_the_protocol_paused(kind: Kind) -> None:
    protocol = wire.Recorder()
    size = 400_000
    async with writing(protocol, kind()) as peer:
        transport = protocol.transport
        transport.write(wire.pattern(size // 2))
        transport.writelines(wire.pattern(1000, start) for start in range(size // 2, size, 1000))
        await protocol.until(lambda: "pause_writing" in protocol.calls)
        assert transport.get_write_buffer_size() > transport.get_write_buffer_limits()[1]
        assert await read(peer, size) == wire.pattern(size)
        await protocol.until(lambda: "resume_writing" in protocol.calls)
        assert transport.get_write_buffer_size() == 0
        assert protocol.calls == ["connection_made", "pause_writing", "resume_writing"]


async def test_water_marks() -> None:
    protocol = wire.Recorder()
    async with writing(protocol, a_pipe()) as peer:
        transport = protocol.transport
        transport.set_write_buffer_limits(high=0)
        size = wire.block(transport)
        await protocol.until(lambda: protocol.calls[-1] == "pause_writing")
        await read(peer, size)
        await protocol.until(lambda: protocol.calls[-1] == "resume_writing")


@one_of([*PIPES, a_master])  # the programs in a terminal whose master is closed hear no more of it
@pytest.mark.parametrize("verb", ["close", "write_eof"])
async def test_the_end_waits_for_what_is_queued(kind: Kind, verb: str) -> None:
    protocol = wire.Recorder()
    ends = kind()
    async with writing(protocol, ends) as peer:
        transport = protocol.transport
        assert transport.can_write_eof()
        size = wire.block(transport)
        getattr(transport, verb)()
        assert transport.is_closing()
        transport.close()
        transport.write_eof()
        transport.write(b"too late")
        transport.writelines([b"too", b"late"])
        await wire.turns()
        assert protocol.lost is protocol
        assert await read(peer, size) == wire.pattern(size)
        assert await protocol.until_lost() is None
        await wire.turns()
        assert protocol.calls.count("connection_lost") == 1
        assert ends[1].closed
        if kind in PIPES:
            assert await read(peer, 1) == b""


@all_kinds
async def test_abort_does_not_wait(kind: Kind) -> None:
    protocol = wire.Recorder()
    async with writing(protocol, kind()) as peer:
        size = wire.block(protocol.transport)
        protocol.transport.abort()
        assert await protocol.until_lost() is None
        if kind in PIPES:
            assert len(await read(peer, size)) < size


@pipes
async def test_the_reader_goes(kind: Kind) -> None:
    protocol = wire.Recorder()
    async with writing(protocol, kind()) as peer:
        peer.close()
        assert await protocol.until_lost() is None


@pipes
async def test_the_reader_goes_before_it_has_read_all(kind: Kind) -> None:
    protocol = wire.Recorder()
    async with writing(protocol, kind()) as peer:
        wire.block(protocol.transport)
        protocol.transport.close()
        peer.close()
        assert isinstance(await protocol.until_lost(), BrokenPipeError)


@pipes
async def test_a_write_to_nobody(kind: Kind, reports: list[dict[str, Any]]) -> None:
    protocol = wire.Recorder()
    async with writing(protocol, kind()) as peer:
        await wire.turns()
        peer.close()
        protocol.transport.write(b"x")
        assert isinstance(await protocol.until_lost(), BrokenPipeError)
    assert reports == []


async def test_a_terminal_that_hangs_up_is_noticed_by_writing() -> None:
    protocol = wire.Recorder()
    async with writing(protocol, a_master()) as peer:
        peer.close()
        await wire.turns()
        assert not protocol.transport.is_closing()
        protocol.transport.write(b"x")
        lost = await protocol.until_lost()
        assert isinstance(lost, OSError)
        assert lost.errno == errno.EIO


async def test_writes_after_the_end_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    protocol = wire.Recorder()
    async with writing(protocol, a_pipe()):
        protocol.transport.close()
        for _ in range(10):
            protocol.transport.write(b"x")
        assert {record.message for record in caplog.records} == {
            "pipe closed by peer or os.write(pipe, data) raised exception."
        }
        assert 5 <= len(caplog.records) <= 6


async def test_the_bytes_are_those_of_the_call() -> None:
    protocol = wire.Recorder()
    async with writing(protocol, a_pipe()) as peer:
        size = wire.block(protocol.transport)
        data = bytearray(b"abc")
        protocol.transport.write(data)
        protocol.transport.write(memoryview(data)[1:])
        data[:] = b"xyz"
        assert (await read(peer, size + 5))[size:] == b"abcbc"


@pytest.mark.parametrize("closing", [False, True])
@pytest.mark.parametrize("data", ["text", 5, None, [b"x"]])
async def test_only_bytes(data: Any, closing: bool) -> None:
    protocol = wire.Recorder()
    async with writing(protocol, a_pipe()):
        if closing:
            protocol.transport.close()
        with pytest.raises((TypeError, AssertionError)):
            protocol.transport.write(data)


def test_a_write_while_the_loop_does_not_run_goes_at_once(either_loop: asyncio.AbstractEventLoop) -> None:
    """Who writes to a stopped loop's pipe and reads the other end would wait for ever."""
    ends = a_pipe()
    protocols: list[Any] = []

    async def connect() -> None:
        protocols.append((await either_loop.connect_write_pipe(wire.Recorder, ends[1]))[1])

    either_loop.run_until_complete(connect())
    transport = protocols[0].transport
    transport.write(b"one")
    assert ends[0].read(100) == b"one"
    transport.write(b"two")
    transport.write(b"three")
    assert ends[0].read(100) == b"twothree"
    transport.close()
    assert either_loop.run_until_complete(protocols[0].until_lost()) is None
    either_loop.run_until_complete(wire.turns())
    ends[0].close()
