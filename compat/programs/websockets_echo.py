"""websockets: echo with and without compression, fragments, pings, a refusal, a message that is too long."""

import asyncio
import os

from websockets import ConnectionClosed, InvalidStatus
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import Request, Response, ServerConnection, serve
from websockets.typing import Data

CLIENTS = 10
MIB = os.urandom(2**20)
MESSAGES: list[Data] = ["", "text", b"bytes", "x" * 100_000, "compressible " * 80_000, MIB]
TOO_BIG = 1009


async def echo(connection: ServerConnection) -> None:
    try:
        async for message in connection:
            await connection.send(message)
    except ConnectionClosed as closed:
        if closed.rcvd is None or closed.rcvd.code != TOO_BIG:
            raise


def gate(connection: ServerConnection, request: Request) -> Response | None:
    return None if request.path == "/" else connection.respond(404, "nobody here\n")


async def ending(connection: ClientConnection) -> ConnectionClosed:
    try:
        message = await connection.recv()
    except ConnectionClosed as closed:
        return closed
    raise AssertionError(f"{message!r} instead of the end")


async def client(url: str, number: int) -> None:
    compression = "deflate" if number % 2 else None
    # Pings go both ways while the messages do.
    async with connect(url, max_size=None, compression=compression, ping_interval=0.01) as connection:
        assert bool(connection.protocol.extensions) is bool(compression)
        for message in MESSAGES:
            await connection.send(message)
            assert await connection.recv() == message
        await connection.send(MIB[start : start + 2**16] for start in range(0, 2**20, 2**16))
        assert b"".join([piece async for piece in connection.recv_streaming()]) == MIB
        for _ in range(10):
            assert await (await connection.ping()) >= 0  # uvloop's clock stands still meanwhile
        numbers = [str(number) for number in range(1000)]
        sending = asyncio.gather(*[connection.send(number) for number in numbers])
        assert [await connection.recv() for _ in numbers] == numbers
        await sending
        await connection.close(reason="enough")
        closed = await ending(connection)
        assert closed.rcvd is not None
        assert (closed.rcvd.code, closed.rcvd.reason) == (1000, "enough")


async def main() -> None:
    async with serve(echo, "127.0.0.1", 0, max_size=None, process_request=gate, ping_interval=0.01) as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        await asyncio.gather(*[client(url, number) for number in range(CLIENTS)])
        (refused,) = await asyncio.gather(connect(f"{url}/elsewhere"), return_exceptions=True)
        assert isinstance(refused, InvalidStatus)
        assert (refused.response.status_code, refused.response.body) == (404, b"nobody here\n")
        async with connect(url, max_size=1000) as connection:
            await connection.send("x" * 1001)
            closed = await ending(connection)
            assert closed.sent is not None
            assert closed.sent.code == TOO_BIG
    print(type(asyncio.get_running_loop()).__module__)


asyncio.run(main())
