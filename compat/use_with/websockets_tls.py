"""websockets over TLS: a room in which each message is broadcast to all, until SIGTERM closes it."""

import asyncio
import os
import signal
import ssl

import certificates
from websockets import ConnectionClosed
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import Server, ServerConnection, broadcast, serve

import epoll_loop

MEMBERS = 20
MIB = os.urandom(2**20)


async def member(connection: ServerConnection) -> None:
    async for message in connection:
        broadcast(connection.server.connections, message)


async def room(context: ssl.SSLContext, opened: asyncio.Future[Server]) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with serve(member, "127.0.0.1", 0, ssl=context, max_size=None) as server:
        opened.set_result(server)
        await stop.wait()


async def main() -> None:
    server_context, context = certificates.contexts()

    opened = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(room(server_context, opened))
    port = (await opened).sockets[0].getsockname()[1]

    async def enter() -> ClientConnection:
        return await connect(f"wss://127.0.0.1:{port}", ssl=context, max_size=None)

    members = await asyncio.gather(*[enter() for _ in range(MEMBERS)])
    for number, one in enumerate(members):
        await one.send(f"{number} says hello")
    heard = await asyncio.gather(*[hear(one, MEMBERS) for one in members])
    assert all(sorted(said) == sorted(f"{number} says hello" for number in range(MEMBERS)) for said in heard)
    await members[0].send(MIB)
    assert await asyncio.gather(*[one.recv() for one in members]) == [MIB] * MEMBERS

    os.kill(os.getpid(), signal.SIGTERM)
    codes = await asyncio.gather(*[end(one) for one in members])
    assert codes == [1001] * MEMBERS  # going away
    await serving
    print(type(asyncio.get_running_loop()).__module__)


async def hear(connection: ClientConnection, count: int) -> list[str | bytes]:
    return [await connection.recv() for _ in range(count)]


async def end(connection: ClientConnection) -> int | None:
    try:
        await connection.recv()
    except ConnectionClosed:
        await connection.wait_closed()
    return connection.close_code


epoll_loop.run(main())
