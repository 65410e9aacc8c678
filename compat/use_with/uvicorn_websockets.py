"""uvicorn, WebSockets, by each of the libraries that it can use for them and that it has not deprecated."""

import asyncio
import json
import os
import signal

from commands import Command, serving
from websockets.asyncio.client import connect

import epoll_loop

LINE = "uvicorn app:app --loop epoll_loop:new_event_loop"
BIG = os.urandom(2**20)


async def client(port: int) -> None:
    async with connect(f"ws://127.0.0.1:{port}/", max_size=None, compression=None) as connection:
        for i in range(20):
            await connection.send(f"message {i}")
            assert await connection.recv() == f"message {i}"
        await connection.send([BIG[:1000], BIG[1000:]])
        assert await connection.recv() == BIG
        await (await connection.ping())


async def work(server: Command) -> str:
    await asyncio.gather(*[client(server.port) for _ in range(20)])
    async with connect(f"ws://127.0.0.1:{server.port}/", compression=None) as connection:
        await connection.send("who")
        loop: str = json.loads(await connection.recv())["loop"]
        server.terminate()
        await connection.wait_closed()
        assert connection.close_code == 1012  # service restart
    return loop


loops = set()
for library in ("websockets-sansio", "wsproto"):
    command = f"{LINE} --ws {library} --port {{port}} --log-level warning"
    with serving(command, code=-signal.SIGTERM, output="shut down\n") as server:
        loops.add(epoll_loop.run(work(server)))
(loop,) = loops
print(loop)
