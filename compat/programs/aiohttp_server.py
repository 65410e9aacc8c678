"""aiohttp, server, asked by a raw socket: JSON, bodies large and streamed, files, events, connections kept alive."""

import asyncio
import json
import os
import tempfile
from pathlib import Path

from _raw_http import get
from aiohttp import web

BIG = os.urandom(2**20) * 4
LEFT = web.AppKey("LEFT", asyncio.Event)


async def as_json(request: web.Request) -> web.Response:
    return web.json_response({"path": request.path})


async def big(request: web.Request) -> web.Response:
    return web.Response(body=BIG)


async def streamed(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(100):
        await response.write(b"x" * 1000)
    return response


async def events(request: web.Request) -> web.StreamResponse:
    """Without an end: until the client goes."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    try:
        while True:
            await response.write(b"data: event\n\n")
            await asyncio.sleep(0)
    except ConnectionResetError:
        request.app[LEFT].set()
    return response


async def listen(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    for _ in range(100):
        await reader.readuntil(b"data: event\n\n")
    writer.transport.abort()


async def pipeline(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20)
    for _ in range(20):
        assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200 OK\r\n")
    writer.close()
    await writer.wait_closed()


async def main() -> None:
    app = web.Application()
    app[LEFT] = asyncio.Event()
    routes = {"/json": as_json, "/big": big, "/streamed": streamed, "/events": events}
    app.add_routes([web.get(path, handler) for path, handler in routes.items()])
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "file").write_bytes(BIG)
        app.router.add_static("/static", folder)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        answers = await asyncio.gather(*[get(port, "/json") for _ in range(200)])
        assert all(json.loads(body) == {"path": "/json"} for _, body in answers)
        for path in ("/big", "/static/file"):  # the file goes by sendfile
            assert await asyncio.gather(*[get(port, path) for _ in range(5)]) == [(200, BIG)] * 5
        status, body = await get(port, "/streamed")
        assert status == 200
        assert body.count(b"x") == 100_000
        await asyncio.gather(*[pipeline(port) for _ in range(5)])
        await listen(port)
        await app[LEFT].wait()
        await runner.cleanup()
    print(type(asyncio.get_running_loop()).__module__)


asyncio.run(main())
