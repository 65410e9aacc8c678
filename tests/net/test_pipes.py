"""connect_read_pipe() and connect_write_pipe(): which files they take, whose those are, and streams on them."""

import asyncio
import contextvars
import errno
import inspect
import io
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pollers import epoll_only

import epoll_loop

METHODS = ["connect_read_pipe", "connect_write_pipe"]
TEXTS = {
    "connect_read_pipe": "Pipe transport is for pipes/sockets only.",
    "connect_write_pipe": "Pipe transport is only for pipes, sockets and character devices",
}
methods = pytest.mark.parametrize("method", METHODS)
pure = pytest.mark.skipif(epoll_loop.COMPILED, reason="what is compiled can not be replaced")


class Recorder(asyncio.Protocol):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def connection_lost(self, exc: BaseException | None) -> None:
        self.lost.set_result(exc)


class Ends:
    """A pipe, of which one end is for the loop."""

    def __init__(self) -> None:
        reader, writer = os.pipe()
        self.files = dict(zip(METHODS, (io.FileIO(reader, "rb"), io.FileIO(writer, "wb")), strict=True))

    def close(self) -> None:
        for file in self.files.values():
            file.close()


@pytest.fixture
def ends(descriptors: Callable[[], int]) -> Iterator[Any]:
    before = descriptors()
    pipe = Ends()
    yield pipe.files
    pipe.close()
    assert descriptors() <= before


def connect(method: str, file: Any, factory: Any = Recorder) -> Any:
    return getattr(asyncio.get_running_loop(), method)(factory, file)


async def close(protocol: Recorder) -> None:
    protocol.transport.close()
    assert await protocol.lost is None
    await asyncio.sleep(0)


@methods
async def test_transport_and_protocol(ends: Any, method: str) -> None:
    made = Recorder()
    transport, protocol = await connect(method, ends[method], lambda: made)
    assert protocol is made
    assert transport is made.transport
    assert transport.get_protocol() is made
    assert not os.get_blocking(ends[method].fileno())
    await close(made)
    assert ends[method].closed


@methods
async def test_a_regular_file_is_refused_and_stays_its_owners(tmp_path: Path, method: str) -> None:
    with (tmp_path / "file").open("w+") as file:
        with pytest.raises(ValueError, match=TEXTS[method]):
            await connect(method, file)
        assert os.get_blocking(file.fileno())
        file.write("still open")


@methods
async def test_a_closed_file(ends: Any, method: str) -> None:
    ends[method].close()
    with pytest.raises(ValueError, match="closed file"):
        await connect(method, ends[method])


@methods
async def test_a_factory_that_fails_leaves_the_file_alone(ends: Any, method: str) -> None:
    def fail() -> Any:
        raise LookupError

    with pytest.raises(LookupError):
        await connect(method, ends[method], fail)
    assert not ends[method].closed
    assert os.get_blocking(ends[method].fileno())


@methods
async def test_connection_made_that_fails_is_reported(ends: Any, method: str) -> None:
    error = ValueError()

    class Failing(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            raise error

    reports: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reports.append(context))
    _, protocol = await connect(method, ends[method], Failing)
    assert [report["exception"] for report in reports] == [error]
    await close(protocol)


@methods
async def test_an_interrupt_in_connection_made_comes_out(ends: Any, method: str) -> None:
    class Interrupted(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            raise SystemExit

    protocol = Interrupted()
    with pytest.raises(SystemExit):
        await connect(method, ends[method], lambda: protocol)
    await close(protocol)


@methods
async def test_closed_in_connection_made(ends: Any, method: str) -> None:
    class Closing(Recorder):
        def connection_made(self, transport: Any) -> None:
            transport.close()

    transport, protocol = await connect(method, ends[method], Closing)
    assert transport.is_closing()
    assert await protocol.lost is None


@methods
async def test_the_callbacks_run_in_the_context_of_the_caller(ends: Any, method: str) -> None:
    var = contextvars.ContextVar("var", default="elsewhere")
    seen: list[str] = []

    class Looking(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            seen.append(var.get())

        def data_received(self, data: bytes) -> None:
            seen.append(var.get())

        def eof_received(self) -> None:
            seen.append(var.get())

        def connection_lost(self, exc: BaseException | None) -> None:
            seen.append(var.get())
            super().connection_lost(exc)

    token = var.set("here")
    _, protocol = await connect(method, ends[method], Looking)
    var.reset(token)
    if method == "connect_read_pipe":
        ends["connect_write_pipe"].write(b"x")
        ends["connect_write_pipe"].close()
        await protocol.lost
        assert seen == ["here"] * 4
    else:
        await close(protocol)
        assert seen == ["here"] * 2
    await asyncio.sleep(0)


@methods
async def test_debug_mode_logs_it(ends: Any, method: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "asyncio")
    asyncio.get_running_loop().set_debug(True)
    transport, protocol = await connect(method, ends[method])
    kind = "Read" if method == "connect_read_pipe" else "Write"
    expected = f"{kind} pipe {ends[method].fileno()} connected: ({transport!r}, {protocol!r})"
    assert expected in [record.message for record in caplog.records]
    await close(protocol)


@methods
async def test_text_files_and_sockets_are_files(method: str) -> None:
    ours, peer = socket.socketpair()
    with peer:
        _, protocol = await connect(method, ours)
        await close(protocol)
        assert ours.fileno() == -1
    reader, writer = os.pipe()
    files = dict(
        zip(METHODS, (io.TextIOWrapper(io.FileIO(reader)), io.TextIOWrapper(io.FileIO(writer, "w"))), strict=True)
    )
    _, protocol = await connect(method, files[method])
    await close(protocol)
    assert files[method].closed
    for file in files.values():
        file.close()


@methods
async def test_a_file_that_fails_to_close_is_reported(method: str) -> None:
    """A text file may have something to write yet; what is ours is closed all the same."""

    class Failing(io.FileIO):
        def close(self) -> None:
            if not self.closed:
                super().close()
                raise OSError(errno.EIO, "no luck")

    master, slave = os.openpty()
    file = Failing(master, "r+b")
    loop = asyncio.get_running_loop()
    before = len(os.listdir("/proc/self/fd"))
    other = Recorder()
    await loop.connect_read_pipe(lambda: other, io.FileIO(master, "rb", closefd=False))
    reports: list[Any] = []
    loop.set_exception_handler(lambda loop, context: reports.append(context["exception"]))
    _, protocol = await connect(method, file)
    assert len(os.listdir("/proc/self/fd")) == before + 1  # two transports: two numbers
    protocol.transport.close()
    await protocol.lost
    await asyncio.sleep(0)
    assert [str(report) for report in reports] == ["[Errno 5] no luck"]
    assert len(os.listdir("/proc/self/fd")) == before - 1
    await close(other)
    os.close(slave)


@pure
@epoll_only
@methods
@pytest.mark.parametrize("where", ["add", "dup", "second add"])
async def test_no_room_in_the_kernel(ends: Any, monkeypatch: pytest.MonkeyPatch, method: str, where: str) -> None:
    """Whatever fails, the file is still the caller's, and nothing else is left."""
    holder = Recorder()
    if where != "add":
        await connect(method, io.FileIO(ends[method].fileno(), ends[method].mode, closefd=False), lambda: holder)
    before = len(os.listdir("/proc/self/fd"))

    def fail(*args: Any) -> Any:
        if where == "second add" and args[1] == ends[method].fileno():
            raise FileExistsError
        raise OSError(errno.ENOSPC, "no room")

    with monkeypatch.context() as patch:
        if where == "dup":
            patch.setattr(os, "dup", fail)
        else:
            patch.setattr(epoll_loop.core.epoll.EpollSet, "add", fail)  # type: ignore[attr-defined]
        with pytest.raises(OSError, match="no room"):
            await connect(method, ends[method])
    assert not ends[method].closed
    assert len(os.listdir("/proc/self/fd")) == before
    _, protocol = await connect(method, ends[method])
    if where != "add":
        await close(holder)
    await close(protocol)


async def test_streams_on_pipes() -> None:
    """What programs do with them: a StreamReader and a StreamWriter, more than fits at once, and an end."""
    loop = asyncio.get_running_loop()
    reader_fd, writer_fd = os.pipe()
    reader = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), io.FileIO(reader_fd))
    write_transport, protocol = await loop.connect_write_pipe(
        asyncio.streams.FlowControlMixin, io.FileIO(writer_fd, "w")
    )
    writer = asyncio.StreamWriter(write_transport, protocol, None, loop)  # type: ignore[arg-type]
    lines = [b"%d\n" % number * 100 for number in range(2000)]

    async def send() -> None:
        for line in lines:
            writer.write(line)
            await writer.drain()
        writer.write_eof()

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(send())
        received = group.create_task(reader.read())
    assert received.result() == b"".join(lines)
    assert transport.is_closing()
    await asyncio.sleep(0)


PROGRAM = """
import asyncio, sys
import epoll_loop

async def main():
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    transport, _ = await loop.connect_write_pipe(asyncio.Protocol, sys.stdout)
    async for line in reader:
        transport.write(line.upper())
    transport.close()

epoll_loop.run(main())
"""


async def test_the_standard_streams_of_a_program() -> None:
    child = await asyncio.to_thread(run_program, b"one\ntwo\n")
    assert child == (b"ONE\nTWO\n", b"")


def run_program(data: bytes) -> tuple[bytes, bytes]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], input=data, capture_output=True, timeout=30, check=True,
        cwd=Path(epoll_loop.__file__).parent.parent,
    )  # fmt: skip
    return done.stdout, done.stderr


@methods
def test_the_arguments_are_asyncios(method: str) -> None:
    theirs = inspect.signature(getattr(asyncio.SelectorEventLoop, method)).parameters
    own = inspect.signature(getattr(epoll_loop.Loop, method)).parameters
    assert list(own) == list(theirs)
