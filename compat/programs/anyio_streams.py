"""anyio: streams over connect_tcp(), threads, signals, cancellation; no listener of its own."""

import asyncio
import os
import signal

import anyio


async def client(port: int) -> None:
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(b"x" * 100_000)
        await stream.send_eof()
        received = 0
        async for data in stream:
            received += len(data)
        assert received == 100_000


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()
    await writer.wait_closed()


async def main() -> None:
    async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with anyio.create_task_group() as clients:
            for _ in range(20):
                clients.start_soon(client, port)
    with anyio.open_signal_receiver(signal.SIGUSR1) as signals:
        os.kill(os.getpid(), signal.SIGUSR1)
        async for number in signals:
            assert number == signal.SIGUSR1
            break
    assert await anyio.to_thread.run_sync(anyio.from_thread.run, anyio.sleep, 0) is None
    with anyio.move_on_after(0.01) as scope:
        await anyio.sleep_forever()
    assert scope.cancelled_caught
    print(type(asyncio.get_running_loop()).__module__)


anyio.run(main)
