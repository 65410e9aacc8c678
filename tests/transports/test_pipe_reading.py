"""connect_read_pipe(): what a protocol hears of a pipe."""

import asyncio
import errno
import fcntl
import os
import pty
import socket
from typing import Any

import pytest
import wire
from ends import Kind, a_master, a_pipe, all_kinds, ends_of, pipes, reading


@all_kinds
async def test_what_comes_is_delivered(kind: Kind) -> None:
    protocol = wire.Recorder()
    async with reading(protocol, kind()) as peer:
        for i in range(3):
            os.write(peer, b"%d" % i)
            assert await protocol.until_data(i + 1) == b"012"[: i + 1]
        await wire.turns()
        assert protocol.calls == ["connection_made", *["data_received"] * 3]


@all_kinds
async def test_much_comes_in_order(kind: Kind) -> None:
    protocol = wire.Recorder()
    size = 300_000
    async with reading(protocol, kind()) as peer:

        def pour() -> None:
            data = wire.pattern(size)
            while data:
                data = data[os.write(peer, data) :]

        await asyncio.gather(asyncio.to_thread(pour), protocol.until_data(size))
        assert bytes(protocol.data) == wire.pattern(size)


@pipes
async def test_the_end_comes_after_the_data(kind: Kind) -> None:
    protocol = wire.Recorder(keep_open=True)  # in vain: a pipe without writers is of no use
    ends = kind()
    during: list[bool] = []
    protocol.hooks["eof_received"] = lambda: during.append(protocol.transport.is_closing())
    async with reading(protocol, ends) as peer:
        os.write(peer, wire.pattern(1000))
        ends[1].close()
        assert await protocol.until_lost() is None
        assert bytes(protocol.data) == wire.pattern(1000)
        assert protocol.calls[-2:] == ["eof_received", "connection_lost"]
        assert protocol.calls.count("eof_received") == 1
        assert during == [True]
        await wire.turns()
        assert ends[0].closed


async def test_the_end_of_a_terminal_is_an_error(reports: list[dict[str, Any]]) -> None:
    """The kernel says EIO; the data that came before is delivered, and nobody has to hear of it."""
    protocol = wire.Recorder()
    ends = a_master()
    async with reading(protocol, ends) as peer:
        os.write(peer, b"last words")
        ends[1].close()
        lost = await protocol.until_lost()
        assert isinstance(lost, OSError)
        assert lost.errno == errno.EIO
        assert protocol.data == b"last words"
        assert "eof_received" not in protocol.calls
    assert reports == []


async def test_an_error_of_the_kernel_is_reported(reports: list[dict[str, Any]]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        sock = socket.create_connection(server.getsockname())
        peer, _ = server.accept()
    protocol = wire.Recorder()
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sock)
    wire.reset(peer)
    assert isinstance(await protocol.until_lost(), ConnectionResetError)
    (report,) = reports
    assert report["message"] == "Fatal read error on pipe transport"
    assert report["exception"] is protocol.lost
    assert report["transport"] is protocol.transport
    assert report["protocol"] is protocol


async def test_lines_of_a_terminal_that_came_at_once() -> None:
    """Each read gives one: that it was short says nothing of the others."""
    master, slave = pty.openpty()
    protocol = wire.Recorder()
    async with reading(protocol, ends_of(slave, master)):
        os.write(master, b"one\ntwo\nthree\n")
        assert await protocol.until_data(14) == b"one\ntwo\nthree\n"


async def test_packets_of_a_pipe() -> None:
    """As lines of a terminal; whether there are packets is the writer's choice, of which the reader knows nothing."""
    protocol = wire.Recorder()
    ends = a_pipe()
    fcntl.fcntl(ends[1], fcntl.F_SETFL, os.O_DIRECT)
    async with reading(protocol, ends) as peer:
        for i in range(5):
            os.write(peer, b"%d" % i)
        assert await protocol.until_data(5) == b"01234"


@all_kinds
async def test_a_descriptor_that_is_blocking_again_does_not_block_the_loop(kind: Kind) -> None:
    """It shares that with other processes, and shells switch it back."""
    protocol = wire.Recorder()
    ends = kind()
    async with reading(protocol, ends) as peer:
        os.set_blocking(ends[0].fileno(), True)
        os.write(peer, b"x")
        await protocol.until_data(1)
        await wire.turns()
        os.write(peer, b"y")
        assert await protocol.until_data(2) == b"xy"
        await wire.turns()


@all_kinds
async def test_pause_and_resume(kind: Kind) -> None:
    protocol = wire.Recorder()
    async with reading(protocol, kind()) as peer:
        transport = protocol.transport
        assert transport.is_reading()
        transport.pause_reading()
        transport.pause_reading()
        assert not transport.is_reading()
        for i in range(3):
            os.write(peer, b"%d" % i)
            await asyncio.sleep(0.002)
        assert protocol.calls == ["connection_made"]
        transport.resume_reading()
        transport.resume_reading()
        assert transport.is_reading()
        assert not protocol.data
        assert await protocol.until_data(3) == b"012"


@pipes
async def test_the_end_while_paused_waits(kind: Kind) -> None:
    protocol = wire.Recorder()
    ends = kind()
    protocol.hooks["data_received"] = lambda: protocol.transport.pause_reading()
    async with reading(protocol, ends) as peer:
        os.write(peer, b"data")
        ends[1].close()
        await protocol.until_data(4)
        await asyncio.sleep(0.01)
        assert protocol.calls[-1] == "data_received"
        protocol.transport.resume_reading()
        assert await protocol.until_lost() is None


@all_kinds
async def test_closed_by_the_protocol(kind: Kind) -> None:
    protocol = wire.Recorder()
    protocol.hooks["data_received"] = lambda: protocol.transport.close()
    ends = kind()
    async with reading(protocol, ends) as peer:
        os.write(peer, b"x")
        assert await protocol.until_lost() is None
        assert not protocol.transport.is_reading()
        protocol.transport.pause_reading()
        protocol.transport.resume_reading()
        protocol.transport.close()
        await wire.turns()
        assert protocol.calls == ["connection_made", "data_received", "connection_lost"]
        assert ends[0].closed


@pytest.mark.parametrize("where", ["connection_made", "data_received", "eof_received", "connection_lost"])
async def test_an_exception_of_the_protocol_is_reported_only(reports: list[dict[str, Any]], where: str) -> None:
    protocol = wire.Recorder()
    error = ValueError(where)

    def fail() -> None:
        raise error

    protocol.hooks[where] = fail
    ends = a_pipe()
    async with reading(protocol, ends) as peer:
        os.write(peer, b"x")
        await protocol.until_data(1)
        os.write(peer, b"y")
        await protocol.until_data(2)
        ends[1].close()
        assert await protocol.until_lost() is None
        await wire.turns()
        assert {report["exception"] for report in reports} == {error}
        assert {"eof_received", "connection_lost"} < set(protocol.calls)
        assert ends[0].closed


async def test_a_buffered_protocol_is_not_for_pipes(reports: list[dict[str, Any]]) -> None:
    protocol = wire.BufferedRecorder()
    async with reading(protocol, a_pipe()) as peer:
        os.write(peer, b"x")
        while not reports:
            await asyncio.sleep(0)
        assert isinstance(reports[0]["exception"], AttributeError)
        assert not protocol.transport.is_closing()


async def test_another_protocol_goes_on() -> None:
    first, second = wire.Recorder(), wire.Recorder()
    async with reading(first, a_pipe()) as peer:
        transport = first.transport
        first.hooks["data_received"] = lambda: transport.set_protocol(second)
        os.write(peer, b"1")
        await first.until_data(1)
        os.write(peer, b"2")
        assert await second.until_data(1) == b"2"
        assert transport.get_protocol() is second
        transport.set_protocol(first)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_loses_nothing(either_loop: asyncio.AbstractEventLoop, error: type[BaseException]) -> None:
    ends = a_pipe()

    async def connect() -> Any:
        return (await either_loop.connect_read_pipe(wire.Recorder, ends[0]))[1]

    def fail() -> None:
        del protocol.hooks["data_received"]
        raise error

    protocol = either_loop.run_until_complete(connect())
    protocol.hooks["data_received"] = fail
    ends[1].write(b"one")
    with pytest.raises(error):
        either_loop.run_until_complete(asyncio.wait_for(asyncio.Event().wait(), wire.LIMIT))
    ends[1].write(b"two")
    ends[1].close()
    assert either_loop.run_until_complete(protocol.until_lost()) is None
    assert protocol.data == b"onetwo"
    either_loop.run_until_complete(wire.turns())
