"""sendfile() on a transport: behind what was written, alone while it lasts, and all is as before when it is over."""

import array
import asyncio
import io
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import wire

ours = pytest.mark.asyncio(loop_factories=["epoll_loop"])

CONTENT = array.array("I", range(500_000)).tobytes()
SIZE = len(CONTENT)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[BinaryIO]:
    (tmp_path / "file").write_bytes(CONTENT)
    with open(tmp_path / "file", "rb") as file:
        yield file


@pytest.fixture(params=["native", "fallback"])
def source(request: pytest.FixtureRequest, file: BinaryIO) -> BinaryIO:
    """What sendfile(2) takes, and what it does not."""
    return file if request.param == "native" else io.BytesIO(CONTENT)


def now() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


async def blocked(protocol: wire.Recorder, source: Any, *args: Any) -> asyncio.Task[int]:
    """A sendfile() that waits for the peer to read."""
    wire.shrink(protocol.transport)
    task = asyncio.ensure_future(now().sendfile(protocol.transport, source, *args))
    await wire.turns()
    async with asyncio.timeout(wire.LIMIT):
        while isinstance(source, io.BytesIO) and not protocol.transport._protocol_paused:
            await asyncio.sleep(0)  # a thread reads for it
    assert not task.done()
    return task


async def test_between_writes(source: BinaryIO, link: wire.Link) -> None:
    protocol = wire.Recorder()
    async with link(protocol) as peer:
        wire.shrink(protocol.transport)
        reading = asyncio.ensure_future(wire.read_all(peer))
        protocol.transport.write(b"before")
        assert await now().sendfile(protocol.transport, source) == SIZE
        protocol.transport.write(b"after")
        protocol.transport.close()
        assert await reading == b"before" + CONTENT + b"after"
        assert source.tell() == SIZE


async def test_behind_a_queue_that_is_blocked(source: BinaryIO, link: wire.Link) -> None:
    protocol = wire.Recorder()
    async with link(protocol) as peer:
        wire.shrink(protocol.transport)
        size = wire.block(protocol.transport)
        task = asyncio.ensure_future(now().sendfile(protocol.transport, source))
        await wire.turns()
        assert not task.done()
        assert await wire.read(peer, size + SIZE) == wire.pattern(size) + CONTENT
        assert await task == SIZE


@ours
async def test_behind_a_queue_for_which_there_is_room_again(file: BinaryIO, link: wire.Link) -> None:
    protocol = wire.Recorder()
    async with link(protocol) as peer:
        wire.shrink(protocol.transport)
        size = wire.block(protocol.transport)
        received = wire.empty(peer)  # and the loop does not know of it yet
        reading = asyncio.ensure_future(wire.read(peer, size + SIZE - len(received)))
        await now().sendfile(protocol.transport, file)
        assert received + await reading == wire.pattern(size) + CONTENT


@pytest.mark.parametrize(("offset", "count"), [(1000, 100), (1000, None), (5, 1 << 33), (SIZE, None), (SIZE - 1, 2)])
async def test_a_part_of_a_file(offset: int, count: int | None, source: BinaryIO, tcp: wire.Link) -> None:
    expected = CONTENT[offset:] if count is None else CONTENT[offset : offset + count]
    protocol = wire.Recorder()
    async with tcp(protocol) as peer:
        reading = asyncio.ensure_future(wire.read_all(peer))
        assert await now().sendfile(protocol.transport, source, offset, count) == len(expected)
        protocol.transport.close()
        assert await reading == expected
        assert source.tell() == offset + len(expected) or not expected


@pytest.mark.parametrize("fallback", [True, False])
async def test_an_empty_file(fallback: bool, tcp: wire.Link, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    protocol = wire.Recorder()
    with open(tmp_path / "empty", "rb") as file:
        async with tcp(protocol):
            assert await now().sendfile(protocol.transport, file, fallback=fallback) == 0


@ours
async def test_what_fits_is_sent_at_once(file: BinaryIO, link: wire.Link) -> None:
    protocol = wire.Recorder()
    async with link(protocol) as peer:
        protocol.transport.write(b"head ")
        with pytest.raises(StopIteration) as stopped:
            now().sendfile(protocol.transport, file, 0, 1000).send(None)
        assert stopped.value.value == 1000
        assert await wire.read(peer, 1005) == b"head " + CONTENT[:1000]


# While it lasts


async def test_writing_is_refused(file: BinaryIO, link: wire.Link) -> None:
    protocol = wire.Recorder()
    async with link(protocol) as peer:
        task = await blocked(protocol, file)
        for write in (protocol.transport.write, protocol.transport.writelines):
            for data in (b"data", b""):
                argument = data if write == protocol.transport.write else [data]
                with pytest.raises(RuntimeError, match=r"^unable to write(lines)?; sendfile is in progress$"):
                    write(argument)
        assert protocol.transport.get_write_buffer_size() == 0
        assert await wire.read(peer, SIZE) == CONTENT
        await task
        protocol.transport.write(b"data")
        assert await wire.read(peer, 4) == b"data"


@ours  # asyncio: a KeyError
async def test_one_file_at_a_time(file: BinaryIO, link: wire.Link) -> None:
    protocol = wire.Recorder()
    async with link(protocol) as peer:
        task = await blocked(protocol, file)
        with pytest.raises(RuntimeError, match="sendfile is in progress"):
            await now().sendfile(protocol.transport, file)
        assert await wire.read(peer, SIZE) == CONTENT
        await task


@pytest.mark.parametrize("paused", [False, True])
async def test_reading_rests(paused: bool, source: BinaryIO, link: wire.Link) -> None:
    protocol = wire.Recorder()
    async with link(protocol) as peer:
        if paused:
            protocol.transport.pause_reading()
        task = await blocked(protocol, source)
        assert not protocol.transport.is_reading()
        peer.send(b"meanwhile")
        await wire.turns()
        assert protocol.data == b""
        assert await wire.read(peer, SIZE) == CONTENT
        await task
        assert protocol.transport.is_reading() is not paused
        protocol.transport.resume_reading()
        assert await protocol.until_data(9) == b"meanwhile"


async def test_the_protocol_is_paused_and_resumed_as_often(source: BinaryIO, link: wire.Link) -> None:
    protocol = wire.Recorder()
    async with link(protocol) as peer:
        wire.shrink(protocol.transport)
        protocol.transport.set_write_buffer_limits(high=0)
        size = wire.block(protocol.transport)
        await protocol.until(lambda: protocol.calls[-1] == "pause_writing")
        task = asyncio.ensure_future(now().sendfile(protocol.transport, source))
        await wire.read(peer, size + SIZE)
        await task
        await wire.turns()
        assert protocol.calls == ["connection_made", "pause_writing", "resume_writing"]


@ours  # asyncio's protocol hears of the end of a pause of whose beginning it did not
async def test_a_pause_that_outlives_the_fallback(link: wire.Link) -> None:
    protocol = wire.Recorder()
    async with link(protocol) as peer:
        protocol.transport.set_write_buffer_limits(high=0)
        task = await blocked(protocol, io.BytesIO(CONTENT))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert protocol.calls == ["connection_made", "pause_writing"]
        reading = asyncio.ensure_future(wire.read_all(peer))
        await protocol.until(lambda: protocol.calls[-1] == "resume_writing")
        protocol.transport.close()
        await reading


@ours  # asyncio overwrites what is queued
async def test_the_fallback_waits_for_the_peer(link: wire.Link) -> None:
    protocol = wire.Recorder()
    async with link(protocol) as peer:
        task = await blocked(protocol, io.BytesIO(CONTENT))
        queued = protocol.transport.get_write_buffer_size()
        assert queued <= 65536 + 16384
        assert await wire.read(peer, SIZE) == CONTENT
        assert await task == SIZE
        assert protocol.transport.get_protocol() is protocol


# The end comes first


@ours  # asyncio's position stays where it was
async def test_cancelled(file: BinaryIO, link: wire.Link) -> None:
    protocol = wire.Recorder()
    async with link(protocol) as peer:
        task = await blocked(protocol, file)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        sent = file.tell()
        assert 0 < sent < SIZE
        assert protocol.transport.is_reading()
        protocol.transport.write(b"after")
        assert await wire.read(peer, sent + 5) == CONTENT[:sent] + b"after"
        peer.send(b"still there")
        assert await protocol.until_data(11) == b"still there"


@ours
async def test_the_fallback_cancelled(link: wire.Link) -> None:
    source = io.BytesIO(CONTENT)
    protocol = wire.Recorder()
    async with link(protocol) as peer:
        task = await blocked(protocol, source)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        sent = source.tell()
        assert 0 < sent < SIZE
        assert protocol.transport.get_protocol() is protocol
        assert protocol.transport.is_reading()
        protocol.transport.write(b"after")
        assert await wire.read(peer, sent + 5) == CONTENT[:sent] + b"after"


@ours  # asyncio's transport would not be usable again
async def test_cancelled_behind_a_blocked_queue(file: BinaryIO, link: wire.Link) -> None:
    protocol = wire.Recorder()
    async with link(protocol) as peer:
        wire.shrink(protocol.transport)
        size = wire.block(protocol.transport)
        task = asyncio.ensure_future(now().sendfile(protocol.transport, file))
        await wire.turns()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert file.tell() == 0
        assert protocol.transport.is_reading()
        protocol.transport.write(b"after")
        assert await wire.read(peer, size + 5) == wire.pattern(size) + b"after"


@ours
async def test_cancelled_when_it_could_go_on(file: BinaryIO, link: wire.Link) -> None:
    protocol = wire.Recorder()
    async with link(protocol) as peer:
        task = await blocked(protocol, file)
        received = wire.empty(peer)
        now().call_soon(task.cancel)  # in the iteration that hears of the room, and before the task's turn
        await wire.turns()
        assert task.cancelled()
        sent = file.tell()
        protocol.transport.write(b"after")
        rest = await wire.read(peer, sent + 5 - len(received))
        assert received + rest == CONTENT[:sent] + b"after"


async def test_the_peer_goes_away(source: BinaryIO, tcp: wire.Link) -> None:
    protocol = wire.Recorder()
    async with tcp(protocol) as peer:
        task = await blocked(protocol, source)
        wire.reset(peer)
        with pytest.raises(ConnectionError):
            await task
        assert 0 < source.tell() < SIZE
        await protocol.until_lost()
        assert protocol.calls.count("connection_lost") == 1


@ours
@pytest.mark.parametrize("queued", [False, True])
@pytest.mark.parametrize("end", ["close", "abort"])
async def test_the_transport_is_closed(end: str, queued: bool, source: BinaryIO, link: wire.Link) -> None:
    protocol = wire.Recorder()
    async with link(protocol) as peer:
        size = 0
        if queued:
            wire.shrink(protocol.transport)
            size = wire.block(protocol.transport)
        task = await blocked(protocol, source)
        getattr(protocol.transport, end)()
        reading = asyncio.ensure_future(wire.read_all(peer))
        with pytest.raises(ConnectionError, match=r"(?i)^connection (is )?closed by peer$"):
            await task
        assert await protocol.until_lost() is None
        received = await reading
        whole = wire.pattern(size) + CONTENT[: source.tell()]
        assert received == whole if end == "close" else whole.startswith(received)


@ours
@pytest.mark.parametrize("queued", [False, True])
async def test_closed_between_two_of_its_steps(queued: bool, file: BinaryIO, link: wire.Link) -> None:
    """It is woken because the peer reads, and before its turn the transport is aborted."""
    protocol = wire.Recorder()
    async with link(protocol) as peer:
        if queued:
            wire.shrink(protocol.transport)
            wire.block(protocol.transport)
        task = await blocked(protocol, file)
        wire.empty(peer)
        now().call_soon(protocol.transport.abort)
        with pytest.raises(ConnectionError):
            await task
        assert await protocol.until_lost() is None
        assert (file.tell() == 0) is queued


@ours
async def test_the_end_is_written_meanwhile(file: BinaryIO, link: wire.Link) -> None:
    protocol = wire.Recorder(keep_open=True)
    async with link(protocol) as peer:
        task = await blocked(protocol, file)
        protocol.transport.write_eof()
        reading = asyncio.ensure_future(wire.read_all(peer))
        with pytest.raises(BrokenPipeError):
            await task
        assert await reading == CONTENT[: file.tell()]


async def test_after_the_end_was_written(source: BinaryIO, link: wire.Link) -> None:
    protocol = wire.Recorder(keep_open=True)
    async with link(protocol):
        protocol.transport.write_eof()
        with pytest.raises(RuntimeError, match=r"after write_eof\(\)$"):
            await now().sendfile(protocol.transport, source)
        assert protocol.transport.get_protocol() is protocol


async def test_a_transport_that_is_closing(file: BinaryIO, link: wire.Link) -> None:
    protocol = wire.Recorder()
    async with link(protocol):
        protocol.transport.close()
        with pytest.raises(RuntimeError, match=r"^Transport is closing$"):
            await now().sendfile(protocol.transport, file)


async def test_an_error_of_the_file(link: wire.Link) -> None:
    class Broken(io.BytesIO):
        def readinto(self, buffer: Any) -> int:
            if self.tell() > 1000:
                raise error
            return super().readinto(memoryview(buffer)[:1100])

    error = OSError(5, "broken disk")
    source = Broken(CONTENT)
    protocol = wire.Recorder()
    async with link(protocol) as peer:
        with pytest.raises(OSError) as caught:
            await now().sendfile(protocol.transport, source)
        assert caught.value is error
        assert source.tell() == 1100
        protocol.transport.write(b"after")
        assert await wire.read(peer, 1105) == CONTENT[:1100] + b"after"


# Which way


async def test_arguments(file: BinaryIO, link: wire.Link) -> None:
    protocol = wire.Recorder()
    async with link(protocol) as peer:
        for args, error in (((0, 0), ValueError), ((0, "1"), TypeError), ((-1,), ValueError), ((None,), TypeError)):
            with pytest.raises(error, match="must be a"):
                await now().sendfile(protocol.transport, file, *args)
        with open(file.name) as text, pytest.raises(ValueError, match="binary mode"):
            await now().sendfile(protocol.transport, text)
        assert protocol.transport.is_reading()
        protocol.transport.write(b"unharmed")
        assert await wire.read(peer, 8) == b"unharmed"


async def test_without_a_fallback(file: BinaryIO, link: wire.Link, replace_sendfile: Any) -> None:
    protocol = wire.Recorder()
    async with link(protocol) as peer:
        with pytest.raises(asyncio.SendfileNotAvailableError, match=r"^not a regular file$"):
            await now().sendfile(protocol.transport, io.BytesIO(CONTENT), fallback=False)
        replace_sendfile(None)
        with pytest.raises(asyncio.SendfileNotAvailableError, match="not available"):
            await now().sendfile(protocol.transport, file, fallback=False)
        protocol.transport.write(b"unharmed")
        assert await wire.read(peer, 8) == b"unharmed"


@pytest.mark.filterwarnings("ignore:unclosed transport:ResourceWarning")
def test_a_loop_closed_meanwhile(loop: asyncio.AbstractEventLoop, file: BinaryIO) -> None:
    async def begin() -> asyncio.Task[int]:
        await now().create_unix_connection(lambda: protocol, sock=sock)
        return await blocked(protocol, file)

    protocol = wire.Recorder()
    sock, peer = socket.socketpair()
    with peer:
        task = loop.run_until_complete(begin())
        loop.close()
        with pytest.raises(ConnectionError):
            task.result()
        assert protocol.calls[-1] == "connection_lost"
        assert 0 < file.tell() < SIZE
        sock.close()
