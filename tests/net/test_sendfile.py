"""sock_sendfile(): a file through a socket. sendfile() on transports: tests/transports/test_sending_files.py."""

import array
import asyncio
import errno
import io
import itertools
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from raw import Pair, at_once, now, reset, turns, waiting

ASYNCIO_TOO = True
ours = pytest.mark.asyncio(loop_factories=["epoll_loop"])
pytestmark = pytest.mark.usefixtures("no_descriptor_left")

CONTENT = array.array("I", range(750_000)).tobytes()  # more than fits into the pair below, and no block that repeats
SIZE = len(CONTENT)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def file(path: Path) -> Iterator[BinaryIO]:
    with open(path, "rb") as file:
        yield file


@pytest.fixture
def small(pair: Pair) -> Pair:
    """A pair with little room in the kernel."""
    pair[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 131072)
    pair[1].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 131072)
    return pair


async def receive(sock: socket.socket) -> bytes:
    """What comes up to the end of the stream."""
    data = bytearray()
    while piece := await now().sock_recv(sock, 1 << 20):
        data += piece
    return bytes(data)


async def sent_and_received(pair: Pair, file: Any, *args: Any, **kwargs: Any) -> tuple[int, bytes]:
    sock, peer = pair
    receiving = asyncio.ensure_future(receive(peer))
    try:
        count = await now().sock_sendfile(sock, file, *args, **kwargs)
    finally:
        sock.close()
    return count, await receiving


async def test_a_whole_file(small: Pair, file: BinaryIO) -> None:
    assert await sent_and_received(small, file, fallback=False) == (SIZE, CONTENT)
    assert file.tell() == SIZE


RANGES = [
    (0, 1),
    (1, None),
    (1000, 2000),
    (1000, 2_000_000),
    (SIZE - 3, 3),
    (SIZE - 3, 4),
    (0, SIZE + 1),
    (5, 1 << 33),
    (SIZE - 1, None),
    (SIZE, None),
    (SIZE + 1, 5),
]


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize(("offset", "count"), RANGES)
async def test_a_part_of_a_file(offset: int, count: int | None, native: bool, small: Pair, file: BinaryIO) -> None:
    expected = CONTENT[offset:] if count is None else CONTENT[offset : offset + count]
    source = file if native else io.BytesIO(CONTENT)
    assert await sent_and_received(small, source, offset, count, fallback=not native) == (len(expected), expected)
    if expected:
        assert source.tell() == offset + len(expected)


async def test_beyond_two_gigabytes(pair: Pair, tmp_path: Path) -> None:
    with open(tmp_path / "sparse", "wb+") as file:
        file.seek(3 << 30)
        file.write(b"the end")
        file.flush()
        assert await sent_and_received(pair, file, (3 << 30) - 1, fallback=False) == (8, b"\0the end")
        assert file.tell() == (3 << 30) + 7


@pytest.mark.parametrize("native", [True, False])
@ours  # asyncio starts a fallback where the file stands, up to 3.13, and leaves a buffered file a little beside
async def test_where_the_file_stands_means_nothing(native: bool, small: Pair, file: BinaryIO) -> None:
    source = file if native else io.BytesIO(CONTENT)
    source.read(10)
    assert await sent_and_received(small, source, 0, 1000) == (1000, CONTENT[:1000])
    assert source.tell() == 1000
    assert source.read(4) == CONTENT[1000:1004]


@pytest.mark.parametrize("native", [True, False])
async def test_an_empty_file(native: bool, pair: Pair, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with open(tmp_path / "empty", "rb") as file:
        assert await sent_and_received(pair, file if native else io.BytesIO(), fallback=not native) == (0, b"")
        assert file.tell() == 0


async def test_between_other_bytes(small: Pair, file: BinaryIO) -> None:
    sock, peer = small
    receiving = asyncio.ensure_future(receive(peer))
    await now().sock_sendall(sock, b"before")
    assert await now().sock_sendfile(sock, file) == SIZE
    await now().sock_sendall(sock, b"after")
    sock.close()
    assert await receiving == b"before" + CONTENT + b"after"


@ours  # asyncio looks for the end of the file in another iteration
async def test_what_fits_is_sent_at_once(pair: Pair, file: BinaryIO) -> None:
    sock, peer = pair
    assert at_once(now().sock_sendfile(sock, file, 0, 1000)) == 1000
    assert at_once(now().sock_sendfile(sock, file, SIZE - 1000)) == 1000
    assert peer.recv(3000) == CONTENT[:1000] + CONTENT[-1000:]


# A file that changes meanwhile


async def blocked(pair: Pair, file: Any, *args: Any, **kwargs: Any) -> asyncio.Task[int]:
    """A sendfile() that has filled the kernel's buffers."""
    return await waiting(now().sock_sendfile(pair[0], file, *args, **kwargs))


async def test_a_file_that_grows(small: Pair, file: BinaryIO, path: Path) -> None:
    sock, peer = small
    task = await blocked(small, file)
    with open(path, "ab") as more:
        more.write(b"more")
    receiving = asyncio.ensure_future(receive(peer))
    assert await task == SIZE + 4
    sock.close()
    assert await receiving == CONTENT + b"more"
    assert file.tell() == SIZE + 4


async def test_a_file_that_shrinks(small: Pair, file: BinaryIO, path: Path) -> None:
    sock, peer = small
    task = await blocked(small, file)
    os.truncate(path, 1000)
    receiving = asyncio.ensure_future(receive(peer))
    sent = await task
    sock.close()
    assert len(await receiving) == sent
    assert 1000 < sent < SIZE
    assert file.tell() == sent


@ours  # asyncio goes on with whatever has the number of the file
async def test_a_file_that_is_closed(small: Pair, file: BinaryIO, path: Path) -> None:
    sock, peer = small
    task = await blocked(small, file)
    file.close()
    path.with_name("other").write_bytes(b"secret" * 1_000_000)
    with open(path.with_name("other"), "rb"):
        receiving = asyncio.ensure_future(receive(peer))
        with pytest.raises(ValueError, match="closed file"):
            await task
    sock.close()
    received = await receiving
    assert received == CONTENT[: len(received)]


# Errors, cancellation


@ours  # asyncio does not say how far it got
@pytest.mark.parametrize("native", [True, False])
async def test_cancelled_and_continued(native: bool, small: Pair, file: BinaryIO) -> None:
    sock, peer = small
    source = file if native else io.BytesIO(CONTENT)
    task = asyncio.ensure_future(now().sock_sendfile(sock, source, 8))
    received = bytearray(await now().sock_recv(peer, 1000))
    for _ in range(5):
        await asyncio.sleep(0)
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=0)
    assert task.cancelled()
    assert 8 < source.tell() < SIZE
    task = asyncio.ensure_future(now().sock_sendfile(sock, source, source.tell()))
    receiving = asyncio.ensure_future(receive(peer))
    await task
    sock.close()
    assert received + await receiving == CONTENT[8:]
    assert source.tell() == SIZE


async def test_cancelled_after_its_file_was_closed(small: Pair, file: BinaryIO) -> None:
    task = await blocked(small, file)
    file.close()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("native", [True, False])
async def test_a_peer_that_goes_away(native: bool, listener: socket.socket, tcp: socket.socket, file: BinaryIO) -> None:
    source = file if native else io.BytesIO(CONTENT)
    await now().sock_connect(tcp, listener.getsockname())
    peer, _ = await now().sock_accept(listener)
    tcp.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 131072)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 131072)
    task = asyncio.ensure_future(now().sock_sendfile(tcp, source))
    received = await now().sock_recv(peer, 1000)
    reset(peer)
    with pytest.raises(ConnectionError):
        await task
    assert len(received) <= source.tell() < SIZE


@pytest.mark.parametrize("native", [True, False])
@ours  # asyncio tries again without sendfile(2), and does not put the position back
async def test_nothing_was_sent(native: bool, pair: Pair, file: BinaryIO) -> None:
    source = file if native else io.BytesIO(CONTENT)
    pair[0].shutdown(socket.SHUT_WR)
    with pytest.raises(BrokenPipeError):
        await now().sock_sendfile(pair[0], source, fallback=not native)
    assert source.tell() == 0


async def test_a_file_that_sendfile_refuses(pair: Pair, file: BinaryIO, replace_sendfile: Any) -> None:
    def refuse(*args: int) -> int:
        raise OSError(errno.EINVAL, "not such a file")

    replace_sendfile(refuse)
    with pytest.raises(asyncio.SendfileNotAvailableError, match=r"^os.sendfile call failed$"):
        await now().sock_sendfile(pair[0], file, fallback=False)
    assert file.tell() == 0
    assert await sent_and_received(pair, file, 1000) == (SIZE - 1000, CONTENT[1000:])


async def test_an_error_in_the_middle(pair: Pair, file: BinaryIO, replace_sendfile: Any) -> None:
    def break_later(out: int, source: int, offset: int, count: int) -> int:
        if offset:
            raise error
        return real(out, source, offset, 1000)

    error = OSError(errno.EIO, "broken disk")
    real = os.sendfile
    replace_sendfile(break_later)
    with pytest.raises(OSError) as caught:
        await now().sock_sendfile(pair[0], file)
    assert caught.value is error
    assert file.tell() == 1000


async def test_an_error_of_the_file_in_the_fallback(pair: Pair) -> None:
    class Broken(io.BytesIO):
        def readinto(self, buffer: Any) -> int:
            if self.tell():
                raise error
            return super().readinto(memoryview(buffer)[:1000])

    error = OSError(errno.EIO, "broken disk")
    source = Broken(CONTENT)
    with pytest.raises(OSError) as caught:
        await now().sock_sendfile(pair[0], source)
    assert caught.value is error
    assert source.tell() == 1000
    assert pair[1].recv(3000) == CONTENT[:1000]


@ours  # each call of asyncio's waits
async def test_others_have_their_turns_meanwhile(pair: Pair, file: BinaryIO, replace_sendfile: Any) -> None:
    """However fast the peer is, and however much the kernel would do in one call."""
    sizes: list[int] = []
    ticks = [0]

    def swallow(out: int, source: int, offset: int, count: int) -> int:
        sizes.append(count)
        return count if offset < 1 << 32 else 0

    def tick() -> None:
        ticks.append(len(sizes))
        if not task.done():
            now().call_soon(tick)

    replace_sendfile(swallow)
    task = asyncio.ensure_future(now().sock_sendfile(pair[0], file))
    now().call_soon(tick)
    assert await task >= 1 << 32
    assert max(sizes) <= 1 << 20
    assert all(after - before <= 1 for before, after in itertools.pairwise(ticks))


# Arguments


class NotRegular:
    """A file as a pipe has it: a descriptor, and nothing that sendfile(2) takes."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def fileno(self) -> int:
        return self.fd


@pytest.mark.parametrize("source", [object(), io.BytesIO(b"data"), NotRegular(-1)], ids=["object", "memory", "closed"])
async def test_what_is_no_regular_file(source: Any, pair: Pair) -> None:
    with pytest.raises(asyncio.SendfileNotAvailableError, match=r"^not a regular file$"):
        await now().sock_sendfile(pair[0], source, fallback=False)


@ours  # asyncio sends nothing of it: its size is 0
async def test_a_pipe(pair: Pair) -> None:
    reading, writing = os.pipe()
    with open(reading, "rb") as source:
        os.write(writing, b"through a pipe")
        os.close(writing)
        with pytest.raises(asyncio.SendfileNotAvailableError, match=r"^not a regular file$"):
            await now().sock_sendfile(pair[0], source, fallback=False)
        with pytest.raises(io.UnsupportedOperation):
            await now().sock_sendfile(pair[0], source, 1)
        assert await sent_and_received(pair, source) == (14, b"through a pipe")


async def test_without_sendfile(pair: Pair, file: BinaryIO, replace_sendfile: Any) -> None:
    replace_sendfile(None)
    with pytest.raises(asyncio.SendfileNotAvailableError, match=r"^os.sendfile\(\) is not available$"):
        await now().sock_sendfile(pair[0], file, fallback=False)
    assert await sent_and_received(pair, file) == (SIZE, CONTENT)


@pytest.mark.parametrize(
    ("args", "error", "text"),
    [
        ((0, 0), ValueError, "count must be a positive integer (got 0)"),
        ((0, -1), ValueError, "count must be a positive integer (got -1)"),
        ((0, "1"), TypeError, "count must be a positive integer (got '1')"),
        ((0, 1.5), TypeError, "count must be a positive integer (got 1.5)"),
        ((-1, None), ValueError, "offset must be a non-negative integer (got -1)"),
        ((None, None), TypeError, "offset must be a non-negative integer (got None)"),
        ((0.5, 1), TypeError, "offset must be a non-negative integer (got 0.5)"),
        ((-1, -1), ValueError, "count must be a positive integer (got -1)"),
    ],
)
async def test_parts_that_are_none(args: Any, error: type[Exception], text: str, pair: Pair, file: BinaryIO) -> None:
    with pytest.raises(error) as caught:
        await now().sock_sendfile(pair[0], file, *args)
    assert str(caught.value) == text


async def test_a_text_file(pair: Pair, path: Path) -> None:
    with open(path) as file, pytest.raises(ValueError, match=r"^file should be opened in binary mode$"):
        await now().sock_sendfile(pair[0], file)  # type: ignore[arg-type]


async def test_only_streams(file: BinaryIO) -> None:
    with (
        socket.socket(type=socket.SOCK_DGRAM) as sock,
        pytest.raises(ValueError, match=r"^only SOCK_STREAM type sockets are supported$"),
    ):
        await now().sock_sendfile(sock, file)


async def test_a_blocking_socket_in_debug_mode(pair: Pair, file: BinaryIO) -> None:
    now().set_debug(True)
    pair[0].setblocking(True)
    with pytest.raises(ValueError, match=r"^the socket must be non-blocking$"):
        await now().sock_sendfile(pair[0], file)


async def test_a_transports_socket(recorder: Any, small: Pair, file: BinaryIO) -> None:
    sock, _ = small
    transport, protocol = await now().create_connection(recorder, sock=sock)
    number = sock.fileno()
    with pytest.raises(RuntimeError, match=f"^File descriptor {number} is used by transport "):
        await now().sock_sendfile(sock, file)
    transport.abort()
    await protocol.lost


def test_a_loop_closed_meanwhile(loop: asyncio.AbstractEventLoop, small: Pair, file: BinaryIO) -> None:
    task = loop.create_task(loop.sock_sendfile(small[0], file))
    loop.run_until_complete(turns())
    assert not task.done()
    loop.close()
    assert task.cancelled()
    assert 0 < file.tell() < SIZE
    assert small[1].recv(100) == CONTENT[:100]
