"""What the two pipe transports have in common, and what few files are: read and written at once, always ready."""

import asyncio
import errno
import fcntl
import io
import os
import pty
import re
import tty
import weakref
from typing import Any

import garbage
import pytest
import wire
from ends import a_pipe, a_socket, read, reading, writing
from pollers import EDGES

import epoll_loop

ours = pytest.mark.asyncio(loop_factories=["epoll_loop"])
pure = pytest.mark.skipif(epoll_loop.COMPILED, reason="what is compiled can not be replaced")


# One descriptor for both directions


@pytest.mark.parametrize("first", ["read", "write"])
async def test_a_terminal_is_read_and_written_through_one_descriptor(first: str) -> None:
    loop = asyncio.get_running_loop()
    master, slave = pty.openpty()
    tty.setraw(slave)
    file = io.FileIO(master, "r+b")
    reader, writer = wire.Recorder(), wire.Recorder()
    for name in (first, "write" if first == "read" else "read"):
        if name == "read":
            await loop.connect_read_pipe(lambda: reader, file)
        else:
            await loop.connect_write_pipe(lambda: writer, file)
    os.write(slave, b"ping")
    assert await reader.until_data(4) == b"ping"
    writer.transport.write(b"pong")
    await wire.turns()
    assert os.read(slave, 100) == b"pong"
    assert reader.transport.get_extra_info("pipe") is file
    assert writer.transport.get_extra_info("pipe") is file
    for protocol in (writer, reader):
        protocol.transport.close()
        assert await protocol.until_lost() is None
    await wire.turns()
    assert file.closed
    os.close(slave)


# Always ready


async def test_writing_to_a_device_that_epoll_does_not_watch() -> None:
    protocol = wire.Recorder()
    null = io.FileIO("/dev/null", "wb")
    transport, _ = await asyncio.get_running_loop().connect_write_pipe(lambda: protocol, null)
    transport.write(b"x")
    transport.writelines([b"x"] * 2000)
    transport.write(bytes(wire.LARGE))
    transport.close()
    assert await protocol.until_lost() is None
    assert "pause_writing" not in protocol.calls
    await wire.turns()
    assert null.closed


@pure
@ours
async def test_a_device_that_takes_less_than_all_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """No edge will tell of room. The real one does that to more than 2 GiB."""
    taken: list[bytes] = []

    def short(fd: int, data: bytes, offset: int) -> int:
        taken.append(data[offset : offset + 1000])
        return len(taken[-1])

    monkeypatch.setattr(epoll_loop.core.syscalls, "write", short)  # type: ignore[attr-defined]
    protocol = wire.Recorder()
    transport, _ = await asyncio.get_running_loop().connect_write_pipe(lambda: protocol, io.FileIO("/dev/null", "wb"))
    transport.write(wire.pattern(5500))
    transport.close()
    assert await protocol.until_lost() is None
    assert b"".join(taken) == wire.pattern(5500)
    await wire.turns()


async def test_a_full_device() -> None:
    protocol = wire.Recorder()
    transport, _ = await asyncio.get_running_loop().connect_write_pipe(lambda: protocol, io.FileIO("/dev/full", "wb"))
    transport.write(b"x")
    lost = await protocol.until_lost()
    assert isinstance(lost, OSError)
    assert lost.errno == errno.ENOSPC


@ours
async def test_reading_the_end_from_a_device_that_epoll_does_not_watch() -> None:
    protocol = wire.Recorder()
    async with reading(protocol, (io.FileIO("/dev/null"), io.FileIO("/dev/null", "wb"))):
        assert await protocol.until_lost() is None
        assert protocol.calls == ["connection_made", "eof_received", "connection_lost"]


@ours
async def test_reading_without_end_from_a_device_that_epoll_does_not_watch() -> None:
    protocol = wire.Recorder()
    async with reading(protocol, (io.FileIO("/dev/zero"), io.FileIO("/dev/null", "wb"))):
        await protocol.until_data(wire.LARGE)
        protocol.transport.pause_reading()
        reads = len(protocol.calls)
        await wire.turns()
        assert len(protocol.calls) == reads
        protocol.transport.resume_reading()
        protocol.transport.pause_reading()
        protocol.transport.resume_reading()
        await wire.turns(1)
        assert len(protocol.calls) <= reads + 1  # one read an iteration, whoever resumes how often
        await protocol.until(lambda: len(protocol.calls) > reads)


# The transports themselves


async def test_they_are_asyncio_transports() -> None:
    reader, writer = wire.Recorder(), wire.Recorder()
    ends = a_pipe()
    async with reading(reader, ends), writing(writer, a_pipe()):
        assert isinstance(reader.transport, asyncio.ReadTransport)
        assert not isinstance(reader.transport, asyncio.WriteTransport)
        assert isinstance(writer.transport, asyncio.WriteTransport)
        for transport in (reader.transport, writer.transport):
            assert weakref.ref(transport)() is transport
            assert {transport: 1}[transport] == 1
    assert reader.transport.get_extra_info("pipe") is ends[0]
    assert reader.transport.get_extra_info("socket") is None


@ours
async def test_repr() -> None:
    reader, writer, device = wire.Recorder(), wire.Recorder(), wire.Recorder()
    first, second = a_pipe(), a_pipe()
    number, other = first[0].fileno(), second[1].fileno()
    null = io.FileIO("/dev/null", "wb")
    async with reading(reader, first), writing(writer, second), writing(device, (io.FileIO("/dev/null"), null)):
        assert repr(reader.transport) == f"<PipeReadTransport fd={number} read=polling>"
        reader.transport.pause_reading()
        assert repr(reader.transport) == f"<PipeReadTransport fd={number} read=idle>"
        assert repr(writer.transport) == f"<PipeWriteTransport fd={other} write=<idle, bufsize=0>>"
        wire.block(writer.transport)
        writer.transport.close()
        pattern = rf"<PipeWriteTransport closing fd={other} write=<polling, bufsize=\d+>>"
        assert re.fullmatch(pattern, repr(writer.transport))
        assert repr(device.transport) == f"<PipeWriteTransport fd={null.fileno()} write=<idle, bufsize=0>>"
    assert repr(reader.transport) == "<PipeReadTransport closed fd=-1>"


def test_unclosed_transports_warn(either_loop: asyncio.AbstractEventLoop) -> None:
    ends = a_pipe()
    held: list[Any] = [
        either_loop.run_until_complete(either_loop.connect_read_pipe(asyncio.Protocol, ends[0])),
        either_loop.run_until_complete(either_loop.connect_write_pipe(asyncio.Protocol, ends[1])),
    ]
    either_loop.close()
    assert ["open" in repr(transport) for transport, _ in held] == [True, True]

    def drop() -> None:
        held.clear()
        garbage.collect()

    with pytest.warns(ResourceWarning, match="unclosed transport <"):
        drop()
    assert [end.closed for end in ends] == [True, True]


@ours
async def test_a_closed_pipe_is_freed_without_the_collector() -> None:
    with garbage.without_collector():
        reader, writer = wire.Recorder(), wire.Recorder()
        ends = a_pipe()
        async with reading(reader, ends), writing(writer, ends):
            writer.transport.write(b"x")
            await reader.until_data(1)
        references = [weakref.ref(thing) for thing in (reader, writer, reader.transport, writer.transport)]
        del reader, writer
        await wire.turns()
        garbage.let_go()
        assert [reference() for reference in references] == [None] * 4


@ours
async def test_what_somebody_closed_is_not_read_under_its_next_name() -> None:
    protocol = wire.Recorder()
    ends, (other, peer) = a_pipe(), a_socket()
    number = ends[0].fileno()

    def exchange() -> None:
        """In the middle of the input: that there is more is known already."""
        ends[0].close()
        os.dup2(other.fileno(), number)

    protocol.hooks["data_received"] = exchange
    fcntl.fcntl(ends[1], fcntl.F_SETFL, os.O_DIRECT)
    peer.write(b"not for us")
    loop = asyncio.get_running_loop()
    reports: list[Any] = []
    loop.set_exception_handler(lambda loop, context: reports.append(context["message"]))
    async with reading(protocol, ends):
        ends[1].write(b"one")
        ends[1].write(b"two")
        lost = await protocol.until_lost()
    assert lost.errno == errno.EBADF
    assert reports == ["Fatal read error on pipe transport"]
    assert protocol.data == b"one"
    assert other.read(100) == b"not for us"
    os.close(number)
    other.close()
    peer.close()


@ours
async def test_what_somebody_closed_is_not_written_to_under_its_next_name() -> None:
    protocol = wire.Recorder()
    ends, (peer, other) = a_pipe(), a_socket()
    number = ends[1].fileno()
    async with writing(protocol, ends):
        ends[1].close()
        os.dup2(other.fileno(), number)
        protocol.transport.write(b"not for them")
        lost = await protocol.until_lost()
    assert lost.errno == errno.EBADF
    os.set_blocking(peer.fileno(), False)
    assert peer.read(100) is None
    os.close(number)
    other.close()
    peer.close()


# Errors of the kernel


@pure
@ours
@pytest.mark.parametrize(("name", "number"), [("read", errno.EIO), ("read", errno.ENOMEM), ("write", errno.EIO)])
async def test_errors_end_it(monkeypatch: pytest.MonkeyPatch, name: str, number: int) -> None:
    protocol = wire.Recorder()
    monkeypatch.setattr(epoll_loop.core.syscalls, name, lambda *args: -number)  # type: ignore[attr-defined]
    loop = asyncio.get_running_loop()
    reports: list[Any] = []
    loop.set_exception_handler(lambda loop, context: reports.append(context["message"]))
    ends = a_pipe()
    if name == "read":
        async with reading(protocol, ends) as peer:
            os.write(peer, b"x")
            await protocol.until_lost()
    else:
        async with writing(protocol, ends):
            protocol.transport.write(b"x")
            await protocol.until_lost()
    assert protocol.lost.errno == number
    assert len(reports) == (number == errno.ENOMEM)


@pure
@ours
@pytest.mark.parametrize("name", ["read", "writev"])
async def test_nothing_after_all(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """EAGAIN, though the kernel had said that it is ready: somebody else was faster."""
    real = getattr(epoll_loop.core.syscalls, name)  # type: ignore[attr-defined]
    calls: list[int] = []

    def second_time(*args: Any) -> Any:
        calls.append(1)
        return -errno.EAGAIN if len(calls) == 1 else real(*args)

    monkeypatch.setattr(epoll_loop.core.syscalls, name, second_time)  # type: ignore[attr-defined]
    protocol = wire.Recorder()
    ends = a_pipe()
    if name == "read":
        async with reading(protocol, ends) as peer:
            os.write(peer, b"x")
            while not calls:
                await asyncio.sleep(0)
            protocol.transport.pause_reading()
            protocol.transport.resume_reading()
            await wire.turns()
            assert len(calls) == 1 or not EDGES
            os.write(peer, b"y")
            assert await protocol.until_data(2) == b"xy"
    else:
        async with writing(protocol, ends) as reader:
            os.set_blocking(ends[1].fileno(), False)
            filled = os.write(ends[1].fileno(), bytes(1 << 20))
            protocol.transport.writelines([b"x", b"y"])
            await wire.turns()
            assert protocol.transport.get_write_buffer_size() == 2
            assert (await read(reader, filled + 2))[filled:] == b"xy"
