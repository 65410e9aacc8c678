"""KeyboardInterrupt and SystemExit in the middle of what TLS does: the loop can be run again, and nothing is lost."""

import asyncio
import ssl
from typing import Any

import pytest
import tls

import epoll_loop.net.tls
from epoll_loop.transports.engine import Engine

SIZE = 20_000  # more than a record, and twice this is less than what is sent at once
errors = pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
raised: list[str] = []
due: dict[str, Any] = {}  # the errors, by the method that raises each of them once


def interrupted(name: str) -> None:
    if name in due:
        raised.append(name)
        raise due.pop(name)


class Interrupted(Engine):
    def handshake(self) -> bool:
        interrupted("handshake")
        return super().handshake()

    def fill(self, sock: Any, fd: int) -> int:
        interrupted("fill")
        return super().fill(sock, fd)

    def read(self) -> bytes | None:
        interrupted("read")
        return super().read()

    def write(self, data: bytes, offset: int) -> int:
        if self.unsent:  # in the middle
            interrupted("write")
        return super().write(data, offset)

    def flush(self, sock: Any, fd: int) -> int:
        interrupted("flush")
        return super().flush(sock, fd)

    def shutdown(self) -> bool:
        interrupted("shutdown")
        return super().shutdown()


def run(loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any], error: type[BaseException]) -> Any:
    """Go on, whatever comes in between, and with something else to do then."""
    while True:
        try:
            return loop.run_until_complete(task)
        except error:
            loop.call_soon(len, "")


async def converse(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    async with (
        asyncio.timeout(tls.LIMIT),
        await asyncio.start_server(tls.echo, "127.0.0.1", 0, ssl=server) as listening,
    ):
        address = listening.sockets[0].getsockname()
        reader, writer = await asyncio.open_connection(*address, ssl=client, **tls.NAME)
        for i in range(2):
            writer.write(tls.pattern(SIZE, i * SIZE))
        assert await reader.readexactly(2 * SIZE) == tls.pattern(2 * SIZE)
        writer.close()
        await writer.wait_closed()


@errors
@pytest.mark.parametrize("where", ["handshake", "fill", "read", "write", "flush", "shutdown"])
def test_in_the_engine(
    loop: asyncio.AbstractEventLoop,
    monkeypatch: pytest.MonkeyPatch,
    server_context: ssl.SSLContext,
    client_context: ssl.SSLContext,
    where: str,
    error: type[BaseException],
) -> None:
    reports: list[Any] = []
    loop.set_exception_handler(lambda loop, context: reports.append(context))
    monkeypatch.setattr(epoll_loop.net.tls, "_engine", Interrupted)
    raised.clear()
    due.clear()
    due[where] = error
    run(loop, loop.create_task(converse(server_context, client_context)), error)
    assert raised == [where]
    assert reports == []


@errors
def test_in_connection_made(
    loop: asyncio.AbstractEventLoop,
    server_context: ssl.SSLContext,
    client_context: ssl.SSLContext,
    error: type[BaseException],
) -> None:
    """Who waits for the connection gets it."""

    class Made(tls.Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            raise error

    async def connect() -> Any:
        async with (
            asyncio.timeout(tls.LIMIT),
            await asyncio.start_server(tls.echo, "127.0.0.1", 0, ssl=server_context) as listening,
        ):
            address = listening.sockets[0].getsockname()
            running = asyncio.get_running_loop()
            transport, protocol = await running.create_connection(Made, *address, ssl=client_context, **tls.NAME)
            transport.write(b"x")
            assert await protocol.until_data(1) == b"x"
            await tls.finish(protocol)

    run(loop, loop.create_task(connect()), error)


@errors
@pytest.mark.usefixtures("engine")
def test_with_more_that_is_decrypted(
    loop: asyncio.AbstractEventLoop,
    server_context: ssl.SSLContext,
    client_context: ssl.SSLContext,
    error: type[BaseException],
) -> None:
    """It comes, although the socket has nothing to read, and no room: the kernel does not tell of it."""
    protocol = tls.BufferedRecorder(100)

    def fail() -> None:
        del protocol.hooks["buffer_updated"]
        raise error

    async def receive() -> None:
        async with tls.accepted(protocol, server_context, client_context) as peer:
            while "pause_writing" not in protocol.calls:
                protocol.transport.write(bytes(65536))
                await asyncio.sleep(0)
            protocol.hooks["buffer_updated"] = fail
            peer.sendall(tls.pattern(5000))
            assert await protocol.until_data(5000) == tls.pattern(5000)
            protocol.transport.abort()
            assert await protocol.until_lost() is None

    run(loop, loop.create_task(receive()), error)
