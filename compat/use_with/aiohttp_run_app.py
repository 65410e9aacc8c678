"""aiohttp's run_app(): JSON, files by sendfile, a WebSocket, and server-sent events that SIGTERM brings to an end."""

import asyncio
import os
import signal
import socket
import tempfile
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import aiohttp
from aiohttp import web

import epoll_loop

BIG = os.urandom(2**20) * 8
ENDING = web.AppKey("ENDING", asyncio.Event)


async def who(request: web.Request) -> web.Response:
    return web.json_response(type(asyncio.get_running_loop()).__module__)


async def echo(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse(max_msg_size=2**23)
    await ws.prepare(request)
    async for message in ws:
        await ws.send_bytes(message.data)
    return ws


async def events(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for i in range(100):
        await response.write(b"data: %d\n\n" % i)
    await request.app[ENDING].wait()
    await response.write(b"data: the end\n\n")
    return response


async def life(app: web.Application) -> AsyncIterator[None]:
    app[ENDING] = asyncio.Event()
    yield


async def end(app: web.Application) -> None:
    app[ENDING].set()


async def client(base: str) -> str:
    async with aiohttp.ClientSession(base) as session:

        async def get(path: str, status: int = 200, **headers: str) -> bytes:
            async with session.get(path, headers=headers) as response:
                assert response.status == status
                return await response.read()

        loops = set(await asyncio.gather(*[get("/") for _ in range(200)]))
        assert await asyncio.gather(*[get("/static/big") for _ in range(5)]) == [BIG] * 5
        assert await get("/static/big", 206, Range="bytes=1000-2000999") == BIG[1000:2001000]
        async with session.ws_connect("/echo", max_msg_size=2**23, compress=15) as ws:
            for size in (0, 1, 2**16, 2**20, 2**22):
                await ws.send_bytes(BIG[:size])
                assert await ws.receive_bytes() == BIG[:size]
        async with session.get("/events") as response:
            said = [await response.content.readuntil(b"\n\n") for _ in range(100)]
            assert said == [b"data: %d\n\n" % i for i in range(100)]
            os.kill(os.getpid(), signal.SIGTERM)
            assert await response.read() == b"data: the end\n\n"
    (loop,) = loops
    return loop.decode().strip('"')


with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as sock:
    Path(folder, "big").write_bytes(BIG)
    app = web.Application()
    app.add_routes([web.get("/", who), web.get("/echo", echo), web.get("/events", events)])
    app.router.add_static("/static", folder)
    app.cleanup_ctx.append(life)
    app.on_shutdown.append(end)
    with ThreadPoolExecutor(1) as thread:
        loop = thread.submit(epoll_loop.run, client(f"http://127.0.0.1:{sock.getsockname()[1]}"))
        loop.add_done_callback(lambda done: done.exception() and os.kill(os.getpid(), signal.SIGTERM))
        web.run_app(app, loop=epoll_loop.new_event_loop(), sock=sock, print=None, access_log=None)
    print(loop.result())
