"""websockets: an echo server and twenty clients."""

import asyncio

from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


async def client(port: int) -> None:
    async with connect(f"ws://127.0.0.1:{port}", max_size=None) as connection:
        for message in ("text", b"bytes", "x" * 100_000, b"y" * 1_000_000):
            await connection.send(message)
            assert await connection.recv() == message


async def main() -> None:
    async with serve(echo, "127.0.0.1", 0, max_size=None) as server:
        port = server.sockets[0].getsockname()[1]
        await asyncio.gather(*[client(port) for _ in range(20)])
    print(type(asyncio.get_running_loop()).__module__)


asyncio.run(main())
