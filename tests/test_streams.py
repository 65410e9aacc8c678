"""asyncio's streams on the loop; the same bodies on asyncio's own, which shows that they ask for what it promises."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from interpreter import PATIENCE

import epoll_loop

LIMIT = 10 * PATIENCE  # seconds after which a wait has failed
LARGE = 1 << 20

Run = Callable[[Coroutine[Any, Any, None]], None]
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


@pytest.fixture(params=[epoll_loop.new_event_loop, asyncio.SelectorEventLoop], ids=["epoll_loop", "asyncio"])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    with asyncio.Runner(loop_factory=request.param) as runner:
        yield lambda main: runner.run(asyncio.wait_for(main, LIMIT))


@contextlib.asynccontextmanager
async def connection(
    handler: Handler, limit: int = 65536
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A client's streams to a server with this handler; waits for the handler at the end."""
    ended = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
            ended.set()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, limit=limit)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname(), limit=limit)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        await ended.wait()
        server.close()  # not before the handler ran: a connection that waits to be accepted would be reset


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


def test_echo(run: Run) -> None:
    async def main() -> None:
        async with connection(echo) as (reader, writer):
            for i in range(100):
                writer.write(b"%03d\n" % i)
                assert await reader.readline() == b"%03d\n" % i
            writer.writelines([b"a", b"bc\n"])
            await writer.drain()
            assert await reader.readuntil(b"c\n") == b"abc\n"

    run(main())


def test_all_that_was_written_arrives_before_the_end(run: Run) -> None:
    data = bytes(range(256)) * (LARGE // 256)

    async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)

    async def main() -> None:
        async with connection(send) as (reader, _):
            assert await reader.read() == data
            assert reader.at_eof()
            assert await reader.read(1) == b""

    run(main())


def test_both_ways_at_once(run: Run) -> None:
    data = bytes(range(256)) * (LARGE // 64)

    async def main() -> None:
        async with connection(echo) as (reader, writer):

            async def send() -> None:
                for i in range(0, len(data), 10_007):
                    writer.write(data[i : i + 10_007])
                    await writer.drain()
                writer.write_eof()

            found, _ = await asyncio.gather(reader.read(), send())
            assert found == data

    run(main())


def test_half_close(run: Run) -> None:
    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"%d" % len(await reader.read()))

    async def main() -> None:
        async with connection(count) as (reader, writer):
            assert writer.can_write_eof()
            writer.write(b"x" * 100_000)
            writer.write_eof()
            assert await reader.read() == b"100000"

    run(main())


def test_read_exactly_and_what_is_missing(run: Run) -> None:
    async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x" * 70_000 + b"rest")

    async def main() -> None:
        async with connection(send) as (reader, _):
            assert await reader.readexactly(70_000) == b"x" * 70_000
            with pytest.raises(asyncio.IncompleteReadError) as caught:
                await reader.readexactly(5)
            assert caught.value.partial == b"rest"

    run(main())


def test_line_beyond_the_limit(run: Run) -> None:
    async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x" * 1000 + b"\n" + b"short\n")

    async def main() -> None:
        async with connection(send, limit=100) as (reader, _):
            with pytest.raises(ValueError, match=r"chunk (exceed the|is longer than) limit"):
                await reader.readline()
            assert (await reader.read()).endswith(b"short\n")

    run(main())


def test_reader_that_does_not_read_holds_the_writer(run: Run) -> None:
    """Beyond its limit the reader pauses the transport; the writer's drain() waits; then everything arrives."""
    blocked = asyncio.Event()
    sent = 0

    async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        for _ in range(400):
            writer.write(bytes(65536))
            draining = asyncio.ensure_future(writer.drain())
            await asyncio.wait([draining], timeout=0.05)
            if not draining.done():
                blocked.set()
            await draining
            sent += 1

    async def main() -> None:
        async with connection(send, limit=10_000) as (reader, _):
            await blocked.wait()
            assert sent < 400
            assert len(await reader.read()) == 400 * 65536

    run(main())


def test_lines(run: Run) -> None:
    lines = [b"%d\n" % (10**i) for i in range(200)]

    async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for line in lines:
            writer.write(line[:3])
            await asyncio.sleep(0)
            writer.write(line[3:])

    async def main() -> None:
        async with connection(send) as (reader, _):
            assert [line async for line in reader] == lines

    run(main())


def test_drain_raises_when_the_peer_is_gone(run: Run) -> None:
    async def main() -> None:
        ended = asyncio.get_running_loop().create_future()

        async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while True:
                    writer.write(bytes(LARGE))
                    await writer.drain()
            except ConnectionError as exc:
                ended.set_result(exc)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

        server = await asyncio.start_server(send, "127.0.0.1", 0)
        with socket.create_connection(server.sockets[0].getsockname()) as client:
            assert await asyncio.to_thread(client.recv, 1)
        assert isinstance(await ended, ConnectionError)
        server.close()

    run(main())


def test_a_reset_reaches_the_reader(run: Run) -> None:
    async def main() -> None:
        ended = asyncio.get_running_loop().create_future()

        async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await reader.read()
            except ConnectionResetError as exc:
                ended.set_result(exc)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

        server = await asyncio.start_server(receive, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        await asyncio.sleep(0.01)
        writer.transport.abort()
        assert isinstance(await ended, ConnectionResetError)
        server.close()
        assert await reader.read() == b""

    run(main())


def test_unix(run: Run, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")

    async def main() -> None:
        ended = asyncio.Event()

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await echo(reader, writer)
            writer.close()
            await writer.wait_closed()
            ended.set()

        server = await asyncio.start_unix_server(answer, path)
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        assert writer.get_extra_info("peername") == path
        writer.close()
        await writer.wait_closed()
        await ended.wait()
        server.close()

    run(main())


def test_a_hundred_clients(run: Run) -> None:
    async def main() -> None:
        handlers = 0

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal handlers
            await echo(reader, writer)
            writer.close()
            await writer.wait_closed()
            handlers += 1

        server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=200)
        address = server.sockets[0].getsockname()

        async def client(number: int) -> None:
            reader, writer = await asyncio.open_connection(*address)
            for i in range(20):
                message = b"%d of %d\n" % (i, number)
                writer.write(message)
                await writer.drain()
                assert await reader.readline() == message
            writer.close()
            await writer.wait_closed()

        await asyncio.gather(*(client(number) for number in range(100)))
        while handlers < 100:
            await asyncio.sleep(0)
        server.close()
        await server.wait_closed()

    run(main())


def test_handler_that_fails_is_reported(run: Run) -> None:
    async def main() -> None:
        reports: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: reports.append(context))

        async def fail(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            raise ValueError("handler")

        server = await asyncio.start_server(fail, "127.0.0.1", 0)
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        while not reports:
            await asyncio.sleep(0)
        assert str(reports[0]["exception"]) == "handler"
        writer.close()
        await writer.wait_closed()
        server.close()
        await asyncio.sleep(0.01)

    run(main())
