"""anyio: its TCP listener and streams, task groups, threads, cancellation."""

import asyncio

import anyio
from anyio.abc import SocketAttribute, SocketStream


async def echo(stream: SocketStream) -> None:
    async with stream:
        async for data in stream:
            await stream.send(data)


async def client(port: int) -> None:
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(b"x" * 100_000)
        await stream.send_eof()
        received = 0
        async for data in stream:
            received += len(data)
        assert received == 100_000


async def main() -> None:
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(SocketAttribute.local_port)
    async with anyio.create_task_group() as serving:
        serving.start_soon(listener.serve, echo)
        async with anyio.create_task_group() as clients:
            for _ in range(20):
                clients.start_soon(client, port)
        serving.cancel_scope.cancel()
    assert await anyio.to_thread.run_sync(anyio.from_thread.run, anyio.sleep, 0) is None
    with anyio.move_on_after(0.01) as scope:
        await anyio.sleep_forever()
    assert scope.cancelled_caught
    await listener.aclose()
    print(type(asyncio.get_running_loop()).__module__)


anyio.run(main)
